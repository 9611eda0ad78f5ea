//! The configuration that `init` writes, and which option each line of it comes from.

#![forbid(unsafe_code)]

use super::{Options, Plan};

impl Plan {
    pub(super) fn toml(&self, options: &Options) -> String {
        self.lines(options).into_iter().map(|(_, lines)| lines).collect()
    }

    /// Which option each line of the configuration comes from; what follows [`Self::toml`]'s is of the last.
    pub(super) fn origins(&self, options: &Options) -> Vec<&'static str> {
        let lines = self.lines(options);
        let of_each = lines.iter().flat_map(|(option, text)| text.lines().map(|_| *option));
        let last = match options.admin_token_file {
            Some(_) => "--admin-token-file",
            None => "--stash",
        };
        of_each.chain([last]).collect()
    }

    /// The lines of the configuration, each with the option that they come from.
    fn lines(&self, options: &Options) -> Vec<(&'static str, String)> {
        let Options { cipher, provider, set, dir, .. } = options;
        let keystore = if dir.is_some() { "--dir" } else { "--keystore" };
        let mut lines = vec![
            (
                keystore,
                format!(
                    "# keyward's configuration, for the server and for the command.\n\n\
                     [keystore]\npath = {:?}\n",
                    self.keystore
                ),
            ),
            (
                "--cipher",
                format!(
                    "cipher = \"{cipher}\"            # of new versions; each version keeps its own\n\n"
                ),
            ),
            (
                "--provider",
                format!(
                    "[[provider]]                      # wraps the keystore's key; order = order of \
                     preference\nname = {provider:?}\ntype = {provider:?}\n"
                ),
            ),
        ];
        if let (Some(key_file), None) = (&self.key_file, &self.stash) {
            lines.push((keystore, format!("key_file = {key_file:?}\n")));
        }
        lines.extend(set.iter().map(|(key, value)| ("--set", setting_line(key, value))));
        lines
    }

    /// The stash, and the provider that seals it.
    pub(super) fn stash_toml(&self) -> String {
        let (Some(stash), Some(key_file)) = (&self.stash, &self.key_file) else {
            return String::new();
        };
        format!(
            "\n[[provider]]                      # seals the stash\nname = \"local\"\n\
             type = \"local\"\nkey_file = {key_file:?}\n\n\
             [stash]                           # to start with while the key store is away\n\
             path = {stash:?}\n"
        )
    }
}

/// The line that gives `key` this value. What is no number and neither true nor false is a text.
fn setting_line(key: &str, value: &str) -> String {
    let plain = value.parse::<i64>().is_ok() || matches!(value, "true" | "false");
    match plain {
        true => format!("{key} = {value}\n"),
        false => format!("{key} = {}\n", toml::Value::from(value)),
    }
}

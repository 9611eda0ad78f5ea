//! What a running MariaDB says of its encryption, in one answer.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::helpers::server::{self, Options, Question};

/// What matters to us of a running server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Running {
    /// The encryption plugins that it knows.
    pub(in crate::cli) plugins: Vec<Plugin>,
    /// Its system variables of encryption, by name in lower case.
    pub(in crate::cli) variables: BTreeMap<String, String>,
    /// keyward's status variables, by name in lower case without `keyward_`.
    status: BTreeMap<String, String>,
}

/// An encryption plugin in a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Plugin {
    /// `keyward`, or one whose name we take.
    pub(in crate::cli) name: String,
    /// `ACTIVE` where it is loaded and started.
    pub(in crate::cli) status: String,
    /// `FORCE_PLUS_PERMANENT` and the like.
    pub(in crate::cli) load_option: String,
    /// Whether it is keyward, whatever its name.
    pub(in crate::cli) is_ours: bool,
}

/// Asks the server; `Err` holds the client's own words.
pub(in crate::cli) fn ask(options: &Options) -> Result<Running, String> {
    server::query(options, Question::Server).map(|text| Running::parse(&text))
}

impl Running {
    fn parse(text: &str) -> Self {
        let mut running = Self::default();
        for line in text.lines() {
            let cells: Vec<_> = line.split('\t').collect();
            let [kind, name, value, load_option, ours] = cells.as_slice() else { continue };
            let name = (*name).to_owned();
            match *kind {
                "plugin" => running.plugins.push(Plugin {
                    name,
                    status: (*value).to_owned(),
                    load_option: (*load_option).to_owned(),
                    is_ours: *ours == "1",
                }),
                "variable" => drop(running.variables.insert(name, (*value).to_owned())),
                "status" => {
                    let name = name.strip_prefix("keyward_").unwrap_or(&name).to_owned();
                    running.status.insert(name, (*value).to_owned());
                }
                _ => {}
            }
        }
        running
    }

    /// The system variable `name`, where the server has it.
    pub(in crate::cli) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The status variable `keyward_<name>`, where there is one and it says anything.
    pub(in crate::cli) fn status(&self, name: &str) -> Option<&str> {
        self.status.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The keystore's generation that it serves.
    pub(in crate::cli) fn generation(&self) -> Option<u64> {
        self.status("generation")?.parse().ok()
    }

    /// Where it keeps its data.
    pub(in crate::cli) fn datadir(&self) -> Option<PathBuf> {
        self.variable("datadir").map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_clients_table() {
        let text = "plugin\tfile_key_management\tACTIVE\tFORCE\t1\nvariable\tinnodb_encryption_threads\t4\t\t\n\
                    variable\tdatadir\t/var/lib/mysql/\t\t\nstatus\tkeyward_generation\t7\t\t\n\
                    status\tkeyward_restart_safe\tno\t\t\nstatus\tkeyward_restart_safe_reason\tno key file\t\t\n\
                    status\tkeyward_version\t\t\t\nodd\n";
        let running = Running::parse(text);
        let plugin = &running.plugins[0];
        assert_eq!(
            (&*plugin.name, &*plugin.status, &*plugin.load_option),
            ("file_key_management", "ACTIVE", "FORCE")
        );
        assert!(plugin.is_ours);
        assert_eq!(running.variable("innodb_encryption_threads"), Some("4"));
        assert_eq!(running.variable("log_bin"), None);
        assert_eq!(running.datadir(), Some(PathBuf::from("/var/lib/mysql/")));
        assert_eq!(running.generation(), Some(7));
        assert_eq!(running.status("restart_safe_reason"), Some("no key file"));
        assert_eq!((running.status("version"), running.status("memory_locked")), (None, None));
    }
}

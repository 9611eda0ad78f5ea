//! The section `[backup]`: where backups of the keys go by themselves.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::Section;
use crate::error::Result;

/// How many backups are kept when the configuration does not say.
const DEFAULT_KEEP: usize = 30;

/// How many may be kept: the folder is listed at each backup.
const MOST_KEPT: usize = 10_000;

/// The section `[backup]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfig {
    /// The folder.
    pub to: PathBuf,
    /// How many of them stay there; those before are removed.
    pub keep: usize,
    /// Whether each change is followed by one; else there is one a day, where something has changed.
    pub after_each_change: bool,
    /// The program that takes each of them elsewhere; it is given the file's path.
    pub hook: Option<PathBuf>,
}

impl BackupConfig {
    /// Reads the section to its end.
    pub(super) fn read(section: &Section) -> Result<Self> {
        let (to, hook) = (section.path("to")?, section.path("hook")?);
        let keep = match section.number("keep")? {
            None => Some(DEFAULT_KEEP),
            Some(number) => number.try_into().ok().filter(|keep| (1..=MOST_KEPT).contains(keep)),
        };
        let after_each_change = section.boolean("after_each_change")?.unwrap_or(true);
        section.done()?;
        let keep = keep.ok_or_else(|| section.wrong("keep", "must be from 1 to 10000"))?;
        let to = to.ok_or_else(|| section.lacks("to"))?;
        Ok(Self { to, keep, after_each_change, hook })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn read(text: &str) -> crate::Result<Config> {
        Config::parse(Path::new("k.toml"), &format!("[[provider]]\ntype = \"local\"\n{text}"))
    }

    #[test]
    fn says_where_backups_go() {
        assert!(read("").unwrap().backup.is_none());
        let least = read("[backup]\nto = \"/b\"\n").unwrap().backup.unwrap();
        assert_eq!((least.keep, least.after_each_change, least.hook.as_deref()), (30, true, None));
        let text = "[backup]\nto = \"/b\"\nkeep = 2\nafter_each_change = false\nhook = \"/h\"\n";
        let all = read(text).unwrap().backup.unwrap();
        assert_eq!((all.to.to_str(), all.keep, all.after_each_change), (Some("/b"), 2, false));
        assert_eq!(all.hook.as_deref(), Some(Path::new("/h")));
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, told) in [
            ("[backup]\n", "k.toml:3:2: [backup] lacks \"to\"; add a line `to = \"...\"`"),
            (
                "[backup]\ntoo = \"/b\"\n",
                "k.toml:4:1: unknown key \"too\" in [backup]; did you mean \"to\"?",
            ),
            ("[backup]\nto = \"b\"\n", "k.toml:4:1: to: is not an absolute path; begin it with /"),
            ("[backup]\nto = \"/b\"\nkeep = 0\n", "k.toml:5:1: keep: must be from 1 to 10000"),
            ("[backup]\nto = \"/b\"\nkeep = -1\n", "k.toml:5:1: keep: must be from 1 to 10000"),
            (
                "[backup]\nto = \"/b\"\nhook = \"h\"\n",
                "k.toml:5:1: hook: is not an absolute path; begin it with /",
            ),
        ] {
            assert_eq!(read(text).map(drop).unwrap_err().to_string(), told);
        }
    }
}

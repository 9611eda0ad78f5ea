//! What `keyward keys list` tells of the keys.

use std::collections::BTreeMap;
use std::process::Command;

use test_kit::command::answer;
use test_kit::{Result, Trouble};

/// The check value of each version of each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions(BTreeMap<(u32, u32), String>);

impl Versions {
    /// Runs `list`, a `keyward keys list`, and reads what it says.
    pub fn read(list: &mut Command) -> Result<Self> {
        let text = answer(list)?.ok().map_err(|error| error.within("keyward keys list"))?;
        let mut versions = BTreeMap::new();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let [key, version, .., check] = words[..] else {
                return Err(Trouble::from(format!("not a line of a key list: {line:?}")));
            };
            versions.insert((key.parse()?, version.parse()?), check.to_owned());
        }
        Ok(Self(versions))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many different keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.keys().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// An error unless each of `earlier` is still there and the same key.
    pub fn keep(&self, earlier: &Self) -> Result<()> {
        for (version, check) in &earlier.0 {
            if self.0.get(version) != Some(check) {
                let (key, version) = version;
                return Err(format!("key {key} version {version} is lost or another key").into());
            }
        }
        Ok(())
    }
}

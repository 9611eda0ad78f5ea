//! `keyward keys show`: one key, every version of it and what happened to each.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::cli::helpers::print::{plain, table};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::Timestamp;
use crate::key::{CheckValue, KeyName, KeyState, KeyVersion};
use crate::policy;
use crate::store::{Event, KeyEntry, VersionEntry};

/// A key, for machines.
#[derive(Serialize)]
pub(super) struct Shown {
    key: KeyName,
    next_rotation: Option<Timestamp>,
    versions: Vec<Version>,
}

#[derive(Serialize)]
struct Version {
    version: KeyVersion,
    state: KeyState,
    cipher: String,
    created: Timestamp,
    check: Option<CheckValue>,
    retain_until: Option<Timestamp>,
    planned: Option<Event>,
    history: Vec<Event>,
}

impl Shown {
    pub(super) fn of(config: &Config, custodian: &Custodian, key: &KeyEntry) -> Self {
        let entries = custodian.entries();
        let rotates =
            policy::that_rotate(entries.iter()).iter().any(|one| one.name() == key.name());
        let at = config.policy.next_rotation(&custodian.keystore_id(), key);
        Self {
            next_rotation: at.filter(|_| rotates),
            versions: key.versions().map(Version::of).collect(),
            key: KeyEntry::name(key).clone(),
        }
    }

    pub(super) fn text(&self) -> String {
        let or_dash = |time: &Option<Timestamp>| time.map_or("-".to_owned(), |at| at.to_string());
        let row = |one: &Version| {
            vec![
                one.version.to_string(),
                one.state.to_string(),
                one.cipher.clone(),
                one.created.to_string(),
                or_dash(&one.retain_until),
                one.check.map_or_else(|| "-".to_owned(), |check| check.to_string()),
            ]
        };
        let rows: Vec<_> = self.versions.iter().map(row).collect();
        let head = ["VERSION", "STATE", "CIPHER", "MADE", "KEPT UNTIL", "CHECK VALUE"];
        let mut events: Vec<_> = self.versions.iter().flat_map(Version::lines).collect();
        // Stable: what happened in one second stays in the order of the versions.
        events.sort_by_key(|(at, _)| *at);
        let mut text = table(&head, &rows) + "\n";
        for (_, line) in &events {
            text += &format!("{}\n", plain(line));
        }
        if let Some(at) = self.next_rotation {
            text += &match self.key {
                KeyName::Id(id) => format!("{at}  the policy rotates key {id}\n"),
                KeyName::Named { .. } => {
                    format!("{at}  due: `keyward rotate --due` has the server make the next\n")
                }
            };
        }
        text
    }
}

impl Version {
    fn of(entry: &VersionEntry) -> Self {
        Self {
            version: entry.version,
            state: entry.state,
            cipher: entry.purpose.to_string(),
            created: entry.created,
            check: entry.check,
            retain_until: entry.retain_until,
            planned: entry.planned.clone(),
            history: entry.history.clone(),
        }
    }

    fn lines(&self) -> Vec<(Timestamp, String)> {
        let line = |event: &Event, word: &str| {
            let Event { state, at, actor, reason } = event;
            let version = self.version;
            (*at, format!("{at}  version {version} {word}{state}: {reason} ({actor})"))
        };
        let past = self.history.iter().map(|event| line(event, ""));
        past.chain(self.planned.iter().map(|event| line(event, "to be "))).collect()
    }
}

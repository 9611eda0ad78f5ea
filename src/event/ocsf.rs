//! Lines of the audit trail as events of the Open Cybersecurity Schema Framework (schema.ocsf.io), class Entity
//! Management: for a SIEM that reads them.

#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::{Value, json};

use super::line::{Event, Line, digest};
use crate::error::{Error, Kind, Result};

/// The version of the schema.
const SCHEMA: &str = "1.6.0";

/// Identity & Access Management, and Entity Management in it.
const CATEGORY: u64 = 3;
const CLASS: u64 = 3004;

/// What a list of the schema does not have.
const OTHER: u64 = 99;

/// What was done to the entity, as the schema numbers it.
#[derive(Clone, Copy)]
enum Activity {
    Create = 1,
    Read = 2,
    Update = 3,
    Delete = 4,
    Enroll = 6,
    Unenroll = 7,
    Disable = 9,
    Activate = 10,
    Deactivate = 11,
    Other = 99,
}

/// How much it matters, as the schema numbers it.
#[derive(Clone, Copy)]
enum Severity {
    Informational = 1,
    Medium = 3,
    High = 4,
}

/// How it ended, as the schema numbers it.
#[derive(Clone, Copy)]
enum Status {
    /// The line comes before what it tells of.
    Unknown = 0,
    Success = 1,
    Failure = 2,
}

impl Line {
    /// The line, of the trail of the keystore at `keystore`, as an event of OCSF.
    pub fn ocsf(&self, keystore: &Path) -> Result<Value> {
        let raw = serde_json::to_string(self)
            .map_err(|e| Error::new(Kind::Internal, format!("a line is no JSON: {e}")))?;
        let (activity, severity, status) = kind(self.event);
        let name = match activity {
            Activity::Other => self.event.to_string(),
            _ => activity.name().to_owned(),
        };
        let activity = activity as u64;
        Ok(json!({
            "category_uid": CATEGORY,
            "category_name": "Identity & Access Management",
            "class_uid": CLASS,
            "class_name": "Entity Management",
            "activity_id": activity,
            "type_uid": CLASS * 100 + activity,
            "type_name": format!("Entity Management: {name}"),
            "activity_name": name,
            "time": self.at.as_unix().saturating_mul(1_000),
            "severity_id": severity as u64,
            "severity": severity.name(),
            "status_id": status as u64,
            "status": status.name(),
            "message": self.event.to_string().replace('-', " "),
            "comment": self.reason,
            "actor": { "user": { "name": self.actor } },
            "entity": self.entity(keystore),
            "metadata": {
                "version": SCHEMA,
                "product": {
                    "name": "keyward",
                    "vendor_name": "keyward",
                    "version": env!("CARGO_PKG_VERSION"),
                },
                "log_name": "audit.jsonl",
                "log_provider": "keyward",
                "event_code": self.event.to_string(),
                "sequence": self.number,
                "original_time": self.at.to_string(),
                "uid": digest(&raw).to_string(),
            },
            "raw_data": raw,
        }))
    }

    /// The key version that it is about, or the keystore where there are none or several.
    fn entity(&self, keystore: &Path) -> Value {
        let keystore = keystore.display().to_string();
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        match &self.keys[..] {
            [key] => json!({
                "type_id": OTHER,
                "type": "Encryption Key",
                "uid": format!("{keystore} {key}"),
                "name": key.to_string(),
                "version": key.version.to_string(),
                "data": { "keystore": keystore, "generation": self.generation },
            }),
            _ => json!({
                "type_id": OTHER,
                "type": "Keystore",
                "uid": keystore,
                "version": self.generation.to_string(),
                "data": { "keys": keys },
            }),
        }
    }
}

/// What a kind of event is in the schema's words.
fn kind(event: Event) -> (Activity, Severity, Status) {
    use Activity::{
        Activate, Create, Deactivate, Delete, Disable, Enroll, Other, Read, Unenroll, Update,
    };
    use Severity::{High, Informational, Medium};
    use Status::{Failure, Success, Unknown};
    match event {
        Event::Intended => (Other, Informational, Unknown),
        Event::Checkpointed
        | Event::ServerStarted
        | Event::ProviderUp
        | Event::ApprovalRequested
        | Event::ApprovalGiven => (Other, Informational, Success),
        Event::Approved => (Other, Medium, Unknown),
        Event::ProviderDown => (Other, Medium, Failure),
        Event::ProviderDenied | Event::TrailDamaged => (Other, High, Failure),
        Event::Forked => (Create, Medium, Success),
        Event::KeystoreCreated | Event::KeyCreated | Event::Imported => {
            (Create, Informational, Success)
        }
        Event::Rotated
        | Event::Prepared
        | Event::WrappingAdded
        | Event::Rewrapped
        | Event::WrappingRemoved
        | Event::StoreKeyRotated
        | Event::Retained
        | Event::RotationUndone
        | Event::LibraryUpgraded
        | Event::DestructionCancelled => (Update, Informational, Success),
        Event::BackupRecipientsChanged
        | Event::ApproversChanged
        | Event::ConfigurationChanged
        | Event::Restored
        | Event::Rescued
        | Event::TrailShortened
        | Event::DestructionPlanned => (Update, Medium, Success),
        Event::RollbackAccepted => (Update, High, Success),
        Event::Activated => (Activate, Informational, Success),
        Event::Retired => (Deactivate, Informational, Success),
        Event::Compromised => (Disable, High, Success),
        Event::Destroyed => (Delete, Medium, Success),
        Event::Drilled | Event::FirstUsed => (Read, Informational, Success),
        Event::BackedUp => (Read, Informational, Unknown),
        Event::BackupFailed => (Read, Medium, Failure),
        Event::Exported | Event::BinaryLogRead => (Read, Medium, Unknown),
        Event::DataDirectoryRegistered | Event::DataBackupRegistered => {
            (Enroll, Informational, Success)
        }
        Event::DataDirectoryGone | Event::DataBackupGone => (Unenroll, Informational, Success),
    }
}

impl Activity {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Read => "Read",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Enroll => "Enroll",
            Self::Unenroll => "Unenroll",
            Self::Disable => "Disable",
            Self::Activate => "Activate",
            Self::Deactivate => "Deactivate",
            Self::Other => "Other",
        }
    }
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Success => "Success",
            Self::Failure => "Failure",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Timestamp;
    use crate::key::{KeyId, KeyRef, KeyVersion};

    /// What the schema says of a class or an object.
    const SCHEMA_FILE: &str = include_str!("../../tests/golden/ocsf/1.6.0.json");

    fn line(event: Event, keys: usize) -> Line {
        let key = KeyRef::new(KeyId::SYSTEM, KeyVersion::FIRST);
        Line {
            number: 7,
            at: Timestamp::from_unix(1_700_000_000),
            event,
            keys: vec![key; keys],
            generation: 3,
            actor: "alice (sudo, uid 0) on db1".to_owned(),
            reason: "yearly".to_owned(),
            previous: "00".repeat(32),
        }
    }

    /// Every kind of event that the trail has, from the names in its source.
    fn events() -> Vec<Event> {
        let source = include_str!("line.rs");
        let (_, list) = source.split_once("pub enum Event {").unwrap();
        let (list, _) = list.split_once("\n}").unwrap();
        let names = list.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let names = names.filter_map(|line| line.strip_suffix(','));
        let kebab = |name: &str| {
            name.chars().fold(String::new(), |text, c| match c.is_ascii_uppercase() {
                true if text.is_empty() => c.to_ascii_lowercase().to_string(),
                true => format!("{text}-{}", c.to_ascii_lowercase()),
                false => format!("{text}{c}"),
            })
        };
        names.map(|name| serde_json::from_value(kebab(name).into()).unwrap()).collect()
    }

    /// Holds `value` against the schema's `object`.
    fn check(schema: &Value, object: &str, value: &Value) {
        let rules = &schema["objects"][object];
        let attributes = rules["attributes"].as_object().unwrap();
        let given = value.as_object().unwrap();
        for (name, rule) in attributes.iter().filter(|(_, rule)| rule["required"] == true) {
            assert!(given.contains_key(name), "{object} lacks {name}: {rule}");
        }
        if let Some(one_of) = rules["at_least_one"].as_array() {
            let has = |name: &Value| given.contains_key(name.as_str().unwrap());
            assert!(one_of.iter().any(has), "{object} has none of {one_of:?}");
        }
        for (name, value) in given {
            let rule = attributes.get(name).unwrap_or_else(|| panic!("{object} has no {name}"));
            match rule["type"].as_str().unwrap() {
                "integer_t" | "long_t" | "timestamp_t" => {
                    assert!(value.is_u64(), "{object}.{name}: {value}");
                    let number = value.to_string();
                    let listed = rule["enum"].as_object();
                    assert!(
                        listed.is_none_or(|list| list.contains_key(&number)),
                        "{name}: {value}"
                    );
                }
                "json_t" => assert!(value.is_object(), "{object}.{name}: {value}"),
                kind if kind.ends_with("_t") => assert!(value.is_string(), "{object}.{name}"),
                inner => check(schema, inner, value),
            }
        }
    }

    #[test]
    fn every_event_is_one_of_the_schema() {
        let schema: Value = serde_json::from_str(SCHEMA_FILE).unwrap();
        assert_eq!(schema["schema"], SCHEMA);
        let class = &schema["objects"]["entity_management"]["attributes"];
        let events = events();
        assert!(events.len() > 25, "{events:?}");
        for event in events {
            for keys in 0..3 {
                let made = line(event, keys).ocsf(Path::new("/k/keystore.json")).unwrap();
                check(&schema, "entity_management", &made);
                let activity = made["activity_id"].as_u64().unwrap();
                assert_eq!(made["type_uid"].as_u64().unwrap(), 300_400 + activity);
                for (list, named) in [
                    ("activity_id", "activity_name"),
                    ("severity_id", "severity"),
                    ("status_id", "status"),
                ] {
                    let caption = &class[list]["enum"][made[list].to_string()];
                    let is_other = made[list] == OTHER && made[named] == event.to_string();
                    assert!(is_other || *caption == made[named], "{event}: {list} {caption}");
                }
            }
        }
    }

    #[test]
    fn says_what_who_why_and_when() {
        let line = line(Event::Rotated, 1);
        let made = line.ocsf(Path::new("/k/keystore.json")).unwrap();
        let raw = serde_json::to_string(&line).unwrap();
        for (place, is) in [
            ("/type_uid", json!(300_403)),
            ("/time", json!(1_700_000_000_000_u64)),
            ("/actor/user/name", json!("alice (sudo, uid 0) on db1")),
            ("/entity/name", json!("key 1 version 1")),
            ("/entity/type", json!("Encryption Key")),
            ("/comment", json!("yearly")),
            ("/metadata/sequence", json!(7)),
            // The next line names it as the one before.
            ("/metadata/uid", json!(digest(&raw).to_string())),
            ("/raw_data", json!(raw)),
        ] {
            assert_eq!(made.pointer(place), Some(&is), "{place}");
        }
        let made = super::tests::line(Event::Rotated, 2).ocsf(Path::new("/k/keystore.json"));
        let made = made.unwrap();
        assert_eq!(made["entity"]["uid"], "/k/keystore.json");
        assert_eq!(made["entity"]["data"]["keys"].as_array().unwrap().len(), 2);
    }
}

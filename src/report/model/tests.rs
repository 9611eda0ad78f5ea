#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::*;
use crate::report::sample::server;

/// The members of `value`, each with its way down; those of a list are those of all in it.
fn members(value: &Value, way: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let way = format!("{way}.{name}");
                found.insert(way.clone());
                // Names of others.
                if !["status", "events", "by_state", "verdicts", "findings"]
                    .contains(&name.as_str())
                    || value.is_array()
                {
                    members(value, &way, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| members(one, way, found)),
        _ => {}
    }
}

/// For ever: other programs read them, and `--from` does.
#[test]
fn the_members_of_json_stay() {
    let mut server = server();
    server.source = Some(Source { file: "f".into(), sha256: "0".into(), signature: "none".into() });
    server.keys[0].versions[0].planned =
        Some(Planned { state: KeyState::Destroyed, at: server.made });
    let data = server.data.as_mut().unwrap();
    data.unencrypted = vec![PlainFile { file: "f".into(), kind: "k".into(), pages: 1 }];
    data.unclear = vec![Unclear { file: "f".into(), why: "w".into() }];
    let document = Document::new(server.made, vec![server]);
    let mut found = BTreeSet::new();
    members(&serde_json::to_value(&document).unwrap(), "", &mut found);
    let found: String = found.iter().map(|way| format!("{way}\n")).collect();
    let golden = include_str!("../../../tests/golden/report/members.txt");
    assert_eq!(found, golden, "left: the code, right: tests/golden/report/members.txt");
    let text = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
    assert!(document.is_known());
}

#[test]
fn two_servers_sum_up() {
    let mut other = server();
    other.status.insert("keys".to_owned(), 7.into());
    other.keys[0].overdue = true;
    let rules = other.rules.len() as u64;
    let totals = Totals::of(&[server(), other]);
    assert_eq!((totals.servers, totals.keys, totals.key_versions), (2, 8, 4));
    assert_eq!(totals.by_state, [("active".into(), 2), ("retired".into(), 2)].into());
    assert_eq!((totals.overdue, totals.unencrypted_files), (1, 0));
    assert_eq!(totals.verdicts.values().sum::<u64>(), 2 * rules);
    assert_eq!(totals.findings, [("ok".into(), 2)].into());
}

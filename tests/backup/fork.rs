//! A copied keystore that goes its own way.

use std::fs;

use crate::{Site, said};

/// How far numbers jump at least.
const LEAST_JUMP: u64 = 1 << 16;

#[test]
fn a_fork_has_the_same_keys_and_another_future() {
    let original = Site::with_keys();
    let (identity, fingerprint) = original.identity();
    let backup = original.backup();
    original.ok(&["keystore", "backups", "add", "tape 3", "--unread"]);
    original.ok(&["keys", "compromise", "4", "1", "--reason", "seen"]);
    let (keys, states) = (original.keys("keys"), original.states());
    // A clone has a copy of everything.
    let clone = Site::new();
    for name in ["keyward.toml", "keystore", "local.key"] {
        let from = original.path("keyward").join(name);
        let to = clone.path("keyward").join(name);
        let copy = |from: &std::path::Path, to: &std::path::Path| {
            let bytes = fs::read(from).unwrap();
            // In place: its owner stays.
            fs::write(to, bytes).unwrap();
        };
        match from.is_dir() {
            true => {
                for entry in fs::read_dir(&from).unwrap() {
                    let entry = entry.unwrap();
                    copy(&entry.path(), &to.join(entry.file_name()));
                }
            }
            false => copy(&from, &to),
        }
    }
    let config = clone.path("keyward/keyward.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(&original.text("keyward"), &clone.text("keyward"));
    fs::write(&config, text).unwrap();
    assert_eq!(clone.keys("before"), keys);

    let before = original.seen();
    let data = clone.text("");
    let done = clone.ok(&["--json", "keystore", "fork", "--datadir", &data]);
    assert!(original.seen() == before, "the original was changed");
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    let file = |site: &Site| -> serde_json::Value {
        serde_json::from_slice(&fs::read(site.keystore()).unwrap()).unwrap()
    };
    let (old, new) = (file(&original), file(&clone));
    assert_eq!((&done["former"], &done["id"]), (&old["id"], &new["id"]));
    assert_ne!(old["id"], new["id"]);
    assert_eq!((old["epoch"].as_u64(), new["epoch"].as_u64()), (Some(1), Some(2)));
    assert_ne!(done["fingerprint"], fingerprint);
    assert_eq!((clone.keys("after"), clone.states()), (keys, states));
    for kept in ["backup_recipients", "approvers", "backups"] {
        assert_eq!(old["registers"][kept], new["registers"][kept], "{kept}");
    }
    assert_eq!(new["registers"]["data_directories"].as_array().map(Vec::len), Some(0));
    // What is there is whole, and what was set aside is the copy.
    let aside = done["aside"].as_str().unwrap();
    assert_eq!(fs::read(aside).unwrap(), fs::read(original.keystore()).unwrap());
    clone.ok(&["audit", "verify"]);
    let trail = clone.ok(&["audit", "show", "--event", "forked"]);
    assert!(trail.contains("keyward keystore fork"), "{trail}");

    // From here on no two keys have one number.
    let newest = |site: &Site| -> u64 {
        let list: serde_json::Value =
            serde_json::from_str(&site.ok(&["--json", "keys", "list"])).unwrap();
        let all = list.as_array().unwrap().iter();
        let versions = all.filter(|one| one["key"]["name"]["id"] == 3 || one["key"]["name"] == 3);
        versions.map(|one| one["key"]["version"].as_u64().unwrap()).max().unwrap()
    };
    let was = newest(&clone);
    for site in [&original, &clone] {
        site.ok(&["rotate", "3"]);
    }
    assert_eq!(newest(&original), was + 2);
    assert!(newest(&clone) >= was + LEAST_JUMP, "{} after {was}", newest(&clone));
    // A backup of the original is none of the fork's.
    let words = ["keystore", "restore", &backup, "--identity", &identity];
    let words = [&words[..], &["--fingerprint", &fingerprint]].concat();
    clone.refused(&words, "and the backup is of");
    let again = said(&clone.run(&["keystore", "fork", "--datadir", &data]));
    assert!(again.contains(&format!("versions of {}", new["id"].as_str().unwrap())), "{again}");
}

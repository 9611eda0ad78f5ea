//! A keystore whose fingerprint the configuration names: no other is opened in its place.

use serde_json::Value;

use crate::command::Shell;

/// What `status --json` says: epoch and fingerprint.
fn fingerprint(shell: &Shell) -> (u64, String) {
    let status = shell.run(&["status", "--json"]);
    assert_eq!(status.code, 0, "{}", status.err);
    let json: Value = serde_json::from_str(&status.out).unwrap();
    (json["epoch"].as_u64().unwrap(), json["fingerprint"].as_str().unwrap().to_owned())
}

fn pin(shell: &Shell, fingerprint: &str) {
    let text = std::fs::read_to_string(shell.config()).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("fingerprint")).collect();
    let line = format!("[keystore]\nfingerprint = \"{fingerprint}\"");
    let text = kept.join("\n").replacen("[keystore]", &line, 1) + "\n";
    assert!(text.contains(fingerprint), "{text}");
    std::fs::write(shell.config(), text).unwrap();
}

#[test]
fn only_the_keystore_that_is_pinned_opens() {
    let (ours, other) = (Shell::new(), Shell::new());
    let (epoch, own) = fingerprint(&ours);
    assert_eq!((epoch, own.len()), (1, 64));
    pin(&ours, &own.to_ascii_uppercase());
    // It stays the same whatever changes: the secret is never rotated.
    assert_eq!(ours.run(&["rotate", "1"]).code, 0);
    assert_eq!(ours.run(&["keystore", "rewrap", "--new-store-key"]).code, 0);
    assert_eq!(fingerprint(&ours), (1, own.clone()));

    // Somebody's own keystore, which the provider opens all the same.
    let (_, found) = fingerprint(&other);
    assert_ne!(found, own);
    pin(&other, &own);
    let refused = format!(
        "keyward: DIR/keystore/keystore.json: the keystore's fingerprint is {found}, and the \
         configuration names {own}; another keystore took its place: put the right one back; if \
         this is the right one, change `fingerprint` in [keystore]"
    );
    other.fails(&["status"], 1, &refused);
    other.fails(&["rotate", "1"], 1, &refused);
    pin(&other, &found);
    assert_eq!(other.run(&["status"]).code, 0);
}

//! From one key store to another and back: the same keys under the same names.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::command::{Shell, close, second_provider};

const KEYS: &str = "1;000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\
                    7;1;101112131415161718191a1b1c1d1e1f\n7;3;202122232425262728292a2b2c2d2e2f\n";

/// A configuration with an empty keystore and, beside its provider `local`, a key file.
fn with_key_file() -> (Shell, PathBuf) {
    let shell = Shell::empty();
    let keys = shell.path("keys.txt");
    std::fs::write(&keys, KEYS).unwrap();
    close(&keys);
    shell.configure(&format!(
        "[[provider]]\nname = \"old\"\ntype = \"file\"\npath = {keys:?}\nmode = \"cbc\"\n"
    ));
    (shell, keys)
}

/// Key, version, state and cipher of every version.
fn listed(shell: &Shell) -> Vec<[String; 4]> {
    let ended = shell.run(&["keys", "list", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let json: Value = serde_json::from_str(&ended.out).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |info: &Value| {
        let key = &info["key"];
        [&key["name"], &key["version"], &info["state"], &info["cipher"]].map(text)
    };
    json.as_array().unwrap().iter().map(row).collect()
}

fn only(shell: &Shell, name: &str) {
    let text = std::fs::read_to_string(shell.config()).unwrap();
    let (head, providers) = text.split_once("\n[[provider]]").unwrap();
    let kept: Vec<_> = providers
        .split("[[provider]]")
        .filter(|section| section.contains(&format!("name = \"{name}\"")))
        .collect();
    assert_eq!(kept.len(), 1, "{text}");
    std::fs::write(shell.config(), format!("{head}\n[[provider]]{}", kept[0])).unwrap();
}

#[test]
fn a_key_file_moves_into_the_keystore_and_back() {
    let (shell, _) = with_key_file();
    let dry = shell.run(&["migrate", "--from", "old", "--to", "local", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(
        dry.out.ends_with("3 key versions, 3 of them new there\ndry run: nothing was changed\n")
    );
    assert!(dry.out.starts_with("KEY  VERSION  STATE"), "{dry:?}");
    assert!(dry.out.lines().nth(2).unwrap().starts_with("  7        1  retired  aes-128-cbc"));

    let moved = shell.run(&["migrate", "--from", "old", "--to", "local"]);
    assert!(
        moved.out.ends_with(
            "3 key versions arrived, 3 of them new, all check values right\nnext: leave provider \
             \"local\" in the configuration, take \"old\" out, and restart the server\n"
        ),
        "{moved:?}"
    );
    let again = shell.run(&["migrate", "--from", "old", "--to", "local"]);
    assert!(again.out.contains("3 key versions arrived, 0 of them new"), "{again:?}");

    let both = std::fs::read_to_string(shell.config()).unwrap();
    only(&shell, "old");
    let before = listed(&shell);
    std::fs::write(shell.config(), &both).unwrap();
    only(&shell, "local");
    assert_eq!(listed(&shell), before);

    let file = shell.path("back.txt");
    let words = ["migrate", "--from", "local", "--to-file", file.to_str().unwrap()];
    let back = shell.run(&words);
    assert_eq!(back.code, 0, "{}", back.err);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), KEYS.replacen("1;0001", "1;1;0001", 1));
    shell.fails(&words, 1, "keyward: DIR/back.txt already exists; name a file that is not");
    let trail = std::fs::read_to_string(shell.path("keystore/audit.jsonl")).unwrap();
    assert_eq!(trail.matches("\"event\":\"exported\"").count(), 1, "a refused one is none");
    assert_eq!(trail.matches("\"event\":\"imported\"").count(), 1);
}

#[test]
fn the_next_rotation_of_an_imported_key_has_the_configured_cipher() {
    let (shell, _) = with_key_file();
    shell.run(&["migrate", "--from", "old", "--to", "local"]);
    only(&shell, "local");
    shell.run(&["rotate", "7"]);
    let ciphers: Vec<_> = listed(&shell).into_iter().map(|row| row[3].clone()).collect();
    assert_eq!(ciphers, ["aes-256-cbc", "aes-128-cbc", "aes-128-cbc", "aes-256-ctr"]);
    let file = shell.path("back.txt");
    let mixed = shell.run(&["migrate", "--from", "local", "--to-file", file.to_str().unwrap()]);
    assert!(mixed.err.contains("a key file has one mode"), "{mixed:?}");
    assert!(!file.exists());
}

#[test]
fn between_providers_that_wrap_only_the_wrapping_changes() {
    let shell = Shell::new();
    shell.configure(&second_provider(&shell));
    let before = listed(&shell);
    shell.prints(
        &["migrate", "--from", "local", "--to", "second", "--dry-run"],
        "wrapping by provider \"second\": added\nwrapping by provider \"local\": removed\n\
         dry run: nothing was changed\n",
    );
    shell.prints(
        &["migrate", "--from", "local", "--to", "second"],
        "wrapping by provider \"second\": added\nwrapping by provider \"local\": removed\n\
         next: leave provider \"second\" in the configuration, take \"local\" out, and restart the \
         server\n",
    );
    only(&shell, "second");
    assert_eq!(listed(&shell), before);
    let status = shell.run(&["status"]).out;
    assert!(status.contains("\nwrapped by           second\n"), "{status}");
}

#[test]
fn what_keys_have_left_does_not_wrap_again_by_itself() {
    let shell = Shell::new();
    shell.configure(&second_provider(&shell));
    shell.run(&["migrate", "--from", "local", "--to", "second"]);
    shell.prints(
        &["keystore", "rewrap", "--new-store-key"],
        "provider \"local\": configured, does not wrap (--add NAME lets it)\n\
         provider \"second\": renewed\na new store key wraps 2 key versions now\n",
    );
    let wrapped_by = || {
        let status = shell.run(&["status"]).out;
        let names = status.lines().find_map(|line| line.strip_prefix("wrapped by "));
        names.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(wrapped_by(), "second");
    let latest = shell.run(&["keystore", "rewrap", "--to-latest"]);
    assert_eq!(latest.code, 1, "somebody may have meant it to wrap: {latest:?}");
    assert!(latest.out.contains("`keyward keystore rewrap --add local` lets it"), "{latest:?}");
    assert_eq!(wrapped_by(), "second");
    shell.prints(&["keystore", "rewrap", "--add", "local"], "provider \"local\": added\n");
    assert_eq!(wrapped_by(), "second, local");
    assert_eq!(shell.run(&["keystore", "rewrap", "--add", "local", "--prune"]).code, 2);
}

#[test]
fn what_cannot_be_moved_is_said_and_nothing_changes() {
    let (shell, keys) = with_key_file();
    shell.fails(
        &["migrate", "--from", "new", "--to", "local"],
        1,
        "keyward: there is no provider \"new\" in the configuration; it has local, old",
    );
    shell.fails(
        &["migrate", "--from", "local", "--to", "local"],
        1,
        "keyward: a move needs two different providers",
    );
    shell.fails(
        &["migrate", "--from", "old", "--to", "old"],
        1,
        "keyward: provider \"old\" serves keys, and cannot take those of another; move into one \
         that wraps",
    );
    shell.run(&["migrate", "--from", "old", "--to", "local"]);
    std::fs::write(&keys, &KEYS[..67]).unwrap();
    let put = shell.run(&["migrate", "--from", "local", "--to", "old"]);
    assert_eq!(put.code, 1);
    assert!(put.err.ends_with("write a key file with --to-file PATH instead\n"), "{put:?}");
    std::fs::write(&keys, KEYS.replace("1;00", "1;ff")).unwrap();
    let other = shell.run(&["migrate", "--from", "old", "--to", "local"]);
    assert!(
        other.err.contains("key 1 version 1: there is another key of this version"),
        "{other:?}"
    );
    assert_eq!(shell.run(&["migrate", "--from", "old"]).code, 2);
}

#[test]
fn a_file_key_management_installation_is_imported_by_its_my_cnf() {
    let shell = Shell::empty();
    let (keys, mycnf) = (shell.path("keys.txt"), shell.path("my.cnf"));
    std::fs::write(&keys, KEYS).unwrap();
    close(&keys);
    let text = format!(
        "[mariadb]\nfile_key_management_filename = {}\n\
         file_key_management_encryption_algorithm = AES_CTR\n",
        keys.display()
    );
    std::fs::write(&mycnf, text).unwrap();
    let mycnf = mycnf.to_str().unwrap();
    let dry = shell.run(&["import", "--from-mycnf", mycnf, "--dry-run"]);
    assert!(dry.out.ends_with("dry run: nothing was changed\n"), "{dry:?}");
    let done = shell.run(&["import", "--from-mycnf", mycnf, "--reason", "moving house"]);
    assert!(
        done.out.ends_with(
            "3 key versions arrived, 3 of them new, all check values right\nnext: load plugin \
             keyward in place of file_key_management in my.cnf, and restart the server\n"
        ),
        "{done:?}"
    );
    let ciphers: Vec<_> = listed(&shell).into_iter().map(|row| row[3].clone()).collect();
    assert_eq!(ciphers, ["aes-256-ctr", "aes-128-ctr", "aes-128-ctr"]);
    let own = Shell::new();
    let conflict = own.run(&["import", "--from-mycnf", mycnf]);
    assert_eq!(conflict.code, 1, "{conflict:?}");
    assert!(conflict.err.contains("this keystore has keys of its own"), "{conflict:?}");
}

#[test]
fn mysqls_stock_keyring_is_imported_and_opens_its_tablespace() {
    let shell = Shell::empty();
    let file = shell.path("keyring");
    std::fs::copy("tests/golden/keyring/component_keyring_file.json", &file).unwrap();
    close(&file);
    let tablespace = "tests/golden/inspect/mysql.ibd";
    let before = shell.run(&["inspect", tablespace]);
    assert!(before.code == 1 && before.out.contains("  missing  "), "{before:?}");
    let cnf = shell.path("component_keyring_file.cnf");
    std::fs::write(&cnf, format!("{{\"path\": {file:?}}}")).unwrap();
    let dry = ["migrate", "--from-keyring-file", cnf.to_str().unwrap(), "--dry-run"];
    let dry = shell.run(&dry);
    assert!(dry.out.ends_with("2 of them new there\ndry run: nothing was changed\n"), "{dry:?}");
    let words = ["migrate", "--from-keyring-file", file.to_str().unwrap()];
    let done = shell.run(&words);
    assert!(
        done.out.ends_with(
            "2 key versions arrived, 2 of them new, all check values right\nnext: name \
             component_keyring_keyward in mysqld.my in place of component_keyring_file, restart the \
             server, then destroy DIR/keyring: every key stands clear in it\n"
        ),
        "{done:?}"
    );
    let opens = shell.run(&["inspect", tablespace]);
    assert!(opens.code == 0 && opens.out.contains("  opens  "), "{opens:?}");
    let json = shell.run(&["inspect", tablespace, "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["opens"], "opens");
    assert_eq!(json[0]["master_key"], "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-2");

    let text = std::fs::read_to_string(&file).unwrap().replace("\"DA34", "\"DB34");
    std::fs::write(&file, text).unwrap();
    let other = Shell::empty();
    assert_eq!(other.run(&words).code, 0);
    let wrong = other.run(&["inspect", tablespace]);
    assert!(wrong.code == 1 && wrong.out.contains("\nwrong key: tests/golden"), "{wrong:?}");
    let refused = shell.run(&words);
    assert!(refused.err.contains("this keystore has keys of its own"), "{refused:?}");
    assert_eq!(shell.run(&["import"]).code, 2);
}

//! The configuration, read and refused.

#![forbid(unsafe_code)]

use super::*;
use crate::policy::CheckpointPolicy;

const GOOD: &str = r#"
[keystore]
path = "/var/lib/keyward/keystore.json"
cipher = "aes-256-cbc"
[policy]
version_step = 3
[audit]
checkpoint_lines = 50
checkpoint_every = "6h"
[[provider]]
name = "first"
type = "local"
timeout = "5s"
key_file = "/etc/keyward/local.key"
[[provider]]
type = "file"
"#;

fn refused(text: &str) -> String {
    match Config::parse(Path::new("k.toml"), text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn reads_all_sections() {
    let config = Config::parse(Path::new("k.toml"), GOOD).unwrap();
    assert_eq!(config.keystore.cipher.to_string(), "aes-256-cbc");
    assert_eq!(config.policy.version_step, 3);
    let time = Duration::from_secs(6 * 3_600);
    assert_eq!(config.audit.checkpoints, CheckpointPolicy { lines: 50, time });
    let names: Vec<_> = config.providers.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["first", "file"]);
    assert_eq!(config.providers[0].timeout, Duration::from_secs(5));
}

#[test]
fn leaves_out_what_has_a_default() {
    let config = Config::parse(Path::new("k.toml"), "[[provider]]\ntype = \"local\"").unwrap();
    assert_eq!(config.keystore.path, Path::new(DEFAULT_KEYSTORE));
    assert_eq!(config.keystore.cipher, Cipher::DEFAULT);
    assert_eq!(config.policy.version_step, 2);
    let day = Duration::from_secs(86_400);
    assert_eq!(config.audit.checkpoints, CheckpointPolicy { lines: 1_000, time: day });
}

#[test]
fn a_retired_version_is_kept_under_either_name() {
    for name in ["keep_retired", "retire_after"] {
        let text = format!("[policy]\n{name} = \"60d\"\n[[provider]]\ntype = \"local\"");
        let config = Config::parse(Path::new("k.toml"), &text).unwrap();
        assert_eq!(config.policy.keep_retired, Some(Duration::from_secs(60 * 86_400)));
    }
}

#[test]
fn names_place_and_cure() {
    let cases = [
        (
            "[keystore]\npth = \"/x\"\n",
            "k.toml:2:1: unknown key \"pth\" in [keystore]; did you mean \"path\"?",
        ),
        (
            "[keystore]\nzebras = 1\n",
            "k.toml:2:1: unknown key \"zebras\" in [keystore]; known are: check_data, cipher, fingerprint, path",
        ),
        ("[keystore]\npath = 1\n", "k.toml:2:1: path must be a string in quotes, not a number"),
        (
            "[keystore]\npath = \"x\"\n",
            "k.toml:2:1: path: is not an absolute path; begin it with /",
        ),
        (
            "[keystore]\ncipher = \"rot13\"\n",
            "k.toml:2:1: cipher: \"rot13\" is not a cipher; use aes-128-, aes-192- or aes-256-, then cbc or ctr: aes-256-ctr",
        ),
        (
            "[keystore]\nfingerprint = \"SHA256:abc\"\n",
            "k.toml:2:1: fingerprint: is not 64 hex digits; `keyward status --json` shows the keystore's",
        ),
        ("[policy]\nversion_step = 0\n", "k.toml:2:1: version_step: must be from 1 to 1000"),
        (
            "[audit]\ncheckpoint_lines = 0\n",
            "k.toml:2:1: checkpoint_lines: must be from 1 to 1000000",
        ),
        ("[policy]\nkeep_versions = 0\n", "k.toml:2:1: keep_versions: must be from 1 to 1000"),
        (
            "[policy]\nrotate_afer = \"90d\"\n",
            "k.toml:2:1: unknown key \"rotate_afer\" in [policy]; did you mean \"rotate_after\"?",
        ),
        (
            "[policy]\nkeep_retired = \"60d\"\nretire_after = \"60d\"\n",
            "k.toml:3:1: retire_after: is the former name of keep_retired, which is given as well; take this line out",
        ),
        (
            "[policy]\nretire_after = \"soon\"\n",
            "k.toml:2:1: retire_after: is not a length of time; write it as 5s, 30m or 90d",
        ),
        (
            "[policy]\nrotate_after = 90\n",
            "k.toml:2:1: rotate_after must be a string in quotes, not a number",
        ),
        (
            "[policy]\nrotate_after = \"quarterly\"\n",
            "k.toml:2:1: rotate_after: is not a length of time; write it as 5s, 30m or 90d",
        ),
        (
            "[policy]\nrotate_after = \"500000000000y\"\n",
            "k.toml:2:1: rotate_after: is longer than a thousand years",
        ),
        (
            "[policy]\njitter = \"1d\"\n",
            "k.toml:2:1: jitter: needs rotate_after; set rotate_after as well",
        ),
        (
            "[policy]\nrotate_after = \"1d\"\nactivate_after = \"24h\"\n",
            "k.toml:3:1: activate_after: jitter and activate_after together must be shorter than rotate_after; shorten them, or rotate later",
        ),
        (
            "[keystor]\n[[provider]]\ntype = \"local\"\n",
            "k.toml:1:2: unknown section [keystor]; did you mean \"keystore\"?",
        ),
        ("[provider]\ntype = \"local\"\n", "k.toml:1:2: write each provider as [[provider]]"),
        (
            "[[provider]]\nname = \"x\"\n",
            "k.toml:1:1: [[provider]] lacks \"type\"; add a line `type = \"...\"`",
        ),
        (
            "[[provider]]\ntype = \"local\"\ntimeout = \"soon\"\n",
            "k.toml:3:1: timeout: is not a length of time; write it as 5s, 30m or 90d",
        ),
        ("", "k.toml: no [[provider]]; `keyward init` writes a configuration with one"),
        (
            "[[provider]]\ntype = \"a\"\n[[provider]]\ntype = \"a\"\nname = \"a\"\n",
            "k.toml:5:1: name: two providers have this name",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(refused(text), wanted, "for {text:?}");
    }
}

#[test]
fn points_at_broken_toml() {
    assert!(refused("[keystore]\npath = /x\n").starts_with("k.toml:2:8: "));
}

#[test]
fn refuses_a_secret_inline_and_does_not_repeat_it() {
    let text = "[[provider]]\ntype = \"local\"\npassphrase = \"hunter2\"\n";
    let config = Config::parse(Path::new("k.toml"), text).unwrap();
    let keys = ["passphrase_file", "passphrase_env", "passphrase_credential"];
    let error = config.providers[0].section.secret("passphrase", keys).err().unwrap().to_string();
    assert!(error.starts_with("k.toml:3:1: passphrase: a secret may not stand"), "{error}");
    assert!(!error.contains("hunter2"));
}

#[test]
fn what_is_misspelt_is_no_lack() {
    let section = |line: &str| {
        let text = format!("[[provider]]\ntype = \"x\"\n{line}\n");
        Config::parse(Path::new("k.toml"), &text).unwrap().providers.remove(0).section
    };
    let lacks = |line: &str| {
        let section = section(line);
        assert!(section.path("key_file").unwrap().is_none());
        assert!(section.path("passphrase_file").unwrap().is_none());
        section.lacks("key_file").to_string()
    };
    for (line, name) in [
        ("keyfile = \"/k\"", "key_file"),
        ("pasphrase_file = \"/k\"", "passphrase_file"),
        ("key-file = \"/k\"", "key_file"),
    ] {
        let wrong = line.split(' ').next().unwrap();
        assert_eq!(
            lacks(line),
            format!(
                "k.toml:3:1: unknown key \"{wrong}\" in [[provider]]; did you mean \"{name}\"?"
            )
        );
    }
    // What may be asked for later is not taken for it.
    for line in ["", "ca_file = \"/k\"", "mode = \"cbc\""] {
        assert!(
            lacks(line).starts_with("k.toml:1:1: [[provider]] lacks \"key_file\"; add"),
            "{line}"
        );
    }
}

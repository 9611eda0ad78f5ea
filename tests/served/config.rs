//! `[stash]` in the configuration: what goes together, and what does not.

use std::path::Path;
use std::sync::Arc;

use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::Env;
use keyward::env::fake::FakeLog;
use keyward::source::Role;
use keyward::{Kind, Result, assemble};

use crate::bench::{key, version};

const SERVES: &str =
    "[[provider]]\nname = \"keys\"\ntype = \"file\"\npath = \"AT/keys.txt\"\nmode = \"ctr\"\n";
const WRAPS: &str = "[[provider]]\nname = \"seal\"\ntype = \"local\"\nkey_file = \"AT/seal.key\"\n";
const STASH: &str = "[stash]\n";

fn start(folder: &Path, sections: &[&str]) -> Result<Custodian> {
    let text = format!("[keystore]\npath = \"AT/keystore.json\"\n{}", sections.concat());
    let text = text.replace("AT", &folder.display().to_string());
    let env = Env::system(Arc::new(FakeLog::default()));
    assemble::start(&Config::parse(Path::new("k.toml"), &text)?, Role::Daemon, env)
}

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.txt");
    std::fs::write(&keys, format!("1;{}\n", "5a".repeat(32))).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    assemble::create_key_file(&folder.path().join("seal.key"), &keyward::env::System).unwrap();
    folder
}

#[test]
fn a_provider_that_serves_and_one_that_seals_make_a_stash_beside_the_keystore() {
    let folder = folder();
    let custodian = start(folder.path(), &[SERVES, WRAPS, STASH]).unwrap();
    assert_eq!(custodian.latest(key(1)), Some(version(1)));
    let stash = custodian.status().stash.unwrap();
    assert_eq!((stash.path, stash.failure), (folder.path().join("stash.json"), None));
    assert!(folder.path().join("stash.json").exists() && stash.taken.is_some());
    // The order of the two says nothing.
    drop(start(folder.path(), &[STASH, WRAPS, SERVES]).unwrap());
}

#[test]
fn what_does_not_go_together_is_said() {
    let folder = folder();
    let other = SERVES.replace("\"keys\"", "\"more\"");
    let own = format!("{STASH}path = \"AT/keystore.json\"\n");
    for (sections, words) in [
        (&[SERVES, WRAPS][..], "k.toml:5:1: type: this provider serves keys; others beside it can"),
        (&[SERVES, STASH], "nothing seals the stash"),
        (&[WRAPS, STASH], "stash.json is for keys that a provider serves; remove [stash]"),
        (&[SERVES, &other, WRAPS, STASH], "another provider serves keys already"),
        (&[SERVES, WRAPS, &own], "path: is the keystore's; the stash is a file of its own"),
        (&[SERVES, WRAPS, "[stash]\nmax_aeg = \"1d\"\n"], "did you mean \"max_age\"?"),
    ] {
        let error = start(folder.path(), sections).err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    assert!(!folder.path().join("stash.json").exists());
}

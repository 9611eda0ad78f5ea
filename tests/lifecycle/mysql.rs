//! The command where the server is a MySQL, which makes and rotates its keys by itself.

use crate::command::Shell;

const CNF: &str = "component_keyring_keyward.cnf";

#[test]
fn init_prints_both_files_and_makes_no_keys() {
    let shell = Shell::new();
    let dir = shell.path("m").display().to_string();
    shell.prints(
        &["init", "--mysql", "--dir", &dir, "--user", "root"],
        "configuration  DIR/m/keyward.toml\n\
         wrapping key   DIR/m/local.key   <- keep a copy elsewhere: without it no data can be read\n\
         keystore       DIR/m/keystore/keystore.json\n\n\
         Write mysqld.my beside the server's program, such as /usr/sbin/mysqld.my:\n\n\
         { \"components\": \"file://component_keyring_keyward\" }\n\n\
         and component_keyring_keyward.cnf beside component_keyring_keyward.so:\n\n\
         {\"config\":\"DIR/m/keyward.toml\"}\n\n\
         Restart the server.\n",
    );
    let cnf = shell.path(CNF);
    std::fs::write(&cnf, format!("{{\"config\":\"{dir}/keyward.toml\"}}")).unwrap();
    let listed = shell.run_on(&cnf, &["keys", "list"]);
    assert_eq!((listed.code, listed.out.lines().count()), (0, 1), "{listed:?}");
    let rotated = shell.run_on(&cnf, &["rotate", "--all"]);
    assert_eq!(
        rotated.out,
        "no key of MariaDB's is here; MySQL rotates its own: ALTER INSTANCE ROTATE INNODB MASTER \
         KEY\n"
    );
    let unknown = shell.run_on(&cnf, &["keys", "show", "INNODBKey-1"]);
    assert_eq!(
        unknown.err,
        "keyward: the keystore has no key INNODBKey-1; `keyward keys list` shows all\n"
    );
    let refused = shell.run_on(&cnf, &["init", "--user", "root"]);
    assert_eq!(
        refused.err,
        format!(
            "keyward: DIR/{CNF} is for MySQL's component; the server's first start makes its \
             `path`; for `config`, name a .toml\n"
        )
    );
}

#[test]
fn init_refuses_a_provider_that_cannot_keep_mysqls_keys() {
    let shell = Shell::new();
    let keys = shell.path("keys");
    std::fs::write(&keys, format!("1;{}\n", "a1".repeat(32))).unwrap();
    crate::command::close(&keys);
    let (dir, path) = (shell.path("m"), format!("path={}", keys.display()));
    let dir = dir.to_str().unwrap();
    let words = ["init", "--mysql", "--dir", dir, "--user", "root", "--provider", "file", "--set"];
    shell.fails(
        &[&words[..], &[&path, "--set", "mode=ctr"]].concat(),
        1,
        "keyward: provider \"file\" serves MariaDB's keys only; for MySQL take one that wraps, such \
         as local",
    );
    assert!(!std::path::Path::new(dir).exists(), "something of it is left");
}

#[test]
fn a_key_of_mysqls_is_not_rotated_by_us() {
    let shell = Shell::new();
    for (name, kind) in [("INNODBKey-u-1", "INNODB"), ("MySQLReplicationKey_u_1", "BINLOG")] {
        let said = shell.run(&["rotate", name]);
        let words = format!("ALTER INSTANCE ROTATE {kind} MASTER KEY makes the next");
        assert!(said.code == 2 && said.err.contains(&words), "{said:?}");
    }
    assert!(shell.run(&["rotate", "x"]).err.contains("\"x\" is not a key number"));
}

#[test]
fn a_rollback_names_the_tablespaces_that_need_a_lost_master_key() {
    let shell = Shell::new();
    let keystore = shell.path("keystore/keystore.json");
    let old = std::fs::read(&keystore).unwrap();
    shell.run(&["rotate", "1"]);
    std::fs::write(&keystore, old).unwrap();
    let data = shell.path("data");
    std::fs::create_dir_all(data.join("#innodb_redo")).unwrap();
    let samples = std::path::Path::new("tests/golden/inspect");
    std::fs::copy(samples.join("full-crc32-plain.ibd"), data.join("ibdata1")).unwrap();
    std::fs::copy(samples.join("mysql.ibd"), data.join("mysql.ibd")).unwrap();
    let words = ["keystore", "accept-rollback", "--datadir", data.to_str().unwrap()];
    let name = "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-2";
    let dry = shell.run(&[&words[..], &["--dry-run"]].concat());
    let lost = format!("lost: key {name} version 1\n  needed by DIR/data/mysql.ibd\n");
    let rest = "binary and redo logs of MySQL's elsewhere were not searched\n";
    assert!(dry.out.contains(&lost) && dry.out.contains(rest), "{dry:?}");
    let refused = shell.run(&[&words[..], &["--reason", "no backup"]].concat());
    let told = format!(
        "keyward: data files need versions that are lost: key {name} version 1 by \
         DIR/data/mysql.ibd; put the newest copy of the keystore back; only if that data may be \
         lost, give --lose-data\n"
    );
    assert_eq!((refused.code, refused.err), (1, told));
    assert_eq!(shell.run(&[&words[..], &["--reason", "no", "--lose-data"]].concat()).code, 0);
}

#[test]
fn no_key_of_mariadbs_is_made_in_mysqls_keystore() {
    let shell = Shell::empty();
    let stock = shell.path("component_keyring_file");
    std::fs::copy("tests/golden/keyring/component_keyring_file.json", &stock).unwrap();
    crate::command::close(&stock);
    let imported = shell.run(&["import", "--from-keyring-file", stock.to_str().unwrap()]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let trail = shell.run(&["audit", "show", "--event", "imported"]);
    assert!(trail.out.contains("keyward import"), "{trail:?}");
    shell.fails(
        &["keys", "create", "7"],
        1,
        "keyward: key 7 would be MariaDB's, and the keystore is a MySQL server's; MySQL makes its \
         own keys when it needs them; --config names another keystore",
    );
    let shown = shell.run(&["keys", "show", "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-1"]);
    assert!(shown.code == 0 && !shown.out.contains("due"), "{shown:?}");
    shell.configure("[policy]\nrotate_after = \"90d\"\n");
    let due = "  due: `keyward rotate --due` has the server make the next\n";
    for (number, is_newest) in [(1, false), (2, true)] {
        let name = format!("INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-{number}");
        let shown = shell.run(&["keys", "show", &name]);
        assert_eq!(shown.out.ends_with(due), is_newest, "{shown:?}");
    }
}

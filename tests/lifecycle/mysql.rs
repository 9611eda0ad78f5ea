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
            "keyward: DIR/{CNF} is for MySQL's component; leave --config away, or name a .toml: \
             that is what init writes\n"
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
        &[&words[..], &[&path]].concat(),
        1,
        "keyward: provider \"file\" serves MariaDB's keys only; for MySQL take one that wraps, such \
         as local or vault-transit",
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

//! All that `doctor` looks at: one entry a thing, whose id scripts may rely on. `docs/doctor.md` has the
//! same table.

#![forbid(unsafe_code)]

use crate::error::{Error, Kind, Result};

/// One thing that is looked at.
#[derive(Debug)]
pub(in crate::cli) struct Check {
    /// What scripts know it by; it stays.
    pub(in crate::cli) id: &'static str,
    /// What is looked at.
    pub(in crate::cli) what: &'static str,
    /// Why, and what to do where it is not as it should be.
    why: &'static str,
}

/// Writes the entries and the list of them.
macro_rules! checks {
    ($($name:ident $id:literal $what:literal $why:literal;)*) => {
        $(pub(super) static $name: Check = Check { id: $id, what: $what, why: $why };)*
        /// All of them, in the order of the page.
        static ALL: &[&Check] = &[$(&$name),*];
    };
}

checks! {
    CONFIGURATION "configuration" "the configuration file can be read and has no mistake"
        "Server and command read the same file. It is refused where anybody but root and the server's account \
        could have written it, and where a setting is unknown or misspelt: the line says file, line and \
        column.";
    PROVIDER "provider" "each key store answers, and lets us do what is needed"
        "Each provider is asked by its own protocol, with the credentials of the configuration: a key file is \
        read, a server is asked for each right of its policy, a KMS wraps and unwraps something for nothing. One \
        that fails is a failure even where another opens the keystore meanwhile: with that one away, too, no \
        server starts.";
    CREDENTIAL_END "credential-end" "certificates and tokens do not end within 14 days"
        "A certificate that ends takes the key store away from a running server, which goes on with the keys \
        in its memory, and from the next start, which fails. Put the renewed file in the same place: it is \
        read again by itself.";
    WRAPPINGS "wrappings" "the configured providers and those that wrap the keystore are the same"
        "The keystore's key is wrapped once for each provider. One that is configured and does not wrap opens \
        nothing: `keyward keystore rewrap` adds it. One that wraps and is no longer configured can still open \
        the keystore for whoever has its key: put it back, or let it go with `keyward keystore rewrap \
        --prune`.";
    SOLE_WRAPPING "sole-wrapping" "more than one provider opens the keystore"
        "With one provider alone, its loss is the loss of all data: a key file that is deleted, a KMS key that \
        somebody schedules for deletion. A second provider, such as a passphrase that lies in a safe, costs \
        nothing. So does a backup (`keyward keystore backup`), which opens without any provider.";
    BACKUP "backup" "a backup of the keys has the newest of them"
        "With `[backup]` in the configuration, `keyward keystore backup --due` makes them; it is the timer's and \
        cron's. Without, the audit trail tells when the last was made by hand. Where there is no recipient \
        of backups yet, this is not looked at, but `sole-wrapping`.";
    KEY_BESIDE_DATA "key-beside-data" "no key lies on the disk that has the data"
        "Encryption at rest is for the disk that is stolen, sold or copied. Where the key lies on the same one, \
        whoever has the disk has both. Keep the key on another file system (a mounted secret, a token, a key \
        store), or wrap by a key store that gives its key to nobody.";
    KEYSTORE_FOLDER "keystore-folder" "the keystore's folder belongs to the server's account"
        "The server writes the keystore: it rotates by policy and registers itself. A folder of root's lets it \
        read at best, and each rotation fails.";
    KEYS "keys" "the keystore opens, and each key is the one that it was"
        "All keys are opened as a server opens them, and compared with their check values. What fails here \
        fails at the next start of the server.";
    STASH "stash" "the copy of a key store's keys for its outages is there and opens"
        "A server whose keys a key store serves cannot start while that is away, unless there is a stash. A \
        running server keeps it current.";
    DATES "dates" "no key is dated after today"
        "A key that was made while the clock was ahead never grows old enough to be rotated by policy. Set the \
        clock, then rotate the key.";
    AUDIT_TRAIL "audit-trail" "the audit trail is whole, as the keystore knows it"
        "The keystore knows the trail's last line: what was changed, cut off or moved away since shows. \
        `keyward audit verify` names each fault.";
    AUDIT_SINKS "audit-sinks" "no line of the audit trail waits for a sink"
        "Lines wait where journald, syslog or a webhook takes none. None is lost while the trail has it.";
    GENERATION "generation" "the running server has the keystore's newest generation"
        "A server looks twice a second. One that does not take up a change has refused it, and \
        Keyward_degraded_reason says why.";
    SERVER "server" "the server answers"
        "Where it does not, its option files and its error log are looked at in its place. `access denied` \
        means that it runs: name an account by --defaults-extra-file.";
    PLUGIN "plugin" "the running server has its keys from keyward, and from nothing else"
        "The plugin `keyward`, or one of the plugins whose name it takes, must be active. A server loads one \
        encryption plugin.";
    LOAD_OPTION "load-option" "the server does not start without its keys"
        "Without FORCE_PLUS_PERMANENT a server whose key plugin failed starts all the same, with its encrypted \
        tables gone: applications then see missing tables, and monitoring sees a server that is up.";
    LIBRARY "library" "the server runs the library that is installed"
        "An upgrade replaces the file; a running server goes on with the old one until its restart.";
    MEMORY "memory" "the memory in which the server keeps keys is locked"
        "Memory that is not locked may reach swap, and so the disk. Raise LimitMEMLOCK in the unit, or memlock \
        of the container.";
    RESTART "restart" "the server could start again now"
        "Hourly the server does what its next start will do. Where that fails, do not restart it: it has the \
        keys in its memory.";
    ENCRYPTION_THREADS "encryption-threads" "the server re-encrypts in the background"
        "With innodb_encryption_threads = 0, its default, no page is encrypted that was there before, and no \
        rotation reaches any.";
    ENCRYPT_TABLES "encrypt-tables" "new tables are encrypted"
        "With innodb_encrypt_tables = OFF, its default, only tables that say ENCRYPTED=YES are, and the threads \
        leave all others alone.";
    ROTATE_KEY_AGE "rotate-key-age" "a rotation reaches the pages"
        "With innodb_encryption_rotate_key_age = 0 no page follows a rotation.";
    ENCRYPT_LOG "encrypt-log" "the redo log is encrypted"
        "The redo log has the rows of each change. Set innodb_encrypt_log = ON and restart.";
    ENCRYPT_ARIA "encrypt-aria" "new Aria tables are encrypted"
        "The server's own tables are Aria's, with the accounts and their password hashes. Set \
        aria_encrypt_tables = ON. Tables that are there stay as they are until ALTER TABLE t FORCE.";
    ENCRYPT_BINLOG "encrypt-binlog" "binary and relay logs are encrypted"
        "The binary log has the rows of each change. Set encrypt_binlog = ON and restart; logs that are there \
        stay as they are until they are purged.";
    ENCRYPT_TEMPORARY "encrypt-temporary" "temporary tables and files are encrypted"
        "Sorting and joining write rows into temporary files. Set encrypt_tmp_disk_tables = ON and \
        encrypt_tmp_files = ON.";
    TORN_PAGES "torn-pages" "a page that is written in part can be repaired"
        "An encrypted page of which half was written before a power cut cannot be decrypted. Leave \
        innodb_doublewrite = ON, unless the file system writes pages whole.";
    INNODB_BINLOG "innodb-binlog" "the binary log is one that can be encrypted"
        "MariaDB 12.3 can keep the binary log in InnoDB (binlog_storage_engine = innodb), where encrypt_binlog \
        has no effect: its rows stand in the clear.";
    MYSQL_LIBRARY "mysql-library" "MySQL's component is where the server looks for it"
        "The component's configuration lies beside its library, in the server's plugin_dir.";
    MYSQL_MANIFEST "mysql-manifest" "MySQL's manifest names the component"
        "The file mysqld.my beside the server's program tells it which components to load before anything \
        else.";
    OPTION_FILES "option-files" "the option files of a server that is down load keyward, alone and whatever happens"
        "What the server's own my_print_defaults shows: one key plugin, FORCE_PLUS_PERMANENT, a plugin_maturity \
        that lets it in, and the account whose the keystore is.";
    ERROR_LOG "error-log" "the last line of keyward in the error log of a server that is down"
        "A server that could not start has said why, in one line.";
    PLAIN_FILES "plain-files" "nothing in the data directory is in the clear that is meant to be encrypted"
        "InnoDB's threads encrypt its tables and tablespaces in the background. Aria tables, binary logs and \
        the redo log stay as they were written: ALTER TABLE t FORCE, PURGE BINARY LOGS, and a restart make \
        them again. Tables that say ENCRYPTED=NO are left out.";
    NEEDED_VERSIONS "needed-versions" "all key versions that the data need are there, and none is compromised"
        "The data files are read, and each version in them looked up. A missing one is data that cannot be \
        read: put the newest copy of the keystore back. A compromised one is data that somebody else can \
        read: rotate, and wait until no page needs it.";
    DATA_DIRECTORY "data-directory" "the data directory can be read"
        "By default the server's own: as the server tells, or else its option files. Name another by \
        --datadir. Files that keyward does not know may need any key.";
}

impl Check {
    /// The one called `id`.
    fn called(id: &str) -> Result<&'static Self> {
        ALL.iter().find(|check| check.id == id).copied().ok_or_else(|| {
            let near =
                ALL.iter().map(|check| (strsim::damerau_levenshtein(id, check.id), check.id));
            let known = || ALL.iter().map(|check| check.id).collect::<Vec<_>>().join(", ");
            let advice = match near.min() {
                Some((distance, name)) if distance <= 3 => format!("did you mean {name:?}?"),
                _ => format!("known are: {}", known()),
            };
            Error::new(Kind::Config, format!("doctor has no check {id:?}")).advise(advice)
        })
    }
}

/// More of the check called `id`: what it looks at, why, and what to do.
pub(in crate::cli) fn explain(id: &str) -> Result<(&'static Check, String)> {
    let check = Check::called(id)?;
    Ok((check, format!("{}: {}.\n\n{}\n", check.id, check.what, wrapped(check.why))))
}

/// `text` in lines of 80 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 80 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test's file and name.
    type Test = (&'static str, &'static str);

    /// Which test plants the fault that each check is there for.
    const PLANTED: &[(&str, Test)] = &[
        ("configuration", UP),
        ("provider", UP),
        ("credential-end", SERVED),
        ("wrappings", PLACES),
        ("sole-wrapping", PLACES),
        ("backup", CHANGES),
        ("key-beside-data", PLACES),
        ("keystore-folder", DOWN),
        ("keys", DOWN),
        ("stash", SERVED),
        ("dates", DOWN),
        ("audit-trail", UP),
        ("audit-sinks", CHANGES),
        ("generation", CHANGES),
        ("server", DOWN),
        ("plugin", LOADED),
        ("load-option", OPTIONS),
        ("library", ITSELF),
        ("memory", ITSELF),
        ("restart", ITSELF),
        ("encryption-threads", OPTIONS),
        ("encrypt-tables", OPTIONS),
        ("rotate-key-age", OPTIONS),
        ("encrypt-log", OPTIONS),
        ("encrypt-aria", OPTIONS),
        ("encrypt-binlog", OPTIONS),
        ("encrypt-temporary", OPTIONS),
        ("torn-pages", OPTIONS),
        ("innodb-binlog", STAND_IN),
        ("mysql-library", COMPONENT),
        ("mysql-manifest", COMPONENT),
        ("option-files", OPTION_FILES_TELL),
        ("error-log", OPTION_FILES_TELL),
        ("plain-files", OPTIONS),
        ("needed-versions", PLACES),
        ("data-directory", UP),
    ];
    const UP: Test = (BESIDE, "in_configuration_key_stores_and_files_beside_a_running_server");
    const CHANGES: Test = (BESIDE, "in_what_follows_a_change_beside_a_running_server");
    const DOWN: Test = (BESIDE, "in_the_keystore_of_a_server_that_is_down");
    const OPTIONS: Test =
        (DOCTOR, "of_a_healthy_server_there_is_nothing_to_say_and_each_option_is_missed");
    const PLACES: Test =
        (DOCTOR, "what_is_wrong_with_keys_and_places_is_found_beside_a_running_server");
    const SERVED: Test = (VAULT, "a_token_that_ends_soon_and_a_stash_that_was_never_taken");
    const COMPONENT: Test = (MYSQL, "a_library_that_is_gone_and_a_manifest_that_names_another");
    const OPTION_FILES_TELL: Test =
        (DOCTOR, "of_a_server_that_is_down_option_files_log_and_data_tell");
    const ITSELF: Test = (BESIDE, "in_the_server_itself");
    const LOADED: Test = (BESIDE, "in_the_plugin_that_it_loads");
    const STAND_IN: Test =
        (BESIDE, "in_a_binary_log_in_innodb_of_which_a_stand_in_for_the_client_tells");
    const BESIDE: &str = "testing/mariadb/tests/server/planted.rs";
    const DOCTOR: &str = "testing/mariadb/tests/server/doctor.rs";
    const MYSQL: &str = "testing/mysql/tests/mysql/planted.rs";
    const VAULT: &str = "testing/vault/tests/vault/planted.rs";

    /// The body of a test, which is to be one.
    fn body_of(file: &str, name: &str) -> String {
        let text = std::fs::read_to_string(file).unwrap();
        let head = format!("#[test]\nfn {name}() ");
        let (_, rest) = text.split_once(&head).unwrap_or_else(|| panic!("{file}: no {head:?}"));
        rest.split("\n}\n").next().unwrap().to_owned()
    }

    #[test]
    fn each_check_has_a_test_that_plants_its_fault() {
        let planted: Vec<_> = PLANTED.iter().map(|(id, ..)| *id).collect();
        let all: Vec<_> = ALL.iter().map(|check| check.id).collect();
        assert_eq!(planted, all);
        for (id, (file, name)) in PLANTED {
            let body = body_of(file, name);
            let mut ways = vec![format!("\"{id}\"")];
            ways.extend(["warning", "failed", "skipped"].map(|mark| format!("\"{mark} {id}: ")));
            assert!(ways.iter().any(|way| body.contains(way)), "{file}: {name} never names {id}");
        }
    }

    /// The page has the same table, word for word.
    #[test]
    fn the_page_has_each_check_and_no_other() {
        let page = std::fs::read_to_string("docs/doctor.md").unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
        let rows: Vec<_> = rows.filter_map(|row| row.split_once("` | ")).collect();
        let table: Vec<_> = ALL.iter().map(|check| (check.id, check.what)).collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn ids_are_words_that_scripts_can_hold_and_each_is_explained() {
        for (n, check) in ALL.iter().enumerate() {
            let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(check.id.chars().all(is_word), "{}", check.id);
            assert!(ALL[..n].iter().all(|other| other.id != check.id), "twice: {}", check.id);
            let (_, text) = explain(check.id).unwrap();
            assert!(text.starts_with(&format!("{}: {}.\n\n", check.id, check.what)), "{text}");
            assert!(text.lines().skip(2).all(|line| line.len() <= 80), "{text}");
        }
    }

    #[test]
    fn an_id_that_is_none_gets_the_nearest_or_all() {
        let near = explain("load-options").unwrap_err().to_string();
        assert_eq!(near, "doctor has no check \"load-options\"; did you mean \"load-option\"?");
        let far = explain("everything").unwrap_err().to_string();
        assert!(far.contains("known are: configuration, provider, "), "{far}");
    }
}

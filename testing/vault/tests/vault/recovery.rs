//! Keys that a KV engine serves and loses: backed up, put back, and MariaDB on them.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Answer, Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};
use test_mariadb::{Server, Site};
use test_vault::Vault;

use crate::mariadb::site;

const TABLES: &[Table] = &[
    Table { name: "payroll", options: "ENCRYPTED=YES", rows: 500 },
    Table { name: "patients", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 500 },
];

/// How long a proof is given again to whoever asks, and a little more.
const PROOF_IS_OLD: Duration = Duration::from_secs(11);

/// Keys by number and version, as Vault itself gives them.
type Keys = BTreeMap<(u32, u32), String>;

/// A folder of a server and its Vault, with the secret that opens backups.
struct Room {
    vault: Vault,
    site: Site,
}

impl Room {
    /// Key 1 has versions 1 to 3, keys 2 and 3 have one.
    fn new() -> Result<Self> {
        let (vault, site) = site("vault-kv")?;
        let room = Self { vault, site };
        room.ok(&["keys", "create", "3"])?;
        for _ in 0..2 {
            room.ok(&["rotate", "1"])?;
        }
        let identity = room.at("identity.txt");
        let told = room.site.keyward(&["keystore", "backup", "--identity", &identity])?;
        ensure!(told.code == 0, "{}", told.text());
        // The account opens backups with it.
        room.site.only_for_server(&room.site.path("identity.txt"))?;
        let line = told
            .err
            .lines()
            .find_map(|line| line.strip_prefix("keyward: once you have the file: "));
        test_kit::run("sh", ["-c", line.ok_or_else(|| told.text())?])?;
        seen!("--identity: {}", told.err.trim().split("age1pq1").next().unwrap_or_default());
        Ok(room)
    }

    /// Has keyward log in by a token of the same policy, which a proof does not use up.
    fn log_in_by_token(&self) -> Result<()> {
        let words = ["token", "create", "-policy=keyward", "-period=1h", "-field=token"];
        let token = self.site.path("etc/token");
        files::write(&token, self.vault.vault(&words)?.trim())?;
        self.site.only_for_server(&token)?;
        let config = files::text(&self.site.config())?;
        let of_role = ["auth", "role_id", "secret_id_file"];
        let is_of_role = |line: &&str| of_role.iter().any(|word| line.starts_with(word));
        let rest: Vec<&str> = config.lines().filter(|line| !is_of_role(line)).collect();
        let own = format!("auth = \"token\"\ntoken_file = {:?}\n", token);
        let (head, tail) = rest.split_at(
            rest.iter().position(|line| line.starts_with("type")).ok_or_else(|| config.clone())?,
        );
        let text = format!("{}\n{own}{}\n", head.join("\n"), tail.join("\n"));
        files::write(&self.site.config(), text)
    }

    fn at(&self, within: &str) -> String {
        self.site.path(within).display().to_string()
    }

    fn ok(&self, words: &[&str]) -> Result<String> {
        self.site.keyward(words)?.ok()
    }

    /// Makes the backup `name`; gives its SHA-256 as it was told.
    fn backup(&self, name: &str) -> Result<String> {
        let file = self.at(name);
        let told = self.site.keyward(&["keystore", "backup", "--to", &file])?;
        ensure!(told.code == 0, "{}", told.text());
        self.site.only_for_server(&self.site.path(name))?;
        let sum = test_kit::run("sha256sum", [&file])?;
        let sum = sum.split(' ').next().unwrap_or_default().to_owned();
        ensure!(told.err.contains(&sum), "{sum} was to be told: {}", told.err);
        Ok(sum)
    }

    fn restore(&self, name: &str, more: &[&str]) -> Result<Answer> {
        let (file, identity) = (self.at(name), self.at("identity.txt"));
        let mut words = vec!["keystore", "restore", &file, "--identity", &identity];
        words.extend(more);
        self.site.keyward(&words)
    }

    /// What Vault gives of key `id`; nothing of what is deleted or no key.
    fn keys(&self) -> Result<Keys> {
        let mut keys = Keys::new();
        for (id, versions) in [(1, 6), (2, 2), (3, 2)] {
            for version in 1..=versions {
                let (path, version_word) = (format!("keyward/{id}"), format!("-version={version}"));
                let words = ["kv", "get", "-mount=secret", "-field=data", &version_word, &path];
                let found = self.vault.vault(&words).unwrap_or_default();
                let hex = found.trim();
                // Of a placeholder it shows all there is.
                if hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    keys.insert((id, version), hex.to_owned());
                }
            }
        }
        Ok(keys)
    }

    /// Has Vault forget key `id` with its history.
    fn lose(&self, id: u32) -> Result<()> {
        let path = format!("keyward/{id}");
        self.vault.vault(&["kv", "metadata", "delete", "-mount=secret", &path]).map(drop)
    }

    fn lose_all(&self) -> Result<()> {
        (1..=3).try_for_each(|id| self.lose(id))
    }

    /// Follows the lines of `vault` in an error's advice.
    fn follow(&self, error: &str) -> Result<()> {
        let from = error.find("vault kv ").ok_or("no line of vault's")?;
        let line = error[from..].split(';').next().unwrap_or_default().trim();
        for command in line.split(" && ") {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            self.vault.vault(&words)?;
        }
        Ok(())
    }

    /// The error without what differs from run to run.
    fn nameless(&self, text: &str) -> String {
        let text = text.replace(&self.vault.address(), "https://vault");
        text.replace(&self.site.path("").display().to_string(), "").trim().to_owned()
    }
}

#[test]
fn all_keys_that_are_lost_come_back_as_they_were() -> Result<()> {
    let room = Room::new()?;
    let sum = room.backup("keys.age")?;
    let before = room.keys()?;
    ensure!(before.len() == 5, "{:?}", before.keys());
    let whole = room.restore("keys.age", &[])?.ok()?;
    ensure!(whole.contains("has all of them: nothing was changed"), "{whole}");
    room.lose_all()?;
    let dry = room.restore("keys.age", &["--dry-run"])?.ok()?;
    ensure!(dry.contains("would be written: key 1 version 1"), "{dry}");
    ensure!(room.keys()?.is_empty(), "a dry run wrote");
    let none = room.site.keyward(&["keystore", "backup", "--to", &room.at("none.age")])?;
    ensure!(none.code == 1 && none.err.contains("has no key"), "{}", none.text());
    ensure!(!room.site.path("none.age").exists(), "a backup without keys was left");
    let said = room.restore("keys.age", &[])?.ok()?;
    ensure!(room.keys()? == before, "other keys came back: {said}");
    seen!("{}", room.nameless(&said));
    let trail = files::text(&room.site.path("keyward/keystore/audit.jsonl"))?;
    for event in ["\"backed-up\"", "\"restored\""] {
        ensure!(trail.contains(event), "no {event} in the trail:\n{trail}");
    }
    ensure!(trail.contains(&sum), "the trail does not note the SHA-256");
    a_rotation_goes_on(&room)?;
    only_what_was_made_here(&room, &sum)
}

/// Numbers go on after a restore, and the lines of the backup are in no file in plain.
fn a_rotation_goes_on(room: &Room) -> Result<()> {
    room.ok(&["rotate", "1"])?;
    let keys = room.keys()?;
    ensure!(keys.len() == 6 && keys.contains_key(&(1, 4)), "{:?}", keys.keys());
    for hex in keys.values() {
        for folder in ["keyward", "etc", "tmp"] {
            let found = files::holding(&files::all(&room.site.path(folder)), hex)?;
            ensure!(found.is_empty(), "a key is in {found:?}");
        }
    }
    Ok(())
}

/// Anybody can encrypt for a recipient: what shows that a backup is one is its SHA-256, in the trail or given.
fn only_what_was_made_here(room: &Room, sum: &str) -> Result<()> {
    let trail = room.site.path("keyward/keystore/audit.jsonl");
    std::fs::rename(&trail, room.site.path("trail-away"))?;
    let unknown = room.restore("keys.age", &[])?;
    ensure!(unknown.code == 1 && unknown.err.contains("give the --sha256"), "{}", unknown.text());
    seen!("without the trail: {}", room.nameless(&unknown.err));
    room.restore("keys.age", &["--sha256", sum])?.ok()?;
    let other = room.restore("keys.age", &["--sha256", &"0".repeat(64)])?;
    ensure!(
        other.code == 1 && other.err.contains("another file than was noted"),
        "{}",
        other.text()
    );
    std::fs::rename(room.site.path("trail-away"), trail)?;
    let passphrase = room.site.path("passphrase");
    files::write(&passphrase, "correct horse battery staple")?;
    room.site.only_for_server(&passphrase)?;
    let (file, passphrase) = (room.at("by-passphrase.age"), room.at("passphrase"));
    room.ok(&["keystore", "backup", "--to", &file, "--passphrase-file", &passphrase])?;
    room.site.only_for_server(&room.site.path("by-passphrase.age"))?;
    room.lose(2)?;
    room.ok(&["keystore", "restore", &file, "--passphrase-file", &passphrase])?;
    ensure!(room.keys()?.contains_key(&(2, 1)), "key 2 was to come back");
    Ok(())
}

#[test]
fn what_is_deleted_comes_back_where_the_policy_allows_it() -> Result<()> {
    let room = Room::new()?;
    room.backup("keys.age")?;
    let before = room.keys()?;
    room.vault.vault(&["kv", "delete", "-mount=secret", "-versions=2,3", "keyward/1"])?;
    room.lose(3)?;
    let denied = room.restore("keys.age", &[])?;
    ensure!(denied.code == 1, "{}", denied.text());
    seen!("denied: {}", room.nameless(&denied.err));
    ensure!(room.keys()?.len() == 2, "something was written: {:?}", room.keys()?.keys());
    let (_, rules) = denied.err.split_once("add to its policy: ").ok_or_else(|| denied.text())?;
    ensure!(
        rules.contains("path \"secret/undelete/keyward/*\" { capabilities = [\"update\"] }"),
        "{rules}"
    );
    room.vault.policy("back", &rules.trim().replace("} path", "}\npath"))?;
    room.vault.vault(&["write", "auth/approle/role/keyward", "token_policies=keyward,back"])?;
    let said = room.restore("keys.age", &[])?.ok()?;
    ensure!(said.contains("was undeleted: key 1 version 2, key 1 version 3"), "{said}");
    ensure!(said.contains("was written: key 3 version 1"), "{said}");
    ensure!(room.keys()? == before, "other keys came back: {said}");
    another_key_stays_deleted(&room)
}

/// What turns out to be another key once it is undeleted is deleted again.
fn another_key_stays_deleted(room: &Room) -> Result<()> {
    room.lose(2)?;
    let other = format!("data={}", "5c".repeat(32));
    room.vault.vault(&["kv", "put", "-mount=secret", "keyward/2", &other])?;
    room.vault.vault(&["kv", "delete", "-mount=secret", "keyward/2"])?;
    let refused = room.restore("keys.age", &[])?;
    ensure!(refused.code == 1 && refused.err.contains("key 2 version 1"), "{}", refused.text());
    ensure!(refused.err.contains("is another key"), "{}", refused.text());
    ensure!(!room.keys()?.contains_key(&(2, 1)), "the other key is there");
    room.follow(&refused.err)?;
    room.restore("keys.age", &[])?.ok()?;
    ensure!(room.keys()?.contains_key(&(2, 1)), "the advice did not lead out");
    Ok(())
}

#[test]
fn what_has_changed_or_is_destroyed_is_named_and_the_advice_leads_out() -> Result<()> {
    let room = Room::new()?;
    // The backup has version 1 and 3 of key 1: the number between keeps its place.
    room.vault.vault(&["kv", "destroy", "-mount=secret", "-versions=2", "keyward/1"])?;
    room.backup("old.age")?;
    let old = room.keys()?;
    ensure!(old.len() == 4 && !old.contains_key(&(1, 2)), "{:?}", old.keys());
    room.lose(1)?;
    room.restore("old.age", &[])?.ok()?;
    ensure!(room.keys()? == old, "other keys came back");
    let listed = room.ok(&["keys", "list"])?;
    ensure!(listed.lines().any(|line| line.contains("destroyed")), "{listed}");
    room.ok(&["rotate", "1"])?;
    let before = room.keys()?;
    ensure!(before.contains_key(&(1, 4)), "{:?}", before.keys());
    // A version that is spent, and a newer one that the backup does not have.
    room.vault.vault(&["kv", "destroy", "-mount=secret", "-versions=1", "keyward/1"])?;
    let spent = room.restore("old.age", &[])?;
    ensure!(
        spent.code == 1 && spent.err.contains("key 1 version 1 cannot be put back"),
        "{}",
        spent.text()
    );
    seen!("destroyed: {}", room.nameless(&spent.err));
    room.backup("new.age")?;
    room.follow(&spent.err)?;
    room.restore("old.age", &[])?.ok()?;
    room.restore("new.age", &[])?.ok()?;
    ensure!(room.keys()? == before, "other keys came back: {:?}", room.keys()?.keys());
    room.backup("last.age")?;
    another_key_of_the_same_number(&room)
}

/// Nothing is written then; a drill says what a restore would do.
fn another_key_of_the_same_number(room: &Room) -> Result<()> {
    room.lose(3)?;
    let other = format!("data={}", "5c".repeat(32));
    room.vault.vault(&["kv", "put", "-mount=secret", "keyward/3", &other])?;
    room.lose(2)?;
    let changed = room.restore("last.age", &[])?;
    ensure!(
        changed.code == 1 && changed.err.contains("key 3 version 1 is another key"),
        "{}",
        changed.text()
    );
    ensure!(!room.keys()?.contains_key(&(2, 1)), "something was written all the same");
    seen!("changed: {}", room.nameless(&changed.err));
    let file = room.at("last.age");
    let identity = room.at("identity.txt");
    let drill = room.site.keyward(&["keystore", "drill", &file, "--identity", &identity])?;
    ensure!(
        drill.code == 1 && drill.out.contains("other keys as key 3 version 1"),
        "{}",
        drill.text()
    );
    ensure!(drill.out.contains("does not give key 2 version 1 any more"), "{}", drill.text());
    room.lose(3)?;
    room.restore("last.age", &[])?.ok()?;
    let drill = room.site.keyward(&["keystore", "drill", &file, "--identity", &identity])?.ok()?;
    seen!("{}", room.nameless(&drill));
    Ok(())
}

#[test]
fn what_a_kill_leaves_is_gone_on_with() -> Result<()> {
    let room = Room::new()?;
    for _ in 0..3 {
        room.ok(&["rotate", "1"])?;
    }
    room.vault.vault(&["kv", "destroy", "-mount=secret", "-versions=2,4", "keyward/1"])?;
    room.backup("keys.age")?;
    let before = room.keys()?;
    let (file, identity) = (room.at("keys.age"), room.at("identity.txt"));
    let words = ["keystore", "restore", &file, "--identity", &identity];
    let (mut halves, mut wait) = (0, Duration::from_millis(40));
    for _ in 0..60 {
        room.lose_all()?;
        let mut child = room.site.keyward_command_as_server(&words).spawn()?;
        sleep(wait);
        let done = child.try_wait()?.is_some();
        child.kill()?;
        child.wait()?;
        // Whatever is there, a server can read it, and the next call makes it whole.
        let listed = room.ok(&["keys", "list"])?;
        let is_usable = |line: &&str| line.contains("active") || line.contains("retired");
        let left = listed.lines().filter(is_usable).count();
        if (1..before.len()).contains(&left) {
            halves += 1;
        }
        room.restore("keys.age", &[])?.ok()?;
        ensure!(room.keys()? == before, "after {wait:?}: {:?}", room.keys()?.keys());
        if done || halves >= 6 {
            break;
        }
        wait += Duration::from_millis(if left == 0 { 10 } else { 2 });
    }
    ensure!(halves >= 3, "{halves} kills in the middle");
    seen!("killed in the middle {halves} times; the next call made it whole each time");
    Ok(())
}

#[test]
fn a_server_whose_keys_are_lost_reads_its_rows_again() -> Result<()> {
    let room = Room::new()?;
    room.log_in_by_token()?;
    let server = room.site.start()?;
    create(&server, TABLES)?;
    server.write_pages()?;
    server.sql("CREATE FUNCTION keyward_verify RETURNS STRING SONAME 'keyward.so'")?;
    room.backup("keys.age")?;
    let verify = |server: &Server| server.sql("SELECT keyward_verify()");
    let good = verify(&server)?;
    ensure!(good.contains(r#""ok":true"#) && good.contains(r#""restart_safe":"yes""#), "{good}");
    ensure!(good.contains(r#""compared":5"#), "not every key was compared: {good}");
    seen!("keyward_verify(): {}", room.nameless(&good));
    room.lose_all()?;
    sleep(PROOF_IS_OLD);
    let bad = verify(&server)?;
    ensure!(bad.contains(r#""ok":false"#) && bad.contains(r#""restart_safe":"no""#), "{bad}");
    seen!("all keys lost: {}", room.nameless(&bad));
    // Memory serves on while they come back.
    check(&server, TABLES)?;
    room.restore("keys.age", &[])?.ok()?;
    sleep(PROOF_IS_OLD);
    let good = verify(&server)?;
    ensure!(good.contains(r#""ok":true"#) && good.contains(r#""restart_safe":"yes""#), "{good}");
    server.stop()?;
    room.lose_all()?;
    without_its_keys(&room)?;
    let data = room.at("data");
    let said = room.restore("keys.age", &["--datadir", &data])?.ok()?;
    ensure!(said.contains("its keys open what was looked at"), "{said}");
    seen!("{}", room.nameless(&said));
    let server = room.site.start()?;
    check(&server, TABLES)?;
    let socket = server.socket().display().to_string();
    let doctor = room.site.keyward(&["doctor", "--socket", &socket])?;
    ensure!(doctor.code == 3 && !doctor.out.contains("FAIL"), "{}", doctor.text());
    server.stop()?;
    the_keys_of_another_server_are_refused(&room)
}

/// A start refuses, and says which key is missing.
fn without_its_keys(room: &Room) -> Result<()> {
    let log = room.site.refusal()?;
    let line = log.lines().find(|line| line.contains("keyward cannot start"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{log}"))?;
    seen!("start without its keys: {}", room.nameless(line));
    Ok(())
}

/// What is in the data decides whether a backup is theirs, before anything is written.
fn the_keys_of_another_server_are_refused(room: &Room) -> Result<()> {
    room.lose_all()?;
    for id in ["1", "2", "3"] {
        room.ok(&["keys", "create", id])?;
    }
    room.backup("other.age")?;
    room.lose_all()?;
    let data = room.at("data");
    let refused = room.restore("other.age", &["--datadir", &data])?;
    ensure!(
        refused.code == 1 && refused.err.contains("nothing was restored"),
        "{}",
        refused.text()
    );
    ensure!(room.keys()?.is_empty(), "something was written");
    seen!("{}", room.nameless(&refused.err));
    Ok(())
}

#[test]
fn an_administrator_puts_a_key_back_by_vaults_own_command() -> Result<()> {
    let room = Room::new()?;
    room.backup("keys.age")?;
    let before = room.keys()?;
    room.lose(1)?;
    // What docs/recovery.md says: each line of the text in its order, the key on standard input.
    for version in 1..=3 {
        let hex = before.get(&(1, version)).ok_or("no such version")?;
        let cas = format!("-cas={}", version - 1);
        let words =
            ["kv", "put", "-mount=secret", &cas, "keyward/1", "cipher=aes-256-ctr", "data=-"];
        room.vault.vault_with(&words, hex)?;
    }
    ensure!(room.keys()? == before, "other keys came back");
    let said = room.restore("keys.age", &[])?.ok()?;
    ensure!(said.contains("has all of them: nothing was changed"), "{said}");
    let due = answer(&mut room.site.keyward_command(&["keystore", "backup", "--due"]))?;
    ensure!(due.code == 1, "{}", due.text());
    let add = room.site.keyward(&["keystore", "backup", "--add-recipient", "age1pq1x"])?;
    ensure!(
        add.code == 1 && add.err.contains("backup-recipients, a recipient a line"),
        "{}",
        add.text()
    );
    let listed = room.ok(&["keystore", "backup", "--recipients"])?;
    ensure!(listed.starts_with("age1pq1"), "{listed}");
    Ok(())
}

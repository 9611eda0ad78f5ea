//! Keys that a KMIP server keeps and loses: put back in their states, by the library in each release and by the
//! command.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use keyward::backend::kmip::Settings;
use keyward::error::Kind;
use keyward::key::{Cipher, KeyRef, KeyState};
use keyward::provider::{KeyServer, ReturnWay, ReturningKey};
use keyward::secret::DataKey;
use test_kit::{Answer, Result, ensure, seen};
use test_kmip::Shared;

use crate::life::Room;
use crate::versions::spoken;
use crate::{data, key, refused, said, server, settings, soon};

/// A version of a backup.
struct Kept {
    key: KeyRef,
    state: KeyState,
    data: DataKey,
}

impl Kept {
    fn new(id: u32, version: u32, state: KeyState) -> Result<Self> {
        Ok(Self { key: key(id, version)?, state, data: data()? })
    }

    fn returning(&self) -> ReturningKey<'_> {
        let Self { key, state, data } = self;
        ReturningKey { key, state: *state, cipher: Cipher::DEFAULT, data }
    }
}

/// Puts back what is missing of `kept`, as a restore does; gives how.
fn put_back(server: &impl KeyServer, kept: &[Kept]) -> Result<Vec<ReturnWay>> {
    let keys: Vec<_> = kept.iter().map(Kept::returning).collect();
    let ways = said(server.plan_return(&keys, soon()))?;
    for (at, _) in &ways {
        said(server.put_back(&keys[*at], soon()))?;
    }
    Ok(ways.into_iter().map(|(_, way)| way).collect())
}

fn states(server: &impl KeyServer) -> Result<Vec<(String, KeyState)>> {
    let mut infos = said(server.list(soon()))?;
    infos.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(infos.into_iter().map(|info| (info.key.to_string(), info.state)).collect())
}

#[test]
fn each_release_puts_versions_back_in_their_states() -> Result<()> {
    use KeyState::{Active, Compromised, Pending, Retired};
    let shared = Shared::get()?;
    for version in spoken() {
        let kmip = Settings { version: Some(version), ..settings(&shared.kmip) };
        let served = server(kmip.clone(), &shared.new_name());
        let kept = [
            Kept::new(1, 1, Active)?,
            Kept::new(1, 2, Active)?,
            Kept::new(1, 5, Retired)?,
            Kept::new(1, 6, Compromised)?,
            Kept::new(1, 7, Pending)?,
            Kept::new(3, 1, Active)?,
        ];
        let ways = put_back(&served, &kept)?;
        ensure!(ways == [ReturnWay::Written; 6], "KMIP {version}: {ways:?}");
        let wanted = [Retired, Active, Retired, Compromised, Pending, Active];
        let wanted: Vec<_> =
            kept.iter().zip(wanted).map(|(one, state)| (one.key.to_string(), state)).collect();
        ensure!(states(&served)? == wanted, "KMIP {version}: {:?}", states(&served)?);
        for one in &kept {
            let found = said(served.fetch(&one.key, soon()))?;
            ensure!(found.same_as(&one.data), "KMIP {version}: {} is another key", one.key);
        }
        ensure!(put_back(&served, &kept)?.is_empty(), "KMIP {version}: there is more to do");
        // One of them is destroyed, and the others stay what they are.
        said(served.remove(&kept[1].key, soon()))?;
        ensure!(put_back(&served, &kept)? == [ReturnWay::Written], "KMIP {version}");
        ensure!(states(&served)? == wanted, "KMIP {version}: {:?}", states(&served)?);
    }
    Ok(())
}

#[test]
fn what_was_cut_off_is_completed_and_another_key_is_left_alone() -> Result<()> {
    let shared = Shared::get()?;
    let served = server(settings(&shared.kmip), &shared.new_name());
    let mut kept = [
        Kept::new(1, 1, KeyState::Pending)?,
        Kept::new(1, 2, KeyState::Active)?,
        Kept::new(1, 3, KeyState::Active)?,
    ];
    // As if the call had ended before the one was activated, and the other revoked.
    put_back(&served, &kept)?;
    kept[0].state = KeyState::Active;
    kept[2].state = KeyState::Retired;
    ensure!(put_back(&served, &kept)? == [ReturnWay::Completed; 2], "{:?}", states(&served)?);
    use KeyState::{Active, Retired};
    let found: Vec<_> = states(&served)?.into_iter().map(|(_, state)| state).collect();
    ensure!(found == [Retired, Active, Retired], "{found:?}");
    let other = Kept { data: data()?, ..Kept::new(1, 2, KeyState::Active)? };
    let text = refused(served.put_back(&other.returning(), soon()), Kind::State)?;
    ensure!(text.contains("key 1 version 2") && text.contains("is another key"), "{text}");
    let there = said(served.fetch(&kept[1].key, soon()))?;
    ensure!(there.same_as(&kept[1].data), "the key that was there is gone");
    seen!("{text}");
    Ok(())
}

/// The command on a server whose keys are in the object group `db7`.
struct Command {
    room: Room,
}

impl Command {
    fn new(name: &str) -> Result<Self> {
        let mut room = Room::new(name)?;
        room.init(&["--set", "use=serve", "--set", "prefix=db7"])?;
        let command = Self { room };
        command.ok(&["rotate", "1"])?;
        let identity = command.at("identity.txt");
        let told = command.room.site.keyward(&["keystore", "backup", "--identity", &identity])?;
        let recipient = told.err.split_whitespace().find(|word| word.starts_with("age1pq1"));
        let recipient = recipient.ok_or_else(|| told.text())?;
        command.room.site.only_for_server(&command.room.site.path("identity.txt"))?;
        let file = command.at("keys.age");
        command.ok(&["keystore", "backup", "--to", &file, "--recipient", recipient])?;
        command.room.site.only_for_server(&command.room.site.path("keys.age"))?;
        Ok(command)
    }

    fn at(&self, within: &str) -> String {
        self.room.site.path(within).display().to_string()
    }

    fn ok(&self, words: &[&str]) -> Result<String> {
        self.room.site.keyward(words)?.ok()
    }

    fn words(&self) -> Vec<String> {
        let file = self.at("keys.age");
        let words = ["keystore", "restore", &file, "--identity", &self.at("identity.txt")];
        words.map(str::to_owned).to_vec()
    }

    fn restore(&self) -> Result<Answer> {
        let words = self.words();
        self.room.site.keyward(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the KMIP server gives of the versions that encrypt or decrypt.
    fn keys(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let served = server(settings(&self.room.kmip), "db7");
        let infos = said(served.list(soon()))?;
        let usable = [KeyState::Active, KeyState::Retired];
        let usable = infos.into_iter().filter(|info| usable.contains(&info.state));
        let fetch = |key: KeyRef| {
            let data = said(served.fetch(&key, soon()))?;
            Ok((key.to_string(), data.expose().to_vec()))
        };
        usable.map(|info| fetch(info.key)).collect()
    }

    fn lose(&self, keys: &[(u32, u32)]) -> Result<()> {
        let served = server(settings(&self.room.kmip), "db7");
        for (id, version) in keys {
            match served.remove(&key(*id, *version)?, soon()) {
                Err(error) if error.kind() == Kind::NotFound => {}
                removed => said(removed)?,
            }
        }
        Ok(())
    }
}

/// All that `Command::new` makes.
const ALL: &[(u32, u32)] = &[(1, 1), (1, 2), (2, 1), (3, 1)];

#[test]
fn the_command_puts_back_what_was_destroyed_there() -> Result<()> {
    let command = Command::new("kmip-recovery")?;
    let before = command.keys()?;
    ensure!(before.len() == 4, "{:?}", before.keys());
    command.lose(&[(1, 1), (3, 1)])?;
    let some = command.restore()?.ok()?;
    ensure!(some.contains("was written: key 1 version 1, key 3 version 1"), "{some}");
    ensure!(command.keys()? == before, "other keys came back");
    command.lose(ALL)?;
    let all = command.restore()?.ok()?;
    ensure!(command.keys()? == before, "other keys came back");
    seen!("{}", all.replace(&command.room.kmip.port().to_string(), "PORT").trim());
    let said_again = command.restore()?.ok()?;
    ensure!(said_again.contains("has all of them: nothing was changed"), "{said_again}");
    command.lose(&[(3, 1)])?;
    let other = server(settings(&command.room.kmip), "db7");
    said(other.put(&key(3, 1)?, &data()?, soon()))?;
    command.lose(&[(2, 1)])?;
    let changed = command.restore()?;
    ensure!(
        changed.code == 1 && changed.err.contains("key 3 version 1 is another key"),
        "{}",
        changed.text()
    );
    ensure!(!command.keys()?.contains_key("key 2 version 1"), "something was written");
    Ok(())
}

#[test]
fn a_command_that_is_killed_is_gone_on_with() -> Result<()> {
    let command = Command::new("kmip-killed")?;
    let before = command.keys()?;
    let words = command.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (mut halves, mut wait) = (0, Duration::from_millis(60));
    for _ in 0..60 {
        command.lose(ALL)?;
        let mut child = command.room.site.keyward_command_as_server(&words).spawn()?;
        sleep(wait);
        let done = child.try_wait()?.is_some();
        child.kill()?;
        child.wait()?;
        let left = command.keys()?.len();
        if (1..before.len()).contains(&left) {
            halves += 1;
        }
        command.restore()?.ok()?;
        ensure!(command.keys()? == before, "after {wait:?}: {:?}", command.keys()?.keys());
        if done || halves >= 8 {
            break;
        }
        wait += Duration::from_millis(if left == 0 { 15 } else { 4 });
    }
    ensure!(halves >= 2, "{halves} kills in the middle");
    seen!("killed in the middle {halves} times; the next call made it whole each time");
    Ok(())
}

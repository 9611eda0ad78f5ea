//! What the next start of a running server would open, so that the custodian can try it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Uid, geteuid};

use super::{Opened, create_key_file, just_made, keystore, named, open_all, stash_of};
use crate::config::{Config, key_file_beside};
use crate::custodian::{Custodian, NextSource, NextStart};
use crate::env::{Deadline, Env, Level, Log};
use crate::error::{Error, Kind, Result};
use crate::key::KeyRef;
use crate::manager::{ExportedKey, Rescued};
use crate::provider::{FreshLogin, KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use crate::secret::DataKey;
use crate::sink;
use crate::source::{NamedWrapper, Reason, Role};

/// How many keystores of served keys can be made on one day.
const MOST_A_DAY: u32 = 100;

/// Reads a configuration again.
pub type ReadConfig = Box<dyn Fn() -> Result<Config> + Send>;

/// Has `custodian` check now and then whether a start by the configuration that `read` gives would
/// succeed. To be called with the rights of a start.
pub fn watch_restart(custodian: &Custodian, read: ReadConfig, env: &Env) {
    // A refusal is in the answer; the log need not hear of it every hour.
    let env = Env { log: Arc::new(Silent), ..env.clone() };
    let next = Configured { read, env, user: geteuid(), kept: BTreeMap::new(), rescued: None };
    custodian.watch_restart(Box::new(next));
}

struct Configured {
    read: ReadConfig,
    env: Env,
    /// As whom the start read it.
    user: Uid,
    /// By name: providers that need no second opening while their section stays as it is.
    kept: BTreeMap<String, (String, Arc<dyn KeyWrapper>)>,
    /// The served keys that were rescued last, and into which keystore.
    rescued: Option<(PathBuf, Vec<KeyRef>)>,
}

impl NextStart for Configured {
    fn open(&mut self) -> Result<NextSource> {
        let config = (self.read)().map_err(put_back)?;
        sink::check(&config.sinks)?;
        let Opened { wrappers, served } = open_all(&config, &self.env)?;
        let wrappers = wrappers.into_iter().map(|one| self.for_a_try(&config, one));
        let wrappers = wrappers.collect::<Result<Vec<_>>>()?;
        let Some((provider, server)) = served else {
            let source = keystore(&config, wrappers, &self.env).as_role(Role::Reader);
            return Ok(NextSource::Keystore(Box::new(source)));
        };
        let stash = stash_of(provider, &*server.server, &config, wrappers, &self.env)?;
        Ok(NextSource::Served { server, stash: stash.map(Box::new) })
    }

    fn rescue_served(&mut self, keys: &[ExportedKey], reason: Reason<'_>) -> Result<Rescued> {
        let names: Vec<_> = keys.iter().map(|key| key.info.key.clone()).collect();
        if let Some((path, before)) = self.rescued.as_ref().filter(|(path, _)| path.exists())
            && *before == names
        {
            return Ok(Rescued { path: path.clone(), versions: 0, aside: None, key_file: None });
        }
        let mut config = (self.read)()?;
        let path = free_place(&config.keystore.path, &self.env)?;
        let mut key_file = None;
        if open_all(&config, &self.env)?.wrappers.is_empty() {
            let key = key_file_beside(&path);
            create_key_file(&key, &*self.env.rng)?;
            (config, key_file) = (Config::of_keystore(&path)?, Some(key));
        }
        config.keystore.path.clone_from(&path);
        let opened = |env: &Env| open_all(&config, env).map(|opened| opened.wrappers);
        let wrappers = opened(&self.env)?;
        let pin = super::create_empty_keystore(&path, &wrappers, reason, &self.env)?;
        let made = |wrappers| just_made(&config, wrappers, pin.as_ref(), &self.env);
        made(wrappers).import(keys, reason)?;
        made(opened(&self.env)?).as_role(Role::Reader).prove(keys)?;
        self.rescued = Some((path.clone(), names));
        Ok(Rescued { path, versions: keys.len(), aside: None, key_file })
    }

    fn starts_as_we_are(&self) -> bool {
        geteuid() == self.user
    }
}

impl Configured {
    /// The provider as it may be called for nothing but a try.
    fn for_a_try(&mut self, config: &Config, provider: NamedWrapper) -> Result<NamedWrapper> {
        let NamedWrapper { name, timeout, wrapper } = provider;
        let wrapper: Box<dyn KeyWrapper> = match wrapper.fresh_login() {
            FreshLogin::Repeatable => wrapper,
            FreshLogin::Spends(why) => Box::new(Untried { wrapper, why }),
            FreshLogin::Needless => {
                let section = named(config, &name)?.section.fingerprint();
                let kept = self.kept.get(&name).filter(|(before, _)| *before == section);
                let kept = match kept {
                    Some((_, kept)) => Arc::clone(kept),
                    None => Arc::from(wrapper),
                };
                self.kept.insert(name.clone(), (section, Arc::clone(&kept)));
                Box::new(Kept(kept))
            }
        };
        Ok(NamedWrapper { name, timeout, wrapper })
    }
}

/// `error` without the advice to make what is missing: the server started with it.
fn put_back(error: Error) -> Error {
    match (error.kind(), error.advice()) {
        (Kind::Io, Some(_)) => error.advise("put it back: the server was started with it"),
        _ => error,
    }
}

/// A file next to `keystore` that is not there yet: `rescued-DAY-N.json`.
fn free_place(keystore: &Path, env: &Env) -> Result<PathBuf> {
    let now = env.clock.now().to_string();
    let day = now.split('T').next().unwrap_or_default();
    let place = |n| keystore.with_file_name(format!("rescued-{day}-{n}.json"));
    let is_free = |path: &PathBuf| {
        path.symlink_metadata().is_err() && key_file_beside(path).symlink_metadata().is_err()
    };
    (1..=MOST_A_DAY).map(place).find(is_free).ok_or_else(|| {
        let folder = keystore.parent().unwrap_or(keystore).display();
        let what = format!("{folder} has {MOST_A_DAY} rescued keystores of today");
        Error::new(Kind::State, what).advise("move them away")
    })
}

/// One that stays open from try to try.
struct Kept(Arc<dyn KeyWrapper>);

/// One that would use up a credential.
struct Untried {
    wrapper: Box<dyn KeyWrapper>,
    why: &'static str,
}

impl KeyWrapper for Kept {
    fn wrap(&self, _: &DataKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(only_a_try())
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, by: Deadline) -> Result<DataKey> {
        self.0.credentials_readable()?;
        self.0.unwrap(wrapped, context, by)
    }

    fn rewrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(only_a_try())
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(only_a_try())
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        Err(only_a_try())
    }

    fn authenticates(&self, wrapped: &WrappedKey) -> bool {
        self.0.authenticates(wrapped)
    }

    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Needless
    }
}

impl KeyWrapper for Untried {
    fn wrap(&self, _: &DataKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(only_a_try())
    }

    fn unwrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<DataKey> {
        self.wrapper.credentials_readable()?;
        Err(Error::new(Kind::Unsupported, self.why))
    }

    fn rewrap(&self, _: &WrappedKey, _: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        Err(only_a_try())
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(only_a_try())
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        Err(only_a_try())
    }

    fn fresh_login(&self) -> FreshLogin {
        FreshLogin::Spends(self.why)
    }

    fn credentials_readable(&self) -> Result<()> {
        self.wrapper.credentials_readable()
    }
}

fn only_a_try() -> Error {
    Error::new(Kind::Internal, "a provider that was opened for a try is to unwrap, no more")
}

/// Hears nothing.
struct Silent;

impl Log for Silent {
    fn log(&self, _: Level, _: &str) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::assemble::{create_keystore, from_file, start};
    use crate::env::System;
    use crate::env::fake::FakeLog;
    use crate::event::{Answer, RestartSafe};
    use crate::source::Which;

    const REASON: Reason<'_> = Reason { actor: "test", text: "because" };

    /// A folder with a configuration, its key file and its keystore, and a server on it.
    struct Site {
        folder: tempfile::TempDir,
        log: Arc<FakeLog>,
        custodian: Custodian,
    }

    impl Site {
        fn new(provider: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let log = Arc::new(FakeLog::default());
            let at = |name: &str| folder.path().join(name);
            create_key_file(&at("key"), &System).unwrap();
            fs::write(at("phrase"), "correct horse battery staple\n").unwrap();
            fs::set_permissions(at("phrase"), fs::Permissions::from_mode(0o600)).unwrap();
            let place = folder.path().display().to_string();
            write_config(&at("keyward.toml"), &place, provider);
            let env = Env::system(log.clone());
            let config = Config::load(&at("keyward.toml")).unwrap();
            create_keystore(&config, REASON, &env).unwrap();
            let custodian = from_file(&at("keyward.toml"), Role::Daemon, env).unwrap();
            Self { folder, log, custodian }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn away(&self, name: &str, away: bool) {
            let (here, there) = (self.at(name), self.at("away"));
            if away { fs::rename(here, there) } else { fs::rename(there, here) }.unwrap();
        }

        fn says(&self, answer: Answer, word: &str) -> RestartSafe {
            let found = self.custodian.check_restart();
            assert_eq!(found.answer, answer, "{}", found.reason);
            assert!(found.reason.contains(word), "{word}: {}", found.reason);
            assert_eq!(self.custodian.status().restart, found);
            found
        }
    }

    fn write_config(path: &Path, place: &str, provider: &str) {
        let provider = provider.replace("HERE", place);
        let text = format!("[keystore]\npath = \"{place}/keystore.json\"\n{provider}\n");
        fs::write(path, text).unwrap();
    }

    const KEY_FILE: &str = "[[provider]]\ntype = \"local\"\nkey_file = \"HERE/key\"";
    const PASSPHRASE: &str = "[[provider]]\ntype = \"local\"\npassphrase_file = \"HERE/phrase\"";

    #[test]
    fn a_key_file_moved_away_fails_a_restart_and_stops_rotations() {
        let site = Site::new(KEY_FILE);
        assert_eq!(site.custodian.status().restart.answer, Answer::Unknown);
        site.says(Answer::Yes, "");
        site.away("key", true);
        site.says(Answer::No, "/key");
        site.says(Answer::No, "/key");
        assert!(site.custodian.status().degraded.is_none(), "keys serve, and the keystore is read");
        let refused = site.custodian.rotate(Which::All, REASON).unwrap_err().to_string();
        assert!(
            refused.starts_with("no new key is made, because a restart would fail: "),
            "{refused}"
        );
        let generation = site.custodian.status().generation;
        site.custodian.create(7.try_into().unwrap(), None, REASON).unwrap_err();
        site.away("key", false);
        site.says(Answer::Yes, "");
        assert_eq!(site.custodian.status().generation, generation);
        site.custodian.rotate(Which::All, REASON).unwrap();
        let lines: Vec<_> = site.log.lines().into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines.len(), 2, "once when it begins, once when it ends: {lines:?}");
        assert!(lines[0].starts_with("a restart would fail: "), "{lines:?}");
        assert_eq!(lines[1], "a restart would succeed again");
    }

    #[test]
    fn a_command_refuses_a_key_that_no_provider_could_open() {
        let site = Site::new(KEY_FILE);
        let path = site.at("keyward.toml");
        let command = from_file(&path, Role::Command, Env::system(site.log.clone())).unwrap();
        assert_eq!(command.status().restart.answer, Answer::Yes);
        site.away("key", true);
        let refused = command.rotate(Which::All, REASON).unwrap_err().to_string();
        assert!(refused.starts_with("no new key is made: "), "{refused}");
    }

    #[test]
    fn a_broken_configuration_fails_a_restart() {
        let site = Site::new(KEY_FILE);
        let (config, place) = (site.at("keyward.toml"), site.folder.path().display().to_string());
        fs::write(&config, "[[provider]]\ntype = \"local\"\nkye_file = \"/x\"\n").unwrap();
        site.says(Answer::No, "keyward.toml:");
        fs::remove_file(&config).unwrap();
        let found = site.says(Answer::No, "cannot read the configuration");
        assert!(
            found.reason.ends_with("; put it back: the server was started with it"),
            "{found:?}"
        );
        write_config(&config, &place, KEY_FILE);
        site.says(Answer::Yes, "");
    }

    #[test]
    fn a_keystore_that_is_another_or_none_fails_a_restart() {
        let (site, other) = (Site::new(KEY_FILE), Site::new(KEY_FILE));
        let (config, place) = (site.at("keyward.toml"), other.folder.path().display().to_string());
        write_config(&config, &place, KEY_FILE);
        site.says(Answer::No, "and the keys in use are of ");
        write_config(&config, &site.folder.path().display().to_string(), KEY_FILE);
        site.away("keystore.json", true);
        let found = site.says(Answer::No, "there is no keystore at ");
        assert!(!found.reason.contains("keyward init"), "{found:?}");
        assert!(found.reason.contains("; put it back; if there is no copy, keyward_rescue "));
        site.away("keystore.json", false);
        site.says(Answer::Yes, "");
    }

    #[test]
    fn a_key_is_derived_again_only_from_a_passphrase_that_changed() {
        let site = Site::new(PASSPHRASE);
        let mut next = Configured {
            read: Box::new({
                let path = site.at("keyward.toml");
                move || Config::load(&path)
            }),
            env: Env::system(Arc::new(Silent)),
            user: geteuid(),
            kept: BTreeMap::new(),
            rescued: None,
        };
        next.open().unwrap();
        let first = Arc::clone(&next.kept["local"].1);
        next.open().unwrap();
        assert!(Arc::ptr_eq(&first, &next.kept["local"].1), "it keeps what it has derived");
        site.says(Answer::Yes, "");
        fs::write(site.at("phrase"), "another one\n").unwrap();
        site.says(Answer::No, "it is another passphrase");
        site.away("phrase", true);
        site.says(Answer::No, "/phrase");
    }

    #[test]
    fn other_rights_than_those_of_the_start_prove_nothing() {
        let site = Site::new(KEY_FILE);
        let next = Configured {
            read: Box::new(|| Err(Error::new(Kind::Io, "permission denied"))),
            env: Env::system(Arc::new(Silent)),
            user: Uid::from_raw(geteuid().as_raw() + 1),
            kept: BTreeMap::new(),
            rescued: None,
        };
        site.custodian.watch_restart(Box::new(next));
        site.says(
            Answer::Unknown,
            "permission denied; the start itself reads it with other rights",
        );
    }

    #[test]
    fn served_keys_are_rescued_into_a_keystore_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let line = |id: &str, byte: &str| format!("{id};{}\n", byte.repeat(32));
        fs::write(at("keys"), line("1", "a1") + &line("2;1", "b2") + &line("2;4", "c3")).unwrap();
        fs::set_permissions(at("keys"), fs::Permissions::from_mode(0o600)).unwrap();
        let place = folder.path().display().to_string();
        let served = "[[provider]]\ntype = \"file\"\nmode = \"ctr\"\npath = \"HERE/keys\"";
        write_config(&at("keyward.toml"), &place, served);
        let log = Arc::new(FakeLog::default());
        let server =
            from_file(&at("keyward.toml"), Role::Daemon, Env::system(log.clone())).unwrap();
        fs::remove_file(at("keys")).unwrap();
        let rescued = server.rescue(REASON).unwrap();
        assert_eq!(rescued.versions, 3);
        assert!(rescued.key_file.unwrap().exists());
        assert_eq!(server.rescue(REASON).unwrap().versions, 0, "once is enough");

        let config = Config::of_keystore(&rescued.path).unwrap();
        let new = start(&config, Role::Reader, Env::system(log)).unwrap();
        assert_eq!(new.keys().len(), 3);
        for info in new.keys() {
            let crate::key::KeyName::Id(id) = info.key.name else { panic!("{}", info.key) };
            let (new, old) = (new.key(id, info.key.version), server.key(id, info.key.version));
            assert!(new.unwrap().key().expose() == old.unwrap().key().expose(), "{}", info.key);
            assert_eq!(new.unwrap().cipher(), old.unwrap().cipher());
        }
        let two = 2.try_into().unwrap();
        assert_eq!(new.latest(two), server.latest(two));
    }
}

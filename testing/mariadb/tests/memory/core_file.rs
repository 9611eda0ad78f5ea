//! A core file of the running server is searched for keys that the server has not asked for.
//!
//! Those that it did ask for it copies to its own stacks and into its own contexts, which no plugin
//! can wipe; they are counted.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use keyward::backend;
use keyward::config::Config;
use keyward::env::{Deadline, Rng, System};
use keyward::key::{KeyId, KeyRef, KeyVersion};
use keyward::provider::Provider;
use keyward::store::{Keystore, StoreFile};
use test_kit::{Result, Trouble, ensure, files, seen};
use test_mariadb::memory::dumpable as dumpable_memory;
use test_mariadb::rows::Table;
use test_mariadb::{Launch, Server, Site};

/// Made, and never used by a table.
const UNUSED: [u32; 2] = [7, 8];

/// Used by tables.
const USED: [u32; 2] = [1, 3];

const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 2000 },
    Table { name: "three", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
];

#[test]
fn dumped_by_a_debugger() -> Result<()> {
    let (site, server) = busy_server("debugger", &Launch::default())?;
    search(&site, &dumpable_memory(&server)?, "what a debugger would dump")?;
    server.stop()?;
    Ok(())
}

#[test]
fn dumped_by_the_kernel() -> Result<()> {
    let launch = Launch {
        core: Some(4 << 20),
        options: vec!["--core-file".to_owned()],
        ..Launch::default()
    };
    let (site, mut server) = busy_server("core", &launch)?;
    let core = match core_is_a_file()? {
        true => {
            server.signal(nix::sys::signal::Signal::SIGABRT)?;
            server.wait()?;
            let is_core = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))
            };
            let core = files::list(&site.data()).into_iter().find(is_core);
            files::read(&core.ok_or("no core file was written")?)?
        }
        // The system hands its cores to a collector: what it would be given.
        false => dumpable_memory(&server)?,
    };
    search(&site, &core, "core file")
}

/// A server with keyward that has written, read and rotated.
fn busy_server(name: &str, launch: &Launch) -> Result<(Site, Server)> {
    let mut site = Site::with_keyward(name)?;
    site.encrypt_everything();
    for id in [3, 7, 8] {
        site.keyward(&["keys", "create", &id.to_string()])?.ok()?;
    }
    let server = site.launch(launch)?;
    test_mariadb::rows::create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    test_mariadb::rows::wait_for_version(&server, "test/%", 3)?;
    site.keyward(&["rotate", "7"])?.ok()?;
    test_mariadb::rows::check(&server, TABLES)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    Ok((site, server))
}

/// An error if a key is in `core` that the server has not asked for.
fn search(site: &Site, core: &[u8], what: &str) -> Result<()> {
    let socket = site.path("run/sock").display().to_string();
    ensure!(files::count(core, socket.as_bytes()) > 0, "the search is blind: not even the socket");
    let keys = plain_keys(site)?;
    let mut found = Vec::new();
    for (name, key) in &keys.secret {
        let hits = files::count(core, key);
        if hits > 0 {
            found.push(format!("{name}: {hits}"));
        }
    }
    ensure!(found.is_empty(), "{what}: {}", found.join(", "));
    seen!(
        "{what}, {} MB: none of {} keys that the server has not asked for: {}",
        core.len() >> 20,
        keys.secret.len(),
        keys.secret.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    );
    for (name, key) in &keys.used {
        seen!("  {name}, which it asked for: {} times, on its own stacks", files::count(core, key));
    }
    Ok(())
}

/// Keys in the clear, each with its name.
struct PlainKeys {
    /// Those the server has no business with.
    secret: Vec<(String, Vec<u8>)>,
    /// Those it asked for.
    used: Vec<(String, Vec<u8>)>,
}

/// Opens the site's keystore as the server does.
fn plain_keys(site: &Site) -> Result<PlainKeys> {
    let kek_text = files::text(&site.key_file())?.trim().to_owned();
    let kek = unhex(&kek_text)?;
    let keystore = open(site).map_err(|error| Trouble::from(error.to_string()))?;
    let mut secret = vec![
        ("wrapping key".to_owned(), kek),
        ("wrapping key in hex".to_owned(), kek_text.into_bytes()),
        ("store key".to_owned(), keystore.store_key().expose().to_vec()),
    ];
    secret.extend(data_keys(&keystore, &UNUSED)?);
    Ok(PlainKeys { secret, used: data_keys(&keystore, &USED)? })
}

/// Every version of the keys `ids`.
fn data_keys(keystore: &Keystore, ids: &[u32]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut keys = Vec::new();
    for (&id, version) in ids.iter().flat_map(|id| [1, 3].map(|version| (id, version))) {
        let plain = || -> keyward::Result<_> {
            let key = KeyRef::new(KeyId::try_from(id)?, KeyVersion::try_from(version)?);
            Ok((key.to_string(), keystore.data_key(&key)?.expose().to_vec()))
        };
        keys.push(plain().map_err(|error| Trouble::from(error.to_string()))?);
    }
    Ok(keys)
}

fn open(site: &Site) -> keyward::Result<Keystore> {
    let config = Config::load(&site.config())?;
    // Root trusts the server's files once it works for the server's account, as the command does.
    keyward::trust::work_for_owner_of(&site.keys());
    let (sealed, _) = StoreFile::at(&config.keystore.path).read()?;
    let rng: Arc<dyn Rng> = Arc::new(System);
    let provider = &config.providers[0];
    let Provider::Wraps(wrapper) = backend::open(&provider.section, &rng)? else {
        return Err(keyward::Error::new(keyward::Kind::Config, "the provider does not wrap"));
    };
    let contents = sealed.unverified();
    let by = Deadline::after(provider.timeout);
    let store_key = wrapper.unwrap(&contents.wrappings()[0].key, &contents.wrap_context(), by)?;
    sealed.open(store_key)
}

fn core_is_a_file() -> Result<bool> {
    Ok(!fs::read_to_string("/proc/sys/kernel/core_pattern")?.starts_with('|'))
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let byte = |at| Ok(u8::from_str_radix(text.get(at..at + 2).ok_or("odd hex")?, 16)?);
    (0..text.len()).step_by(2).map(byte).collect()
}

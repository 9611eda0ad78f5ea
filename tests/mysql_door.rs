//! Drives the library as MySQL does: opens the file, asks for its component, and calls the services'
//! functions with the arguments that a server gives.
//!
//! The tables are written down here once more, from the server's headers, so that a mistake in how
//! the library lays them out cannot hide in the test.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use keyward::event::metrics::{METRICS, Metric, Renderer};
use tempfile::TempDir;

#[repr(C)]
struct Component {
    name: *const c_char,
    provides: *const Service,
    requires: *const Placeholder,
    metadata: *const [*const c_char; 2],
    init: extern "C" fn() -> c_int,
    deinit: extern "C" fn() -> c_int,
}

#[repr(C)]
struct Service {
    name: *const c_char,
    functions: *const c_void,
}

#[repr(C)]
struct Placeholder {
    name: *const c_char,
    place: *mut *mut c_void,
}

#[repr(C)]
struct Load {
    load: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

#[repr(C)]
struct Status {
    is_initialized: extern "C" fn() -> c_int,
}

#[repr(C)]
struct Reader {
    init: unsafe extern "C" fn(*const c_char, *const c_char, *mut *mut c_void) -> c_int,
    deinit: unsafe extern "C" fn(*mut c_void) -> c_int,
    fetch_length: unsafe extern "C" fn(*mut c_void, *mut usize, *mut usize) -> c_int,
    fetch: unsafe extern "C" fn(
        *mut c_void,
        *mut u8,
        usize,
        *mut usize,
        *mut c_char,
        usize,
        *mut usize,
    ) -> c_int,
}

#[repr(C)]
struct Writer {
    store: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const u8,
        usize,
        *const c_char,
    ) -> c_int,
    remove: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

#[repr(C)]
struct Generator {
    generate: unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, usize) -> c_int,
}

#[repr(C)]
struct Listing {
    init: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    deinit: unsafe extern "C" fn(*mut c_void) -> c_int,
    is_valid: unsafe extern "C" fn(*mut c_void) -> c_int,
    next: unsafe extern "C" fn(*mut c_void) -> c_int,
    get_length: unsafe extern "C" fn(*mut c_void, *mut usize, *mut usize) -> c_int,
    get: unsafe extern "C" fn(*mut c_void, *mut c_char, usize, *mut c_char, usize) -> c_int,
}

type Crypt = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_char,
    usize,
    *const u8,
    bool,
    *const u8,
    usize,
    *mut u8,
    usize,
    *mut usize,
) -> c_int;

#[repr(C)]
struct Aes {
    get_size: unsafe extern "C" fn(usize, *const c_char, usize, *mut usize) -> c_int,
    encrypt: Crypt,
    decrypt: Crypt,
}

/// The library as a server has it open, with its folders.
struct Server {
    folder: TempDir,
    component: &'static Component,
}

impl Server {
    /// With a keystore at `<folder>/keystore.json`, made by the first load.
    fn loaded() -> Self {
        let server = Self::open();
        server.configure("read_only\": false, \"path");
        assert_eq!(server.load(), 0);
        server
    }

    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("component_keyring_keyward.so");
        std::fs::copy(library(), &file).unwrap();
        let path = text(file.to_str().unwrap());
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        // The same library is MariaDB's plugin.
        let other = unsafe { libc::dlsym(handle, c"_maria_plugin_declarations_".as_ptr()) };
        assert!(!other.is_null());
        let symbol = unsafe { libc::dlsym(handle, c"list_components".as_ptr()) };
        assert!(!symbol.is_null());
        let list: extern "C" fn() -> *const Component = unsafe { std::mem::transmute(symbol) };
        let component = unsafe { &*list() };
        assert_eq!((component.init)(), 0);
        Self { folder, component }
    }

    /// Writes the configuration file; `members` stands before the keystore's path.
    fn configure(&self, members: &str) {
        let path = self.keystore();
        let config = format!("{{\"{members}\": \"{}\"}}", path.display());
        let file = self.folder.path().join("component_keyring_keyward.cnf");
        std::fs::write(file, config).unwrap();
    }

    /// The same keystore by a file of keyward's own.
    fn configure_with_a_file(&self) {
        let (folder, config) = (self.folder.path(), self.folder.path().join("keyward.toml"));
        let key = folder.join("keystore.json.key");
        let toml = format!(
            "[keystore]\npath = \"{}\"\n[[provider]]\ntype = \"local\"\nkey_file = \"{}\"\n",
            self.keystore().display(),
            key.display()
        );
        std::fs::write(&config, toml).unwrap();
        let named = format!("{{\"config\": \"{}\"}}", config.display());
        std::fs::write(folder.join("component_keyring_keyward.cnf"), named).unwrap();
    }

    fn keystore(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    fn load(&self) -> c_int {
        let folder = text(&format!("{}/", self.folder.path().display()));
        unsafe { (self.service::<Load>("keyring_load").load)(folder.as_ptr(), folder.as_ptr()) }
    }

    fn is_initialized(&self) -> bool {
        (self.service::<Status>("keyring_component_status").is_initialized)() != 0
    }

    fn service<T>(&self, name: &str) -> &'static T {
        let wanted = format!("{name}.component_keyring_keyward");
        let mut service = self.component.provides;
        loop {
            let Service { name, functions } = unsafe { service.read() };
            assert!(!name.is_null(), "no service {wanted}");
            if unsafe { CStr::from_ptr(name) }.to_str() == Ok(&wanted) {
                return unsafe { &*functions.cast() };
            }
            service = unsafe { service.add(1) };
        }
    }

    fn store(&self, name: &str, user: &str, data: &[u8], kind: &str) -> c_int {
        let (name, user, kind) = (text(name), text(user), text(kind));
        let store = self.service::<Writer>("keyring_writer").store;
        let (data, len) = (data.as_ptr(), data.len());
        unsafe { store(name.as_ptr(), user.as_ptr(), data, len, kind.as_ptr()) }
    }

    fn remove(&self, name: &str, user: &str) -> c_int {
        let (name, user) = (text(name), text(user));
        let remove = self.service::<Writer>("keyring_writer").remove;
        unsafe { remove(name.as_ptr(), user.as_ptr()) }
    }

    fn generate(&self, name: &str, kind: &str, len: usize) -> c_int {
        let (name, kind) = (text(name), text(kind));
        let generate = self.service::<Generator>("keyring_generator").generate;
        unsafe { generate(name.as_ptr(), ptr::null(), kind.as_ptr(), len) }
    }

    /// A key's bytes and type; `Ok(None)` where there is none, `Err` where the keyring failed.
    fn fetch(&self, name: &str, user: &str) -> Result<Option<(Vec<u8>, String)>, c_int> {
        let reader = self.service::<Reader>("keyring_reader_with_status");
        let (name, user) = (text(name), text(user));
        let mut handle = ptr::dangling_mut();
        match unsafe { (reader.init)(name.as_ptr(), user.as_ptr(), &raw mut handle) } {
            0 if handle.is_null() => return Ok(None),
            0 => {}
            failed => return Err(failed),
        }
        let (mut len, mut kind_len) = (0, 0);
        let code = unsafe { (reader.fetch_length)(handle, &raw mut len, &raw mut kind_len) };
        assert_eq!(code, 0);
        let (mut data, mut kind) = (vec![0xff; len], vec![0xff; kind_len]);
        // An empty key fits any buffer.
        if let Some(room) = len.checked_sub(1) {
            let short = unsafe {
                let data = data.as_mut_ptr();
                let kind = kind.as_mut_ptr().cast();
                (reader.fetch)(handle, data, room, &raw mut len, kind, kind_len, &raw mut kind_len)
            };
            assert_eq!(short, 1, "a buffer that is too short");
        }
        let code = unsafe {
            let data = data.as_mut_ptr();
            let kind = kind.as_mut_ptr().cast();
            (reader.fetch)(handle, data, len, &raw mut len, kind, kind_len, &raw mut kind_len)
        };
        assert_eq!(code, 0);
        assert_eq!(unsafe { (reader.deinit)(handle) }, 0);
        assert_eq!((len, kind_len), (data.len(), kind.len()));
        Ok(Some((data, String::from_utf8(kind).unwrap())))
    }

    /// All rows of a listing service; `nul` is how much its lengths count for the NUL.
    fn list(&self, service: &str, nul: usize) -> Vec<(String, String)> {
        let listing = self.service::<Listing>(service);
        let mut handle = ptr::null_mut();
        assert_eq!(unsafe { (listing.init)(&raw mut handle) }, 0);
        let mut rows = Vec::new();
        while unsafe { (listing.is_valid)(handle) } != 0 {
            let (mut first, mut second) = (0, 0);
            let lengths = unsafe { (listing.get_length)(handle, &raw mut first, &raw mut second) };
            assert_eq!(lengths, 0);
            let room = [first + 1 - nul, second + 1 - nul];
            let (mut one, mut two) = (vec![0xff_u8; room[0]], vec![0xff_u8; room[1]]);
            let (a, b) = (one.as_mut_ptr().cast(), two.as_mut_ptr().cast());
            let get = |less| unsafe { (listing.get)(handle, a, room[0] - less, b, room[1]) };
            assert_eq!((get(1), get(0)), (1, 0), "no room for the NUL, and room");
            let read =
                |bytes: Vec<u8>| CString::from_vec_with_nul(bytes).unwrap().into_string().unwrap();
            rows.push((read(one), read(two)));
            assert_eq!(unsafe { (listing.next)(handle) }, 0);
        }
        assert_eq!(unsafe { (listing.next)(handle) }, 1);
        assert_eq!(unsafe { (listing.deinit)(handle) }, 0);
        rows
    }

    fn described(&self, name: &str) -> String {
        let rows = self.list("keyring_component_metadata_query", 1);
        rows.into_iter().find(|row| row.0 == name).unwrap().1
    }

    fn crypt(&self, decrypt: bool, mode: &str, data: &[u8]) -> Result<Vec<u8>, c_int> {
        let aes = self.service::<Aes>("keyring_aes");
        let function = if decrypt { aes.decrypt } else { aes.encrypt };
        let (name, mode) = (text("for data"), text(mode));
        let mut out = vec![0; data.len() + 16];
        let mut used = 0;
        let code = unsafe {
            function(
                name.as_ptr(),
                ptr::null(),
                mode.as_ptr(),
                256,
                [7; 16].as_ptr(),
                true,
                data.as_ptr(),
                data.len(),
                out.as_mut_ptr(),
                out.len(),
                &raw mut used,
            )
        };
        out.truncate(used);
        if code == 0 { Ok(out) } else { Err(code) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        assert_eq!((self.component.deinit)(), 0);
    }
}

/// The library that belongs to this build of the test.
fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let file = here.parent().unwrap().join("libkeyward.so");
    assert!(file.exists(), "{} is not there", file.display());
    file
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A server that finds no keystore makes one; the first may come back, unless as an older copy.
#[test]
fn a_keystore_comes_back_after_another_took_its_place() {
    let server = Server::loaded();
    assert_eq!(server.store("first", "", b"1", "SECRET"), 0);
    let older = std::fs::read(server.keystore()).unwrap();
    assert_eq!(server.store("second", "", b"2", "SECRET"), 0);
    let first = std::fs::read(server.keystore()).unwrap();
    std::fs::remove_file(server.keystore()).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("second", ""), Ok(None));
    assert_eq!(server.store("third", "", b"3", "SECRET"), 0);
    let other = std::fs::read(server.keystore()).unwrap();
    std::fs::write(server.keystore(), &older).unwrap();
    assert_ne!(server.load(), 0, "an older copy of the first was taken");
    std::fs::write(server.keystore(), &first).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("second", ""), Ok(Some((b"2".to_vec(), "SECRET".into()))));
    std::fs::write(server.keystore(), &other).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("third", ""), Ok(Some((b"3".to_vec(), "SECRET".into()))));
}

/// Where the data need a master key, a keystore that lacks it or has another is refused, none is made,
/// and the mark lists it and no secret of a client's.
#[test]
fn encrypted_data_want_their_own_keystore() {
    const NAME: &str = "INNODBKey-a7c99ba7-e639-11f1-b21a-02fc00000001-2";
    let server = Server::loaded();
    let folder = server.folder.path();
    let refused = |wanted: &str| {
        assert_eq!(server.load(), 1, "{wanted}");
        let said = server.described("Last_error");
        assert!(said.contains(wanted), "{said}");
        said
    };
    let table = folder.join("t.ibd");
    let put = || std::fs::copy("tests/golden/inspect/mysql.ibd", &table).unwrap();
    std::fs::write(folder.join("ibdata1"), b"").unwrap();
    put();
    refused(&format!("t.ibd needs key {NAME} version 1, which keystore "));
    std::fs::remove_file(&table).unwrap();
    assert_eq!(server.load(), 0);
    assert_eq!(server.generate(NAME, "AES", 32), 0);
    assert_eq!(server.store("a password", "joe@%", b"secret", "SECRET"), 0);
    let mark = folder.join("keyward.mark");
    assert!(!mark.exists(), "written before the server asked for a key");
    assert!(server.fetch(NAME, "").unwrap().is_some());
    let next = NAME.replace("-2", "-3");
    assert_eq!(server.generate(&next, "AES", 32), 0);
    let text = std::fs::read_to_string(&mark).unwrap();
    assert!(text.contains(NAME) && text.contains(&next) && !text.contains("password"), "{text}");
    put();
    assert_eq!(server.load(), 0, "a mark that agrees needs no look at the data");
    std::fs::remove_file(&mark).unwrap();
    refused(&format!("t.ibd is encrypted with key {NAME} version 1 of another keystore"));

    let away = folder.join("away");
    std::fs::rename(server.keystore(), &away).unwrap();
    let said = refused("t.ibd in ");
    for part in
        ["there is no keystore at ", "keystore.json.key", "keystore.json.witness", "audit.jsonl"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains("put the keystore back from a backup"), "{said}");
    assert!(!server.keystore().exists(), "another keystore was made");
    std::fs::remove_file(&table).unwrap();
    std::fs::rename(&away, server.keystore()).unwrap();
    assert_eq!(server.load(), 0);
}

#[test]
fn declares_one_component() {
    let server = Server::open();
    let name = unsafe { CStr::from_ptr(server.component.name) };
    assert_eq!(name.to_str(), Ok("component_keyring_keyward"));
    let needs = unsafe { server.component.requires.read() };
    assert_eq!(unsafe { CStr::from_ptr(needs.name) }, c"log_builtins");
    assert!(!needs.place.is_null());
    let end = unsafe { server.component.requires.add(1).read() };
    assert!(end.name.is_null());
    assert!(!server.component.metadata.is_null());
    assert!(!server.is_initialized());
}

#[test]
fn the_first_load_makes_a_keystore_and_its_key() {
    let server = Server::loaded();
    assert!(server.is_initialized());
    let key = server.folder.path().join("keystore.json.key");
    assert_eq!((mode_of(&server.keystore()), mode_of(&key)), (0o600, 0o600));
    assert_eq!(server.described("Component_status"), "Active");
    assert_eq!(server.described("Data_file"), server.keystore().display().to_string());
    assert_eq!(server.described("Read_only"), "No");
}

/// With keyward's own configuration. Where it is the stock component's, the table looks like that one's.
#[test]
fn status_has_the_stock_rows_and_each_metric_of_the_table() {
    let server = Server::loaded();
    let rows = || -> Vec<String> {
        let rows = server.list("keyring_component_metadata_query", 1);
        rows.into_iter().map(|(name, _)| name).collect()
    };
    let stock = rows();
    assert_eq!(stock.len(), 8, "{stock:?}");
    server.configure_with_a_file();
    assert_eq!(server.load(), 0);
    let ours = METRICS.iter().filter(|metric| metric.shown_by.contains(&Renderer::MySql));
    let ours = ours.map(|metric: &Metric| {
        let (first, rest) = metric.name().split_at(1);
        first.to_uppercase() + rest
    });
    assert_eq!(rows(), stock.into_iter().chain(ours).collect::<Vec<_>>());
    assert_eq!((server.described("State"), server.described("Degraded")), ("ok".into(), "0".into()));
    assert_eq!(server.described("Provider"), "local");
    assert_eq!((server.described("Keys"), server.described("Last_error")), ("0".into(), "".into()));
}

#[test]
fn stores_fetches_lists_and_removes() {
    let server = Server::loaded();
    assert_eq!(server.fetch("k", ""), Ok(None));
    assert_eq!(server.store("k", "", b"\0secret", "SECRET"), 0);
    assert_eq!(server.store("k", "me@here", b"mine", "AES"), 0);
    assert_eq!(server.store("k", "", b"other", "SECRET"), 1, "the name is taken");
    assert_eq!(server.fetch("k", ""), Ok(Some((b"\0secret".into(), "SECRET".into()))));
    assert_eq!(server.fetch("k", "me@here"), Ok(Some((b"mine".into(), "AES".into()))));
    let rows = server.list("keyring_keys_metadata_iterator", 0);
    assert_eq!(rows, [("k".into(), String::new()), ("k".into(), "me@here".into())]);
    assert_eq!(server.remove("k", ""), 0);
    assert_eq!(server.remove("k", ""), 1);
    assert_eq!(server.fetch("k", ""), Ok(None));
    assert_eq!(server.store("k", "", b"again", "RSA"), 0);
    assert_eq!(server.fetch("k", ""), Ok(Some((b"again".into(), "RSA".into()))));
    // As the stock component does, for a SQL function that is given an empty text.
    assert_eq!(server.store("empty", "", b"", "SECRET"), 0);
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("empty", ""), Ok(Some((Vec::new(), "SECRET".into()))));
}

#[test]
fn a_reload_finds_what_was_stored() {
    let server = Server::loaded();
    assert_eq!(server.generate("k", "AES", 16_384), 0);
    let before = server.fetch("k", "").unwrap().unwrap();
    assert_eq!(before.0.len(), 16_384);
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("k", "").unwrap().unwrap(), before);
    let file = std::fs::read(server.keystore()).unwrap();
    assert!(!file.windows(32).any(|part| part == &before.0[..32]), "the key stands in the file");
}

#[test]
fn refuses_what_is_no_key() {
    let server = Server::loaded();
    assert_eq!(server.store("", "", b"x", "AES"), 1);
    assert_eq!(server.store("k", "", &[0; 16_385], "AES"), 1);
    assert_eq!(server.store("k", "", b"x", ""), 1);
    assert_eq!(server.generate("k", "AES", 0), 1);
    assert_eq!(server.generate("k", "AES", 16_385), 1);
    let writer = server.service::<Writer>("keyring_writer");
    let nulls = unsafe { (writer.store)(ptr::null(), ptr::null(), ptr::null(), 9, ptr::null()) };
    assert_eq!(nulls, 1);
    let reader = server.service::<Reader>("keyring_reader_with_status");
    assert_eq!(unsafe { (reader.init)(ptr::null(), ptr::null(), ptr::null_mut()) }, 1);
    let (null, mut len) = (ptr::null_mut(), 0);
    assert_eq!(unsafe { (reader.fetch_length)(null, &raw mut len, &raw mut len) }, 1);
    assert_eq!(unsafe { (reader.deinit)(null) }, 0);
    assert_eq!(server.list("keyring_keys_metadata_iterator", 0), []);
}

#[test]
fn a_key_without_bytes_is_not_stored_as_an_empty_one() {
    let server = Server::loaded();
    let (name, kind) = (text("k"), text("AES"));
    let store = server.service::<Writer>("keyring_writer").store;
    let stored = unsafe { store(name.as_ptr(), ptr::null(), ptr::null(), 32, kind.as_ptr()) };
    assert_eq!(stored, 1);
    assert_eq!(server.fetch("k", ""), Ok(None));
    // An empty text of a SQL function is one with no bytes to point at.
    let empty = unsafe { store(name.as_ptr(), ptr::null(), ptr::null(), 0, kind.as_ptr()) };
    assert_eq!(empty, 0);
}

#[test]
fn names_and_types_of_new_keys_are_bounded() {
    let server = Server::loaded();
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    for name in [&too_long, &"n".repeat(1 << 20)] {
        assert_eq!(server.store(name, "", b"x", "AES"), 1);
        assert_eq!(server.store("k", name, b"x", "AES"), 1);
        assert_eq!(server.generate(name, "AES", 32), 1);
        // Nobody has such a key, which is no failure.
        assert_eq!(server.fetch(name, ""), Ok(None));
    }
    for kind in ["FOO", "AES2", "A", "AES ", "keyring"] {
        assert_eq!(server.store("k", "", b"x", kind), 1, "{kind}");
        assert_eq!(server.generate("k", kind, 32), 1, "{kind}");
    }
    assert_eq!(server.list("keyring_keys_metadata_iterator", 0), []);
    for (n, kind) in ["AES", "RSA", "DSA", "SECRET", "secret"].iter().enumerate() {
        assert_eq!(server.store(&n.to_string(), "", b"x", kind), 0, "{kind}");
    }
    assert_eq!(server.store(&longest, &longest, b"x", "AES"), 0);
    assert_eq!(server.fetch(&longest, &longest), Ok(Some((b"x".to_vec(), "AES".into()))));
}

#[test]
fn a_fetch_that_fails_has_not_given_the_key() {
    let server = Server::loaded();
    assert_eq!(server.store("k", "", b"0123456789abcdef", "SECRET"), 0);
    let reader = server.service::<Reader>("keyring_reader_with_status");
    let (name, user) = (text("k"), text(""));
    let mut handle = ptr::null_mut();
    assert_eq!(unsafe { (reader.init)(name.as_ptr(), user.as_ptr(), &raw mut handle) }, 0);
    let fetch = |kind: *mut c_char, kind_room, data_len: *mut usize, kind_len: *mut usize| {
        let mut data = [0xee_u8; 16];
        let to = data.as_mut_ptr();
        let code = unsafe { (reader.fetch)(handle, to, 16, data_len, kind, kind_room, kind_len) };
        (code, data)
    };
    let mut kind = [0_u8; 6];
    let room = kind.as_mut_ptr().cast();
    let (mut one, mut two) = (0, 0);
    let (one, two) = (&raw mut one, &raw mut two);
    let none = ptr::null_mut();
    for (what, outcome) in [
        ("a type that does not fit", fetch(room, 5, one, two)),
        ("no room for the type", fetch(ptr::null_mut(), 6, one, two)),
        ("no place for the length", fetch(room, 6, none, two)),
        ("no place for the type's length", fetch(room, 6, one, none)),
    ] {
        assert_eq!(outcome, (1, [0xee; 16]), "{what}");
    }
    assert_eq!(fetch(room, 6, one, two), (0, *b"0123456789abcdef"));
    assert_eq!(unsafe { (reader.deinit)(handle) }, 0);
}

#[test]
fn a_failed_load_is_disabled_and_a_later_one_recovers() {
    let server = Server::open();
    assert_eq!(server.load(), 1, "without a configuration");
    assert!(!server.is_initialized());
    assert_eq!(server.described("Component_status"), "Disabled");
    assert!(server.described("Last_error").contains("cannot read config file"));
    assert_eq!(server.fetch("k", ""), Err(1));
    assert_eq!(server.store("k", "", b"x", "AES"), 1);
    server.configure("path");
    assert_eq!(server.load(), 0);
    assert_eq!(server.store("k", "", b"x", "AES"), 0);
    // And one that fails later leaves the keys in place.
    server.configure("pth");
    assert_eq!(server.load(), 1);
    assert!(server.is_initialized());
    assert_eq!(server.fetch("k", ""), Ok(Some((b"x".into(), "AES".into()))));
}

#[test]
fn a_keystore_without_its_key_opens_when_that_is_back() {
    let server = Server::loaded();
    assert_eq!(server.store("k", "", b"x", "AES"), 0);
    let key = server.folder.path().join("keystore.json.key");
    let away = server.folder.path().join("away");
    std::fs::rename(&key, &away).unwrap();
    let other = Server::open();
    std::fs::copy(
        server.folder.path().join("component_keyring_keyward.cnf"),
        other.folder.path().join("component_keyring_keyward.cnf"),
    )
    .unwrap();
    assert_eq!(other.load(), 1);
    assert!(other.described("Last_error").contains("keystore.json.key"));
    assert!(!key.exists(), "a new key for an old keystore would be of no use");
    std::fs::rename(&away, &key).unwrap();
    assert_eq!(other.load(), 0);
    assert_eq!(other.fetch("k", ""), Ok(Some((b"x".into(), "AES".into()))));
}

#[test]
fn read_only_reads_only() {
    let server = Server::loaded();
    assert_eq!(server.store("k", "", b"x", "AES"), 0);
    server.configure("read_only\": true, \"path");
    assert_eq!(server.load(), 0);
    assert_eq!(server.described("Read_only"), "Yes");
    assert_eq!(server.store("l", "", b"x", "AES"), 1);
    assert_eq!(server.remove("k", ""), 1);
    assert_eq!(server.fetch("k", ""), Ok(Some((b"x".into(), "AES".into()))));
}

#[test]
fn encrypts_for_the_server() {
    let server = Server::loaded();
    assert_eq!(server.store("for data", "", b"any bytes", "aes"), 0);
    let aes = server.service::<Aes>("keyring_aes");
    for mode in ["cbc", "cfb1", "cfb8", "cfb128", "ofb"] {
        let sealed = server.crypt(false, mode, b"twenty-one characters").unwrap();
        let mut size = 0;
        let named = text(mode);
        assert_eq!(unsafe { (aes.get_size)(21, named.as_ptr(), 256, &raw mut size) }, 0);
        assert_eq!(size, sealed.len(), "{mode}");
        assert_eq!(server.crypt(true, mode, &sealed).unwrap(), b"twenty-one characters");
    }
    assert_eq!(server.crypt(false, "ecb", b"x"), Err(1));
    assert_eq!(server.remove("for data", ""), 0);
    assert_eq!(server.crypt(false, "cbc", b"x"), Err(1), "no key");
    assert_eq!(server.store("for data", "", b"any bytes", "SECRET"), 0);
    assert_eq!(server.crypt(false, "cbc", b"x"), Err(1), "no AES key");
}

/// In a process of its own, since it changes the effective user.
#[test]
fn while_the_server_is_root_its_data_directory_chooses_no_code() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    const ALONE: &str = "KEYWARD_TEST_ALONE";
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let name = "while_the_server_is_root_its_data_directory_chooses_no_code";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let done = again.args(["--exact", name]).env(ALONE, "1").output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let server = Server::open();
    let library = server.folder.path();
    std::fs::set_permissions(library, std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = library.join("data");
    std::fs::create_dir(&data).unwrap();
    let give = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    give(&data);
    let load = |of_library: &str, of_instance: &str| {
        for (folder, content) in [(library, of_library), (&data, of_instance)] {
            let file = folder.join("component_keyring_keyward.cnf");
            std::fs::write(&file, content).unwrap();
        }
        give(&data.join("component_keyring_keyward.cnf"));
        let folder = |path: &Path| text(&format!("{}/", path.display()));
        let (library, instance) = (folder(library), folder(&data));
        let load = server.service::<Load>("keyring_load").load;
        unsafe { load(library.as_ptr(), instance.as_ptr()) }
    };
    let config = data.join("keyward.toml");
    let toml = format!(
        "[keystore]\npath = \"{0}/keystore.json\"\n[[provider]]\ntype = \"pkcs11\"\n\
         module = \"{0}/module.so\"\ntoken = \"t\"\nkey = \"k\"\npin_file = \"{0}/pin\"\n",
        data.display()
    );
    std::fs::write(&config, toml).unwrap();
    give(&config);
    let local = r#"{"read_local_config": true}"#;
    let named = format!(r#"{{"config": "{}"}}"#, config.display());
    for (of_library, of_instance) in [(local, &*named), (&*named, "")] {
        assert_eq!(load(of_library, of_instance), 1);
        let error = server.described("Last_error");
        assert!(error.contains("may be used by root's configuration only"), "{error}");
    }
    // What needs no code works, and is the user's own.
    let keystore = data.join("own.json");
    let path = format!(r#"{{"path": "{}"}}"#, keystore.display());
    for (of_library, of_instance) in [(local, &*path), (&*path, "")] {
        assert_eq!(load(of_library, of_instance), 0, "{}", server.described("Last_error"));
        for name in ["own.json", "own.json.key", "audit.jsonl"] {
            let found = data.join(name).symlink_metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{name}");
        }
        for file in std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
            let keep = file.extension().is_some_and(|ending| ending == "cnf" || ending == "toml");
            if !keep {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
    // A link of the user's leads root to no file of root's.
    let secret = library.join("secret.toml");
    std::fs::write(&secret, "hunter2").unwrap();
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink(&secret, &config).unwrap();
    std::os::unix::fs::lchown(&config, Some(NOBODY), None).unwrap();
    assert_eq!(load(local, &named), 1);
    assert!(!server.described("Last_error").contains("hunter2"));
}

//! A library as a server has it open.

use std::ffi::{CStr, CString, c_int};
use std::path::{Path, PathBuf};
use std::ptr;

use tempfile::TempDir;

use super::abi::{Aes, Component, Generator, Listing, Load, Reader, Service, Status, Writer};

/// The library as a server has it open, with its folders.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) component: &'static Component,
}

impl Server {
    /// With a keystore at `<folder>/keystore.json`, made by the first load.
    pub(crate) fn loaded() -> Self {
        let server = Self::open();
        server.configure("read_only\": false, \"path");
        assert_eq!(server.load(), 0);
        server
    }

    pub(crate) fn open() -> Self {
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
    pub(crate) fn configure(&self, members: &str) {
        let path = self.keystore();
        let config = format!("{{\"{members}\": \"{}\"}}", path.display());
        let file = self.folder.path().join("component_keyring_keyward.cnf");
        std::fs::write(file, config).unwrap();
    }

    /// The same keystore by a file of keyward's own.
    pub(crate) fn configure_with_a_file(&self) {
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

    pub(crate) fn keystore(&self) -> PathBuf {
        self.folder.path().join("keystore.json")
    }

    pub(crate) fn load(&self) -> c_int {
        let folder = text(&format!("{}/", self.folder.path().display()));
        unsafe { (self.service::<Load>("keyring_load").load)(folder.as_ptr(), folder.as_ptr()) }
    }

    /// The load of another process: nothing is in memory.
    pub(crate) fn restart(&self) -> c_int {
        assert_eq!((self.component.deinit)(), 0);
        assert_eq!((self.component.init)(), 0);
        self.load()
    }

    pub(crate) fn is_initialized(&self) -> bool {
        (self.service::<Status>("keyring_component_status").is_initialized)() != 0
    }

    pub(crate) fn service<T>(&self, name: &str) -> &'static T {
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

    pub(crate) fn store(&self, name: &str, user: &str, data: &[u8], kind: &str) -> c_int {
        let (name, user, kind) = (text(name), text(user), text(kind));
        let store = self.service::<Writer>("keyring_writer").store;
        let (data, len) = (data.as_ptr(), data.len());
        unsafe { store(name.as_ptr(), user.as_ptr(), data, len, kind.as_ptr()) }
    }

    pub(crate) fn remove(&self, name: &str, user: &str) -> c_int {
        let (name, user) = (text(name), text(user));
        let remove = self.service::<Writer>("keyring_writer").remove;
        unsafe { remove(name.as_ptr(), user.as_ptr()) }
    }

    pub(crate) fn generate(&self, name: &str, kind: &str, len: usize) -> c_int {
        let (name, kind) = (text(name), text(kind));
        let generate = self.service::<Generator>("keyring_generator").generate;
        unsafe { generate(name.as_ptr(), ptr::null(), kind.as_ptr(), len) }
    }

    /// A key's bytes and type; `Ok(None)` where there is none, `Err` where the keyring failed.
    pub(crate) fn fetch(&self, name: &str, user: &str) -> Result<Option<(Vec<u8>, String)>, c_int> {
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
    pub(crate) fn list(&self, service: &str, nul: usize) -> Vec<(String, String)> {
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

    pub(crate) fn described(&self, name: &str) -> String {
        let rows = self.list("keyring_component_metadata_query", 1);
        rows.into_iter().find(|row| row.0 == name).unwrap().1
    }

    pub(crate) fn crypt(&self, decrypt: bool, mode: &str, data: &[u8]) -> Result<Vec<u8>, c_int> {
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
pub(crate) fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let file = here.parent().unwrap().join("libkeyward.so");
    assert!(file.exists(), "{} is not there", file.display());
    file
}

pub(crate) fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

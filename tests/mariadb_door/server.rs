//! A library as a server has it open: its variables, its functions, and the messages that it gives.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Mutex;

use tempfile::TempDir;

use super::abi::{ENCRYPT, Encryption, MessageService, Plugin, SetValue, Show, Variable};

/// A library opened under a name of its own, so that each test has its own statics.
pub(crate) struct Server {
    pub(crate) handle: *mut c_void,
    pub(crate) folder: TempDir,
    /// The values of its text variables, which live as long as it does.
    texts: Mutex<Vec<CString>>,
}

impl Server {
    pub(crate) fn open(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("{name}.so"));
        std::fs::copy(library(), &file).unwrap();
        let path = CString::new(file.to_str().unwrap()).unwrap();
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        let server = Self { handle, folder, texts: Mutex::default() };
        let service: *mut *const c_void = server.symbol("my_print_error_service");
        assert_eq!(unsafe { *service }.addr(), 0x0100);
        unsafe { *service = (&raw const MESSAGES).cast() };
        server
    }

    /// `file_key_management` with keys 1 (16 bytes), 2 (24) and 3 (32).
    pub(crate) fn with_keys(algorithm: c_ulong) -> Self {
        let server = Self::open("file_key_management");
        let keys = format!("1;{}\n2;{}\n3;{}\n", "11".repeat(16), "22".repeat(24), "33".repeat(32));
        server.set_text("filename", &server.write("keys.txt", &keys));
        unsafe { *(*server.variable("encryption_algorithm")).value.cast::<c_ulong>() = algorithm };
        assert_eq!(server.init(), 0);
        server
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        path
    }

    pub(crate) fn symbol<T>(&self, name: &str) -> *mut T {
        let name = CString::new(name).unwrap();
        let symbol = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?}");
        symbol.cast()
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        unsafe { &*self.symbol::<Plugin>("_maria_plugin_declarations_") }
    }

    pub(crate) fn functions(&self) -> &Encryption {
        unsafe { &*self.plugin().info }
    }

    pub(crate) fn variables(&self) -> Vec<*mut Variable> {
        let mut list = self.plugin().variables;
        let mut found = Vec::new();
        unsafe {
            while !(*list).is_null() {
                found.push(*list);
                list = list.add(1);
            }
        }
        found
    }

    pub(crate) fn variable(&self, name: &str) -> *mut Variable {
        let named = |v: &*mut Variable| text(unsafe { (**v).name }) == name;
        self.variables().into_iter().find(named).unwrap()
    }

    pub(crate) fn set_text(&self, name: &str, value: &Path) {
        let value = CString::new(value.to_str().unwrap()).unwrap();
        let address = value.as_ptr().cast_mut();
        self.texts.lock().unwrap().push(value);
        unsafe { *(*self.variable(name)).value.cast::<*mut c_char>() = address };
    }

    pub(crate) fn init(&self) -> c_int {
        unsafe { self.plugin().init.unwrap()(ptr::null_mut()) }
    }

    pub(crate) fn deinit(&self) -> c_int {
        unsafe { self.plugin().deinit.unwrap()(ptr::null_mut()) }
    }

    pub(crate) fn latest(&self, id: c_uint) -> c_uint {
        unsafe { self.functions().latest.unwrap()(id) }
    }

    pub(crate) fn get_key(
        &self,
        id: c_uint,
        version: c_uint,
        room: usize,
    ) -> (c_uint, Vec<u8>, c_uint) {
        let mut buffer = vec![0xEE; room];
        let mut length = c_uint::try_from(room).unwrap();
        let code = unsafe {
            self.functions().get_key.unwrap()(id, version, buffer.as_mut_ptr(), &raw mut length)
        };
        (code, buffer, length)
    }

    /// One message through a context at an address that is `shift` off, in pieces of `piece` bytes.
    pub(crate) fn crypt(&self, job: &Job<'_>, input: &[u8]) -> Result<Vec<u8>, c_int> {
        let f = self.functions();
        let size = unsafe { f.ctx_size.unwrap()(job.id, 1) } as usize;
        let mut memory = vec![0xA5_u8; size + 32];
        let aligned = memory.as_ptr().align_offset(16);
        let context: *mut c_void = unsafe { memory.as_mut_ptr().add(aligned + job.shift) }.cast();
        let room = unsafe { f.encrypted_length.unwrap()(input.len() as c_uint, job.id, 1) };
        let mut output = vec![0xC3_u8; room as usize + 64];
        let code = unsafe {
            f.init.unwrap()(
                context,
                job.key.as_ptr(),
                job.key.len() as c_uint,
                job.iv.as_ptr(),
                job.iv.len() as c_uint,
                job.flags,
                job.id,
                1,
            )
        };
        if code != 0 {
            return Err(code);
        }
        let mut done = 0;
        let mut failed = 0;
        // The server calls update for an empty message too.
        let pieces = if input.is_empty() { vec![input] } else { input.chunks(job.piece).collect() };
        for piece in pieces {
            let mut length = MaybeUninit::<c_uint>::uninit();
            let code = unsafe {
                f.update.unwrap()(
                    context,
                    piece.as_ptr(),
                    piece.len() as c_uint,
                    output.as_mut_ptr().add(done),
                    length.as_mut_ptr(),
                )
            };
            done += unsafe { length.assume_init() } as usize;
            failed = if failed == 0 { code } else { failed };
        }
        let mut length = MaybeUninit::<c_uint>::uninit();
        let code = unsafe {
            f.finish.unwrap()(context, output.as_mut_ptr().add(done), length.as_mut_ptr())
        };
        done += unsafe { length.assume_init() } as usize;
        failed = if failed == 0 { code } else { failed };
        assert!(output[done..].iter().all(|byte| *byte == 0xC3), "wrote past what it returned");
        let outside = aligned + job.shift;
        assert!(memory[..outside].iter().all(|b| *b == 0xA5), "wrote before the context");
        assert!(memory[outside + size..].iter().all(|b| *b == 0xA5), "wrote after the context");
        output.truncate(done);
        if failed == 0 { Ok(output) } else { Err(failed) }
    }

    /// `len` bytes at `from` of `page` encrypted or decrypted to `to` of it, in one piece.
    pub(crate) fn crypt_within(
        &self,
        job: &Job<'_>,
        page: &mut [u8],
        from: usize,
        to: usize,
        len: usize,
    ) {
        let f = self.functions();
        let mut memory = vec![0_u8; unsafe { f.ctx_size.unwrap()(job.id, 1) } as usize];
        let context: *mut c_void = memory.as_mut_ptr().cast();
        let (source, target) = unsafe { (page.as_ptr().add(from), page.as_mut_ptr().add(to)) };
        let (mut now, mut rest) = (0, 0);
        unsafe {
            let (key, iv) = (job.key.as_ptr(), job.iv.as_ptr());
            assert_eq!(f.init.unwrap()(context, key, 16, iv, 16, job.flags, job.id, 1), 0);
            let update = f.update.unwrap();
            assert_eq!(update(context, source, len as c_uint, target, &raw mut now), 0);
            assert_eq!(f.finish.unwrap()(context, target.add(now as usize), &raw mut rest), 0);
        }
        assert_eq!((now + rest) as usize, len);
    }

    /// SET GLOBAL `name` = `number`, up to the check.
    pub(crate) fn set(&self, name: &str, number: i64) -> c_int {
        let mut value = SetValue {
            kind: set_kind,
            text: set_text,
            real: set_real,
            int: set_int,
            is_unsigned: set_unsigned,
            number,
        };
        let variable = self.variable(name);
        let mut save = [0_u64; 1];
        unsafe {
            (*variable).check.unwrap()(
                ptr::null_mut(),
                variable,
                save.as_mut_ptr().cast(),
                &raw mut value,
            )
        }
    }

    pub(crate) fn status(&self) -> Vec<(String, String)> {
        let entry = unsafe { &*self.plugin().status };
        assert_eq!((text(entry.name).as_str(), entry.kind), ("Keyward", 8));
        type ShowFunction =
            unsafe extern "C" fn(*mut c_void, *mut Show, *mut u8, *mut c_void, c_uint) -> c_int;
        let show: ShowFunction = unsafe { std::mem::transmute(entry.value) };
        let mut buffer = vec![0xEE_u8; 2048 + 64];
        let mut shown = Show { name: ptr::null(), value: ptr::null_mut(), kind: 0 };
        // The server's buffer is aligned; a caller's need not be.
        let start = unsafe { buffer.as_mut_ptr().add(buffer.as_ptr().align_offset(8)) };
        let code = unsafe { show(ptr::null_mut(), &raw mut shown, start, ptr::null_mut(), 2) };
        assert_eq!((code, shown.kind), (0, 7));
        let mut entry: *const Show = shown.value.cast();
        let mut found = Vec::new();
        unsafe {
            while !(*entry).name.is_null() {
                let value = match (*entry).kind {
                    4 => (*entry).value.cast::<u64>().read().to_string(),
                    5 => text((*entry).value.cast()),
                    other => panic!("type {other}"),
                };
                found.push((text((*entry).name), value));
                entry = entry.add(1);
            }
        }
        let used = unsafe { start.add(2048) };
        assert_eq!(unsafe { *used }, 0xEE, "wrote past the server's buffer");
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.deinit();
        unsafe { libc::dlclose(self.handle) };
    }
}

pub(crate) struct Job<'a> {
    pub(crate) id: c_uint,
    pub(crate) key: &'a [u8],
    pub(crate) iv: &'a [u8],
    pub(crate) flags: c_int,
    pub(crate) shift: usize,
    pub(crate) piece: usize,
}

impl Default for Job<'_> {
    fn default() -> Self {
        Self { id: 1, key: &[7; 16], iv: &[9; 16], flags: ENCRYPT, shift: 0, piece: usize::MAX }
    }
}

/// Every message of every library in this process: (folder-free) number, flags and text.
pub(crate) static SEEN: Mutex<Vec<(c_uint, c_ulong, String)>> = Mutex::new(Vec::new());

pub(crate) struct Messages(#[allow(dead_code)] MessageService);
unsafe impl Sync for Messages {}

pub(crate) static MESSAGES: Messages =
    Messages(MessageService { error: ptr::null(), printf: keep, printv: ptr::null() });

/// The real one takes any number of arguments after the flags; the library may only ever give one.
unsafe extern "C" fn keep(
    number: c_uint,
    format: *const c_char,
    flags: c_ulong,
    argument: *const c_char,
) {
    assert_eq!(text(format), "%s");
    SEEN.lock().unwrap().push((number, flags, text(argument)));
}

pub(crate) fn messages_with(part: &str) -> Vec<(c_uint, c_ulong, String)> {
    let all = SEEN.lock().unwrap();
    all.iter().filter(|(_, _, text)| text.contains(part)).cloned().collect()
}

unsafe extern "C" fn set_kind(_: *mut SetValue) -> c_int {
    2
}
unsafe extern "C" fn set_text(_: *mut SetValue, _: *mut c_char, _: *mut c_int) -> *const c_char {
    ptr::null()
}
unsafe extern "C" fn set_real(_: *mut SetValue, _: *mut f64) -> c_int {
    1
}
unsafe extern "C" fn set_int(value: *mut SetValue, number: *mut i64) -> c_int {
    unsafe { *number = (*value).number };
    0
}
unsafe extern "C" fn set_unsigned(_: *mut SetValue) -> c_int {
    0
}

pub(crate) fn text(start: *const c_char) -> String {
    unsafe { CStr::from_ptr(start) }.to_str().unwrap().to_owned()
}

/// The library that belongs to this build of the test.
pub(crate) fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let file = here.parent().unwrap().join("libkeyward.so");
    assert!(file.exists(), "{} is not there", file.display());
    file
}

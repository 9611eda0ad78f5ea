//! Drives the library as the server does: opens the file, finds the declarations in it, writes the
//! variables, calls init, and then the seven functions with the arguments that a server gives.
//!
//! The structures are written down here once more, from the server's headers, so that a mistake in
//! how the library reads them cannot hide in the test.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Mutex;

use tempfile::TempDir;

const INVALID: c_uint = u32::MAX;
const TOO_SMALL: c_uint = 100;
const BAD_DATA: c_int = -100;
const FAILED: c_int = -101;
const BAD_KEY_SIZE: c_int = -102;
const DECRYPT: c_int = 0;
const ENCRYPT: c_int = 1;
const NOPAD: c_int = 2;

#[repr(C)]
struct Plugin {
    kind: c_int,
    info: *const Encryption,
    name: *const c_char,
    author: *const c_char,
    description: *const c_char,
    license: c_int,
    init: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    deinit: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    version: c_uint,
    status: *mut Show,
    variables: *mut *mut Variable,
    version_info: *const c_char,
    maturity: c_uint,
}

#[repr(C)]
struct Encryption {
    interface_version: c_int,
    latest: Option<unsafe extern "C" fn(c_uint) -> c_uint>,
    get_key: Option<unsafe extern "C" fn(c_uint, c_uint, *mut u8, *mut c_uint) -> c_uint>,
    ctx_size: Option<unsafe extern "C" fn(c_uint, c_uint) -> c_uint>,
    init: Option<Init>,
    update:
        Option<unsafe extern "C" fn(*mut c_void, *const u8, c_uint, *mut u8, *mut c_uint) -> c_int>,
    finish: Option<unsafe extern "C" fn(*mut c_void, *mut u8, *mut c_uint) -> c_int>,
    encrypted_length: Option<unsafe extern "C" fn(c_uint, c_uint, c_uint) -> c_uint>,
}

type Init = unsafe extern "C" fn(
    *mut c_void,
    *const u8,
    c_uint,
    *const u8,
    c_uint,
    c_int,
    c_uint,
    c_uint,
) -> c_int;

#[repr(C)]
struct Variable {
    flags: c_int,
    name: *const c_char,
    comment: *const c_char,
    check: Option<
        unsafe extern "C" fn(*mut c_void, *mut Variable, *mut c_void, *mut SetValue) -> c_int,
    >,
    update: Option<unsafe extern "C" fn(*mut c_void, *mut Variable, *mut c_void, *const c_void)>,
    value: *mut c_void,
    default: usize,
}

#[repr(C)]
struct Show {
    name: *const c_char,
    value: *mut c_void,
    kind: c_uint,
}

/// What a client SETs, as the server hands it to `check`; the number is the test's own.
#[repr(C)]
struct SetValue {
    kind: unsafe extern "C" fn(*mut SetValue) -> c_int,
    text: unsafe extern "C" fn(*mut SetValue, *mut c_char, *mut c_int) -> *const c_char,
    real: unsafe extern "C" fn(*mut SetValue, *mut f64) -> c_int,
    int: unsafe extern "C" fn(*mut SetValue, *mut i64) -> c_int,
    is_unsigned: unsafe extern "C" fn(*mut SetValue) -> c_int,
    number: i64,
}

#[repr(C)]
struct MessageService {
    error: *const c_void,
    printf: unsafe extern "C" fn(c_uint, *const c_char, c_ulong, *const c_char),
    printv: *const c_void,
}

/// A library opened under a name of its own, so that each test has its own statics.
struct Server {
    handle: *mut c_void,
    folder: TempDir,
}

impl Server {
    fn open(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("{name}.so"));
        std::fs::copy(library(), &file).unwrap();
        let path = CString::new(file.to_str().unwrap()).unwrap();
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        let server = Self { handle, folder };
        let service: *mut *const c_void = server.symbol("my_print_error_service");
        assert_eq!(unsafe { *service }.addr(), 0x0100);
        unsafe { *service = (&raw const MESSAGES).cast() };
        server
    }

    /// `file_key_management` with keys 1 (16 bytes), 2 (24) and 3 (32).
    fn with_keys(algorithm: c_ulong) -> Self {
        let server = Self::open("file_key_management");
        let keys = format!("1;{}\n2;{}\n3;{}\n", "11".repeat(16), "22".repeat(24), "33".repeat(32));
        server.set_text("filename", &server.write("keys.txt", &keys));
        unsafe { *(*server.variable("encryption_algorithm")).value.cast::<c_ulong>() = algorithm };
        assert_eq!(server.init(), 0);
        server
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        path
    }

    fn symbol<T>(&self, name: &str) -> *mut T {
        let name = CString::new(name).unwrap();
        let symbol = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?}");
        symbol.cast()
    }

    fn plugin(&self) -> &Plugin {
        unsafe { &*self.symbol::<Plugin>("_maria_plugin_declarations_") }
    }

    fn functions(&self) -> &Encryption {
        unsafe { &*self.plugin().info }
    }

    fn variables(&self) -> Vec<*mut Variable> {
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

    fn variable(&self, name: &str) -> *mut Variable {
        let named = |v: &*mut Variable| text(unsafe { (**v).name }) == name;
        self.variables().into_iter().find(named).unwrap()
    }

    fn set_text(&self, name: &str, value: &Path) {
        // The server's own texts live as long as the server.
        let value = CString::new(value.to_str().unwrap()).unwrap().into_raw();
        unsafe { *(*self.variable(name)).value.cast::<*mut c_char>() = value };
    }

    fn init(&self) -> c_int {
        unsafe { self.plugin().init.unwrap()(ptr::null_mut()) }
    }

    fn deinit(&self) -> c_int {
        unsafe { self.plugin().deinit.unwrap()(ptr::null_mut()) }
    }

    fn latest(&self, id: c_uint) -> c_uint {
        unsafe { self.functions().latest.unwrap()(id) }
    }

    fn get_key(&self, id: c_uint, version: c_uint, room: usize) -> (c_uint, Vec<u8>, c_uint) {
        let mut buffer = vec![0xEE; room];
        let mut length = c_uint::try_from(room).unwrap();
        let code = unsafe {
            self.functions().get_key.unwrap()(id, version, buffer.as_mut_ptr(), &raw mut length)
        };
        (code, buffer, length)
    }

    /// One message through a context at an address that is `shift` off, in pieces of `piece` bytes.
    fn crypt(&self, job: &Job<'_>, input: &[u8]) -> Result<Vec<u8>, c_int> {
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
    fn crypt_within(&self, job: &Job<'_>, page: &mut [u8], from: usize, to: usize, len: usize) {
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
    fn set(&self, name: &str, number: i64) -> c_int {
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

    fn status(&self) -> Vec<(String, String)> {
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

struct Job<'a> {
    id: c_uint,
    key: &'a [u8],
    iv: &'a [u8],
    flags: c_int,
    shift: usize,
    piece: usize,
}

impl Default for Job<'_> {
    fn default() -> Self {
        Self { id: 1, key: &[7; 16], iv: &[9; 16], flags: ENCRYPT, shift: 0, piece: usize::MAX }
    }
}

/// Every message of every library in this process: (folder-free) number, flags and text.
static SEEN: Mutex<Vec<(c_uint, c_ulong, String)>> = Mutex::new(Vec::new());

struct Messages(#[allow(dead_code)] MessageService);
unsafe impl Sync for Messages {}

static MESSAGES: Messages =
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

fn messages_with(part: &str) -> Vec<(c_uint, c_ulong, String)> {
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

fn text(start: *const c_char) -> String {
    unsafe { CStr::from_ptr(start) }.to_str().unwrap().to_owned()
}

/// The library that belongs to this build of the test.
fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let file = here.parent().unwrap().join("libkeyward.so");
    assert!(file.exists(), "{} is not there", file.display());
    file
}

fn our_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.trim() == "keyward")
        .count()
}

#[test]
fn declares_itself_by_file_name() {
    for (file, name) in [
        ("keyward", "keyward"),
        ("anything_else", "keyward"),
        ("file_key_management", "file_key_management"),
    ] {
        let server = Server::open(file);
        let size = unsafe { *server.symbol::<c_int>("_maria_sizeof_struct_st_plugin_") };
        assert_eq!(size as usize, size_of::<Plugin>());
        assert!(unsafe { *server.symbol::<c_int>("_maria_plugin_interface_version_") } >= 0x010d);
        let plugin = server.plugin();
        assert_eq!((plugin.kind, text(plugin.name).as_str()), (9, name));
        assert!(plugin.maturity >= 4, "a stable server refuses less than gamma");
        assert_eq!(text(plugin.version_info), env!("CARGO_PKG_VERSION"));
        let end = unsafe { &*ptr::from_ref(plugin).add(1) };
        assert!(end.kind == 0 && end.info.is_null(), "the list has no end");
        let f = server.functions();
        assert_eq!(f.interface_version, 0x0300);
        assert!(f.latest.is_some() && f.get_key.is_some());
        // All five or none: the server would fill a gap with its own cipher's.
        assert!(f.ctx_size.is_some() && f.init.is_some() && f.update.is_some());
        assert!(f.finish.is_some() && f.encrypted_length.is_some());
    }
}

#[test]
fn file_key_management_has_the_originals_variables() {
    let server = Server::open("file_key_management");
    let shape: Vec<_> =
        server.variables().into_iter().map(|v| unsafe { (text((*v).name), (*v).flags) }).collect();
    let expected = [
        ("encryption_algorithm", 0x0206),
        ("filekey", 0x0205),
        ("filename", 0x0205),
        ("digest", 0x0206),
        ("use_pbkdf2", 0x0282),
    ];
    assert_eq!(shape.len(), expected.len());
    for ((name, flags), expected) in shape.iter().zip(expected) {
        assert_eq!((name.as_str(), *flags), expected);
    }
}

#[test]
fn answers_before_init_are_legal() {
    let server = Server::open("keyward");
    assert_eq!(server.latest(1), INVALID);
    assert_eq!(server.get_key(1, 1, 32).0, INVALID);
    assert!(unsafe { server.functions().ctx_size.unwrap()(1, 1) } > 0);
    assert!(unsafe { server.functions().encrypted_length.unwrap()(100, 1, 1) } >= 112);
    assert_eq!(server.crypt(&Job::default(), b"text"), Err(FAILED));
    assert_eq!(server.set("rotate_key", 1), 1);
    assert!(server.status().is_empty());
    assert_eq!(server.deinit(), 0);
}

#[test]
fn a_failed_init_leaves_nothing_and_can_be_repeated() {
    let server = Server::open("file_key_management");
    server.set_text("filename", Path::new(""));
    assert_eq!(server.init(), 1);
    let told = messages_with("file-key-management-filename is not set");
    assert_eq!(told.len(), 1, "{told:?}");
    // Number 15 and ME_ERROR_LOG, as the original.
    assert_eq!((told[0].0, told[0].1), (15, 64));
    assert_eq!(server.latest(1), INVALID);
    server.set_text("filename", &server.write("good.txt", &format!("1;{}\n", "ab".repeat(16))));
    for _ in 0..3 {
        assert_eq!(server.init(), 0);
        assert_eq!(server.latest(1), 1);
        assert_eq!(server.deinit(), 0);
        assert_eq!(server.latest(1), INVALID);
    }
}

#[test]
fn an_open_plugin_cannot_be_loaded_under_a_second_name() {
    // The server checks the version behind this symbol at each load. While the plugin is open it
    // must find something else there; afterwards, the version again.
    let server = Server::open("file_key_management");
    let service: *mut *const c_void = server.symbol("my_print_error_service");
    let version = |service: *mut *const c_void| unsafe { *service }.addr();
    assert_eq!(server.init(), 1);
    assert_eq!(version(service), 0x0100);
    server.set_text("filename", &server.write("k.txt", &format!("1;{}\n", "ab".repeat(16))));
    unsafe { *service = (&raw const MESSAGES).cast() };
    assert_eq!(server.init(), 0);
    assert_ne!(version(service), 0x0100);
    server.deinit();
    assert_eq!(version(service), 0x0100);
}

#[test]
fn a_file_that_is_not_there_is_named_once() {
    let server = Server::open("file_key_management");
    server.set_text("filename", &server.folder.path().join("no\nsuch.txt"));
    assert_eq!(server.init(), 1);
    let told = messages_with("such.txt");
    let errors: Vec<_> = told.iter().filter(|(_, flags, _)| *flags == 64).collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    assert!(!errors[0].2.contains('\n'), "a file's name can forge a line");
}

#[test]
fn gives_keys_with_legal_codes() {
    let server = Server::with_keys(0);
    assert_eq!(server.latest(1), 1);
    for unknown in [0, 4, u32::MAX] {
        assert_eq!(server.latest(unknown), INVALID, "id {unknown}");
        assert_eq!(server.get_key(unknown, 1, 32).0, INVALID, "id {unknown}");
    }
    for unknown in [0, 2, u32::MAX] {
        assert_eq!(server.get_key(1, unknown, 32).0, INVALID, "version {unknown}");
    }
    for (id, byte, len) in [(1, 0x11, 16), (2, 0x22, 24), (3, 0x33, 32)] {
        let (code, buffer, length) = server.get_key(id, 1, 40);
        assert_eq!((code, length as usize), (0, len));
        assert!(buffer[..len].iter().all(|b| *b == byte));
        assert!(buffer[len..].iter().all(|b| *b == 0xEE), "wrote past the key");
        assert_eq!(server.get_key(id, 1, len).0, 0);
        let (code, buffer, length) = server.get_key(id, 1, len - 1);
        assert_eq!((code, length as usize), (TOO_SMALL, len));
        assert!(buffer.iter().all(|b| *b == 0xEE));
    }
}

#[test]
fn tells_a_keys_length_without_a_buffer() {
    let server = Server::with_keys(0);
    let get_key = server.functions().get_key.unwrap();
    let mut length = MaybeUninit::<c_uint>::uninit();
    assert_eq!(unsafe { get_key(3, 1, ptr::null_mut(), length.as_mut_ptr()) }, 0);
    assert_eq!(unsafe { length.assume_init() }, 32);
    assert_eq!(unsafe { get_key(9, 1, ptr::null_mut(), length.as_mut_ptr()) }, INVALID);
    let mut buffer = [0; 32];
    assert_eq!(unsafe { get_key(1, 1, buffer.as_mut_ptr(), ptr::null_mut()) }, INVALID);
    assert_eq!(unsafe { get_key(1, 1, ptr::null_mut(), ptr::null_mut()) }, 0);
}

#[test]
fn what_is_encrypted_can_be_decrypted_at_any_address() {
    let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for algorithm in [0, 1] {
        let server = Server::with_keys(algorithm);
        for (shift, len) in
            (0..16).zip([0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 64, 100, 255, 999, 1000, 256])
        {
            for (key, piece) in [(&[7_u8; 16][..], usize::MAX), (&[8; 24], 16), (&[9; 32], 100)] {
                let job = Job { key, piece, shift, flags: ENCRYPT | NOPAD, ..Job::default() };
                let hidden = server.crypt(&job, &text[..len]).unwrap();
                assert_eq!(hidden.len(), len);
                assert!(len < 16 || hidden != text[..len]);
                let job = Job { flags: DECRYPT | NOPAD, ..job };
                assert_eq!(server.crypt(&job, &hidden).unwrap(), &text[..len]);

                let job = Job { flags: ENCRYPT, ..job };
                let hidden = server.crypt(&job, &text[..len]).unwrap();
                let expected = if algorithm == 0 { (len / 16 + 1) * 16 } else { len + 16 };
                assert_eq!(hidden.len(), expected);
                // GCM needs its tag in the piece that ends the message.
                let job = Job { flags: DECRYPT, piece: usize::MAX, ..job };
                assert_eq!(
                    server.crypt(&job, &hidden).as_deref(),
                    Ok(&text[..len]),
                    "{len} bytes in pieces of {piece}, key of {}",
                    key.len()
                );
            }
        }
    }
}

#[test]
fn works_in_place_and_where_source_and_target_overlap() {
    // InnoDB decrypts and encrypts compressed pages in place in IMPORT TABLESPACE.
    let text: Vec<u8> = (0..=255).cycle().take(16_338).collect();
    for algorithm in [0, 1] {
        let server = Server::with_keys(algorithm);
        for flags in [ENCRYPT | NOPAD, DECRYPT | NOPAD] {
            for len in [1, 16, 31, 424, 16_338] {
                let job = Job { flags, ..Job::default() };
                let apart = server.crypt(&job, &text[..len]).unwrap();
                for (from, to) in [(32, 32), (32, 31), (32, 16), (16, 32), (31, 32), (0, 40)] {
                    let mut page = vec![0; len + 64];
                    page[from..from + len].copy_from_slice(&text[..len]);
                    server.crypt_within(&job, &mut page, from, to, len);
                    assert!(page[to..to + len] == apart, "{len} bytes from {from} to {to}");
                }
            }
        }
    }
}

#[test]
fn known_answers() {
    // NIST SP 800-38A, F.2.1 and F.5.1.
    let key = bytes("2b7e151628aed2a6abf7158809cf4f3c");
    let text = bytes("6bc1bee22e409f96e93d7e117393172a");
    let iv = bytes("000102030405060708090a0b0c0d0e0f");
    let job = Job { key: &key, iv: &iv, flags: ENCRYPT | NOPAD, ..Job::default() };
    let hidden = Server::with_keys(0).crypt(&job, &text).unwrap();
    assert_eq!(hidden, bytes("7649abac8119b246cee98e9b12e9197d"));
    let iv = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let job = Job { iv: &iv, ..job };
    let hidden = Server::with_keys(1).crypt(&job, &text).unwrap();
    assert_eq!(hidden, bytes("874d6191b620e3261bef6864990db6ce"));
}

#[test]
fn what_cannot_be_encrypted_has_its_code() {
    let server = Server::with_keys(0);
    assert_eq!(server.crypt(&Job { key: &[1; 15], ..Job::default() }, b"x"), Err(BAD_KEY_SIZE));
    assert_eq!(server.crypt(&Job { key: &[], ..Job::default() }, b"x"), Err(BAD_KEY_SIZE));
    assert_eq!(server.crypt(&Job { id: 99, ..Job::default() }, b"x"), Err(FAILED));
    let broken = server.crypt(&Job { flags: DECRYPT, ..Job::default() }, &[6; 32]);
    assert_eq!(broken, Err(BAD_DATA));
    let gcm = Server::with_keys(1);
    let job = Job { flags: DECRYPT, ..Job::default() };
    assert_eq!(gcm.crypt(&job, &[5; 40]), Err(BAD_DATA));
    assert_eq!(gcm.crypt(&job, &[5; 8]), Err(BAD_DATA));
}

#[test]
fn null_pointers_are_refused() {
    let server = Server::with_keys(0);
    let f = server.functions();
    let (init, update, finish) = (f.init.unwrap(), f.update.unwrap(), f.finish.unwrap());
    let (key, iv) = ([7_u8; 16], [9_u8; 16]);
    let mut memory = vec![0_u8; unsafe { f.ctx_size.unwrap()(1, 1) } as usize];
    let context: *mut c_void = memory.as_mut_ptr().cast();
    let null = ptr::null_mut();
    unsafe {
        assert_eq!(init(null, key.as_ptr(), 16, iv.as_ptr(), 16, ENCRYPT, 1, 1), FAILED);
        assert_ne!(init(context, null.cast(), 16, iv.as_ptr(), 16, ENCRYPT, 1, 1), 0);
        assert_ne!(init(context, key.as_ptr(), 16, null.cast(), 16, ENCRYPT, 1, 1), 0);
        let mut length = 77;
        let mut out = [0_u8; 64];
        assert_eq!(update(null, iv.as_ptr(), 16, out.as_mut_ptr(), &raw mut length), FAILED);
        assert_eq!(length, 0);
        assert_eq!(finish(null, out.as_mut_ptr(), &raw mut length), FAILED);
        assert_eq!(init(context, key.as_ptr(), 16, iv.as_ptr(), 16, ENCRYPT, 1, 1), 0);
        assert_eq!(update(context, null.cast(), 16, out.as_mut_ptr(), &raw mut length), FAILED);
        assert_eq!(update(context, null.cast(), 0, null.cast(), &raw mut length), 0);
        assert_eq!(update(context, iv.as_ptr(), 16, out.as_mut_ptr(), ptr::null_mut()), FAILED);
        assert_eq!(finish(context, null.cast(), &raw mut length), FAILED);
    }
}

#[test]
fn lengths_follow_the_cipher() {
    for (algorithm, expected) in [(0, [16, 16, 32, 32, 112]), (1, [16, 31, 32, 33, 116])] {
        let server = Server::with_keys(algorithm);
        let length = server.functions().encrypted_length.unwrap();
        for (source, expected) in [0, 15, 16, 17, 100].into_iter().zip(expected) {
            assert_eq!(unsafe { length(source, 1, 1) }, expected, "{source}");
        }
        // A key that nobody has: long enough for either cipher.
        assert!(unsafe { length(100, 77, 1) } >= 116);
        assert_eq!(unsafe { length(u32::MAX, 77, 1) }, u32::MAX);
    }
}

#[test]
fn status_has_numbers_for_collectors() {
    let server = Server::with_keys(0);
    let status = server.status();
    let value = |name: &str| {
        status.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!((value("state"), value("degraded"), value("degraded_since")), ("ok", "0", "0"));
    assert_eq!((value("keys"), value("key_versions"), value("rotations")), ("3", "3", "0"));
    assert_eq!(value("last_error"), "");
}

#[test]
fn no_thread_is_left_behind() {
    // Other tests of this process open libraries too, so look at a process of its own.
    if std::env::var_os("KEYWARD_TEST_THREADS").is_none() {
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "no_thread_is_left_behind", "--test-threads=1"])
            .env("KEYWARD_TEST_THREADS", "1")
            .status();
        assert!(done.unwrap().success());
        return;
    }
    let server = Server::with_keys(0);
    // A thread takes its name after it has started.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while our_threads() == 0 && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(our_threads(), 1, "the worker");
    server.deinit();
    assert_eq!(our_threads(), 0);
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::env::fake::FakeRng;

#[test]
fn secrets_are_locked_and_not_dumped() {
    let secret = SecretBytes::copy_of(&[0xA5; 32]);
    let flags = vm_flags(secret.at.as_ptr() as usize);
    assert!(flags.contains(&"dd".to_owned()), "{flags:?}");
    assert!(flags.contains(&"lo".to_owned()), "{flags:?}");
}

#[test]
fn freed_memory_is_zero() {
    // Two of a size that no other test uses share a page, so that it stays mapped.
    let anchor = SecretBytes::copy_of(&[1; 1500]);
    let secret = SecretBytes::copy_of(&[0xA5; 1500]);
    let at = secret.at.as_ptr();
    assert_eq!(at as usize / 4096, anchor.at.as_ptr() as usize / 4096);
    drop(secret);
    // SAFETY: the page that `at` lies in stays mapped as long as `anchor` lives.
    let left = unsafe { slice::from_raw_parts(at, 1500) };
    assert!(left.iter().all(|byte| *byte == 0));
}

#[test]
fn a_failed_build_leaves_nothing() {
    let anchor = SecretBytes::copy_of(&[1; 900]);
    let mut at = std::ptr::null::<u8>();
    let failed = SecretBytes::build(900, |bytes| {
        bytes.fill(0xA5);
        at = bytes.as_ptr();
        Err(())
    });
    assert!(failed.is_err());
    // SAFETY: `anchor`, of the same size class, keeps a page of the class mapped; the freed slot is
    // on it.
    assert!(unsafe { slice::from_raw_parts(at, 900) }.iter().all(|byte| *byte == 0));
    drop(anchor);
}

#[test]
fn every_length_gets_its_own_zeroed_aligned_bytes() {
    let mut kept = Vec::new();
    for len in (0..600).chain([1024, 2047, 2048, 2049, 4096, 4097, 65_536, 65_537, 200_000]) {
        let secret = SecretBytes::build(len, |bytes| {
            assert!(bytes.iter().all(|byte| *byte == 0), "{len} bytes");
            bytes.fill(len as u8);
            Ok::<_, ()>(())
        });
        kept.push(secret.unwrap());
    }
    for (nth, secret) in kept.iter().enumerate() {
        let expected = secret.expose().len() as u8;
        assert!(secret.expose().iter().all(|byte| *byte == expected), "secret {nth}");
    }
}

#[test]
fn secrets_survive_a_random_life() {
    let rng = FakeRng::new(7);
    let mut live: Vec<(u8, SecretBytes)> = Vec::new();
    for round in 0..20_000_u32 {
        let mut dice = [0; 4];
        rng.fill(&mut dice).unwrap();
        if dice[0] < 110 && !live.is_empty() {
            let (mark, secret) = live.swap_remove(usize::from(dice[1]) % live.len());
            assert!(secret.expose().iter().all(|byte| *byte == mark), "round {round}");
        } else {
            let len = usize::from(dice[2]) << (dice[3] % 6);
            live.push((dice[1], SecretBytes::copy_of(&vec![dice[1]; len])));
        }
    }
    assert!(live.iter().all(|(mark, secret)| secret.expose().iter().all(|byte| byte == mark)));
}

#[test]
fn a_whole_value_is_locked_aligned_and_dropped() {
    #[repr(align(64))]
    struct Value {
        bytes: [u8; 700],
        _alive: Arc<()>,
    }

    let alive = Arc::new(());
    let mut values: Vec<_> = (0..9)
        .map(|_| Locked::new(Value { bytes: [0; 700], _alive: Arc::clone(&alive) }))
        .collect();
    for (value, n) in values.iter_mut().zip(1..) {
        value.bytes.fill(n);
    }
    for (value, n) in values.iter().zip(1..) {
        let at = std::ptr::from_ref::<Value>(value) as usize;
        assert!(at.is_multiple_of(64) && value.bytes == [n; 700]);
        assert!(vm_flags(at).contains(&"dd".to_owned()));
    }
    assert_eq!(Arc::strong_count(&alive), 10);
    drop(values);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn without_a_right_to_lock_it_goes_on_and_says_so() {
    let status = in_child(|| {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: plain system calls on the test's own child process.
        unsafe {
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit);
            if libc::geteuid() == 0 {
                libc::setuid(65_534);
            }
        }
        // More than what other tests have locked and given back.
        let keys: Vec<_> = (0..100_000).map(|_| SecretBytes::copy_of(&[7; 100])).collect();
        let state = lock_state();
        let flags = vm_flags(keys[99_999].at.as_ptr() as usize);
        state.unlocked > 0
            && state.cause.is_some()
            && state.to_string().contains("LimitMEMLOCK")
            && flags.contains(&"dd".to_owned())
            && keys.iter().all(|key| key.expose() == [7; 100])
    });
    assert_eq!(status, 0);
}

#[test]
fn parent_and_child_keep_their_own_secrets() {
    let secret = SecretBytes::copy_of(&[0xA5; 320]);
    let at = secret.at.as_ptr();
    let status = in_child(|| {
        let flags = vm_flags(at as usize);
        let locked = flags.contains(&"lo".to_owned()) && flags.contains(&"dd".to_owned());
        let shared = flags.contains(&"sh".to_owned());
        let same = secret.expose() == [0xA5; 320];
        // SAFETY: the child's copy of `secret`, which the child's arena gave out and nobody uses now.
        unsafe { arena::free(secret.at, 320) };
        let other = SecretBytes::copy_of(&[0x5A; 320]);
        locked && !shared && same && other.expose() == [0x5A; 320]
    });
    assert_eq!(status, 0);
    assert_eq!(secret.expose(), [0xA5; 320]);
}

#[test]
fn a_child_keeps_what_its_parent_drops() {
    let secret = SecretBytes::copy_of(&[0xA5; 480]);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    // SAFETY: the child only reads, writes a byte, and exits.
    match unsafe { libc::fork() } {
        0 => {
            nix::unistd::read(&reader, &mut [0]).ok();
            let same = secret.expose() == [0xA5; 480];
            // SAFETY: ends the child without running the parent's destructors.
            unsafe { libc::_exit(i32::from(!same)) }
        }
        child => {
            drop(secret);
            let reused = SecretBytes::copy_of(&[1; 480]);
            nix::unistd::write(&writer, &[1]).unwrap();
            assert_eq!(wait_for(child), 0);
            drop(reused);
        }
    }
}

#[test]
fn scrubbing_wipes_the_stack_below() {
    let mark = *b"keyward scrubs!!";
    let wiped = scrubbed(|| leave_on_stack(mark));
    assert_eq!(find_below(wiped, mark), 0);
    let left = leave_on_stack(mark);
    assert_ne!(find_below(left, mark), 0, "the test finds what is not wiped");
}

#[test]
fn scrubbing_nests_and_survives_a_panic() {
    assert_eq!(scrubbed(|| scrubbed(|| 7)), 7);
    assert!(std::panic::catch_unwind(|| scrubbed(|| panic!("on purpose"))).is_err());
    assert_eq!(scrubbed(|| 8), 8);
}

#[test]
fn a_secret_file_is_read_whole() {
    let file = TestFile::new(b"hunter2\r\n", 0o640);
    let secret = read_file(&file.path(), 100).unwrap();
    assert_eq!(secret.expose(), b"hunter2\r\n");
    assert_eq!(source::without_line_end(secret.expose()), b"hunter2");
    assert_eq!(read_file(&TestFile::new(b"", 0o600).path(), 0).unwrap().expose(), b"");
}

#[test]
fn a_secret_file_that_others_reach_is_refused() {
    for (mode, what) in [
        (0o644, "can be read by others; run chmod 0640 "),
        (0o660, "can be written by others; run chmod 0640 "),
        (0o602, "can be written by others; run chmod 0640 "),
    ] {
        let file = TestFile::new(b"hunter2", mode);
        let error = read_file(&file.path(), 100).err().unwrap().to_string();
        assert!(error.contains(what), "{error}");
        assert!(error.contains(&file.path().display().to_string()), "{error}");
        assert!(!error.contains("hunter2"));
    }
}

#[test]
fn what_is_no_secret_file_is_refused() {
    let file = TestFile::new(b"hunter2", 0o600);
    let error = |path: PathBuf, max| read_file(&path, max).err().unwrap().to_string();
    assert!(error(file.path(), 6).contains("has 7 bytes; a secret here has at most 6"));
    assert!(error(file.folder.path().into(), 100).contains("is not a regular file"));
    let missing = error(file.folder.path().join("none"), 100);
    assert!(missing.starts_with("cannot open ") && missing.ends_with("No such file or directory"));
    let pipe = file.folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(error(pipe, 100).contains("is not a regular file"));
}

#[test]
fn keys_have_a_length_within_bounds_and_a_check_value() {
    assert_eq!(DataKey::copy_of(&[]).err().unwrap().kind(), Kind::Config);
    assert_eq!(DataKey::copy_of(&[0; 16_385]).err().unwrap().kind(), Kind::Config);
    let key = DataKey::copy_of(&[0; 16_384]).unwrap();
    assert_eq!(key.expose().len(), DataKey::MAX_LEN);
    // printf 'keyward check value v1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0102...20
    let counting: Vec<u8> = (1..=32).collect();
    let check = DataKey::copy_of(&counting).unwrap().check_value();
    assert_eq!(check.to_string(), CHECK_OF_COUNTING);
}

const CHECK_OF_COUNTING: &str = "07ad1ea1daa0a5a52b85c098d28c1a73";

struct TestFile {
    folder: tempfile::TempDir,
}

impl TestFile {
    fn new(contents: &[u8], mode: u32) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(file.path(), contents).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("secret")
    }
}

/// The exit status of a forked child that runs `work`: 0 if it returned true.
fn in_child(work: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child uses only what the C library makes safe after a fork of many threads
    // (memory, files), and ends by _exit.
    match unsafe { libc::fork() } {
        0 => {
            let fine = work();
            // SAFETY: ends the child without running the parent's destructors.
            unsafe { libc::_exit(i32::from(!fine)) }
        }
        child => wait_for(child),
    }
}

fn wait_for(child: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: waits for our own child and writes to `status` only.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

/// The flags of the mapping at `address`, as `/proc/self/smaps` has them.
fn vm_flags(address: usize) -> Vec<String> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut within = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((from, to)) = range
            && let (Ok(from), Ok(to)) =
                (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            within = (from..to).contains(&address);
        }
        if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| within) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    Vec::new()
}

/// Leaves `mark` all over a stack frame and tells where that was.
#[inline(never)]
fn leave_on_stack(mark: [u8; 16]) -> usize {
    let area = std::hint::black_box([mark; 512]);
    std::hint::black_box(&area).as_ptr() as usize
}

/// How often `mark` stands in the stack around `at`, by way of the kernel, which may read anything.
fn find_below(at: usize, mark: [u8; 16]) -> usize {
    let mut stack = vec![0; 16 * 512];
    let memory = fs::File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut stack, at as u64).unwrap();
    stack.windows(16).filter(|window| *window == mark).count()
}

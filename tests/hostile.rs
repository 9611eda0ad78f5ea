//! Files that somebody prepared: each one that the command reads is cut, repeated, mutated at random, or
//! replaced by what is no file. The command ends by itself, with a code of its own, in bounded memory,
//! and shows no secret. The layer `hostile` runs the same with a command under AddressSanitizer.
//!
//! `KEYWARD_COMMAND` is the command, `KEYWARD_CASES` how many mutations each file gets (1), all the fixed
//! ones besides where there are more than that, `KEYWARD_SEED` the first random number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keyward::env::Rng as _;
use keyward::env::fake::FakeRng;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use tempfile::TempDir;

/// How many mutations a file gets in the run that everybody makes.
const FEW: usize = 1;

/// A call that takes longer hangs, in seconds.
const PATIENCE: &str = "60";

/// What `keyward` ends with; 1 and 2 are failures that it told of.
const CODES: [i32; 6] = [0, 1, 2, 3, 74, 75];

/// The most memory that one call may take, in KiB. Argon2id alone takes 64 MiB, and a sanitizer's
/// shadow as much again.
const MEMORY: i64 = 1 << 20;

/// The calls that read a whole installation.
const CALLS: [&[&str]; 5] = [
    &["status"],
    &["--json", "keys", "list"],
    &["doctor"],
    &["rotate", "1"],
    &["keystore", "accept-rollback", "--dry-run", "--reason", "r"],
];

/// Stands for a file in somebody's place.
type Special = fn(&Path) -> nix::Result<()>;

const SPECIALS: [Special; 7] = [
    |path| mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR),
    |path| linked("/dev/zero", path),
    |path| linked("/dev/stdin", path),
    |path| linked("/proc/self/mem", path),
    |path| linked(path, path),
    |path| fs::create_dir(path).map_err(failed),
    // 4 TiB of nothing.
    |path| File::create(path).and_then(|file| file.set_len(1 << 42)).map_err(failed),
];

fn linked(to: impl AsRef<Path>, path: &Path) -> nix::Result<()> {
    symlink(to, path).map_err(failed)
}

fn failed(error: std::io::Error) -> nix::Error {
    nix::Error::from_raw(error.raw_os_error().unwrap_or(0))
}

#[test]
fn an_installation_of_prepared_files() {
    let bench = Bench::new();
    bench.put_back();
    let output = bench.call(&["status"]);
    assert!(output.status.success(), "as it was: {}", said(&output));
    for file in bench.files() {
        let whole = fs::read(bench.original.join(&file)).unwrap();
        for (n, bytes) in bench.mutations(&whole).into_iter().enumerate() {
            bench.put_back();
            bench.write(&bench.site().join(&file), &bytes);
            bench.runs(&format!("{} mutation {n}", file.display()), CALLS[n % CALLS.len()]);
        }
        for (n, special) in SPECIALS.iter().enumerate() {
            bench.put_back();
            fs::remove_file(bench.site().join(&file)).unwrap();
            special(&bench.site().join(&file)).unwrap();
            bench.runs(&format!("{} special {n}", file.display()), CALLS[n % CALLS.len()]);
        }
    }
    bench.done();
}

#[test]
fn a_data_directory_of_prepared_files() {
    let bench = Bench::new();
    let data = bench.folder.path().join("data");
    let inspect = ["inspect", data.to_str().unwrap()];
    let destroy = ["keys", "destroy", "1", "1", "--datadir", inspect[1]];
    let samples = sorted("tests/golden/inspect").into_iter().filter(|path| !is(path, "json"));
    for sample in samples {
        let whole = fs::read(&sample).unwrap();
        let name = sample.file_name().unwrap();
        for (n, bytes) in bench.mutations(&whole).into_iter().enumerate() {
            empty(&data);
            bench.write(&data.join(name), &bytes);
            bench.runs(&format!("{} mutation {n}", sample.display()), &inspect);
        }
    }
    // A file of 4 TiB is read to its end: that is long, and no fault. Of an .isl it is not.
    for name in ["ibdata1", "t.MAI", "t.MAD", "t.isl", "ib_logfile0", "keyward.mark"] {
        for (n, special) in SPECIALS.iter().enumerate().filter(|(n, _)| *n < 6 || name == "t.isl") {
            for call in [&inspect[..], &destroy] {
                empty(&data);
                fs::copy("tests/golden/inspect/aria.MAD", data.join("u.MAD")).unwrap();
                bench.write(&data.join("ibdata2"), &[1; 4096]);
                special(&data.join(name)).unwrap();
                bench.runs(&format!("{name} special {n}"), call);
            }
        }
    }
    bench.done();
}

#[test]
fn prepared_files_of_other_plugins() {
    let bench = Bench::new();
    let file = bench.folder.path().join("prepared");
    let path = file.to_str().unwrap();
    let served = bench.folder.path().join("served.toml");
    let text = format!("[[provider]]\ntype = \"file\"\npath = {path:?}\n");
    bench.write(&served, text.as_bytes());
    let calls: [(&str, &[&str]); 3] = [
        ("tests/golden/keyfile", &["--config", served.to_str().unwrap(), "keys", "list"]),
        ("tests/golden/keyring", &["import", "--dry-run", "--from-keyring-file", path]),
        ("fuzz/seeds/option_file", &["import", "--dry-run", "--from-mycnf", path]),
    ];
    for (folder, call) in calls {
        // The option files that lead to a network are the fuzz target's alone.
        let here = |path: &PathBuf| !folder.ends_with("option_file") || path.ends_with("key-file");
        for sample in sorted(folder).into_iter().filter(|path| !is(path, "expect") && here(path)) {
            let whole = fs::read(&sample).unwrap();
            for (n, bytes) in bench.mutations(&whole).into_iter().enumerate() {
                bench.write(&file, &bytes);
                bench.runs(&format!("{} mutation {n}", sample.display()), call);
            }
        }
        for (n, special) in SPECIALS.iter().enumerate() {
            fs::remove_file(&file).unwrap();
            special(&file).unwrap();
            bench.runs(&format!("special {n} for {folder}"), call);
            match n {
                5 => fs::remove_dir(&file).unwrap(),
                _ => fs::remove_file(&file).unwrap(),
            }
            bench.write(&file, b"");
        }
    }
    bench.done();
}

/// An installation, a copy of it as it was, and what went wrong so far.
struct Bench {
    folder: TempDir,
    original: PathBuf,
    command: PathBuf,
    secret: Vec<u8>,
    cases: usize,
    rng: FakeRng,
    found: std::cell::RefCell<(usize, Vec<String>)>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let command = std::env::var_os("KEYWARD_COMMAND");
        let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
        let mut bench = Self {
            original: folder.path().join("original"),
            command: command.map_or_else(|| env!("CARGO_BIN_EXE_keyward").into(), PathBuf::from),
            secret: Vec::new(),
            cases: number("KEYWARD_CASES").unwrap_or(FEW),
            rng: FakeRng::new(number("KEYWARD_SEED").unwrap_or(1) as u64),
            found: <_>::default(),
            folder,
        };
        let site = bench.site();
        for call in [
            &["init", "--dir", site.to_str().unwrap()][..],
            &["rotate", "1"],
            &["keys", "create", "3"],
        ] {
            let output = bench.call(call);
            assert!(output.status.success(), "{call:?}: {}", said(&output));
        }
        bench.secret = fs::read(site.join("local.key")).unwrap().trim_ascii_end().to_vec();
        assert!(bench.secret.len() >= 32);
        copy(&site, &bench.original);
        bench
    }

    fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    fn put_back(&self) {
        let _ = fs::remove_dir_all(self.site());
        copy(&self.original, &self.site());
    }

    /// The files of the installation, relative to its folder.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.original.clone()];
        while let Some(folder) = folders.pop() {
            for path in sorted(folder.to_str().unwrap()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(&self.original).unwrap().to_owned()),
                }
            }
        }
        found
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn below(&self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.rng.fill(&mut bytes).unwrap();
        usize::try_from(u64::from_le_bytes(bytes) % end.max(1) as u64).unwrap()
    }

    /// Some mutations of `whole`: fixed ones and random ones.
    fn mutations(&self, whole: &[u8]) -> Vec<Vec<u8>> {
        let mut fixed = fixed(whole);
        let random = (0..self.cases).map(|_| self.mutated(whole)).collect::<Vec<_>>();
        if self.cases <= FEW {
            let first = self.below(fixed.len());
            fixed.rotate_left(first);
            fixed.truncate(self.cases);
        }
        fixed.into_iter().chain(random).collect()
    }

    fn mutated(&self, whole: &[u8]) -> Vec<u8> {
        const MARKS: &[u8] = b"\0\xff\"'{}[]09\n=-:,.\\";
        let mut bytes = if whole.is_empty() { vec![b'x'] } else { whole.to_vec() };
        for _ in 0..1 << self.below(6) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = MARKS[self.below(MARKS.len())],
                2 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                3 => drop(bytes.splice(at..at, (0..self.below(9)).map(|n| MARKS[n]))),
                _ => {
                    let part = bytes[at..(at + 64).min(bytes.len())].to_vec();
                    let to = self.below(bytes.len());
                    drop(bytes.splice(to..to, part));
                }
            }
        }
        bytes
    }

    fn call(&self, words: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg("--signal=KILL").arg(PATIENCE).arg(&self.command);
        if !words.contains(&"--config") {
            command.arg("--config").arg(self.site().join("keyward.toml"));
        }
        command.args(words).stdin(std::process::Stdio::null());
        if geteuid().is_root() {
            command.args(["--user", "root"]);
        }
        command.output().unwrap()
    }

    /// Calls the command, and takes down whatever is wrong with how it ends.
    fn runs(&self, what: &str, words: &[&str]) {
        let output = self.call(words);
        let shows = |part: &[u8]| {
            output.stdout.windows(part.len()).any(|at| at == part)
                || output.stderr.windows(part.len()).any(|at| at == part)
        };
        let ended = output.status.code().is_some_and(|code| CODES.contains(&code));
        let (count, found) = &mut *self.found.borrow_mut();
        *count += 1;
        if !ended || shows(b"panicked") || shows(b"Sanitizer") || shows(&self.secret) {
            let shown: String = said(&output).chars().take(2000).collect();
            found.push(format!("{what}: {words:?}: {}\n{shown}", output.status));
        }
    }

    fn done(self) {
        let (count, found) = self.found.into_inner();
        assert!(found.is_empty(), "{} of {count}:\n{}", found.len(), found.join("\n\n"));
        let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
        assert!(most < MEMORY, "a call took {most} KiB");
        println!("| {count} calls over prepared files, {} MiB at most", most / 1024);
    }
}

/// What is wrong with any file.
fn fixed(whole: &[u8]) -> Vec<Vec<u8>> {
    let repeated = |part: &[u8], times: usize| part.repeat(times);
    vec![
        Vec::new(),
        vec![0; 4096],
        [b"\xff\xfe", whole].concat(),
        whole[..whole.len() / 2].to_vec(),
        whole[..whole.len().saturating_sub(1)].to_vec(),
        [whole, b"\0"].concat(),
        [whole, b"\n", whole].concat(),
        repeated(b"[", 200_000),
        repeated(b"{\"a\":", 100_000),
        repeated(b"[[provider]]\n", 50_000),
        repeated(b"a.", 100_000),
        repeated(b"x", 1 << 20),
        repeated(b"\n", 1 << 20),
        [b"\"", &*repeated(b"\\u0000", 1000)].concat(),
    ]
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn sorted(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn is(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|is| is == ending)
}

fn empty(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).unwrap();
}

/// A folder with all that is in it, modes included.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

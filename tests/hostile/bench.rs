//! An installation, what somebody prepares in it, and how the command ends then.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
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

/// Stands for a file in somebody's place.
pub(crate) type Special = fn(&Path) -> nix::Result<()>;

pub(crate) const SPECIALS: [Special; 8] = [
    |path| mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR),
    |path| linked("/dev/zero", path),
    |path| linked("/dev/stdin", path),
    |path| linked("/proc/self/mem", path),
    |path| linked(path, path),
    |path| fs::create_dir(path).map_err(failed),
    // 4 TiB of nothing.
    |path| File::create(path).and_then(|file| file.set_len(1 << 42)).map_err(failed),
    |path| UnixListener::bind(path).map(drop).map_err(failed),
];

/// Which of them is long.
pub(crate) const SPARSE: usize = 6;

/// How many of them a file is replaced by in the run that everybody makes, another choice for each.
const FEW_SPECIALS: usize = 3;

fn linked(to: impl AsRef<Path>, path: &Path) -> nix::Result<()> {
    symlink(to, path).map_err(failed)
}

fn failed(error: std::io::Error) -> nix::Error {
    nix::Error::from_raw(error.raw_os_error().unwrap_or(0))
}

/// An installation, a copy of it as it was, and what went wrong so far.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) original: PathBuf,
    command: PathBuf,
    secret: Vec<u8>,
    cases: usize,
    rng: FakeRng,
    found: std::cell::RefCell<(usize, Vec<String>)>,
}

impl Bench {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    pub(crate) fn put_back(&self) {
        let _ = fs::remove_dir_all(self.site());
        copy(&self.original, &self.site());
    }

    /// The installation with one more section in its configuration.
    pub(crate) fn with_section(&self, section: &str) {
        self.put_back();
        let path = self.site().join("keyward.toml");
        let text = fs::read_to_string(&path).unwrap();
        self.write(&path, format!("{text}\n{section}").as_bytes());
    }

    /// Calls the command with each thing that somebody may have put in the place of `file`.
    pub(crate) fn in_place_of(&self, file: &Path, call: &[&str]) {
        let whole = fs::read(file).unwrap();
        for (n, bytes) in self.mutations(&whole).into_iter().enumerate() {
            self.write(file, &bytes);
            self.runs(&format!("{} mutation {n}", file.display()), call);
        }
        self.write(file, &whole);
        self.specials_in_place_of(file, call);
    }

    /// The same with what is no such file; it is put back afterwards.
    pub(crate) fn specials_in_place_of(&self, file: &Path, call: &[&str]) {
        let aside = file.with_extension("aside");
        fs::rename(file, &aside).unwrap();
        for n in self.specials() {
            SPECIALS[n](file).unwrap();
            self.runs(&format!("{} special {n}", file.display()), call);
            let _ = fs::remove_file(file).or_else(|_| fs::remove_dir_all(file));
        }
        fs::rename(&aside, file).unwrap();
    }

    /// What a file is replaced by: all, or a few in the run that everybody makes.
    pub(crate) fn specials(&self) -> Vec<usize> {
        let (all, first) = (SPECIALS.len(), self.below(SPECIALS.len()));
        let count = if self.cases <= FEW { FEW_SPECIALS } else { all };
        (first..first + count).map(|n| n % all).collect()
    }

    /// The files of the installation, relative to its folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
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

    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn below(&self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.rng.fill(&mut bytes).unwrap();
        usize::try_from(u64::from_le_bytes(bytes) % end.max(1) as u64).unwrap()
    }

    /// Some mutations of `whole`: fixed ones and random ones.
    pub(crate) fn mutations(&self, whole: &[u8]) -> Vec<Vec<u8>> {
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

    pub(crate) fn call(&self, words: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.arg("--signal=KILL").arg(PATIENCE).arg(&self.command);
        if !words.contains(&"--config") {
            command.arg("--config").arg(self.site().join("keyward.toml"));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}/bin:{path}", self.folder.path().display()));
        command.args(words).stdin(std::process::Stdio::null());
        if geteuid().is_root() {
            command.args(["--user", "root"]);
        }
        command.output().unwrap()
    }

    /// Calls the command, and takes down whatever is wrong with how it ends.
    pub(crate) fn runs(&self, what: &str, words: &[&str]) {
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

    pub(crate) fn done(self) {
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

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn sorted(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub(crate) fn is(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|is| is == ending)
}

pub(crate) fn empty(folder: &Path) {
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

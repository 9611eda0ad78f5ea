//! After the whole journey no share, identity, passphrase or key is where it does not belong: not in arguments or
//! the environment of a process, not in what is printed, in logs or in the trail, not on the disk, and not in the
//! memory of the command that a core file would have.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use keyward::shares::{Collected, passphrase};
use nix::unistd::geteuid;
use test_kit::files;

use crate::Site;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that must be in few places.
struct Secret {
    what: String,
    bytes: Vec<u8>,
    /// The files that are there to hold it.
    files: Vec<PathBuf>,
}

/// Secrets, and all that was seen of processes.
#[derive(Default)]
struct Search {
    secrets: Vec<Secret>,
    seen: Vec<u8>,
}

impl Search {
    fn add(&mut self, what: &str, bytes: impl Into<Vec<u8>>, files: &[PathBuf]) {
        let bytes = bytes.into();
        assert!(bytes.len() >= 16, "{what} is short: it may be anywhere");
        self.secrets.push(Secret { what: what.to_owned(), bytes, files: files.to_owned() });
    }

    /// A key as files and memory may have it.
    fn add_key(&mut self, what: &str, hex: &str, files: &[PathBuf]) {
        self.add(&format!("{what} in hex"), hex.to_ascii_lowercase(), files);
        self.add(&format!("{what} in capitals"), hex.to_ascii_uppercase(), files);
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        self.add(what, bytes, files);
    }

    /// Runs a call and takes down its processes' arguments and environment, and what it prints.
    fn run(&mut self, site: &Site, words: &[&str]) {
        let mut child = started(site, words);
        while child.try_wait().unwrap().is_none() {
            self.look_at(child.id());
            sleep(Duration::from_millis(1));
        }
        self.end(child, words);
    }

    fn end(&mut self, child: Child, words: &[&str]) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", crate::said(&output));
        self.seen.extend(output.stdout);
        self.seen.extend(output.stderr);
    }

    /// Takes down what a process and those below it show of themselves.
    fn look_at(&mut self, process: u32) {
        let folder = PathBuf::from(format!("/proc/{process}"));
        for name in ["cmdline", "environ"] {
            self.seen.extend(fs::read(folder.join(name)).unwrap_or_default());
        }
        let children = fs::read_to_string(folder.join(format!("task/{process}/children")));
        for child in children.unwrap_or_default().split_whitespace() {
            self.look_at(child.parse().unwrap());
        }
    }

    /// Which secrets stand in `bytes`.
    fn found(&self, bytes: &[u8]) -> BTreeSet<usize> {
        // Which pairs of bytes one begins with: all others are passed over at once.
        let mut starts = vec![false; 1 << 16];
        let pair = |two: &[u8]| usize::from(u16::from_le_bytes([two[0], two[1]]));
        self.secrets.iter().for_each(|secret| starts[pair(&secret.bytes)] = true);
        let mut found = BTreeSet::new();
        for at in 0..bytes.len().saturating_sub(1) {
            if starts[pair(&bytes[at..])] {
                let stands = |secret: &Secret| bytes[at..].starts_with(&secret.bytes);
                found.extend((0..self.secrets.len()).filter(|n| stands(&self.secrets[*n])));
            }
        }
        found
    }

    /// Fails where one of the secrets stands in `bytes`.
    fn not_in(&self, place: &str, bytes: &[u8]) {
        let names = self.found(bytes).into_iter().map(|n| &self.secrets[n].what);
        let names: Vec<_> = names.collect();
        assert!(names.is_empty(), "{place} has {names:?}");
    }

    /// Fails where a file at or below `path` has one that it is not there for. Notes which were found where they
    /// belong; how many files were read.
    fn not_on_disk(&self, path: &Path, at_home: &mut BTreeSet<usize>) -> usize {
        let Ok(found) = path.symlink_metadata() else { return 0 };
        if found.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            return entries.map(|entry| self.not_on_disk(&entry.unwrap().path(), at_home)).sum();
        }
        let bytes = if found.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
        for n in self.found(&bytes) {
            let Secret { what, files, .. } = &self.secrets[n];
            assert!(files.iter().any(|file| file == path), "{} has {what}", path.display());
            at_home.insert(n);
        }
        1
    }
}

fn started(site: &Site, words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(site.call(words)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What a core file of a process would have of its memory.
fn dumpable(process: u32) -> Vec<u8> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let (mut found, mut mapping) = (Vec::new(), None);
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        let address = |text| u64::from_str_radix(text, 16).ok();
        if let Some((from, to)) = first.split_once('-')
            && let (Some(from), Some(to)) = (address(from), address(to))
        {
            mapping = Some((from, to));
        } else if let (Some(flags), Some((from, to))) = (line.strip_prefix("VmFlags:"), mapping)
            && !flags.split_whitespace().any(|flag| flag == "dd")
        {
            let mut page = [0; 4096];
            for at in (from..to).step_by(page.len()) {
                if memory.read_exact_at(&mut page, at).is_ok() {
                    found.extend_from_slice(&page);
                }
            }
        }
    }
    found
}

#[test]
fn nothing_secret_is_left_anywhere() {
    let begun = SystemTime::now();
    let (old, new) = (Site::with_keys(), Site::new());
    let mut search = Search::default();
    for line in old.keys("keys").lines().filter(|line| !line.starts_with('#')) {
        let hex = line.rsplit(';').next().unwrap();
        search.add_key(&format!("key {line}"), hex, &[old.path("out/keys")]);
    }
    for site in [&old, &new] {
        let key = site.path("keyward/local.key");
        let hex = fs::read_to_string(&key).unwrap();
        search.add_key("a wrapping key", hex.trim(), &[key]);
    }
    assert!(search.secrets.len() > 20, "{} secrets", search.secrets.len());

    // Two recipients: one person's identity, and one in shares.
    let (identity, fingerprint) = old.identity();
    let text = fs::read_to_string(&identity).unwrap();
    let line = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-PQ-1")).unwrap();
    search.add("an identity", line, &[old.path("identity.txt")]);
    let shared = old.text("shared.age");
    let made = old.ok(&["keystore", "backup", "--identity", &shared, "--shares", "2/3"]);
    let shares: Vec<&str> = made.lines().filter(|line| line.split(' ').count() == 20).collect();
    let mut collected = Collected::default();
    for share in &shares {
        search.add("a share", *share, &[old.path("shares")]);
        collected.add(share.parse().unwrap()).unwrap();
    }
    let words = passphrase(&collected.secret().unwrap()).unwrap();
    search.add("what the shares give", words.expose(), &[]);
    let recipient = made.lines().find_map(|line| line.split("--add-recipient ").nth(1)).unwrap();
    search.run(&old, &["keystore", "backup", "--add-recipient", recipient]);
    fs::write(old.path("words"), "correct horse battery staple\n").unwrap();
    fs::write(old.path("shares"), shares[..2].join("\n")).unwrap();
    for name in ["words", "shares"] {
        fs::set_permissions(old.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        old.readable(name);
    }
    old.readable("shared.age");
    search.add("a passphrase", "correct horse battery staple", &[old.path("words")]);

    let [to, by_words] = ["backup.age", "words.age"].map(|name| old.text(name));
    let (file_of_words, file_of_shares) = (old.text("words"), old.text("shares"));
    search.run(&old, &["keystore", "backup", "--to", &to]);
    search
        .run(&old, &["keystore", "backup", "--to", &by_words, "--passphrase-file", &file_of_words]);
    scheduled(&mut search, &old);
    for name in ["backup.age", "words.age"] {
        old.readable(name);
    }
    let opener = ["--identity", &shared, "--shares", &file_of_shares];
    search.run(&old, &[&["keystore", "drill", &to], &opener[..]].concat());
    search.run(&old, &["keystore", "drill", &by_words, "--passphrase-file", &file_of_words]);
    let known = ["--fingerprint", &fingerprint, "--replace"];
    search.run(&new, &[&["keystore", "restore", &to], &opener[..], &known].concat());
    let data = new.text("");
    search.run(&new, &["keystore", "fork", "--datadir", &data]);
    search.run(&new, &["audit", "show"]);
    search.run(&new, &["status"]);

    assert!(files::count(&search.seen, b"keyward.toml") > 0, "no process was seen");
    search.not_in("arguments, environment or output", &search.seen);
    let mut at_home = BTreeSet::new();
    let read = search.not_on_disk(old.0.path(), &mut at_home);
    let read = read + search.not_on_disk(new.0.path(), &mut at_home);
    assert!(read > 20, "{read} files were read");
    // Each was found where it belongs: the keys, in hexadecimal digits, among them.
    assert!(at_home.len() > 10, "the search is blind: {at_home:?}");
    // Temporary files elsewhere.
    for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_new = |found: fs::Metadata| found.is_file() && found.modified().unwrap() > begun;
            if entry.metadata().is_ok_and(is_new) {
                search.not_on_disk(&entry.path(), &mut at_home);
            }
        }
    }
}

/// A scheduled backup, and its process looked into while its hook runs: then all has been encrypted, and
/// nothing of it is needed any longer.
fn scheduled(search: &mut Search, site: &Site) {
    let (hook, started_by, go) = (site.path("waits"), site.path("hooked/pid"), site.path("go"));
    fs::create_dir(site.path("hooked")).unwrap();
    site.own(&site.path("hooked"));
    let (pid, go_on) = (started_by.display(), go.display());
    let text = format!(
        "#!/bin/sh\necho $PPID > {pid}.new\nmv {pid}.new {pid}\nwhile [ ! -e {go_on} ]; do sleep 0.1; done\n"
    );
    fs::write(&hook, text).unwrap();
    site.own(&hook);
    site.schedule(&format!("hook = \"{}\"", hook.display()));
    let words = ["keystore", "backup", "--due"];
    let child = started(site, &words);
    let until = Instant::now() + PATIENCE;
    while !started_by.exists() {
        assert!(Instant::now() < until, "no hook is called");
        sleep(Duration::from_millis(20));
    }
    search.look_at(child.id());
    // Root alone may look at what is not dumpable.
    if geteuid().is_root() {
        let process: u32 = fs::read_to_string(&started_by).unwrap().trim().parse().unwrap();
        let memory = dumpable(process);
        let known = site.text("keyward");
        assert!(files::count(&memory, known.as_bytes()) > 0, "the search is blind");
        search.not_in("a core file of the command", &memory);
    }
    fs::write(&go, "").unwrap();
    search.end(child, &words);
}

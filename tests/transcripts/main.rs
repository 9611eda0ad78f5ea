//! What the command prints, word for word. Each text in this folder is a session at a terminal:
//!
//! - what comes first says what it shows;
//! - `% LINE` prepares, and must succeed; what it prints is of no matter;
//! - `$ LINE` is the call, and below it what it prints: standard output, then standard error after `! `, then
//!   `[N]` where it ends with the exit code N.
//!
//! Times, ids, hashes and check values stand there as zeros. `KEYWARD_TRANSCRIPTS=write cargo test --test transcripts`
//! writes the texts again: read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What stands for the folder of a session, which has a name of the same length.
const PLACE: &str = "/srv/keyward-1";

const FOLDER: &str = "tests/transcripts";

/// A folder of its own, and a `keyward` that is configured in it.
struct Session {
    folder: tempfile::TempDir,
    bin: tempfile::TempDir,
    repository: PathBuf,
}

impl Session {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("kw-").rand_bytes(6).tempdir_in("/tmp");
        let session = Self {
            folder: folder.unwrap(),
            bin: tempfile::tempdir().unwrap(),
            repository: std::env::current_dir().unwrap(),
        };
        let program = env!("CARGO_BIN_EXE_keyward");
        let config = session.folder.path().join("keyward.toml");
        let script = format!("#!/bin/sh\nexec {program} --config {} \"$@\"\n", config.display());
        let keyward = session.bin.path().join("keyward");
        fs::write(&keyward, script).unwrap();
        fs::set_permissions(&keyward, fs::Permissions::from_mode(0o755)).unwrap();
        session
    }

    fn run(&self, line: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("sh")
            .args(["-c", line])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.bin.path().display()))
            .env("SAMPLES", self.repository.join("tests/golden"))
            .env("COLUMNS", "80")
            .output()
            .unwrap()
    }

    /// What a reader sees of what was printed.
    fn plain(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let text = text.replace(self.folder.path().to_str().unwrap(), PLACE);
        let text = text.replace(self.repository.to_str().unwrap(), "/src/keyward");
        zeroed(&text.replace(&format!(" on {}", keyward::mark::host()), " on db1"))
    }
}

/// The text with zeros where another run has something else.
fn zeroed(text: &str) -> String {
    let mut zeroed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let begins_word = !zeroed.ends_with(|c: char| c.is_ascii_alphanumeric());
        let (len, instead) = match begins_word {
            true => changing(rest).unwrap_or((first.len_utf8(), first.to_string())),
            false => (first.len_utf8(), first.to_string()),
        };
        zeroed += &instead;
        rest = &rest[len..];
    }
    zeroed
}

/// What `text` begins with that is another in each run: its length, and what to show.
fn changing(text: &str) -> Option<(usize, String)> {
    const TIME: &str = "0000-00-00T00:00:00Z";
    let begins = |pattern: &str| {
        let like = |(byte, wanted): (u8, u8)| match wanted {
            b'0' => byte.is_ascii_hexdigit(),
            _ => byte == wanted,
        };
        text.len() >= pattern.len() && text.bytes().zip(pattern.bytes()).all(like)
    };
    for pattern in [TIME, "00000000-0000-0000-0000-000000000000"] {
        if begins(pattern) {
            return Some((pattern.len(), pattern.to_owned()));
        }
    }
    if text.starts_with("age1pq1") {
        let word = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
        return Some((word, "age1pq1...".to_owned()));
    }
    let run = |is: fn(&u8) -> bool| text.bytes().take_while(is).count();
    let hex = run(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let digits = run(u8::is_ascii_digit);
    let ends = |at: usize| !text[at..].starts_with(|c: char| c.is_ascii_alphanumeric());
    if hex >= 8 && ends(hex) && (hex > digits || hex >= 16) {
        return Some((hex, "0".repeat(hex)));
    }
    if digits > 0 && text[digits..].starts_with(" ms") {
        return Some((digits + 3, "0 ms".to_owned()));
    }
    // An age or a duration of seconds.
    if digits > 0 && text[digits..].starts_with("s ") {
        return Some((digits + 1, format!("{:<1$}", "0s", digits + 1)));
    }
    None
}

/// The calls of a transcript run again, each with what it prints now.
fn again(transcript: &str) -> String {
    let session = Session::new();
    let mut text = String::new();
    let mut in_answer = false;
    for line in transcript.lines() {
        if let Some(call) = line.strip_prefix("% ") {
            let done = session.run(call);
            assert!(done.status.success(), "{call}: {}", String::from_utf8_lossy(&done.stderr));
            text += &format!("{line}\n");
            in_answer = true;
        } else if let Some(call) = line.strip_prefix("$ ") {
            text += &format!("{line}\n{}", answer(&session, call));
            in_answer = true;
        } else if !in_answer {
            text += &format!("{line}\n");
        }
    }
    text
}

fn answer(session: &Session, call: &str) -> String {
    let output = session.run(call);
    let mut text = session.plain(&output.stdout);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in session.plain(&output.stderr).lines() {
        text += format!("! {line}").trim_end();
        text.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        code => text += &format!("[{}]\n", code.unwrap_or(-1)),
    }
    text
}

fn transcripts() -> Vec<PathBuf> {
    let files = fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path());
    let mut texts: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|is| is == "txt")).collect();
    texts.sort();
    texts
}

#[test]
fn the_command_prints_what_the_transcripts_say() {
    let writes = std::env::var_os("KEYWARD_TRANSCRIPTS").is_some_and(|value| value == "write");
    let all = transcripts();
    assert!(all.len() >= 60, "only {} transcripts", all.len());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let check = |share: &[PathBuf]| {
            share.iter().filter_map(|path| differs(path, writes)).collect::<Vec<_>>()
        };
        let share = all.len().div_ceil(workers);
        let threads: Vec<_> =
            all.chunks(share).map(|share| scope.spawn(move || check(share))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a transcript differs from what is printed now.
fn differs(path: &Path, writes: bool) -> Option<String> {
    let before = fs::read_to_string(path).unwrap();
    let now = again(&before);
    if before == now {
        return None;
    }
    if writes {
        fs::write(path, now).unwrap();
        return None;
    }
    Some(format!("{}: was\n{before}\nis\n{now}", path.display()))
}

#[test]
fn what_changes_from_run_to_run_is_zeroed() {
    for (text, wanted) in [
        ("at 2026-11-30T18:39:52Z, 12s ago", "at 0000-00-00T00:00:00Z, 0s  ago"),
        ("id 4bcd5b16-d29a-4829-b35e-1c5fa879ffbe.", "id 00000000-0000-0000-0000-000000000000."),
        ("check 36fe5b368b1a606ad49ace36526d8510", "check 00000000000000000000000000000000"),
        ("sed '1s/a//', 7s , 3", "sed '1s/a//', 0s , 3"),
        ("1048576 bytes, aes-256-ctr, decade", "1048576 bytes, aes-256-ctr, decade"),
    ] {
        assert_eq!(zeroed(text), wanted);
    }
}

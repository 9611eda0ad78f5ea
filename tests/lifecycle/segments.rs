//! `keyward audit` on a trail of several files.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keyward::assemble;
use keyward::config::Config;
use keyward::env::fake::{FakeClock, FakeLog};
use keyward::env::{Clock as _, Env, System};
use keyward::event::Trail;
use keyward::key::KeyId;
use keyward::source::{Reason, Role, Which};

use crate::command::Shell;

const SEGMENTS: &str = "[audit]\nsegment_size = \"4KiB\"\n";

fn trail(shell: &Shell) -> Trail {
    Trail::beside(&shell.path("keystore/keystore.json"))
}

fn files(shell: &Shell) -> usize {
    trail(shell).files().len()
}

fn rotate(shell: &Shell, times: usize) {
    for _ in 0..times {
        let rotated =
            shell.run(&["rotate", "1", "--reason", "a long reason, so that a file is full soon"]);
        assert!(rotated.code == 0 && rotated.err.is_empty(), "{rotated:?}");
    }
}

fn ok(shell: &Shell, words: &[&str]) -> String {
    let answer = shell.run(words);
    assert!(answer.code == 0 && answer.err.is_empty(), "{words:?}: {answer:?}");
    answer.out
}

#[test]
fn every_command_goes_from_file_to_file() {
    let shell = Shell::new();
    rotate(&shell, 8);
    const EXPORTS: [&[&str]; 5] = [
        &["audit", "export"],
        &["audit", "export", "--format", "csv"],
        &["audit", "export", "--format", "ocsf"],
        &["audit", "show", "--json", "--key", "1"],
        &["audit", "show", "--event", "rotated"],
    ];
    let one_file: Vec<_> = EXPORTS.iter().map(|words| ok(&shell, words)).collect();
    assert_eq!(files(&shell), 1);
    shell.configure(SEGMENTS);
    let before = ok(&shell, &["audit", "export"]);
    rotate(&shell, 1);
    assert_eq!(files(&shell), 2, "what was written before is one file");
    rotate(&shell, 20);
    assert!(files(&shell) >= 4, "{}", files(&shell));
    // What came before is told as before.
    for (words, before) in EXPORTS.iter().zip(&one_file) {
        let now = ok(&shell, words);
        let before = before.trim_end().trim_end_matches(']').trim_end();
        assert!(now.starts_with(before), "{words:?}:\n{before}\n\n{now}");
    }
    let text: String =
        trail(&shell).files().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(ok(&shell, &["audit", "export"]), text);
    assert!(text.starts_with(&before));
    let lines = text.lines().count();
    let verified = ok(&shell, &["audit", "verify"]);
    let words = format!("{lines} lines, up to {lines}, each chained to the one before\n");
    assert!(verified.starts_with(&words), "{verified}");
    assert_eq!(ok(&shell, &["audit", "show", "--last", "30"]).lines().count(), 31);
    // The same trail in one file is reported on as the same.
    let report = |shell: &Shell| {
        let report: serde_json::Value =
            serde_json::from_str(&shell.run(&["report", "--format", "json"]).out).unwrap();
        let trail = report["servers"][0]["trail"].clone();
        assert_eq!(trail["faults"], serde_json::json!([]), "{trail}");
        (trail["lines"].clone(), trail["events"].clone(), trail["last"].clone())
    };
    let of_segments = report(&shell);
    let all = trail(&shell).files();
    all.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    std::fs::write(shell.path("keystore/audit.jsonl"), &text).unwrap();
    assert_eq!(report(&shell), of_segments);
    assert_eq!(ok(&shell, &["audit", "verify"]), verified);
}

#[test]
fn a_trail_is_followed_from_file_to_file() {
    let shell = Shell::new();
    shell.configure(SEGMENTS);
    let mut following = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .arg("--config")
        .arg(shell.config())
        .args(["audit", "show", "--follow", "--event", "rotated"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..4 {
        rotate(&shell, 5);
        std::thread::sleep(Duration::from_millis(1_200));
    }
    assert!(files(&shell) >= 3, "{}", files(&shell));
    std::thread::sleep(Duration::from_millis(1_500));
    following.kill().unwrap();
    let mut shown = String::new();
    following.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    following.wait().unwrap();
    let is_rotated = |line: &&str| line.contains("rotated");
    assert_eq!(shown.lines().filter(is_rotated).count(), 20, "{shown}");
}

/// What stopped every change once is reported, and goes on in another file.
#[test]
fn a_damaged_end_is_set_aside_and_reported() {
    let shell = Shell::new();
    rotate(&shell, 2);
    let written = shell.path("keystore/audit.jsonl");
    let text = std::fs::read_to_string(&written).unwrap();
    std::fs::write(&written, text.clone() + "spilt\n").unwrap();
    let rotated = shell.run(&["rotate", "1"]);
    let lines = text.lines().count();
    let name = format!("audit.000000000001-{:012}.damaged-1.jsonl", lines + 1);
    assert!(
        rotated.code == 0 && rotated.err.contains(&format!("the file is kept as {name}")),
        "{rotated:?}"
    );
    assert!(shell.path("keystore").join(&name).exists());
    rotate(&shell, 1);
    let verified = shell.run(&["audit", "verify"]);
    let words = format!("WRONG  line {} of {name} is none that keyward wrote\n", lines + 1);
    assert!(verified.code == 1 && verified.out.starts_with(&words), "{verified:?}");
    assert_eq!(verified.out.matches("WRONG").count(), 1, "{verified:?}");
    let doctor = shell.run(&["doctor"]);
    assert!(doctor.out.contains("FAIL  audit trail: line "), "{doctor:?}");
    let shown = shell.run(&["audit", "show"]);
    assert_eq!(shown.out.lines().count(), 1 + lines + 4, "{shown:?}");
}

/// Ten days between two rotations, then the command of today.
#[test]
fn a_checkpoint_of_a_line_that_went_by_policy_is_told_apart() {
    let shell = Shell::new();
    let folder = shell.path("keystore");
    let keep = |name: &str| name.ends_with(".key");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if !keep(path.to_str().unwrap()) {
            std::fs::remove_file(path).unwrap();
        }
    }
    shell.configure("[audit]\nkeep = \"90d\"\n");
    let now = System.now().as_unix();
    let clock = Arc::new(FakeClock::at(keyward::env::Timestamp::from_unix(now - 300 * 86_400)));
    let log = Arc::new(FakeLog::default());
    let env = Env { clock: clock.clone(), ..Env::system(log.clone()) };
    let config = Config::load(&shell.config()).unwrap();
    let reason = Reason { actor: "test", text: "because" };
    assemble::create_keystore(&config, reason, &env).unwrap();
    let custodian = assemble::start(&config, Role::Command, env).unwrap();
    let mut checkpoints = Vec::new();
    for _ in 0..29 {
        clock.advance(Duration::from_secs(10 * 86_400));
        custodian.rotate(Which::One(KeyId::SYSTEM), reason).unwrap();
        checkpoints.push(custodian.manager().unwrap().checkpoint().unwrap());
    }
    drop(custodian);
    let (early, late) = (shell.path("early"), shell.path("late"));
    std::fs::write(&early, &checkpoints[2]).unwrap();
    std::fs::write(&late, &checkpoints[28]).unwrap();
    let verify = |file: &std::path::Path| {
        shell.run(&["audit", "verify", "--checkpoint", file.to_str().unwrap()])
    };
    let before = verify(&early);
    assert!(before.code == 0 && before.out.contains("it has line "), "{before:?}");
    let whole = ok(&shell, &["audit", "export"]);
    ok(&shell, &["rotate", "--due"]);
    let left = ok(&shell, &["audit", "export"]);
    assert!(left.lines().count() < whole.lines().count(), "{left}");
    let shortened = ok(&shell, &["audit", "show", "--event", "trail-shortened"]);
    assert!(shortened.contains("are older than 90d"), "{shortened}");
    let after = verify(&early);
    assert_eq!(after.code, 0, "{after:?}");
    assert!(
        after.out.contains("of which DIR/early is a checkpoint, was removed by policy"),
        "{after:?}"
    );
    assert!(after.out.contains(", lines were removed by policy\n"), "{after:?}");
    let late = verify(&late);
    assert!(late.code == 0 && late.out.contains("it has line "), "{late:?}");
    let doctor = shell.run(&["doctor"]);
    assert!(doctor.out.contains("ok    audit trail: "), "{doctor:?}");
    // Another deletion is another thing.
    let first = trail(&shell).files().remove(0);
    std::fs::remove_file(first).unwrap();
    let gone = shell.run(&["audit", "verify"]);
    assert!(gone.code == 1 && gone.out.contains(" are missing"), "{gone:?}");
    let shown = shell.run(&["audit", "show"]);
    assert!(shown.err.contains("the audit trail is not whole"), "{shown:?}");
}

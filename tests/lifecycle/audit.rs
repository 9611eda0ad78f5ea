//! `keyward audit`: what the trail tells, and that whoever changes it is noticed.

use crate::command::Shell;

fn trail(shell: &Shell) -> std::path::PathBuf {
    shell.path("keystore/audit.jsonl")
}

fn rewrite(shell: &Shell, change: impl FnOnce(&str) -> String) {
    let text = std::fs::read_to_string(trail(shell)).unwrap();
    std::fs::write(trail(shell), change(&text)).unwrap();
}

#[test]
fn a_trail_is_whole_until_somebody_changes_it() {
    let shell = Shell::new();
    shell.run(&["rotate", "1", "--reason", "first of January"]);
    shell.run(&["rotate", "1", "--reason", "second of January"]);
    let whole = shell.run(&["audit", "verify"]);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.out.contains("each chained to the one before"), "{whole:?}");
    assert!(whole.out.contains("; 1 line after it is not anchored yet"), "{whole:?}");
    let text = std::fs::read_to_string(trail(&shell)).unwrap();

    let count = text.lines().count();
    rewrite(&shell, |text| text.replace("first of January", "first of jANUARY"));
    let edited = shell.run(&["audit", "verify"]);
    assert!(
        edited.code == 1 && edited.out.contains("does not follow the one before"),
        "{edited:?}"
    );
    let doctor = shell.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.out.contains("FAIL  audit trail: line "), "{doctor:?}");
    let shown = shell.run(&["audit", "show"]);
    assert!(shown.code == 0 && shown.err.contains("the audit trail is not whole"), "{shown:?}");

    rewrite(&shell, |_| text.lines().take(count - 2).map(|line| format!("{line}\n")).collect());
    let cut = shell.run(&["audit", "verify"]);
    let words = format!("the trail ends too early: line {} is missing", count - 1);
    assert!(cut.code == 1 && cut.out.contains(&words), "{cut:?}");
    // The next change is made, goes on after it and says so; what is missing stays missing.
    let rotated = shell.run(&["rotate", "1"]);
    let gone =
        format!("audit trail line {} is missing, and it goes on with line {count}", count - 1);
    assert!(rotated.code == 0 && rotated.err.contains(&gone), "{rotated:?}");
    let after = shell.run(&["audit", "verify"]);
    assert!(
        after.code == 1 && after.out.contains(&format!("line {} is missing", count - 1)),
        "{after:?}"
    );

    std::fs::remove_file(trail(&shell)).unwrap();
    let removed = shell.run(&["audit", "verify"]);
    assert!(removed.code == 1 && removed.out.contains("the trail ends too early"), "{removed:?}");
    // A keystore that was restored without its trail looks so.
    let doctor = shell.run(&["doctor"]);
    assert!(doctor.out.contains("warn  audit trail: the trail ends too early"), "{doctor:?}");
}

#[test]
fn lines_are_shown_and_exported_by_what_they_are_about() {
    let shell = Shell::new();
    shell.run(&["keys", "create", "7"]);
    shell.run(&["rotate", "7", "--reason", "=1+1, \"yearly\""]);
    let shown = |words: &[&str]| {
        let answer = shell.run(&[&["audit", "show"], words].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    };
    let of_key = shown(&["--key", "7"]);
    assert_eq!(of_key.lines().count(), 5, "{of_key}");
    assert!(of_key.contains("rotated") && of_key.contains("key 7 version 3"), "{of_key}");
    assert_eq!(shown(&["--key", "7", "--event", "rotated"]).lines().count(), 2);
    assert_eq!(shown(&["--since", "1h", "--last", "2"]).lines().count(), 3);
    assert_eq!(shown(&["--until", "2020-01-01T00:00:00Z"]).lines().count(), 1);
    assert_eq!(shown(&["--actor", "nobody of that name"]).lines().count(), 1);
    shell.fails(
        &["audit", "show", "--event", "turned"],
        2,
        "error: invalid value 'turned' for '--event <EVENT>': \"turned\" is no event of the trail\n\n\
         For more information, try '--help'.",
    );

    let export = |words: &[&str]| shell.run(&[&["audit", "export"], words].concat()).out;
    assert_eq!(export(&[]), std::fs::read_to_string(trail(&shell)).unwrap());
    let csv = export(&["--format", "csv", "--key", "7", "--event", "rotated"]);
    assert!(csv.starts_with("number,at,event,generation,keys,actor,reason,previous\n"), "{csv}");
    assert!(csv.contains(",\"key 7 version 3\",\""), "{csv}");
    let ocsf = export(&["--format", "ocsf"]);
    assert_eq!(ocsf.lines().count(), export(&[]).lines().count());
    let last: serde_json::Value = serde_json::from_str(ocsf.lines().last().unwrap()).unwrap();
    assert_eq!((&last["class_uid"], &last["activity_id"]), (&3004.into(), &3.into()), "{last}");
    assert_eq!(last["raw_data"], export(&[]).lines().last().unwrap());
    assert!(csv.contains(",\"'=1+1, \"\"yearly\"\"\","), "{csv}");
}

#[test]
fn a_checkpoint_kept_elsewhere_shows_what_the_keystore_cannot() {
    let shell = Shell::new();
    shell.run(&["rotate", "1"]);
    let folder = shell.path("keystore");
    let before: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .collect();
    shell.run(&["rotate", "1"]);
    let note = shell.run(&["audit", "checkpoint"]);
    assert!(note.code == 0 && note.out.starts_with("keyward/audit/"), "{note:?}");
    let kept = shell.path("checkpoint");
    std::fs::write(&kept, &note.out).unwrap();
    let kept = kept.to_str().unwrap();
    let verify = || shell.run(&["audit", "verify", "--checkpoint", kept]);
    let whole = verify();
    assert!(
        whole.code == 0 && whole.out.contains("of which DIR/checkpoint is a checkpoint"),
        "{whole:?}"
    );
    shell.run(&["rotate", "1"]);
    assert_eq!(verify().code, 0, "the trail has grown");

    // Keystore, guard and trail are all put back to one older time.
    for (bytes, path) in &before {
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(shell.run(&["audit", "verify"]).code, 0, "they agree");
    let rolled_back = verify();
    let words = "WRONG  by DIR/checkpoint: the trail ends too early: ";
    assert!(rolled_back.code == 1 && rolled_back.out.contains(words), "{rolled_back:?}");
    shell.run(&["rotate", "1", "--reason", "another life"]);
    let other = verify();
    let words = "WRONG  by DIR/checkpoint: line ";
    assert!(other.code == 1 && other.out.contains(words), "{other:?}");

    std::fs::write(shell.path("checkpoint"), note.out.replacen("\n", "\n1", 1)).unwrap();
    let forged = verify();
    assert!(forged.code == 1 && forged.err.contains("has signed the checkpoint"), "{forged:?}");
    let key = shell.run(&["audit", "checkpoint", "--key"]);
    assert!(key.out.starts_with("keyward/audit/") && key.out.contains('+'), "{key:?}");
}

#[test]
fn checkpoints_come_by_themselves() {
    let shell = Shell::new();
    let file = shell.path("keystore/audit.checkpoint");
    shell.run(&["rotate", "1"]);
    assert!(!file.exists(), "a day has not passed, nor 1,000 lines");
    shell.configure("[audit]\ncheckpoint_lines = 3\n");
    shell.run(&["rotate", "1", "--reason", "first of January"]);
    let first = std::fs::read_to_string(&file).unwrap();
    let shown = shell.run(&["audit", "show", "--event", "checkpointed"]).out;
    let number = first.lines().nth(1).unwrap();
    assert!(shown.ends_with(&format!("line {number} is signed\n")), "{shown}");
    // What a sink receives is the checkpoint as it is.
    let export = shell.run(&["audit", "export", "--event", "checkpointed"]).out;
    let line: serde_json::Value = serde_json::from_str(&export).unwrap();
    assert_eq!(line["reason"], first.as_str());
    let kept = shell.path("kept");
    std::fs::write(&kept, &first).unwrap();
    let verify = || shell.run(&["audit", "verify", "--checkpoint", kept.to_str().unwrap()]);
    assert_eq!(verify().code, 0);
    shell.run(&["rotate", "1"]);
    shell.run(&["rotate", "1"]);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), first);
    rewrite(&shell, |text| text.replace("first of January", "first of jANUARY"));
    assert_eq!(verify().code, 1);
}

//! What is no approval, each with the line that says so.

use std::fs;
use std::process::Command;
use std::time::Duration;

use keyward::Error;
use keyward::event::Event;
use keyward::key::KeyId;
use keyward::manager::{Destruction, Judged, StateChange};
use keyward::source::{Reason, Which};

use crate::bench::{Bench, CAROL, key};

const DAY: Duration = Duration::from_secs(86_400);

#[track_caller]
fn refused<T>(outcome: Result<T, Error>, words: &[&str]) {
    let text = outcome.err().expect("it was taken").to_string();
    for word in words {
        assert!(text.contains(word), "{word:?}: {text}");
    }
}

#[test]
fn two_good_approvals_do_it_and_the_trail_says_whose() {
    let bench = Bench::new();
    let generation = bench.custodian.status().generation;
    let error = bench.plan().unwrap_err();
    let request = bench.waits(bench.plan());
    let (short, file) = (request.request.short(), request.path.display().to_string());
    assert_eq!(
        error.to_string(),
        format!(
            "2 approvals are needed to destroy a key version, and there are 0: request {short}, until 2023-11-15T22:13:20Z; \
             each approver reads {file} and signs it: ssh-keygen -Y sign -n keyward-approval-v1 -f KEY FILE; \
             `keyward approve {short} FILE.sig` takes the signatures, and then give the same command again"
        )
    );
    assert_eq!(bench.custodian.status().generation, generation, "to ask changes no key");
    for line in [
        "action: destroy",
        "requester: carol (sudo, uid 0) on db1",
        "reason: the customer left",
        "approvals: 2 of 3",
        "made: 2023-11-14T22:13:20Z",
        "ends: 2023-11-15T22:13:20Z",
    ] {
        assert!(request.text.lines().any(|one| one == line), "{line}: {}", request.text);
    }
    assert!(request.text.contains("target: key 1 version 1, aes-256-ctr, retired, made "));
    let own = bench.people.key("carol").fingerprint();
    assert!(request.text.contains(&format!("requester's key: carol ({own})\n")));

    bench.with_both(|| bench.plan());
    let pending = bench.custodian.manager().unwrap().pending_destructions();
    assert_eq!(pending.len(), 1);
    let events: Vec<_> = bench.trail().iter().map(|line| line.event).collect();
    let count = |event: Event| events.iter().filter(|one| **one == event).count();
    assert_eq!((count(Event::ApprovalRequested), count(Event::ApprovalGiven)), (1, 2));
    let approved = bench.last(Event::Approved).reason;
    for name in ["alice", "bob"] {
        let whose = format!("{name} ({})", bench.people.key(name).fingerprint());
        assert!(approved.contains(&whose), "{approved}");
    }
    assert!(approved.contains(&request.request.id.to_string()), "{approved}");
    assert!(!request.path.exists() && request.path.with_extension("done").exists());
    let manager = bench.custodian.manager().unwrap();
    let used = &manager.contents().unwrap().registers().used_approvals;
    assert_eq!((used.len(), used[0].expires), (1, request.request.ends));
}

#[test]
fn one_approver_alone_is_not_enough_however_often() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    bench.approved_by(&request, "alice").unwrap();
    refused(bench.approved_by(&request, "alice"), &["alice (SHA256:", "has approved", "already"]);
    let again = bench.waits(bench.plan());
    assert_eq!((again.request.id, again.approvers.len()), (request.request.id, 1));
    // Copied next to it under other names, it is still hers.
    let signature = bench.people.sign("alice", request.text.as_bytes());
    for name in ["x", "y", "request"] {
        let copy = request.path.with_extension(format!("{name}.sig"));
        fs::write(copy, &signature).unwrap();
    }
    assert_eq!(bench.waits(bench.plan()).approvers.len(), 1);
    bench.approved_by(&request, "bob").unwrap();
    bench.plan().unwrap();
}

#[test]
fn a_changed_byte_is_another_request() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    // In what an approver was given.
    let other = request.text.replace("key 1 version 1", "key 1 version 3");
    let signature = bench.people.sign("alice", other.as_bytes());
    refused(bench.approve(&request, &signature), &["alice (SHA256:", "signed something else"]);
    // In the file, with signatures that fit it.
    for (text, word) in [
        (other.clone(), "its seal is over another text"),
        (request.text.replace("requester: carol", "requester: caro1"), "its seal"),
        (request.text.replace("\nreason: ", "\nreason:  "), "its seal"),
    ] {
        fs::write(&request.path, &text).unwrap();
        for name in ["alice", "bob"] {
            let copy = request.path.with_extension(format!("{name}.sig"));
            fs::write(copy, bench.people.sign(name, text.as_bytes())).unwrap();
        }
        let signature = bench.people.sign("alice", text.as_bytes());
        refused(bench.approve(&request, &signature), &["cannot be approved", word]);
        let new = bench.waits(bench.plan());
        assert_ne!(new.request.id, request.request.id);
        assert!(new.approvers.is_empty());
    }
    fs::write(&request.path, request.text.replace("epoch: 1", "epoch: 01")).unwrap();
    refused(bench.approved_by(&request, "alice"), &["no request as keyward wrote it"]);
}

#[test]
fn a_request_ends_after_a_day() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    bench.approved_by(&request, "alice").unwrap();
    bench.clock.advance(DAY - Duration::from_secs(1));
    bench.approved_by(&request, "bob").unwrap();
    bench.clock.advance(Duration::from_secs(1));
    let words = ["request", "it ended on 2023-11-15T22:13:20Z"];
    refused(bench.approved_by(&request, "bob"), &[&words[..], &["cannot be approved"]].concat());
    let error = bench.plan().unwrap_err();
    refused(Err::<(), _>(error), &[&words[..], &["no longer counts", "there are 0"]].concat());
    assert!(!request.path.exists(), "it is removed");
    let new = bench.waits(bench.plan());
    assert_ne!(new.request.id, request.request.id);
    bench.with_both(|| bench.plan());
}

#[test]
fn approvals_are_of_one_keystore_and_for_once() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    bench.approved_by(&request, "alice").unwrap();
    bench.approved_by(&request, "bob").unwrap();
    let folder = request.path.parent().unwrap();
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3);

    // On another keystore with the same approvers.
    let mut other = Bench::of(9);
    other.people = bench.people.clone();
    other.set(&["alice", "bob", "carol"], 2).unwrap();
    let theirs = other.path("approvals");
    fs::create_dir(&theirs).unwrap();
    let copy = |from: &[std::path::PathBuf], to: &std::path::Path| {
        for file in from {
            fs::copy(file, to.join(file.file_name().unwrap())).unwrap();
        }
    };
    copy(&files, &theirs);
    refused(other.approved_by(&request, "alice"), &["it is of keystore", "and this is"]);
    assert!(other.waits(other.plan()).approvers.is_empty());
    assert!(other.custodian.manager().unwrap().pending_destructions().is_empty());

    // On the same keystore later.
    let kept = other.path("kept");
    fs::create_dir(&kept).unwrap();
    copy(&files, &kept);
    bench.plan().unwrap();
    let cancel = Destruction::Cancel(key(1, 1));
    bench.custodian.manager().unwrap().destroy(&cancel, &Judged::default(), CAROL).unwrap();
    let kept: Vec<_> = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    copy(&kept, &bench.path("approvals"));
    refused(
        bench.approved_by(&request, "alice"),
        &["cannot be approved", "it was carried out already"],
    );
    refused(bench.plan(), &["no longer counts", "it was carried out already", "there are 0"]);
    assert!(bench.custodian.manager().unwrap().pending_destructions().is_empty());
}

#[test]
fn signatures_for_other_purposes_and_by_other_keys_are_none() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    let (people, text) = (&bench.people, request.text.as_bytes());
    let file = people.sign_for("alice", "file", text);
    refused(
        bench.approve(&request, &file),
        &["made for \"file\", not for \"keyward-approval-v1\""],
    );
    people.make("rsa", &["rsa", "-b", "2048"]);
    refused(
        bench.approve(&request, &people.sign("rsa", text)),
        &["a key of kind ssh-rsa", "-t ed25519"],
    );
    people.make("ecdsa", &["ecdsa"]);
    let ecdsa = people.sign("ecdsa", text);
    refused(bench.approve(&request, &ecdsa), &["a key of kind ecdsa-sha2-nistp256"]);
    people.key("mallory");
    let stranger = people.sign("mallory", text);
    let whose = people.key("mallory").fingerprint();
    refused(bench.approve(&request, &stranger), &[&whose, "the key of no approver"]);
    let own = people.sign("carol", text);
    refused(bench.approve(&request, &own), &["carol (SHA256:", "asked for request", "by others"]);
    refused(bench.approve(&request, b"LGTM"), &["no file that `ssh-keygen -Y sign` made"]);
    refused(bench.approve(&request, &people.sign("alice", b"")), &["signed something else"]);
    assert!(bench.waits(bench.plan()).approvers.is_empty());
}

#[test]
fn a_certificate_is_no_key() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    let people = &bench.people;
    people.make("authority", &["ed25519"]);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-I", "alice", "-n", "alice", "-s"]).arg(people.path("authority"));
    assert!(keygen.arg(people.path("alice.pub")).status().unwrap().success());
    let line = fs::read_to_string(people.path("alice-cert.pub")).unwrap();
    refused(line.parse::<keyward::approval::PublicKey>(), &["it is a certificate"]);
    let signature = crate::authenticator::by_certificate(&line, request.text.as_bytes());
    refused(bench.approve(&request, signature.as_bytes()), &["it is a certificate"]);
}

#[test]
fn who_asks_does_not_approve_and_must_leave_enough_others() {
    let bench = Bench::new();
    let bob = Reason { actor: "bob on db1", text: "r" };
    let request = bench.waits(bench.plan_as(bob));
    refused(bench.approved_by(&request, "bob"), &["bob (SHA256:", "asked for request"]);
    bench.approved_by(&request, "alice").unwrap();
    bench.approved_by(&request, "carol").unwrap();
    // Whoever gives the command then is not who asked.
    bench.plan().unwrap();

    let bench = Bench::of(4);
    bench.set(&["alice", "bob"], 2).unwrap();
    refused(bench.plan_as(bob), &["besides whoever asks there are 1", "who is no approver"]);
    bench.waits(bench.plan());
}

#[test]
fn another_generation_is_no_hindrance_but_a_changed_target_is() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    bench.approved_by(&request, "alice").unwrap();
    bench.custodian.create(KeyId::try_from(7).unwrap(), None, CAROL).unwrap();
    bench.custodian.rotate(Which::All, CAROL).unwrap();
    bench.approved_by(&request, "bob").unwrap();
    let compromise = StateChange::Compromised(key(1, 1));
    let mut manager = bench.custodian.manager().unwrap();
    manager.change_state(&compromise, CAROL).unwrap();
    drop(manager);
    refused(bench.plan(), &["no longer counts: what it names has changed since", "there are 0"]);
    let again = bench.waits(bench.plan());
    assert!(again.text.contains(", compromised, ") && again.request.id != request.request.id);

    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    bench.approved_by(&request, "alice").unwrap();
    bench.custodian.rotate(Which::All, CAROL).unwrap();
    bench.approved_by(&request, "bob").unwrap();
    bench.custodian.rotate(Which::All, CAROL).unwrap();
    bench.plan().unwrap();
    assert_eq!(bench.custodian.manager().unwrap().pending_destructions().len(), 1);
}

#[test]
fn who_is_no_longer_an_approver_no_longer_counts() {
    let bench = Bench::new();
    let request = bench.waits(bench.plan());
    bench.approved_by(&request, "alice").unwrap();
    bench.approved_by(&request, "bob").unwrap();
    bench.with_both(|| bench.set(&["alice", "carol", "dave"], 2));
    assert_eq!(bench.waits(bench.plan()).approvers.len(), 1);
    bench.approved_by(&request, "dave").unwrap();
    bench.plan().unwrap();
}

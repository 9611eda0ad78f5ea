//! Every step that needs approvals: it waits, and goes on once it has them.

use std::fs;

use keyward::Kind;
use keyward::assemble::{self, Target};
use keyward::error::Code;
use keyward::event::Event;
use keyward::key::{KeyId, KeyRef, KeyState};
use keyward::manager::{Destruction, Erasure, Judged, Readers};
use keyward::source::{Role, Which};

use crate::bench::{Bench, CAROL, key};

fn id(number: u32) -> KeyId {
    KeyId::try_from(number).unwrap()
}

#[test]
fn without_approvers_nothing_waits() {
    let bench = Bench::of(3);
    bench.plan().unwrap();
    let mut manager = bench.custodian.manager().unwrap();
    manager.add_backup_recipient("age1pq1x", CAROL).unwrap();
    manager.backup(None, Readers::Passphrase, CAROL).unwrap();
    assert!(!manager.export("a test", CAROL).unwrap().is_empty());
    assert!(!bench.path("approvals").exists());
}

#[test]
fn what_was_approved_is_carried_out_and_called_off_by_anybody() {
    let bench = Bench::new();
    bench.with_both(|| bench.plan());
    let step = |step: Destruction| {
        bench.custodian.manager().unwrap().destroy(&step, &Judged::default(), CAROL)
    };
    step(Destruction::Cancel(key(1, 1))).unwrap();
    bench.with_both(|| bench.plan());
    bench.clock.advance(crate::bench::WEEK);
    step(Destruction::CarryOut(key(1, 1))).unwrap();
    let state = |of: &KeyRef| bench.custodian.keys().into_iter().find(|one| one.key == *of);
    assert_eq!(state(&key(1, 1)).unwrap().state, KeyState::Destroyed);
}

#[test]
fn the_first_approvers_need_none_and_every_change_of_them_does() {
    let bench = Bench::of(3);
    bench.plan().unwrap();
    let planned = bench.set(&["alice", "bob"], 1).unwrap_err();
    assert!(planned.to_string().contains("which nobody has approved"), "{planned}");
    let cancel = Destruction::Cancel(key(1, 1));
    bench.custodian.manager().unwrap().destroy(&cancel, &Judged::default(), CAROL).unwrap();

    let people = &bench.people;
    for (keys, needed, word) in [
        (vec![people.key("alice"), people.key("alice")], 2, "named twice"),
        (vec![people.key("alice")], 2, "2 approvals of 1 approvers"),
        (vec![people.key("alice")], 0, "0 approvals of 1 approvers"),
        (vec![], 1, "1 approvals of 0 approvers"),
    ] {
        let mut manager = bench.custodian.manager().unwrap();
        let refused = manager.set_approvers(&keys, needed, CAROL).unwrap_err();
        assert_eq!(refused.kind(), Kind::Config);
        assert!(refused.to_string().contains(word), "{refused}");
    }
    bench.set(&["alice", "bob", "carol"], 2).unwrap();
    assert_eq!(bench.last(Event::ApproversChanged).reason, CAROL.text);
    let request = bench.waits(bench.set(&["mallory"], 1));
    let whose = bench.people.key("mallory").fingerprint();
    for line in
        ["approvers, from now on 1 of 1, until now 2 of 3", &format!("approver mallory, {whose}")]
    {
        assert!(request.text.contains(&format!("target: {line}\n")), "{}", request.text);
    }
    // Other approvers are another request: nothing that was signed for one counts for the other.
    bench.approved_by(&request, "alice").unwrap();
    let other = bench.waits(bench.set(&["mallory", "alice"], 1));
    assert!(other.approvers.is_empty() && other.request.id != request.request.id);
    bench.with_both(|| bench.set(&[], 0));
    bench.plan().unwrap();
    let contents = bench.custodian.manager().unwrap();
    assert_eq!(contents.contents().unwrap().registers().approvers.needed, 0);
}

#[test]
fn keys_leave_in_plain_text_only_with_approvals() {
    let bench = Bench::new();
    let file = bench.path("plain");
    let to_file = || {
        let to = Target::KeyFile(&file);
        assemble::migrate(&bench.config, "local", to, false, CAROL, &bench.env).map(drop)
    };
    let request = bench.waits(to_file());
    let line =
        format!("target: all keys in plain text to the key file {}, 4 versions\n", file.display());
    assert!(request.text.contains(&line), "{}", request.text);
    assert!(!file.exists() && bench.trail().iter().all(|line| line.event != Event::Exported));
    bench.with_both(to_file);
    assert!(file.exists());
    assert!(bench.last(Event::Exported).reason.contains("approved by alice (SHA256:"));

    let by_passphrase =
        || bench.custodian.manager().unwrap().backup(None, Readers::Passphrase, CAROL).map(drop);
    bench.with_both(by_passphrase);
    bench.waits(by_passphrase());
    let add = || bench.custodian.manager().unwrap().add_backup_recipient("age1pq1x", CAROL);
    bench.with_both(add);
    add().unwrap();
    // For those recipients it is encrypted, and for nobody who asks.
    bench.custodian.manager().unwrap().backup(None, Readers::Recipients, CAROL).unwrap();
    bench.custodian.manager().unwrap().remove_backup_recipient("age1pq1x", CAROL).unwrap();
    bench.waits(add());
}

#[test]
fn an_older_keystore_is_accepted_by_the_approvers_that_it_has() {
    let bench = Bench::new();
    let (keystore, older) = (bench.path("keystore.json"), bench.path("older"));
    fs::copy(&keystore, &older).unwrap();
    bench.custodian.rotate(Which::All, CAROL).unwrap();
    fs::copy(&older, &keystore).unwrap();
    let lost = ["lost: key 1 version 7".to_owned()];
    let accept = || assemble::accept_rollback(&bench.config, &lost, CAROL, &bench.env);
    let approvals = assemble::approvals(&bench.config, &bench.env).unwrap();
    let waits = accept().unwrap_err();
    assert_eq!(waits.code(), Some(Code::Approvals), "{waits}");
    let [request] = &approvals.requests().unwrap()[..] else { panic!("no request") };
    assert!(request.text.contains("target: lost: key 1 version 7\n"), "{}", request.text);
    // With something else lost it is another request.
    let other = assemble::accept_rollback(&bench.config, &[], CAROL, &bench.env).unwrap_err();
    assert_eq!(other.code(), Some(Code::Approvals));
    assert_eq!(accept().unwrap_err().code(), Some(Code::Approvals));
    let [request] = &approvals.requests().unwrap()[..] else { panic!("not one request") };
    for name in ["alice", "bob"] {
        let signature = bench.people.sign(name, request.text.as_bytes());
        approvals.approve(&request.request.id.to_string(), &signature, CAROL).unwrap();
    }
    let accepted = accept().unwrap();
    assert!(accepted.epoch > 1);
    let reason = bench.last(Event::RollbackAccepted).reason;
    assert!(reason.contains("approved by alice (SHA256:") && reason.contains("bob ("), "{reason}");
    // What was approved before the epoch counts no more.
    let again = assemble::start(&bench.config, Role::Command, bench.env.clone()).unwrap();
    assert_eq!(again.epoch().map(|(number, _)| number), Some(accepted.epoch));
    let manager = again.manager().unwrap();
    assert_eq!(manager.contents().unwrap().registers().used_approvals.len(), 1);
}

#[test]
fn a_server_rescues_its_keys_with_signatures_that_lie_next_to_the_request() {
    let bench = Bench::new();
    let server = assemble::start(&bench.config, Role::Daemon, bench.env.clone()).unwrap();
    server.rotate(Which::All, CAROL).unwrap();
    let keys = server.keys();
    for entry in fs::read_dir(bench.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("keystore.json") {
            fs::remove_file(path).unwrap();
        }
    }
    let waits = server.rescue(CAROL).unwrap_err();
    assert_eq!(waits.code(), Some(Code::Approvals), "{waits}");
    assert!(waits.to_string().contains(".NAME.sig, readable for the server"), "{waits}");
    let file = fs::read_dir(bench.path("approvals")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read(&file).unwrap();
    for (name, as_name) in [("alice", "request.sig"), ("carol", "carol.sig")] {
        fs::write(file.with_extension(as_name), bench.people.sign(name, &text)).unwrap();
    }
    assert_eq!(server.rescue(CAROL).unwrap_err().code(), Some(Code::Approvals), "carol asked");
    fs::write(file.with_extension("bob.sig"), bench.people.sign("bob", &text)).unwrap();
    assert_eq!(server.rescue(CAROL).unwrap().versions, keys.len());
    assert!(file.with_extension("done").exists());
    let new = assemble::start(&bench.config, Role::Command, bench.env.clone()).unwrap();
    assert_eq!(new.keys().len(), keys.len());
    let manager = new.manager().unwrap();
    let registers = manager.contents().unwrap().registers();
    assert_eq!((registers.approvers.needed, registers.used_approvals.len()), (2, 1));
    drop(manager);
    let lines = keyward::event::Trail::beside(&bench.path("keystore.json")).salvage().unwrap().0;
    let rescued = lines.iter().rfind(|line| line.event == Event::Rescued).unwrap();
    assert!(rescued.reason.contains("approved by"), "{}", rescued.reason);
    assert!(lines.iter().any(|line| line.event == Event::Approved));
}

#[test]
fn a_key_is_erased_whole_with_approvals_of_what_goes() {
    let bench = Bench::new();
    for _ in 0..2 {
        if bench.custodian.entry(&id(7).into()).is_none() {
            bench.custodian.create(id(7), None, CAROL).unwrap();
        }
        bench.custodian.rotate(Which::One(id(7)), CAROL).unwrap();
    }
    let erasure = |loss: &str| Erasure {
        id: id(7),
        losses: vec![format!("unreadable: {loss}")],
        judged: Judged::default(),
    };
    let erase = |loss: &str| bench.custodian.manager().unwrap().erase(&erasure(loss), CAROL);
    let request = bench.waits(erase("shop/customers.ibd"));
    for line in [
        "key 7, all 3 versions, at once and for ever",
        "unreadable: shop/customers.ibd",
        "key 7 version 1, aes-256-ctr, retired, made 2023-11-14T22:13:20Z, check value ",
        "key 7 version 5, aes-256-ctr, active, ",
    ] {
        assert!(request.text.contains(&format!("target: {line}")), "{line}: {}", request.text);
    }
    bench.approved_by(&request, "alice").unwrap();
    // A table came meanwhile: that is not what alice approved.
    assert!(bench.waits(erase("shop/customers.ibd, shop/orders.ibd")).approvers.is_empty());
    let erased = bench.with_both(|| erase("shop/customers.ibd"));
    assert_eq!(erased, [key(7, 1), key(7, 3), key(7, 5)]);
    let states = |of: u32| -> Vec<_> {
        let keys = bench.custodian.keys().into_iter().filter(|info| info.key.name == id(of).into());
        keys.map(|info| info.state).collect()
    };
    assert_eq!(states(7), [KeyState::Destroyed; 3]);
    assert_eq!(states(1), [KeyState::Retired, KeyState::Retired, KeyState::Active]);
    let again = bench.custodian.manager().unwrap().may_erase(id(7)).unwrap_err();
    assert_eq!(again.kind(), Kind::NotFound);
    let own = bench.custodian.manager().unwrap().may_erase(id(1)).unwrap_err();
    assert!(own.to_string().contains("the server's own files"), "{own}");
    // A new process opens it, and the number goes on.
    let new = assemble::start(&bench.config, Role::Command, bench.env.clone()).unwrap();
    assert_eq!(new.rotate(Which::One(id(1)), CAROL).unwrap(), [key(1, 7)]);
    assert_eq!(new.latest(id(7)), None);
}

#[test]
fn a_key_that_is_erased_leaves_the_file_however_long_that_is() {
    let bench = Bench::of(3);
    for number in 3..340 {
        bench.custodian.create(id(number), None, CAROL).unwrap();
    }
    let text = || fs::read_to_string(bench.path("keystore.json")).unwrap();
    // Added as a line, and so not written again.
    bench.custodian.rotate(Which::One(id(9)), CAROL).unwrap();
    let before = text();
    bench.custodian.rotate(Which::One(id(9)), CAROL).unwrap();
    assert!(text().starts_with(&before) && before.len() > 131_072, "{} bytes", before.len());
    let own = before.split("\"name\":17,").nth(1).unwrap();
    let wrapped = own.split("\"data\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(wrapped.len() > 60 && text().contains(wrapped));
    let erasure = Erasure { id: id(17), losses: Vec::new(), judged: Judged::default() };
    bench.custodian.manager().unwrap().erase(&erasure, CAROL).unwrap();
    assert!(!text().contains(wrapped));
    let before = text();
    bench.custodian.rotate(Which::One(id(9)), CAROL).unwrap();
    assert!(text().starts_with(&before), "lines are added again");
}

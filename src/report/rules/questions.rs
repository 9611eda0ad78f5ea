//! The questions that standards ask of keys, each answered once from what is known of a server.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::Answer;
use crate::env::Timestamp;
use crate::key::KeyState;
use crate::report::model::{Ending, Key, KeyStore, Mark, Record, Server, Verdict, Version};

/// The shortest key that is strong enough, in bits (NIST SP 800-57 part 1, table 4).
const STRONG: u64 = 128;

/// The longest time that NIST SP 800-57 part 1 (5.3.6) has a key for data encrypt, in days.
const LONGEST_CRYPTOPERIOD: u64 = 2 * 365;

/// How long a review, a backup or a drill counts, in days: a year and a day.
const YEAR: u64 = 366;

/// How long before its end a certificate is to be renewed, in days: `keyward doctor` warns by then.
const RENEWED_BEFORE: u64 = 14;

const DAY: u64 = 86_400;

/// What the audit trail calls a drill.
const DRILLED: &str = "drilled";

/// How many names a sentence has before the rest is counted.
const NAMED: usize = 5;

/// Whether keys are strong, and of which algorithms they are.
pub(super) fn strength(server: &Server) -> Answer {
    let living: Vec<_> = living(server).collect();
    if living.is_empty() {
        return Answer::of(Verdict::NotOurs, ["There is no key yet.".to_owned()]);
    }
    let weak = living.iter().filter(|(_, one)| one.bits < STRONG);
    let weak = weak.map(|(key, one)| format!("key {} version {}", key.key, one.version));
    let missing = sentence("Shorter than 128 bits: ", weak.collect());
    let ciphers: BTreeSet<_> = living.iter().map(|(_, one)| one.cipher.as_str()).collect();
    let all = ciphers.into_iter().collect::<Vec<_>>().join(", ");
    let count = counted(living.len() as u64, "version");
    Answer::unless(missing, vec![format!("{count} that can decrypt, of {all}.")])
}

/// Whether keyward made the keys, from the kernel's random number generator.
pub(super) fn generation(server: &Server) -> Answer {
    if !server.has_keystore() {
        return served("the key store makes the keys");
    }
    let imported: u64 = count(server, "imported");
    let how = "keyward makes each key from the kernel's random number generator (getrandom), unwraps it again \
               and compares before it is used."
        .to_owned();
    match imported {
        0 => Answer::of(Verdict::Met, [how]),
        _ => Answer::of(Verdict::NotOurs, [how]).but(&format!(
            "keys came in from another key store ({imported} lines `imported` in the audit trail), which made them."
        )),
    }
}

/// Whether keys leave the keystore only as it should be.
pub(super) fn distribution(server: &Server) -> Answer {
    let how = "Data keys leave the server's memory only wrapped; key stores are called by TLS, which is never \
               switched off."
        .to_owned();
    if !server.has_keystore() {
        return served("the key store gives the keys out, over TLS");
    }
    match count(server, "exported") {
        0 => Answer::of(Verdict::Met, [how, "No export of keys is on record.".to_owned()]),
        n => Answer::of(Verdict::NotOurs, [how])
            .but(&format!("what became of the keys of {n} exports that the audit trail has.")),
    }
}

/// Whether the keys that wrap others are kept elsewhere than what they wrap.
pub(super) fn apart_from_data(server: &Server) -> Answer {
    let used: Vec<_> = server.key_stores.iter().filter(|store| store.failure.is_none()).collect();
    let named = |all: &[&KeyStore]| {
        all.iter().map(|one| format!("{} ({}, {})", one.name, one.kind, one.custody)).collect()
    };
    let beside: Vec<_> =
        used.iter().copied().filter(|one| one.beside_the_data == Some(true)).collect();
    let unknown: Vec<_> =
        used.iter().copied().filter(|one| one.beside_the_data.is_none()).collect();
    if used.is_empty() {
        return Answer::of(Verdict::NotOurs, ["No key store answered.".to_owned()]);
    }
    if !beside.is_empty() {
        let missing = sentence("On the machine whose data it encrypts: ", named(&beside));
        return Answer::unless(missing, Vec::new());
    }
    match unknown.is_empty() {
        true => Answer::of(Verdict::Met, sentence("On another machine: ", named(&used))),
        false => Answer::of(Verdict::NotOurs, sentence("In: ", named(&used)))
            .but("whether that is another device than the data's."),
    }
}

/// Whether the keys are kept wrapped, and by what.
pub(super) fn storage(server: &Server) -> Answer {
    if !server.has_keystore() {
        return served("the key store keeps the keys");
    }
    let wrapped = server.key_stores.iter().filter(|store| store.in_use).count();
    let missing = match wrapped {
        0 => vec!["No configured key store wraps the keystore.".to_owned()],
        _ => Vec::new(),
    };
    Answer::unless(
        missing,
        vec![format!(
            "Each data key is wrapped by a store key (AES-256-GCM), and that by {wrapped} of the configured \
             key stores; the keystore holds no key in plain text."
        )],
    )
}

/// Whether keys change when their time is over.
pub(super) fn changes(server: &Server) -> Answer {
    if server.lanes.is_empty() {
        return match server.has_keystore() {
            true => Answer::of(Verdict::NotOurs, ["No key rotates yet.".to_owned()]),
            false => served("the key store rotates the keys"),
        };
    }
    let Some(after) = server.policy.rotate_after else {
        let why = "No cryptoperiod is set: `rotate_after` in [policy] sets one.".to_owned();
        return Answer::of(Verdict::NotMet, [why]);
    };
    let overdue = server.overdue().map(|key| format!("key {}", key.key)).collect();
    let past = server.lanes.iter().flat_map(|lane| &lane.periods).filter(|one| one.to.is_some());
    let (late, all) = (past.clone().filter(|one| one.late).count(), past.count());
    Answer::unless(
        sentence("Overdue: ", overdue),
        vec![
            format!("A version encrypts for {} days at most, by policy.", after / DAY),
            format!("{late} of {all} versions that were replaced had encrypted for longer."),
        ],
    )
}

/// Whether the cryptoperiod is no longer than is recommended.
pub(super) fn cryptoperiod(server: &Server) -> Answer {
    let changes = changes(server);
    let oldest = active(server).filter_map(|(_, one)| Some(server.made.since(one.created?))).max();
    let days = oldest.map(|age| age.as_secs() / DAY);
    let mut missing = Vec::new();
    if server.policy.rotate_after.is_some_and(|after| after / DAY > LONGEST_CRYPTOPERIOD) {
        missing.push("The policy lets a version encrypt for more than two years.".to_owned());
    }
    if days.is_some_and(|days| days > LONGEST_CRYPTOPERIOD) {
        missing.push("A version that encrypts is older than two years.".to_owned());
    }
    let evidence = days.map(|days| format!("The oldest version that encrypts is {days} days old."));
    Answer::all([changes, Answer::unless(missing, evidence.into_iter().collect())])
}

/// Whether what may no longer encrypt does not, and compromised versions were replaced.
pub(super) fn retirement(server: &Server) -> Answer {
    let compromised: Vec<_> =
        versions(server).filter(|(_, one)| one.state == KeyState::Compromised).collect();
    let needed = |key: &Key, one: &Version| {
        let needs = server.data.iter().flat_map(|data| &data.needs);
        let mut same =
            needs.filter(|need| need.key == key.key && need.version == Some(one.version));
        same.any(|need| need.in_use > 0)
    };
    let replaced = |key: &Key| key.versions.iter().any(|one| one.state == KeyState::Active);
    let still = compromised.iter().filter(|(key, one)| needed(key, one) || !replaced(key));
    let still =
        still.map(|(key, one)| format!("key {} version {}", key.key, one.version)).collect();
    let count = |state| versions(server).filter(|(_, one)| one.state == state).count();
    Answer::unless(
        sentence("Compromised, and data in use still needs it or nothing has replaced it: ", still),
        vec![
            format!(
                "Retired (decrypt, never encrypt): {}; destroyed: {}; compromised: {}.",
                count(KeyState::Retired),
                count(KeyState::Destroyed),
                compromised.len()
            ),
            match server.data {
                Some(_) => "The data files were looked at.".to_owned(),
                None => "No data files were looked at.".to_owned(),
            },
        ],
    )
}

/// Whether each version is in a state, and each change of it has a date.
pub(super) fn states(server: &Server) -> Answer {
    if !server.has_keystore() {
        return served("it keeps their states");
    }
    let all: Vec<_> = versions(server).collect();
    let undated = all.iter().filter(|(_, one)| one.history.is_empty()).count();
    let missing = (undated > 0).then(|| format!("{undated} versions have no history."));
    Answer::unless(
        missing.into_iter().collect(),
        vec![format!(
            "{}, each with every state that it took on: when, by whom and why (pending, active, \
             retired, compromised, destroyed).",
            counted(all.len() as u64, "version")
        )],
    )
}

/// Whether destroyed keys are gone, with a record.
pub(super) fn destruction(server: &Server) -> Answer {
    let tombstones = versions(server).filter(|(_, one)| one.state == KeyState::Destroyed).count();
    let planned = server.number("destructions_planned");
    let records = server.destructions.iter().filter(|one| one.event == "destroyed").count();
    Answer::of(
        Verdict::Met,
        [
            format!(
                "Tombstones without a key: {tombstones}; waiting for their destruction: {planned}; destructions in the \
                 audit trail: {records}."
            ),
            format!(
                "A version is destroyed only after {} days, and not while data in use needs it.",
                server.policy.destroy_wait / DAY
            ),
        ],
    )
    .but("older copies and backups of the keystore, which hold the key still.")
}

/// Whether it takes two people to have a key in plain text.
pub(super) fn dual_control(server: &Server) -> Answer {
    let exports = count(server, "exported");
    match (server.approvals_needed, exports) {
        (2.., _) => Answer::of(
            Verdict::Met,
            [format!(
                "{} of {} approvers must sign what shows or removes a key.",
                server.approvals_needed,
                server.approvers.len()
            )],
        ),
        (_, 0) => Answer::of(
            Verdict::NotOurs,
            ["No approvers are registered; no operation with keys in plain text is on record."
                .to_owned()],
        ),
        (_, n) => Answer::of(
            Verdict::NotMet,
            [format!("No approvers are registered, and keys were exported {n} times.")],
        ),
    }
}

/// Whether nobody can put another key in a key's place.
pub(super) fn substitution(server: &Server) -> Answer {
    if !server.has_keystore() {
        return served("the key store keeps the keys");
    }
    let lacks =
        sentence("Data in use needs what the keystore lacks: ", needs_in_state(server, "missing"));
    let wrong = needs_in_state(server, "wrong key");
    let wrong = sentence("Another key than the keystore's encrypted data in use: ", wrong);
    let mut evidence = vec![
        "A key is compared with its check value before it is used; the keystore is under a MAC; a version is \
         one key for ever."
            .to_owned(),
    ];
    if server.pinned {
        evidence.push("The configuration names the keystore's fingerprint.".to_owned());
    }
    Answer::all([Answer::unless([lacks, wrong].concat(), evidence), trail(server)])
}

/// Whether the custodians acknowledged what that means.
pub(super) fn custodians(server: &Server) -> Answer {
    let missing = match server.custodians.is_empty() {
        true => vec!["No custodian is named: `[report.custodians]` names them.".to_owned()],
        false => Vec::new(),
    };
    let future = server.custodians.iter().filter(|one| one.acknowledged > server.made);
    let future = sentence("Dated after today: ", future.map(|one| one.name.clone()).collect());
    let said =
        server.custodians.iter().map(|one| format!("{} on {}", one.name, day(one.acknowledged)));
    let said = sentence("Acknowledged: ", said.collect());
    Answer::unless([missing, future].concat(), said).but("the signed words themselves.")
}

/// Whether the ciphers in use were reviewed within a year.
pub(super) fn review(server: &Server) -> Answer {
    let inventory = strength(server);
    let review = match server.ciphers_reviewed {
        None => Answer::of(
            Verdict::NotMet,
            ["No review is on record: `ciphers_reviewed` in [report] dates the last.".to_owned()],
        ),
        Some(at) => {
            let is_recent = is_within(at, server.made, YEAR);
            let verdict = if is_recent { Verdict::Met } else { Verdict::NotMet };
            Answer::of(verdict, [format!("Last reviewed on {}.", day(at))])
        }
    };
    Answer::all([inventory, review]).but("which other systems use cryptography.")
}

/// Whether there is an inventory of keys and of where they are, with purposes and an end.
pub(super) fn inventory(server: &Server) -> Answer {
    let keys: Vec<_> = server.file_keys().collect();
    let nameless = keys.iter().filter(|key| key.purpose.is_none());
    let nameless: Vec<_> = nameless.map(|key| key.key.clone()).collect();
    let mut missing = sentence("Without a purpose in `[report.purposes]`: key ", nameless);
    if server.environment.is_none() {
        missing.push("`environment` in [report] does not say what the server is for.".to_owned());
    }
    if server.has_keystore() && server.policy.rotate_after.is_none() {
        missing.push("No key has an end: `rotate_after` in [policy] sets one.".to_owned());
    }
    let evidence = vec![format!(
        "{} and {} are in this report, with algorithm, length, state, dates and place.",
        counted(keys.len() as u64, "key"),
        counted(server.key_stores.len() as u64, "key store")
    )];
    Answer::all([Answer::unless(missing, evidence), strength(server)])
        .but("whether production and test share a key.")
}

/// Whether somebody answers for the keys.
pub(super) fn owner(server: &Server) -> Answer {
    match &server.owner {
        Some(owner) => Answer::of(Verdict::Met, [format!("Owner: {owner}.")]),
        None => Answer::of(Verdict::NotMet, ["`owner` in [report] names nobody.".to_owned()]),
    }
}

/// Whether the audit trail is whole, and kept elsewhere as well.
pub(super) fn trail(server: &Server) -> Answer {
    let facts = &server.trail;
    let mut evidence = vec![format!("The audit trail has {}.", counted(facts.lines, "line"))];
    if let (Some(line), true) = (facts.anchored, facts.faults.is_empty()) {
        evidence.push(format!(
            "Each is chained to the one before; the keystore proves it up to line {line}."
        ));
    }
    Answer::unless(sentence("The audit trail: ", facts.faults.clone()), evidence)
}

/// Whether what happens is told elsewhere.
pub(super) fn monitoring(server: &Server) -> Answer {
    let copied = match server.trail.sinks {
        0 => Answer::of(
            Verdict::NotMet,
            ["No [[sink]] copies the audit trail to another machine.".to_owned()],
        ),
        n => {
            let sinks = counted(n, "sink");
            Answer::of(Verdict::Met, [format!("Each line is copied to {sinks}.")])
        }
    };
    let failed = server.findings.iter().filter(|one| one.mark == Mark::Failed);
    let failed = sentence("keyward doctor: ", failed.map(|one| one.what.clone()).collect());
    Answer::all([trail(server), copied, Answer::unless(failed, Vec::new())])
}

/// Whether there is a backup of the keys that is not too old.
pub(super) fn backups(server: &Server) -> Answer {
    if !server.has_keystore() {
        return served("the key store's backups are its administrator's");
    }
    let last = server.backups.iter().map(|one| one.at).max();
    match last {
        None => Answer::of(
            Verdict::NotMet,
            ["None on record: `keyward keystore backup` makes one.".to_owned()],
        ),
        Some(at) => {
            let newest = versions(server).filter_map(|(_, one)| one.created).max();
            let is_behind = newest.is_some_and(|newest| newest > at);
            let missing =
                is_behind.then(|| "There are versions that are newer than it.".to_owned());
            Answer::unless(
                missing.into_iter().collect(),
                vec![format!("The last backup is of {}.", day(at))],
            )
            .but("whether the file is still there, and where.")
        }
    }
}

/// Whether getting the keys back was tried.
pub(super) fn recovery(server: &Server) -> Answer {
    if !server.has_keystore() {
        return served("getting them back is its administrator's to try");
    }
    let tried = server.recoveries.iter().filter_map(|one| Some((one, outcome(one)?)));
    let Some((last, passed)) = tried.max_by_key(|(one, _)| one.at) else {
        let why =
            "Nobody tried to get keys back: `keyward keystore drill` tries a backup.".to_owned();
        return Answer::of(Verdict::NotMet, [why]);
    };
    let mut missing = Vec::new();
    if !passed {
        missing.push("That failed.".to_owned());
    }
    if !is_within(last.at, server.made, YEAR) {
        missing.push("That is more than a year ago.".to_owned());
    }
    let evidence = match last.event.as_str() {
        DRILLED => format!("The last drill was on {}.", day(last.at)),
        _ => format!("Restored on {}.", day(last.at)),
    };
    let verdict = if missing.is_empty() { Verdict::Met } else { Verdict::NotMet };
    Answer::of(verdict, [vec![evidence], missing].concat())
}

/// Whether a record is of getting keys back, and that succeeded. The command ends a drill's reason with its
/// outcome.
fn outcome(record: &Record) -> Option<bool> {
    match record.event.as_str() {
        "restored" => Some(true),
        DRILLED => {
            let (before, _) = record.reason.rsplit_once(": backup of ")?;
            Some(before.ends_with("passed"))
        }
        _ => None,
    }
}

/// Whether all data is encrypted.
pub(super) fn encryption(server: &Server) -> Answer {
    let Some(data) = &server.data else {
        let why =
            "No data directory was looked at: `keyward report --datadir` names one.".to_owned();
        return Answer::of(Verdict::NotOurs, [why]);
    };
    let plain = data.unencrypted.iter().map(|file| file.file.clone()).collect();
    let missing = sentence("Not encrypted: ", plain);
    let evidence = vec![format!("{} looked at.", counted(data.files, "file"))];
    let answer = Answer::unless(missing, evidence);
    match (answer.verdict, data.unclear.len()) {
        (Verdict::Met, unclear @ 1..) => Answer { verdict: Verdict::NotOurs, ..answer }
            .but(&format!("{unclear} files that were not understood.")),
        _ => answer,
    }
}

/// Whether certificates are on record, and renewed in time.
pub(super) fn certificates(server: &Server) -> Answer {
    let ends: Vec<(&KeyStore, &Ending)> = server
        .key_stores
        .iter()
        .flat_map(|store| store.ends.iter().map(move |end| (store, end)))
        .collect();
    let near = ends.iter().filter(|(_, end)| {
        !end.renewed && end.at.since(server.made).as_secs() < RENEWED_BEFORE * DAY
    });
    let near =
        near.map(|(store, end)| format!("{} of {} on {}", end.what, store.name, day(end.at)));
    let missing = sentence("Ended, or ends within two weeks: ", near.collect());
    let all = ends
        .iter()
        .map(|(store, end)| format!("{} of {} on {}", end.what, store.name, day(end.at)));
    if ends.is_empty() {
        let why = "No configured key store logs in by a certificate or token that is known to end."
            .to_owned();
        return Answer::of(Verdict::NotOurs, [why]);
    }
    let all = sentence("Ends: ", all.collect());
    Answer::unless(missing, all)
        .but("certificates of other systems, and of the key stores themselves.")
}

/// Whether there is a way to replace a key that is lost or damaged.
pub(super) fn replacement(server: &Server) -> Answer {
    let lacks =
        sentence("Data in use needs what the keystore lacks: ", needs_in_state(server, "missing"));
    let stores = server.key_stores.iter().filter(|store| store.in_use).count();
    let evidence = vec![format!("Key stores that open the keystore, each by itself: {stores}.")];
    Answer::all([backups(server), retirement(server), Answer::unless(lacks, evidence)])
}

/// What is for others to show.
pub(super) fn not_ours(why: &str) -> Answer {
    Answer::of(Verdict::NotOurs, [why.to_owned()])
}

fn served(why: &str) -> Answer {
    Answer::of(Verdict::NotOurs, [format!("A key store serves the keys: {why}.")])
}

fn versions(server: &Server) -> impl Iterator<Item = (&Key, &Version)> {
    server.file_keys().flat_map(|key| key.versions.iter().map(move |one| (key, one)))
}

fn living(server: &Server) -> impl Iterator<Item = (&Key, &Version)> {
    versions(server).filter(|(_, one)| one.state.decrypts())
}

fn active(server: &Server) -> impl Iterator<Item = (&Key, &Version)> {
    versions(server).filter(|(_, one)| one.state == KeyState::Active)
}

/// What data in use needs of versions in that state.
fn needs_in_state(server: &Server, state: &str) -> Vec<String> {
    let needs = server.data.iter().flat_map(|data| &data.needs);
    let wrong = needs.filter(|need| need.in_use > 0 && need.state == state);
    let named = wrong.map(|need| match need.version {
        Some(version) => format!("key {} version {version}", need.key),
        None => format!("key {}", need.key),
    });
    named.collect()
}

/// How many lines of that event the trail has.
fn count(server: &Server, event: &str) -> u64 {
    server.trail.events.get(event).copied().unwrap_or_default()
}

/// A number of things.
fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A sentence of these names, or none where there are none.
fn sentence(beginning: &str, mut names: Vec<String>) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    vec![format!("{beginning}{}{more}.", names.join(", "))]
}

fn is_within(at: Timestamp, now: Timestamp, days: u64) -> bool {
    now.since(at).as_secs() <= days * DAY
}

/// A moment's day.
fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

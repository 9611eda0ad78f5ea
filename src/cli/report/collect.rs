//! Finds out all that a report says of this server, each thing by the very code that the command for it has.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Options;
use crate::assemble::{Custody, Probed};
use crate::cli::helpers::examine::{self, DataFiles, Examined, examine};
use crate::cli::helpers::print::Mark;
use crate::cli::helpers::proven::Keys;
use crate::cli::helpers::{privilege, scan, standing, trail};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Line, Trail};
use crate::key::KeyInfo;
use crate::mark;
use crate::policy::that_rotate;
use crate::provider::{End, Ending};
use crate::report::{
    self, Data, Key, KeyStore, Planned, PolicyFacts, Record, Server, Step, TrailFacts, Version,
};
use crate::store::{KeyEntry, VersionEntry};

/// How many keys a line of a table names.
const NAMED: usize = 5;

/// All that is known of the server whose configuration is at `path`, and what opened its keys.
pub(super) fn server(path: &Path, options: &Options) -> Result<(Server, Custodian)> {
    // Of the data files the report has a section of its own.
    let Examined { findings, config, providers, custodian } =
        examine(path, &options.server, DataFiles::None);
    let failed = findings.iter().find(|finding| finding.mark == Mark::Failed);
    let (Some(config), Some(custodian)) = (config, custodian) else {
        let why = failed.map_or_else(String::new, |finding| format!(": {}", finding.what));
        let what = format!("there is nothing to report on without keys that open{why}");
        return Err(Error::new(Kind::State, what).advise("`keyward doctor` shows what to do"));
    };
    let now = System.now();
    let registers = custodian.registers().unwrap_or_default();
    let (lines, _) = Trail::beside(&config.keystore.path).salvage()?;
    let entries = custodian.entries();
    let mut server = Server {
        source: None,
        made: now,
        keyward: env!("CARGO_PKG_VERSION").to_owned(),
        host: mark::host(),
        actor: privilege::actor(),
        configuration: path.display().to_string(),
        owner: config.report.owner.clone(),
        environment: config.report.environment.clone(),
        ciphers_reviewed: config.report.ciphers_reviewed,
        custodians: custodians(&config),
        status: status_of(&config, &custodian)?,
        pinned: config.keystore.fingerprint.is_some(),
        policy: policy(&config),
        keys: keys(&config, &custodian, &entries, now),
        lanes: report::lanes(&config.policy, &custodian.keystore_id(), &entries, now),
        data: data(options, &custodian)?,
        key_stores: providers.iter().map(|provider| key_store(provider, &custodian)).collect(),
        approvals_needed: registers.approvers.needed,
        approvers: registers.approvers.keys.clone(),
        approvals: records(
            &lines,
            &[
                Event::ApproversChanged,
                Event::ApprovalRequested,
                Event::ApprovalGiven,
                Event::Approved,
            ],
        ),
        backup_recipients: registers.backup_recipients.clone(),
        backups: records(&lines, &[Event::BackedUp]),
        recoveries: records(
            &lines,
            &[
                Event::Drilled,
                Event::Restored,
                Event::Forked,
                Event::Rescued,
                Event::RollbackAccepted,
            ],
        ),
        destructions: records(
            &lines,
            &[Event::DestructionPlanned, Event::DestructionCancelled, Event::Destroyed],
        ),
        transfers: records(&lines, &[Event::Exported, Event::Imported, Event::BinaryLogRead]),
        trail: trail_facts(&config, &custodian, &lines)?,
        findings: findings.into_iter().map(finding).collect(),
        rules: Vec::new(),
    };
    server.rules = report::judge(&server);
    Ok((server, custodian))
}

fn custodians(config: &Config) -> Vec<report::Custodian> {
    let of = |one: &crate::config::Custodian| report::Custodian {
        name: one.name.clone(),
        acknowledged: one.acknowledged,
    };
    config.report.custodians.iter().map(of).collect()
}

/// What `keyward status --json` says.
fn status_of(config: &Config, custodian: &Custodian) -> Result<Map<String, Value>> {
    let wrong = || Error::new(Kind::Internal, "the status is no JSON object");
    match serde_json::to_value(standing::Report::of(config, custodian)) {
        Ok(Value::Object(status)) => Ok(status),
        _ => Err(wrong()),
    }
}

fn policy(config: &Config) -> PolicyFacts {
    let policy = &config.policy;
    PolicyFacts {
        rotate_after: policy.rotate_after.map(|time| time.as_secs()),
        keep_retired: policy.keep_retired.map(|time| time.as_secs()),
        destroy_wait: policy.destroy_wait.as_secs(),
        keep_versions: policy.keep_versions,
    }
}

/// The keys of `keyward keys list`, with what the keystore has of each.
fn keys(config: &Config, custodian: &Custodian, entries: &[KeyEntry], now: Timestamp) -> Vec<Key> {
    let rotating: Vec<_> = that_rotate(entries.iter()).into_iter().map(KeyEntry::name).collect();
    let keystore = custodian.keystore_id();
    let of_name = |infos: &[KeyInfo]| {
        let name = &infos.first()?.key.name;
        let entry = entries.iter().find(|entry| entry.name() == name);
        let rotates = rotating.contains(&name);
        let next =
            entry.filter(|_| rotates).and_then(|it| config.policy.next_rotation(&keystore, it));
        let called = name.to_string();
        let purpose = config.report.purposes.iter().find(|(key, _)| *key == called);
        Some(Key {
            purpose: purpose.map(|(_, words)| words.clone()),
            for_files: name.is_for_files(),
            rotates,
            next_rotation: next,
            overdue: next.is_some_and(|at| at < now),
            versions: infos.iter().map(|info| version(info, entry)).collect(),
            key: called,
        })
    };
    let infos = custodian.keys();
    infos.chunk_by(|one, other| one.key.name == other.key.name).filter_map(of_name).collect()
}

fn version(info: &KeyInfo, entry: Option<&KeyEntry>) -> Version {
    let entry: Option<&VersionEntry> = entry.and_then(|key| key.version(info.key.version));
    let step = |event: &crate::store::Event| Step {
        state: event.state,
        at: event.at,
        actor: event.actor.clone(),
        reason: event.reason.clone(),
    };
    Version {
        version: info.key.version.get(),
        state: info.state,
        cipher: info.purpose.to_string(),
        bits: info.purpose.key_len() as u64 * 8,
        created: info.created,
        check: info.check.map(|check| check.to_string()),
        retain_until: entry.and_then(|entry| entry.retain_until),
        planned: entry
            .and_then(|entry| entry.planned.as_ref())
            .map(|plan| Planned { state: plan.state, at: plan.at }),
        history: entry.map_or_else(Vec::new, |entry| entry.history.iter().map(step).collect()),
    }
}

/// What the data directories need that were named, or that are registered and here.
fn data(options: &Options, custodian: &Custodian) -> Result<Option<Data>> {
    let host = mark::host();
    let here = custodian.data_directories().into_iter().filter(|one| one.host == host);
    let registered = here.map(|one| PathBuf::from(one.path)).filter(|path| path.is_dir());
    let directories: Vec<PathBuf> = match options.datadir.is_empty() {
        _ if options.without_data => Vec::new(),
        true => registered.collect(),
        false => options.datadir.clone(),
    };
    if directories.is_empty() {
        return Ok(None);
    }
    let mut reports = scan::of_any(&directories)?;
    reports.sort_by(|a, b| a.file.cmp(&b.file));
    let keys = Keys::of(custodian);
    let is_another = |report: &_, need: Option<&_>| keys.is_another(report, need);
    Ok(Some(report::data(&directories, &reports, &custodian.keys(), is_another)))
}

fn key_store(provider: &Probed, custodian: &Custodian) -> KeyStore {
    let Probed { name, kind, custody, serves, answer, ends } = provider;
    let facts = answer.as_ref().map_or_else(|_| Vec::new(), |probe| probe.facts.clone());
    let is_local = |(_, value): &(String, String)| {
        ["//127.", "//localhost", "//[::1]"].iter().any(|host| value.contains(host))
    };
    let wraps = custodian.wrappings().iter().any(|(provider, _)| provider == name);
    KeyStore {
        name: name.clone(),
        kind: kind.clone(),
        role: match serves {
            Some(true) => "serves the keys",
            Some(false) => "wraps the keystore",
            None => "cannot be used",
        }
        .to_owned(),
        in_use: wraps || *serves == Some(true),
        custody: match custody {
            Some(Custody::Machine) => "files of this machine",
            Some(Custody::Token) => "a token",
            Some(Custody::Service) => "a service",
            None => "unknown",
        }
        .to_owned(),
        beside_the_data: match custody {
            Some(Custody::Machine) => Some(true),
            // What listens on this machine may ask another.
            Some(Custody::Service) if !facts.iter().any(is_local) => Some(false),
            _ => None,
        },
        facts,
        failure: answer.as_ref().err().map(ToString::to_string),
        ends: ends.iter().map(ending).collect(),
    }
}

fn ending(End { what, at }: &End) -> report::Ending {
    let (what, renewed) = match what {
        Ending::Certificate(file) => (format!("certificate {}", file.display()), false),
        Ending::Token { renewable } => ("token".to_owned(), *renewable),
    };
    report::Ending { what, at: *at, renewed }
}

fn records(lines: &[Line], events: &[Event]) -> Vec<Record> {
    let record = |line: &Line| Record {
        at: line.at,
        event: line.event.to_string(),
        what: named(line),
        actor: line.actor.clone(),
        reason: line.reason.clone(),
    };
    lines.iter().filter(|line| events.contains(&line.event)).map(record).collect()
}

fn named(line: &Line) -> String {
    let names: Vec<_> = line.keys.iter().take(NAMED).map(ToString::to_string).collect();
    match line.keys.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn trail_facts(config: &Config, custodian: &Custodian, lines: &[Line]) -> Result<TrailFacts> {
    let verdict = trail::verify(config, custodian)?;
    let mut events = BTreeMap::new();
    for line in lines {
        *events.entry(line.event.to_string()).or_default() += 1;
    }
    // A keystore that does not know its trail yet has none to sign.
    let checkpoint = custodian.manager().and_then(|mut manager| manager.checkpoint()).ok();
    Ok(TrailFacts {
        lines: verdict.lines,
        anchored: verdict.anchored,
        not_anchored: verdict.not_anchored,
        faults: verdict.faults.iter().map(ToString::to_string).collect(),
        last: lines.last().map(|line| line.at),
        events,
        sinks: config.sinks.len() as u64,
        checkpoint,
    })
}

fn finding(finding: examine::Finding) -> report::Finding {
    let mark = match finding.mark {
        Mark::Ok => report::Mark::Ok,
        Mark::Warning => report::Mark::Warning,
        Mark::Failed => report::Mark::Failed,
        Mark::Skipped => report::Mark::Skipped,
    };
    report::Finding { mark, what: finding.what, advice: finding.advice }
}

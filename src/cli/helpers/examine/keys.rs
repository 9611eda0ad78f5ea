//! The configuration, its key stores, and the keys that they open: what a server's start goes through.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use super::catalogue::{
    CONFIGURATION, CREDENTIAL_END, DATES, GENERATION, KEYS, PROVIDER, SOLE_WRAPPING, STASH,
    WRAPPINGS,
};
use super::findings::Findings;
use crate::assemble::{self, Probed};
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Mark, age};
use crate::cli::helpers::{running, server};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::event::StashState;
use crate::key::KeyName;
use crate::policy::Ahead;
use crate::provider::{End, Ending};
use crate::source::Role;

/// A server looks for a new generation twice a second.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// How long before their end certificates and tokens are warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

pub(super) fn configuration(findings: &mut Findings, path: &Path) -> Option<Config> {
    findings.of(&CONFIGURATION, "configuration", Config::load(path), |_| path.display().to_string())
}

/// What each provider says of itself.
pub(super) fn providers(findings: &mut Findings, config: &Config) -> Vec<Probed> {
    let all = assemble::probe(config, &env());
    for Probed { name, answer, ends, .. } in &all {
        let what = format!("provider {name:?}");
        match answer {
            Ok(probe) => {
                let fact = |(name, value): &(String, String)| match name.as_str() {
                    "place" => value.clone(),
                    name => format!("{name} {value}"),
                };
                let facts: Vec<_> = probe.facts.iter().map(fact).collect();
                findings.ok(&PROVIDER, format!("{what}: {}", facts.join(", ")));
            }
            Err(error) => findings.error(&PROVIDER, &what, error),
        }
        ends.iter().for_each(|end| credential_end(findings, name, end));
    }
    all
}

/// The keys, opened as a server opens them.
pub(super) fn keys(findings: &mut Findings, config: &Config) -> Option<Custodian> {
    let started = assemble::start(config, Role::Command, env());
    let started = findings.of(&KEYS, "keys", started, |custodian: &Custodian| {
        let status = custodian.status();
        format!(
            "{} in {} versions, all check values right, opened by {:?}, generation {}",
            status.keys, status.versions, status.provider, status.generation
        )
    })?;
    if let Some(found) = started.status().stash {
        stash(findings, &found);
    }
    dates(findings, config, &started);
    wrappings(findings, config, &started);
    Some(started)
}

/// Whether the server, which has told that it has generation `seen`, has taken up the newest.
pub(super) fn generation(
    findings: &mut Findings,
    custodian: &Custodian,
    seen: u64,
    options: &server::Options,
) {
    let generation = custodian.status().generation;
    let seen = if seen == generation { generation } else { settled(options, seen) };
    if seen != generation {
        let what = format!("the server has generation {seen}, the keystore {generation}");
        findings.warn(&GENERATION, what, "see Keyward_degraded_reason in SHOW GLOBAL STATUS");
    }
}

/// The server's generation after the time that it may take to notice a new one; `seen` if it no
/// longer answers.
fn settled(options: &server::Options, seen: u64) -> u64 {
    std::thread::sleep(NOTICED_WITHIN);
    running::ask(options).ok().and_then(|server| server.generation()).unwrap_or(seen)
}

/// What a log-in of `provider` needs and how long that lasts.
fn credential_end(findings: &mut Findings, provider: &str, End { what, at }: &End) {
    let (what, advice) = match what {
        Ending::Certificate(path) => {
            (format!("certificate {}", path.display()), "put a renewed one in its place")
        }
        Ending::Token { renewable: false } => ("token".into(), "give it a new one before"),
        // A running server renews it.
        Ending::Token { renewable: true } => return,
    };
    let now = System.now();
    let is_near = at.since(now) < SOON;
    let when = match *at > now {
        true => format!("ends at {at}, in {}", age(at.since(now))),
        false => format!("ended at {at}"),
    };
    let mark = if is_near { Mark::Warning } else { Mark::Ok };
    let what = format!("provider {provider:?}: {what} {when}");
    findings.add(&CREDENTIAL_END, mark, what, is_near.then_some(advice));
}

/// Whether those that are configured wrap the keystore, and nobody else does.
fn wrappings(findings: &mut Findings, config: &Config, custodian: &Custodian) {
    let wrapped_by: Vec<_> = custodian.wrappings().into_iter().map(|(name, _)| name).collect();
    // Keys that are served have none.
    if wrapped_by.is_empty() {
        return;
    }
    let configured: Vec<_> = config.providers.iter().map(|provider| &*provider.name).collect();
    for name in configured.iter().filter(|name| !wrapped_by.iter().any(|one| one == *name)) {
        let what = format!("provider {name:?} does not wrap the keystore yet, and opens nothing");
        findings.warn(&WRAPPINGS, what, "run keyward keystore rewrap");
    }
    for name in wrapped_by.iter().filter(|name| !configured.contains(&&***name)) {
        let what = format!("provider {name:?} wraps the keystore, and is not configured");
        let advice = "configure it, or take its wrapping away: keyward keystore rewrap --prune";
        findings.warn(&WRAPPINGS, what, advice);
    }
    match &*wrapped_by {
        [only] if !custodian.has_backup_recipients() => {
            let what =
                format!("provider {only:?} alone opens the keystore, and nobody its backups");
            let advice = "add a second [[provider]] and run keyward keystore rewrap, or make a secret for \
                          backups: keyward keystore backup --identity FILE";
            findings.warn(&SOLE_WRAPPING, what, advice);
        }
        all => findings.ok(&SOLE_WRAPPING, format!("wrapped by {}", all.join(", "))),
    }
}

/// A version that is dated after today never grows old enough to be rotated by time.
fn dates(findings: &mut Findings, config: &Config, custodian: &Custodian) {
    let entries = custodian.entries();
    let now = System.now();
    if let Err(error) = config.policy.check_clock(now, entries.iter()) {
        return findings.error(&DATES, "dates", &error);
    }
    for Ahead { key, since } in config.policy.ahead(now, entries.iter()) {
        let what = format!("dates: {key} is of {since}, and the clock says {now}");
        let advice = match key.name {
            KeyName::Id(id) => {
                format!("set the clock; `keyward rotate {id}` gives it today's date")
            }
            KeyName::Named { .. } => "set the clock".to_owned(),
        };
        findings.warn(&DATES, what, &advice);
    }
}

fn stash(findings: &mut Findings, stash: &StashState) {
    let path = stash.path.display();
    match (stash.taken, &stash.failure) {
        (_, Some(failure)) => {
            let advice = "without it no server starts while the key store is away";
            findings.fail(&STASH, format!("stash: {failure}"), advice);
        }
        (None, None) => {
            let what = format!("stash: there is none at {path} yet");
            findings.warn(&STASH, what, "start the server while the key store answers");
        }
        (Some(taken), None) => {
            let old = age(System.now().since(taken));
            let what = format!("stash: {path} opens, taken {old} ago at {taken}");
            let mark = if stash.in_use { Mark::Warning } else { Mark::Ok };
            let advice = stash.in_use.then_some("it stands in: the key store is away");
            findings.add(&STASH, mark, what, advice);
        }
    }
}

//! `keyward doctor`: everything that can be wrong, looked at before it hurts.

#![forbid(unsafe_code)]

mod component;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::assemble::{self, Probed};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::age;
use crate::cli::helpers::print::{Mark, Printer, plain};
use crate::cli::helpers::server::{self, Server};
use crate::cli::helpers::trail;
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::error::{Error, Result};
use crate::event::{Fault, StashState};
use crate::key::KeyName;
use crate::policy::Ahead;
use crate::provider::{End, Ending};
use crate::source::Role;

/// A server looks for a new generation twice a second.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// How long before their end certificates and tokens are warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

#[derive(Serialize)]
struct Finding {
    mark: Mark,
    what: String,
    advice: Option<String>,
}

pub(super) fn run(path: &Path, options: &server::Options, printer: &Printer) -> Result<Exit> {
    let mut findings = Findings::default();
    // A file of MySQL's component tells which server it is.
    match path.extension().is_some_and(|ending| ending == "cnf") {
        true => of_mysql(&mut findings, path, options),
        false => of_mariadb(&mut findings, path, options),
    }
    printer.show(&findings.0, &plain_lines(&findings.0))?;
    let failed = findings.0.iter().any(|finding| finding.mark == Mark::Failed);
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

fn of_mysql(findings: &mut Findings, path: &Path, options: &server::Options) {
    let server = component::ask(options);
    let config = findings.configuration(path);
    if let Some(config) = &config
        && !component::is_to_be_made(findings, path)
    {
        findings.keys(config, None, options);
    }
    let keystore = config.as_ref().map(|config| &*config.keystore.path);
    component::check(findings, path, keystore, server);
}

fn of_mariadb(findings: &mut Findings, path: &Path, options: &server::Options) {
    let server = server::ask(options);
    if let Some(config) = findings.configuration(path) {
        findings.keys(&config, server.as_ref().ok(), options);
    }
    findings.server(server);
}

/// The server's generation after the time that it may take to notice a new one; `seen` if it no
/// longer answers.
fn settled(options: &server::Options, seen: u64) -> u64 {
    std::thread::sleep(NOTICED_WITHIN);
    server::ask(options).ok().and_then(|server| server.generation).unwrap_or(seen)
}

fn plain_lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{}  {}\n", finding.mark.painted(), plain(&finding.what));
        if let Some(advice) = &finding.advice {
            text += &format!("      -> {}\n", plain(advice));
        }
    }
    text
}

/// What was looked at so far.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, mark: Mark, what: impl Into<String>, advice: Option<&str>) {
        let advice = advice.map(str::to_owned);
        self.0.push(Finding { mark, what: what.into(), advice });
    }

    fn error(&mut self, what: &str, error: &Error) {
        self.add(Mark::Failed, format!("{what}: {}", error.what()), error.advice());
    }

    /// Notes how `outcome` turned out and hands on what it holds.
    fn of<T>(
        &mut self,
        what: &str,
        outcome: Result<T>,
        tell: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.add(Mark::Ok, format!("{what}: {}", tell(&value)), None);
                Some(value)
            }
            Err(error) => {
                self.error(what, &error);
                None
            }
        }
    }

    fn configuration(&mut self, path: &Path) -> Option<Config> {
        self.of("configuration", Config::load(path), |_| path.display().to_string())
    }

    fn keys(&mut self, config: &Config, server: Option<&Server>, options: &server::Options) {
        for Probed { name, answer, ends } in assemble::probe(config, &env()) {
            self.of(&format!("provider {name:?}"), answer, |probe| {
                let facts: Vec<_> = probe.facts.iter().map(|(k, v)| format!("{k} {v}")).collect();
                facts.join(", ")
            });
            ends.iter().for_each(|end| self.end(&name, end));
        }
        let started = assemble::start(config, Role::Command, env());
        let started = self.of("keys", started, |custodian: &Custodian| {
            let status = custodian.status();
            format!(
                "{} in {} versions, all check values right, opened by {:?}, generation {}",
                status.keys, status.versions, status.provider, status.generation
            )
        });
        if let Some(stash) = started.as_ref().and_then(|custodian| custodian.status().stash) {
            self.stash(&stash);
        }
        if let Some(custodian) = &started {
            self.dates(config, custodian);
            self.trail(config, custodian);
            self.sinks(config, custodian);
        }
        if let (Some(custodian), Some(Server { generation: Some(seen), .. })) = (started, server) {
            let generation = custodian.status().generation;
            let seen = if *seen == generation { generation } else { settled(options, *seen) };
            if seen != generation {
                let what = format!("the server has generation {seen}, the keystore {generation}");
                self.add(
                    Mark::Warning,
                    what,
                    Some("see Keyward_degraded_reason in SHOW GLOBAL STATUS"),
                );
            }
        }
    }

    /// What a log-in of `provider` needs and how long that lasts.
    fn end(&mut self, provider: &str, End { what, at }: &End) {
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
        self.add(mark, what, is_near.then_some(advice));
    }

    /// Whether the audit trail is as the keystore knows it.
    fn trail(&mut self, config: &Config, custodian: &Custodian) {
        let verdict = match trail::verify(config, custodian) {
            Ok(verdict) => verdict,
            Err(error) => return self.error("audit trail", &error),
        };
        // A keystore that was restored without its trail has none of the lines before.
        let is_absent = |fault: &Fault| matches!(fault, Fault::Missing { .. });
        let is_restored = verdict.lines == 0 || verdict.faults.iter().all(is_absent);
        match (verdict.faults.first(), verdict.anchored) {
            (Some(fault), _) => {
                let mark = if is_restored { Mark::Warning } else { Mark::Failed };
                let advice =
                    "`keyward audit verify` shows all; put the whole trail back if there is one";
                self.add(mark, format!("audit trail: {fault}"), Some(advice));
            }
            (None, Some(line)) => {
                let what =
                    format!("audit trail: {} lines, proven up to line {line}", verdict.lines);
                self.add(Mark::Ok, what, None);
            }
            (None, None) => {}
        }
    }

    /// Whether the trail is copied to where it is wanted.
    fn sinks(&mut self, config: &Config, custodian: &Custodian) {
        if config.sinks.is_empty() {
            return;
        }
        let (waiting, lost) = custodian.backlog().counts();
        let lost = if lost > 0 { format!(", {lost} were given up") } else { String::new() };
        let what = format!("sinks: {waiting} lines of the audit trail wait{lost}");
        let mark = if waiting > 0 { Mark::Warning } else { Mark::Ok };
        let advice = "the server's error log says which sink does not take them";
        self.add(mark, what, (waiting > 0).then_some(advice));
    }

    /// A version that is dated after today never grows old enough to be rotated by time.
    fn dates(&mut self, config: &Config, custodian: &Custodian) {
        let entries = custodian.entries();
        let now = System.now();
        if let Err(error) = config.policy.check_clock(now, entries.iter()) {
            return self.error("dates", &error);
        }
        for Ahead { key, since } in config.policy.ahead(now, entries.iter()) {
            let what = format!("dates: {key} is of {since}, and the clock says {now}");
            let advice = match key.name {
                KeyName::Id(id) => {
                    format!("set the clock; `keyward rotate {id}` gives it today's date")
                }
                KeyName::Named { .. } => "set the clock".to_owned(),
            };
            self.add(Mark::Warning, what, Some(&advice));
        }
    }

    fn stash(&mut self, stash: &StashState) {
        let path = stash.path.display();
        match (stash.taken, &stash.failure) {
            (_, Some(failure)) => {
                let advice = "without it no server starts while the key store is away";
                self.add(Mark::Failed, format!("stash: {failure}"), Some(advice));
            }
            (None, None) => {
                let what = format!("stash: there is none at {path} yet");
                self.add(Mark::Warning, what, Some("start the server while the key store answers"));
            }
            (Some(taken), None) => {
                let old = age(System.now().since(taken));
                let what = format!("stash: {path} opens, taken {old} ago at {taken}");
                let mark = if stash.in_use { Mark::Warning } else { Mark::Ok };
                let advice = stash.in_use.then_some("it stands in: the key store is away");
                self.add(mark, what, advice);
            }
        }
    }

    fn server(&mut self, server: Result<Server, String>) {
        let server = match server {
            Ok(server) => server,
            Err(words) => {
                let advice = server::advice(&words);
                return self.add(Mark::Skipped, format!("server: {words}"), Some(advice));
            }
        };
        match server.plugin.as_deref() {
            Some("ACTIVE") => self.add(Mark::Ok, "server: plugin keyward is active", None),
            Some(state) => {
                let what = format!("server: plugin keyward is {state}");
                self.add(Mark::Failed, what, Some("see the server's error log"));
            }
            None => {
                let advice = "add plugin_load_add = keyward to my.cnf and restart";
                return self.add(
                    Mark::Failed,
                    "server: plugin keyward is not loaded",
                    Some(advice),
                );
            }
        }
        self.library(server.version.as_deref(), server.library_replaced);
        if let Some(is_locked) = server.memory_locked {
            self.memory(is_locked);
        }
        if let Some((safe, reason)) = &server.restart {
            self.restart(safe, reason);
        }
        self.option(
            server.load_option == "FORCE_PLUS_PERMANENT",
            &format!("server: keyward = {}", server.load_option),
            "keyward = FORCE_PLUS_PERMANENT, or a server whose keys failed starts without its tables",
        );
        self.option(
            server.threads > 0,
            &format!("server: innodb_encryption_threads = {}", server.threads),
            "innodb_encryption_threads = 4, or no page is ever re-encrypted",
        );
        self.option(
            server.encrypt_tables != "OFF",
            &format!("server: innodb_encrypt_tables = {}", server.encrypt_tables),
            "innodb_encrypt_tables = ON, or no page is ever re-encrypted, of no table",
        );
        self.option(
            server.rotate_key_age > 0,
            &format!("server: innodb_encryption_rotate_key_age = {}", server.rotate_key_age),
            "innodb_encryption_rotate_key_age = 1, or a rotation moves no page",
        );
    }

    /// Whether the server runs the library of `version`, which may be older than the installed one.
    fn library(&mut self, version: Option<&str>, is_replaced: bool) {
        let what = match (is_replaced, version == Some(env!("CARGO_PKG_VERSION"))) {
            (false, true) => return,
            (true, _) => "the file of its library was replaced or removed",
            (false, false) => concat!("this command is of keyward ", env!("CARGO_PKG_VERSION")),
        };
        let version = version.unwrap_or("of an unknown version");
        let what = format!("server: it runs keyward {version}, and {what}");
        let advice = "the server goes on as before; a restart loads the library that is installed \
                      then: if there is none, install it first";
        self.add(Mark::Warning, what, Some(advice));
    }

    /// Whether the server has locked the memory in which it keeps keys.
    fn memory(&mut self, is_locked: bool) {
        match is_locked {
            true => self.add(Mark::Ok, "server: the memory with its keys is locked", None),
            false => {
                let what =
                    "server: some of the memory with its keys is not locked, and may reach swap";
                let advice = "raise LimitMEMLOCK in its unit (ulimit -l), then restart it";
                self.add(Mark::Warning, what, Some(advice));
            }
        }
    }

    /// What the running server knows of its next start.
    fn restart(&mut self, safe: &str, reason: &str) {
        let (mark, what) = match safe {
            "yes" => (Mark::Ok, "a restart would succeed"),
            "no" => (Mark::Failed, "a restart would fail"),
            _ => (Mark::Skipped, "whether a restart would succeed is unknown"),
        };
        let what = if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") };
        let advice = "once that is put right, SET GLOBAL keyward_refresh = ON checks again";
        self.add(mark, format!("server: {what}"), (mark == Mark::Failed).then_some(advice));
    }

    pub(super) fn option(&mut self, good: bool, what: &str, advice: &str) {
        match good {
            true => self.add(Mark::Ok, what, None),
            false => self.add(Mark::Warning, what, Some(&format!("set {advice}"))),
        }
    }
}

//! `keyward keys destroy`: the end of a key version, once nothing needs it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::cli::helpers::arguments::{parse_id, parse_version};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::scan::Scan;
use crate::cli::helpers::{belongs, privilege, server};
use crate::custodian::Custodian;
use crate::env::{Clock, System, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyRef, KeyState, KeyVersion};
use crate::manager::{Destruction, Judged};
use crate::policy::{MAX_DESTROY_WAIT, MIN_DESTROY_WAIT};
use crate::source::Reason;

#[derive(clap::Args)]
#[command(
    override_usage = "keyward keys destroy <ID> <VERSION|--unneeded> --datadir <DIR> [OPTIONS]\n       \
                      keyward keys destroy <ID> <VERSION> --cancel\n       \
                      keyward keys destroy --due --datadir <DIR> [OPTIONS]"
)]
pub(in crate::cli) struct Options {
    /// The key
    #[arg(value_name = "ID", value_parser = parse_id, required_unless_present = "due")]
    id: Option<KeyId>,
    /// The version of it
    #[arg(value_name = "VERSION", value_parser = parse_version, required_unless_present_any = ["due", "unneeded"])]
    version: Option<KeyVersion>,
    /// Each version of the key that nothing needs and that may go by now
    #[arg(long, requires = "id", conflicts_with = "version")]
    unneeded: bool,
    /// A data directory, or another folder where the server keeps files
    #[arg(long, value_name = "DIR", required_unless_present = "cancel")]
    datadir: Vec<PathBuf>,
    /// The mark of a registered data directory that no longer exists [`keyward status` lists them]
    #[arg(long, value_name = "MARK_ID")]
    gone: Vec<String>,
    /// A backup that must stay readable
    #[arg(long, value_name = "DIR")]
    backup: Vec<PathBuf>,
    /// A file of no known format that you know to need no key
    #[arg(long, value_name = "FILE")]
    ignore: Vec<PathBuf>,
    /// How long to wait, 7d to 30d [default: destroy_wait of the configuration]
    #[arg(long, value_name = "TIME", value_parser = parse_wait)]
    wait: Option<Duration>,
    /// Call it off
    #[arg(long, conflicts_with_all = ["due", "datadir", "gone", "backup", "wait", "unneeded"])]
    cancel: bool,
    /// Destroy the versions whose waiting time has passed
    #[arg(long, conflicts_with_all = ["id", "version", "wait", "unneeded"])]
    due: bool,
    /// Why, for the history
    #[arg(long, default_value = "keyward keys destroy", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    pub(super) server: server::Options,
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text).map_err(|_| format!("{text:?} is not a time"))?;
    match (MIN_DESTROY_WAIT..=MAX_DESTROY_WAIT).contains(&wait) {
        true => Ok(wait),
        false => Err("must be from 7d to 30d".to_owned()),
    }
}

/// What came of one version.
#[derive(Serialize)]
struct Outcome {
    key: KeyRef,
    /// `planned`, `kept`, `cancelled`, `destroyed`, `refused` or `unknown`.
    outcome: &'static str,
    /// When it is to be destroyed.
    at: Option<Timestamp>,
    /// Why it was refused or stays, or why it is not known whether it was destroyed.
    why: Option<String>,
    /// Freed pages that carry the version; they do not count.
    freed: u64,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let (config, custodian) = open(config)?;
    let actor = privilege::actor();
    let command = Command {
        options,
        custodian,
        wait: options.wait.unwrap_or(config.policy.destroy_wait),
        reason: Reason { actor: &actor, text: &options.reason },
    };
    let outcomes = match (options.id, options.version) {
        (Some(id), Some(version)) => vec![command.one(KeyRef::new(id, version))?],
        (Some(id), None) => command.unneeded(id)?,
        (None, _) => command.due()?,
    };
    let none = match options.due {
        true => "nothing is due\n",
        false => "each version of it encrypts, is destroyed, or is planned to be\n",
    };
    printer.show(&outcomes, &plain_lines(&text(&outcomes, none)))?;
    let any = |outcome: &str| outcomes.iter().any(|one| one.outcome == outcome);
    Ok(match (any("unknown"), any("refused")) {
        (true, _) => Exit::Unknown,
        (false, true) => Exit::Failure,
        (false, false) => Exit::Success,
    })
}

struct Command<'a> {
    options: &'a Options,
    custodian: Custodian,
    wait: Duration,
    reason: Reason<'a>,
}

impl Command<'_> {
    fn one(&self, key: KeyRef) -> Result<Outcome> {
        if self.options.cancel {
            self.step(&Destruction::Cancel(key.clone()), &Judged::default())?;
            return Ok(Outcome::new(key, "cancelled", None, 0));
        }
        // Reading the files may take hours: what can be refused at once, is.
        self.custodian.manager()?.may_destroy(&key)?;
        let (scan, judged) = self.scan()?;
        self.plan(key, &scan, &judged)
    }

    /// Plans the destruction of `key`, unless a file of `scan` needs it.
    fn plan(&self, key: KeyRef, scan: &Scan, judged: &Judged) -> Result<Outcome> {
        scan.check(&key)?;
        self.step(&Destruction::Plan(key.clone(), self.wait), judged)?;
        let planned = self.custodian.manager()?.pending_destructions();
        let at = planned.into_iter().find(|pending| pending.0 == key);
        let freed = scan.freed(&key);
        Ok(Outcome::new(key, "planned", at.map(|(_, at)| at), freed))
    }

    /// Plans that of each old version of key `id` that nothing needs. One that is needed stays, which is no
    /// failure.
    fn unneeded(&self, id: KeyId) -> Result<Vec<Outcome>> {
        let (mut may, mut outcomes) = (Vec::new(), Vec::new());
        for key in self.old_versions(id)? {
            match self.custodian.manager()?.may_destroy(&key) {
                Ok(()) => may.push(key),
                Err(why) => outcomes.push(Outcome::kept(key, &why)),
            }
        }
        if may.is_empty() {
            return Ok(outcomes);
        }
        let (scan, judged) = self.scan()?;
        for key in may {
            outcomes.push(match scan.check(&key) {
                Ok(()) => self
                    .plan(key.clone(), &scan, &judged)
                    .unwrap_or_else(|why| Outcome::new(key, "planned", None, 0).failed(&why)),
                Err(why) => Outcome::kept(key, &why),
            });
        }
        Ok(outcomes)
    }

    /// The versions of key `id` that encrypt no more and are not planned to be destroyed.
    fn old_versions(&self, id: KeyId) -> Result<Vec<KeyRef>> {
        let planned = self.custodian.manager()?.pending_destructions();
        let is_planned = |key: &KeyRef| planned.iter().any(|pending| pending.0 == *key);
        let mut keys = self.custodian.keys();
        keys.retain(|info| info.key.name == id.into());
        if keys.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("there is no key {id}"))
                .advise("`keyward keys list` shows all"));
        }
        let is_old = |state| matches!(state, KeyState::Retired | KeyState::Compromised);
        let old = keys.into_iter().filter(|info| is_old(info.state) && !is_planned(&info.key));
        Ok(old.map(|info| info.key).collect())
    }

    fn due(&self) -> Result<Vec<Outcome>> {
        let now = System.now();
        let mut due = self.custodian.manager()?.pending_destructions();
        due.retain(|(_, at)| *at <= now);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        // Much can have happened since it was planned: a backup restored, a table imported.
        let (scan, judged) = self.scan()?;
        let mut outcomes = Vec::new();
        for (key, at) in due {
            let freed = scan.freed(&key);
            let step = Destruction::CarryOut(key.clone());
            let done = scan.check(&key).and_then(|()| self.step(&step, &judged));
            let outcome = Outcome::new(key, "destroyed", Some(at), freed);
            outcomes.push(match done {
                Ok(()) => outcome,
                Err(error) => outcome.failed(&error),
            });
        }
        Ok(outcomes)
    }

    fn step(&self, step: &Destruction, judged: &Judged) -> Result<()> {
        self.custodian.manager()?.destroy(step, judged, self.reason)
    }

    /// What the files need, and the registered data directories that it speaks for: all of them.
    fn scan(&self) -> Result<(Scan, Judged)> {
        let Options { datadir, gone, backup, ignore, server, .. } = self.options;
        if datadir.is_empty() {
            return Err(Error::new(Kind::Config, "no --datadir"));
        }
        let judged = belongs::judge(datadir, gone, &self.custodian)?;
        let scan = Scan::of(datadir, backup, ignore, server)?;
        belongs::check(datadir, &self.custodian)?;
        Ok((scan, judged))
    }
}

impl Outcome {
    fn new(key: KeyRef, outcome: &'static str, at: Option<Timestamp>, freed: u64) -> Self {
        Self { key, outcome, at, why: None, freed }
    }

    /// The same, which was not done, or perhaps not.
    fn failed(self, error: &Error) -> Self {
        let outcome = if error.kind() == Kind::Unknown { "unknown" } else { "refused" };
        Self { outcome, why: Some(error.to_string()), ..self }
    }

    fn kept(key: KeyRef, why: &Error) -> Self {
        let why = Some(why.to_string());
        Self { key, outcome: "kept", at: None, why, freed: 0 }
    }
}

fn text(outcomes: &[Outcome], none: &str) -> String {
    let mut text = String::new();
    for Outcome { key, outcome, at, why, freed } in outcomes {
        text += &match (*outcome, at, why) {
            ("planned", Some(at), _) => format!(
                "nothing needs {key}; it will be destroyed by the first \
                 `keyward keys destroy --due` after {at}\n`keyward keys destroy {} {} --cancel` calls it off\n",
                key.name, key.version
            ),
            ("cancelled", ..) => format!("{key} stays\n"),
            ("unknown", _, Some(why)) => {
                format!("{key} may be destroyed, or planned to be: {why}\n")
            }
            (_, _, Some(why)) => format!("{key} stays for now: {why}\n"),
            _ => format!("{key} is destroyed\n"),
        };
        if *freed > 0 {
            text += &format!("{freed} freed pages carry it still; nobody will read them\n");
        }
    }
    if outcomes.is_empty() {
        text += none;
    }
    text
}

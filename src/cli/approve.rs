//! `keyward approve`: what waits for approvals, and the signatures of those who give them.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::approval::{MAX_SIGNATURE, Request};
use crate::assemble;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::env;
use crate::cli::helpers::print::{Printer, plain, plain_lines, table};
use crate::cli::helpers::{confine, privilege};
use crate::config::Config;
use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::manager::Standing;
use crate::source::Reason;
use crate::trust;

#[derive(clap::Args)]
pub(super) struct Options {
    /// The request, by its id, the first digits of that, or its file [default: list all that wait]
    #[arg(value_name = "REQUEST")]
    request: Option<PathBuf>,
    /// Signatures that approvers made by `ssh-keygen -Y sign -n keyward-approval-v1` of the request's file
    #[arg(value_name = "FILE.sig")]
    signatures: Vec<PathBuf>,
}

/// A request, for machines.
#[derive(Serialize)]
struct Shown {
    id: String,
    action: &'static str,
    targets: Vec<String>,
    requester: String,
    reason: String,
    made: Timestamp,
    ends: Timestamp,
    file: PathBuf,
    needed: u32,
    approvers: Vec<String>,
    void: Option<String>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let config = Config::load(config)?;
    let manager = assemble::approvals(&config, &env())?;
    let Some(request) = &options.request else {
        let all = manager.requests()?;
        let shown: Vec<_> = all.iter().map(Shown::of).collect();
        printer.show(&shown, &listing(&all))?;
        return Ok(Exit::Success);
    };
    let id = id_of(request);
    let mut failed = false;
    for file in &options.signatures {
        let actor = privilege::actor();
        let reason = Reason { actor: &actor, text: "keyward approve" };
        let named = |error: Error| error.within(file.display());
        let taken =
            read(file).and_then(|bytes| manager.approve(&id, &bytes, reason).map_err(named));
        if let Err(error) = taken {
            failed = true;
            printer.error(&error);
        }
    }
    let standing = manager.request(&id)?;
    let whole = options.signatures.is_empty();
    printer.show(&Shown::of(&standing), &plain_lines(&text(&standing, whole)))?;
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// The id that `request` begins with: of a file, what its name has before the ending.
fn id_of(request: &Path) -> String {
    let name = request.file_stem().unwrap_or(request.as_os_str());
    name.to_string_lossy().into_owned()
}

/// A signature, whoever wrote it.
fn read(file: &Path) -> Result<Vec<u8>> {
    let read = confine::reading(|| trust::read_untrusted(file, MAX_SIGNATURE))?;
    read.map_err(|refused| refused.of("cannot read", file))
}

impl Shown {
    fn of(standing: &Standing) -> Self {
        let Standing { request, path, approvers, needed, void, .. } = standing;
        Self {
            id: request.id.to_string(),
            action: request.subject.action().name(),
            targets: request.subject.targets().to_vec(),
            requester: request.requester.clone(),
            reason: request.reason.clone(),
            made: request.made,
            ends: request.ends,
            file: path.clone(),
            needed: *needed,
            approvers: approvers.iter().map(ToString::to_string).collect(),
            void: void.clone(),
        }
    }
}

fn listing(all: &[Standing]) -> String {
    if all.is_empty() {
        return "nothing waits for approvals\n".to_owned();
    }
    let row = |standing: &Standing| {
        let Request { subject, requester, ends, .. } = &standing.request;
        let target = subject.targets().first().map(String::as_str).unwrap_or_default();
        vec![
            standing.request.short(),
            subject.action().to_string(),
            target.split(',').next().unwrap_or_default().to_owned(),
            requester.clone(),
            ends.to_string(),
            standing.void.clone().unwrap_or_else(|| counted(standing)),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table(&["REQUEST", "ACTION", "OF", "ASKED BY", "ENDS", "APPROVALS"], &rows)
}

fn counted(standing: &Standing) -> String {
    format!("{} of {}", standing.approvers.len(), standing.needed)
}

/// How a request stands, after its own text where that is asked for.
fn text(standing: &Standing, whole: bool) -> String {
    let mut text = if whole { standing.text.clone() + "\n" } else { String::new() };
    for approver in &standing.approvers {
        text += &format!("approved by {} ({})\n", plain(approver.name()), approver.fingerprint());
    }
    let short = standing.request.short();
    text += &match &standing.void {
        Some(void) => format!("request {short} counts no more: {void}\n"),
        None if standing.is_approved() => format!(
            "request {short} has its {} approvals: give the command that asked again, before {}\n",
            standing.needed, standing.request.ends
        ),
        None => format!(
            "request {short} has {} approvals, until {}; its file is {}\n",
            counted(standing),
            standing.request.ends,
            standing.path.display()
        ),
    };
    text
}

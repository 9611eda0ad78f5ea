//! `keyward keystore approvers`: the people who approve what shows or removes keys.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::Serialize;

use crate::approval::PublicKey;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain_lines};
use crate::cli::helpers::{confine, privilege};
use crate::error::{Error, Kind, Result};
use crate::manager::of_approvers;
use crate::source::Reason;
use crate::store::Contents;
use crate::trust;

/// The longest file of public keys, in bytes.
const MAX_LEN: u64 = 1 << 16;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// From now on so many of the approvers that follow must agree; 0 without any ends that
    #[arg(long, value_name = "N")]
    need: Option<u32>,
    /// Their SSH public keys: files .pub, or the line itself
    #[arg(value_name = "KEY.pub", requires = "need")]
    keys: Vec<String>,
    /// The word that the first call without it prints: so the first approvers are set on purpose. Later changes
    /// are approved by the approvers of before
    #[arg(long, value_name = "WORD", requires = "need")]
    confirm: Option<String>,
    /// Why, for the audit trail
    #[arg(long, default_value = "keyward keystore approvers", value_name = "TEXT")]
    reason: String,
}

/// Who approves, for machines.
#[derive(Serialize)]
struct Shown {
    needed: u32,
    approvers: Vec<Approver>,
    /// What is to be given as --confirm, where nothing was changed yet.
    confirm: Option<String>,
}

#[derive(Serialize)]
struct Approver {
    name: String,
    fingerprint: String,
    key: String,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let (_, custodian) = open(config)?;
    let mut manager = custodian.manager()?;
    let contents = |now: Option<&Contents>| {
        now.cloned().ok_or_else(|| Error::new(Kind::Internal, "the keystore is not open"))
    };
    let before = contents(manager.contents())?;
    let nobody = before.registers().approvers.needed == 0;
    let Some(needed) = options.need.filter(|needed| *needed > 0 || !nobody) else {
        let shown = Shown::of(&before);
        printer.show(&shown, &plain_lines(&shown.text()))?;
        return Ok(Exit::Success);
    };
    let keys = keys(&options.keys)?;
    manager.may_set_approvers(&keys, needed)?;
    let word =
        format!("approvers-{}", &of_approvers(&before, &keys, needed).digest().to_string()[..8]);
    // Nobody is there yet who could approve.
    if nobody && options.confirm.as_ref() != Some(&word) {
        let shown = Shown {
            needed,
            approvers: keys.iter().map(Approver::of).collect(),
            confirm: Some(word),
        };
        printer.show(&shown, &plain_lines(&shown.proposed()))?;
        return Ok(Exit::Success);
    }
    let actor = privilege::actor();
    manager.set_approvers(&keys, needed, Reason { actor: &actor, text: &options.reason })?;
    let shown = Shown::of(&contents(manager.contents())?);
    printer.show(&shown, &plain_lines(&shown.text()))?;
    Ok(Exit::Success)
}

/// The keys that the call names, by file or as they are.
fn keys(words: &[String]) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for word in words {
        if word.contains(' ') {
            keys.push(word.parse()?);
            continue;
        }
        let file = Path::new(word);
        let bytes = confine::reading(|| trust::read_untrusted(file, MAX_LEN))?;
        let bytes = bytes.map_err(|refused| refused.of("cannot read", file))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            keys.push(line.parse().map_err(|error: Error| error.within(file.display()))?);
        }
    }
    Ok(keys)
}

impl Approver {
    fn of(key: &PublicKey) -> Self {
        Self { name: key.name().to_owned(), fingerprint: key.fingerprint(), key: key.to_string() }
    }
}

impl Shown {
    fn of(contents: &Contents) -> Self {
        let approvers = &contents.registers().approvers;
        let keys = approvers.keys.iter().filter_map(|key| key.parse().ok());
        Self {
            needed: approvers.needed,
            approvers: keys.map(|key: PublicKey| Approver::of(&key)).collect(),
            confirm: None,
        }
    }

    fn text(&self) -> String {
        match self.needed {
            0 => "nothing needs approvals: no approvers are registered\n".to_owned(),
            needed => {
                let of = self.approvers.len();
                format!(
                    "{needed} of these {of} approve what shows or removes keys:\n{}",
                    self.lines()
                )
            }
        }
    }

    fn proposed(&self) -> String {
        let (needed, of) = (self.needed, self.approvers.len());
        let word = self.confirm.as_deref().unwrap_or_default();
        format!(
            "{needed} of these {of} are to approve what shows or removes keys:\n{}compare the fingerprints with the people themselves (ssh-keygen -l -f KEY.pub); afterwards only \
             {needed} of them together can change this\n\
             nothing was changed; to go on, give the same call with --confirm {word}\n",
            self.lines()
        )
    }

    fn lines(&self) -> String {
        let line = |one: &Approver| {
            format!(
                "  {} {}: not of what {} asks for\n",
                one.fingerprint,
                one.name,
                person(&one.name)
            )
        };
        self.approvers.iter().map(line).collect()
    }
}

fn person(name: &str) -> &str {
    name.split(['@', ' ']).next().unwrap_or(name)
}

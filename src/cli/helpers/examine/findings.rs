//! What was found, thing by thing.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::catalogue::Check;
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::{Mark, plain};
use crate::error::{Error, Result};

/// One thing that was looked at, and how it is.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Finding {
    /// The check's id: see [`Check`].
    pub(in crate::cli) id: &'static str,
    /// How it is.
    pub(in crate::cli) mark: Mark,
    /// What was found.
    pub(in crate::cli) what: String,
    /// What to do about it.
    pub(in crate::cli) advice: Option<String>,
}

/// What was looked at so far.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        check: &Check,
        mark: Mark,
        what: impl Into<String>,
        advice: Option<&str>,
    ) {
        let advice = advice.map(str::to_owned);
        self.0.push(Finding { id: check.id, mark, what: what.into(), advice });
    }

    pub(super) fn ok(&mut self, check: &Check, what: impl Into<String>) {
        self.add(check, Mark::Ok, what, None);
    }

    pub(super) fn warn(&mut self, check: &Check, what: impl Into<String>, advice: &str) {
        self.add(check, Mark::Warning, what, Some(advice));
    }

    pub(super) fn fail(&mut self, check: &Check, what: impl Into<String>, advice: &str) {
        self.add(check, Mark::Failed, what, Some(advice));
    }

    pub(super) fn error(&mut self, check: &Check, what: &str, error: &Error) {
        self.add(check, Mark::Failed, format!("{what}: {}", error.what()), error.advice());
    }

    /// Notes how `outcome` turned out and hands on what it holds.
    pub(super) fn of<T>(
        &mut self,
        check: &Check,
        what: &str,
        outcome: Result<T>,
        tell: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.ok(check, format!("{what}: {}", tell(&value)));
                Some(value)
            }
            Err(error) => {
                self.error(check, what, &error);
                None
            }
        }
    }

    /// An option of the server's: as it should be, or what to set.
    pub(super) fn option(&mut self, check: &Check, good: bool, what: &str, advice: &str) {
        match good {
            true => self.ok(check, what),
            false => self.warn(check, what, &format!("set {advice}")),
        }
    }
}

/// A line for each, beneath it what to do, and at the end where there is more to read.
pub(in crate::cli) fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{}  {}\n", finding.mark.painted(), plain(&finding.what));
        if let Some(advice) = &finding.advice {
            text += &format!("      -> {}\n", plain(advice));
        }
    }
    let wrong = |finding: &&Finding| matches!(finding.mark, Mark::Warning | Mark::Failed);
    let mut ids: Vec<_> = findings.iter().filter(wrong).map(|finding| finding.id).collect();
    ids.dedup();
    if !ids.is_empty() {
        text += &format!("more: keyward doctor --explain ID, of {}\n", ids.join(", "));
    }
    text
}

/// What scripts are told by the exit code: the worst of them.
pub(in crate::cli) fn exit(findings: &[Finding]) -> Exit {
    let has = |mark| findings.iter().any(|finding| finding.mark == mark);
    match (has(Mark::Failed), has(Mark::Warning)) {
        (true, _) => Exit::Failure,
        (false, true) => Exit::Unfinished,
        (false, false) => Exit::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::KEYS;
    use super::*;

    #[test]
    fn the_worst_of_all_is_the_exit_code() {
        let ended = |marks: &[Mark]| {
            let mut findings = Findings::default();
            marks.iter().for_each(|mark| findings.add(&KEYS, *mark, "x", None));
            exit(&findings.0)
        };
        assert_eq!(ended(&[]), Exit::Success);
        assert_eq!(ended(&[Mark::Ok, Mark::Skipped]), Exit::Success);
        assert_eq!(ended(&[Mark::Ok, Mark::Warning]), Exit::Unfinished);
        assert_eq!(ended(&[Mark::Failed, Mark::Warning]), Exit::Failure);
    }
}

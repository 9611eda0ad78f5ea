//! What standards ask for, and whether it is so: a table of requirements, each with a function that judges it.
//!
//! A verdict is of what keyward can see. Whether there is a written procedure, and whether people follow it, is
//! not ours to say.

#![forbid(unsafe_code)]

mod questions;
mod table;

use super::model::{Judged, Server, Verdict};
use table::RULES;

/// A requirement of a standard.
struct Rule {
    /// The standard, as a heading.
    standard: &'static str,
    /// The number there.
    number: &'static str,
    /// What it asks for, in own words.
    requirement: &'static str,
    /// What comes of it.
    judge: fn(&Server) -> Answer,
}

/// What comes of a requirement.
struct Answer {
    verdict: Verdict,
    evidence: Vec<String>,
}

/// Judges `server` by every requirement, in the order of the standards.
#[must_use]
pub fn judge(server: &Server) -> Vec<Judged> {
    let judged = |rule: &Rule| {
        let Answer { verdict, evidence } = (rule.judge)(server);
        Judged {
            standard: rule.standard.to_owned(),
            number: rule.number.to_owned(),
            requirement: rule.requirement.to_owned(),
            verdict,
            evidence,
        }
    };
    RULES.iter().map(judged).collect()
}

impl Answer {
    fn of(verdict: Verdict, evidence: impl Into<Vec<String>>) -> Self {
        Self { verdict, evidence: evidence.into() }
    }

    /// Met unless something is missing.
    fn unless(missing: Vec<String>, evidence: Vec<String>) -> Self {
        let verdict = if missing.is_empty() { Verdict::Met } else { Verdict::NotMet };
        Self::of(verdict, [missing, evidence].concat())
    }

    /// All of `answers` together: the worst verdict, and what each is seen by, once.
    fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::of(Verdict::Met, []);
        for Self { verdict, evidence } in answers {
            all.verdict = match (all.verdict, verdict) {
                (Verdict::NotMet, _) | (_, Verdict::NotMet) => Verdict::NotMet,
                (Verdict::NotOurs, _) | (_, Verdict::NotOurs) => Verdict::NotOurs,
                (Verdict::Met, Verdict::Met) => Verdict::Met,
            };
            for line in evidence {
                if !all.evidence.contains(&line) {
                    all.evidence.push(line);
                }
            }
        }
        all
    }

    /// The same, with what `other` is seen by.
    fn with(mut self, other: Self) -> Self {
        self.evidence.extend(other.evidence);
        self
    }

    /// The same, with a part that keyward cannot see.
    fn but(mut self, not_seen: &str) -> Self {
        self.evidence.push(format!("Not ours to say: {not_seen}"));
        self
    }
}

#[cfg(test)]
mod tests;

//! What a policy must allow, and whether it does.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::client::Call;
use crate::error::{Error, Kind, Result};

/// Capabilities that are needed on a path; one that ends in `*` stands for all paths that begin so.
pub(super) struct Right {
    path: String,
    needed: &'static [&'static str],
}

/// The answer of `sys/capabilities-self`.
#[derive(Deserialize)]
struct Capabilities {
    data: BTreeMap<String, serde_json::Value>,
}

impl Right {
    pub(super) fn new(path: String, needed: &'static [&'static str]) -> Self {
        Self { path, needed }
    }

    /// A path to ask for in place of all that the pattern stands for.
    fn sample(&self) -> String {
        self.path.replace('*', "1")
    }

    /// A rule of a policy, in HCL.
    pub(super) fn rule(&self) -> String {
        format!("path {:?} {{ capabilities = {:?} }}", self.path, self.needed)
    }
}

impl Call<'_> {
    /// Asks Vault which of `rights` our token has; the error for what is missing has the rules to
    /// add. A line for `doctor`, where all is there.
    pub(super) fn prove(&self, rights: &[Right]) -> Result<Vec<(String, String)>> {
        let renewal = Right::new("auth/token/renew-self".to_owned(), &["update"]);
        let renewal = self.client.session.lives_by_renewal().then_some(renewal);
        let rights: Vec<_> = rights.iter().chain(&renewal).collect();
        let paths: Vec<_> = rights.iter().map(|right| right.sample()).collect();
        let answer = self.post("sys/capabilities-self", &json!({ "paths": paths }));
        let found = match answer {
            Ok(answer) if answer.is_ok() => answer.json::<Capabilities>()?.data,
            // Tokens without the policy `default` may not ask.
            Ok(_) => return Ok(vec![unknown()]),
            Err(error) if error.kind() == Kind::Denied => return Ok(vec![unknown()]),
            Err(error) => return Err(error),
        };
        let has = |path: &str, wanted: &str| {
            let list = found.get(path).and_then(|value| value.as_array());
            list.is_some_and(|list| list.iter().any(|word| word == wanted || word == "root"))
        };
        let lacks = |right: &&&Right| {
            let sample = right.sample();
            right.needed.iter().any(|wanted| !has(&sample, wanted))
        };
        let missing: Vec<_> = rights.iter().filter(lacks).map(|right| right.rule()).collect();
        if missing.is_empty() {
            return Ok(vec![("rights".to_owned(), "all that are needed".to_owned())]);
        }
        let what = format!("{}: our token lacks rights", self.client.place());
        Err(Error::new(Kind::Denied, what)
            .advise(format!("add to its policy: {}", missing.join(" "))))
    }
}

fn unknown() -> (String, String) {
    ("rights".to_owned(), "not told: our token lacks the policy \"default\"".to_owned())
}

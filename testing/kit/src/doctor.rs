//! What `keyward --json doctor` says.

use std::process::Command;

use crate::command::answer;
use crate::{Result, ensure, seen};

/// Its exit code, and of each finding id, mark and text.
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Id, mark and text.
    pub findings: Vec<[String; 3]>,
}

impl Said {
    /// Runs `command`, which is such a call.
    pub fn by(command: &mut Command) -> Result<Self> {
        let said = answer(command)?;
        let json: serde_json::Value =
            serde_json::from_str(&said.out).map_err(|error| format!("{error}: {}", said.text()))?;
        let findings = json.as_array().ok_or("no list")?.iter().map(|finding| {
            ["id", "mark", "what"].map(|name| finding[name].as_str().unwrap_or_default().to_owned())
        });
        Ok(Self { code: said.code, findings: findings.collect() })
    }

    /// All findings but the good ones, as `MARK ID: TEXT`.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.without(&["ok"])
    }

    /// Warnings and failures, likewise.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.without(&["ok", "skipped"])
    }

    /// That this is found, and is all that is wrong; the code goes with the mark.
    pub fn only(&self, mark: &str, id: &str, words: &str) -> Result<()> {
        let wrong = self.wrong();
        let is_it =
            |line: &String| line.starts_with(&format!("{mark} {id}: ")) && line.contains(words);
        ensure!(wrong.iter().any(is_it), "no {mark} {id} with {words:?}: {wrong:?}");
        ensure!(wrong.iter().all(is_it), "more than {mark} {id}: {wrong:?}");
        let code = if mark == "failed" { 1 } else { 3 };
        ensure!(self.code == code, "{id}: exit code {}", self.code);
        seen!("{}", wrong.join("; "));
        Ok(())
    }

    fn without(&self, marks: &[&str]) -> Vec<String> {
        let others = self.findings.iter().filter(|[_, mark, _]| !marks.contains(&mark.as_str()));
        others.map(|[id, mark, what]| format!("{mark} {id}: {what}")).collect()
    }
}

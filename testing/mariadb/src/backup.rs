//! mariadb-backup on a site.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Server, Site};
use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::{Result, ensure};

/// mariadb-backup, as it is run by somebody with this environment.
pub struct Backup<'a> {
    site: &'a Site,
    environment: Vec<(String, String)>,
}

impl<'a> Backup<'a> {
    /// On the server of `site`.
    #[must_use]
    pub fn of(site: &'a Site) -> Self {
        Self { site, environment: Vec::new() }
    }

    /// With these variables on top of our own.
    #[must_use]
    pub fn with(self, environment: Vec<(String, String)>) -> Self {
        Self { environment, ..self }
    }

    /// Backs up the data of `server` into the new folder `target`, or what changed since `base`;
    /// gives what it said.
    pub fn make(&self, server: &Server, target: &Path, base: Option<&Path>) -> Result<String> {
        let mut command = self.on_site();
        command.arg("--backup").arg("--user=root");
        command.arg(format!("--socket={}", server.socket().display()));
        command.arg(format!("--target-dir={}", target.display()));
        if let Some(base) = base {
            command.arg(format!("--incremental-basedir={}", base.display()));
        }
        let answer = answer(&mut command)?;
        ensure!(answer.code == 0, "mariadb-backup --backup\n{}", answer.text());
        Ok(answer.text())
    }

    /// Prepares the backup with the steps after it, and puts it in the place of the server's data,
    /// which stays beside it as `data-before`. What it said of the backup itself.
    pub fn restore(&self, full: &Path, steps: &[&Path]) -> Result<String> {
        let said = self.prepare(full, None)?;
        for step in steps {
            self.prepare(full, Some(step))?;
        }
        fs::rename(self.site.data(), self.site.path("data-before"))?;
        fs::create_dir(self.site.data())?;
        let mut command = self.on_site();
        command.arg("--copy-back").arg(format!("--target-dir={}", full.display()));
        answer(&mut command)?.ok()?;
        give_to_server(&self.site.data())?;
        Ok(said)
    }

    /// With the plugin that the backup itself names: no option file of the server is read.
    pub fn prepare(&self, full: &Path, step: Option<&Path>) -> Result<String> {
        let mut command = self.tool();
        command.arg("--prepare").arg(format!("--target-dir={}", full.display()));
        command.arg(format!("--plugin-dir={}", self.site.path("plugin").display()));
        if let Some(step) = step {
            command.arg(format!("--incremental-dir={}", step.display()));
        }
        let answer = answer(&mut command)?;
        ensure!(answer.code == 0, "mariadb-backup --prepare\n{}", answer.text());
        Ok(answer.text())
    }

    fn on_site(&self) -> Command {
        let mut command = self.tool();
        command.arg(format!("--defaults-file={}", self.site.my_cnf().display()));
        command
    }

    /// Outside any folder of the server's, as by a timer of the system's.
    fn tool(&self) -> Command {
        let mut command = Command::new("mariadb-backup");
        command.current_dir("/").envs(self.environment.iter().cloned());
        command
    }
}

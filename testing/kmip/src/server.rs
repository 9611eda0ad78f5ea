//! A running PyKMIP.

use std::fs;
use std::path::PathBuf;

use test_kit::{Certificates, Process, free_port};
use test_kit::{Result, Scratch, files};

/// Runs the server so that the processes it starts end with it, however it ends: `prctl(2)`,
/// PR_SET_PDEATHSIG, SIGKILL.
const LAUNCHER: &str = "\
import ctypes, os
os.register_at_fork(after_in_child=lambda: ctypes.CDLL(None).prctl(1, 9))
from kmip.services.server.server import main
main()
";

/// A PyKMIP server; it ends with this value, and with the thread that started it.
pub struct Kmip {
    process: Process,
    port: u16,
    certificates: Certificates,
    scratch: Scratch,
}

impl Kmip {
    /// Starts one without objects.
    pub fn start() -> Result<Self> {
        let scratch = Scratch::new("kmip")?;
        fs::create_dir(scratch.path().join("policy"))?;
        let certificates = Certificates::make(scratch.path())?;
        let port = free_port()?;
        let mut kmip = Self { process: Process::default(), port, certificates, scratch };
        kmip.run("server")?;
        Ok(kmip)
    }

    /// Starts the process, after [`kill`](Self::kill) again, with the certificate of this name; all
    /// objects are as before.
    pub fn run(&mut self, certificate: &str) -> Result<()> {
        let config = self.write_config(certificate)?;
        let mut command = Process::command("/usr/bin/python3");
        command.args(["-c", LAUNCHER, "-f"]).arg(config).arg("-l").arg(self.path("server.log"));
        let said = self.path("said.log");
        self.process.start(command, &said)?;
        let started = self.process.wait_for_port(self.port);
        started.map_err(|error| format!("PyKMIP: {error}\n{}", self.log()).into())
    }

    /// Kills the process.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops the process, which then answers nobody, or lets it go on.
    pub fn hang(&self, hangs: bool) -> Result<()> {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        test_kit::run("kill", [signal, &self.process.id()?.to_string()]).map(drop)
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The test's own authority, and what it signed: for the server `server`, for us `client`.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// A place in its folder.
    #[must_use]
    pub fn path(&self, within: &str) -> PathBuf {
        self.scratch.path().join(within)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let text = |name| files::text(&self.path(name)).unwrap_or_default();
        text("said.log") + &text("server.log")
    }

    fn write_config(&self, certificate: &str) -> Result<PathBuf> {
        let at = |within: &str| self.path(within).display().to_string();
        let text = format!(
            "[server]\nhostname=127.0.0.1\nport={}\ncertificate_path={}\nkey_path={}\nca_path={}\n\
             auth_suite=TLS1.2\nenable_tls_client_auth=True\npolicy_path={}\ndatabase_path={}\n\
             logging_level=INFO\n",
            self.port,
            at(&format!("{certificate}.pem")),
            at(&format!("{certificate}.key")),
            at("ca.pem"),
            at("policy"),
            at("objects.db"),
        );
        let path = self.path("server.conf");
        files::write(&path, text)?;
        Ok(path)
    }
}

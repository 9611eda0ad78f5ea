//! A running Cosmian KMS: the second KMIP server, which speaks newer releases and TLS 1.3.

use std::path::PathBuf;

use test_kit::{Certificates, Process, free_port};
use test_kit::{Result, Scratch, files};

/// The variable in which `cargo xtask` names the program.
pub const PROGRAM_VARIABLE: &str = "KEYWARD_COSMIAN";

/// A Cosmian KMS; it ends with this value, and with the thread that started it.
pub struct Cosmian {
    process: Process,
    program: PathBuf,
    port: u16,
    certificates: Certificates,
    scratch: Scratch,
}

impl Cosmian {
    /// Starts one without objects.
    pub fn start() -> Result<Self> {
        let program = std::env::var_os(PROGRAM_VARIABLE)
            .ok_or_else(|| format!("{PROGRAM_VARIABLE} is not set: `cargo xtask test cosmian`"))?;
        let scratch = Scratch::new("cosmian")?;
        let certificates = Certificates::make(scratch.path())?;
        let (program, port) = (program.into(), free_port()?);
        let mut cosmian =
            Self { process: Process::default(), program, port, certificates, scratch };
        cosmian.run()?;
        Ok(cosmian)
    }

    /// Starts the process, after [`kill`](Self::kill) again; all objects are as before.
    pub fn run(&mut self) -> Result<()> {
        let at = |name: &str| self.scratch.path().join(name);
        let mut command = Process::command(&self.program);
        command.args(["--database-type", "sqlite", "--sqlite-path"]).arg(at("objects"));
        // It always has an interface over HTTP, too.
        command.args(["--hostname", "127.0.0.1", "--port", &free_port()?.to_string()]);
        command.arg("--tls-cert-file").arg(at("server.pem"));
        command.arg("--tls-key-file").arg(at("server.key"));
        command.arg("--clients-ca-cert-file").arg(at("ca.pem"));
        command.args(["--socket-server-start", "--socket-server-hostname", "127.0.0.1"]);
        command.args(["--socket-server-port", &self.port.to_string()]);
        command.env("HOME", self.scratch.path()).current_dir(self.scratch.path());
        let said = self.log_file();
        self.process.start(command, &said)?;
        let started = self.process.wait_for_port(self.port);
        started.map_err(|error| format!("Cosmian KMS: {error}\n{}", self.log()).into())
    }

    /// Kills the process.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
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

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        files::text(&self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("said.log")
    }
}

//! A running Cosmian KMS: the second KMIP server, which speaks newer releases and TLS 1.3.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mariadb_test::{Result, Scratch, files};
use vault_test::Certificates;

/// The variable in which `cargo xtask` names the program.
pub const PROGRAM_VARIABLE: &str = "KEYWARD_COSMIAN";

const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);

/// A Cosmian KMS; it ends with this value, and with the thread that started it.
pub struct Cosmian {
    program: PathBuf,
    child: Option<Child>,
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
        let mut cosmian = Self { program, child: None, port, certificates, scratch };
        cosmian.run()?;
        Ok(cosmian)
    }

    /// Starts the process, after [`kill`](Self::kill) again; all objects are as before.
    pub fn run(&mut self) -> Result<()> {
        let said = File::create(self.log_file())?;
        let at = |name: &str| self.scratch.path().join(name);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program);
        command.args(["--database-type", "sqlite", "--sqlite-path"]).arg(at("objects"));
        // It always has an interface over HTTP, too.
        command.args(["--hostname", "127.0.0.1", "--port", &free_port()?.to_string()]);
        command.arg("--tls-cert-file").arg(at("server.pem"));
        command.arg("--tls-key-file").arg(at("server.key"));
        command.arg("--clients-ca-cert-file").arg(at("ca.pem"));
        command.args(["--socket-server-start", "--socket-server-hostname", "127.0.0.1"]);
        command.args(["--socket-server-port", &self.port.to_string()]);
        command.env("HOME", self.scratch.path()).current_dir(self.scratch.path());
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        self.child = Some(command.spawn()?);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || since.elapsed() > PATIENCE {
                return Err(format!("Cosmian KMS did not start ({ended:?})\n{}", self.log()).into());
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// Kills the process.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
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

impl Drop for Cosmian {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("Cosmian KMS: {error}");
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

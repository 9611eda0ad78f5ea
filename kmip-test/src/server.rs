//! A running PyKMIP.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mariadb_test::{Result, Scratch, files};
use vault_test::Certificates;

/// How long it may take to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(50);

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
    child: Option<Child>,
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
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut kmip = Self { child: None, port, certificates, scratch };
        kmip.run("server")?;
        Ok(kmip)
    }

    /// Starts the process, after [`kill`](Self::kill) again, with the certificate of this name; all
    /// objects are as before.
    pub fn run(&mut self, certificate: &str) -> Result<()> {
        let config = self.write_config(certificate)?;
        let said = File::create(self.path("said.log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "/usr/bin/python3", "-c", LAUNCHER, "-f"]);
        command.arg(config).arg("-l").arg(self.path("server.log"));
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        self.child = Some(command.spawn()?);
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || since.elapsed() > PATIENCE {
                return Err(format!("PyKMIP did not start ({ended:?})\n{}", self.log()).into());
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

    /// Stops the process, which then answers nobody, or lets it go on.
    pub fn hang(&self, hangs: bool) -> Result<()> {
        let child = self.child.as_ref().ok_or("no PyKMIP runs")?;
        let signal = if hangs { "-STOP" } else { "-CONT" };
        mariadb_test::run("kill", [signal, &child.id().to_string()]).map(drop)
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

impl Drop for Kmip {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("PyKMIP: {error}");
        }
    }
}

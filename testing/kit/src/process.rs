//! The process of a server that tests kill and start again.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

/// How long it may take to listen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(50);

/// A process, or none yet; it ends with this value, and with the thread that started it.
#[derive(Default)]
pub struct Process(Option<Child>);

impl Process {
    /// How to run `program` so that it ends with the thread that starts it.
    #[must_use]
    pub fn command(program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    }

    /// Starts it; what it says goes to the file `said`.
    pub fn start(&mut self, mut command: Command, said: &Path) -> Result<()> {
        let said = File::create(said)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        self.0 = Some(command.spawn()?);
        Ok(())
    }

    /// Waits until it listens on `port` of 127.0.0.1; an error where it ended or takes too long.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.0.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || since.elapsed() > PATIENCE {
                return Err(format!("it did not start ({ended:?})").into());
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// Its number.
    pub fn id(&self) -> Result<u32> {
        Ok(self.0.as_ref().ok_or("it does not run")?.id())
    }

    /// Kills it, if it runs.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.0.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("a server's process: {error}");
        }
    }
}

/// A port of 127.0.0.1 that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

//! A Vault for programs that speak to it without TLS: in memory, unsealed, gone with its value.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::command::answer;
use test_kit::{Process, Result, Scratch, files, free_port};

use crate::product::{Audit, Product};
use crate::program;

/// How long it may take to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The token that may do everything.
pub const ROOT_TOKEN: &str = "root-token";

/// Where it writes each request and each answer.
const AUDIT: &str = "audit.log";

/// A running Vault in its development mode.
pub struct DevVault {
    child: Child,
    program: PathBuf,
    address: String,
    scratch: Scratch,
}

impl DevVault {
    /// Starts one. It writes a line for each request and each answer to a file that [`requests`]
    /// counts.
    ///
    /// [`requests`]: Self::requests
    pub fn start() -> Result<Self> {
        let program = program().ok_or("there is no Vault; `cargo xtask setup` builds it")?;
        Self::start_program(&program)
    }

    /// The same with the program at that place.
    pub fn start_program(program: &Path) -> Result<Self> {
        let scratch = Scratch::new("vault-dev")?;
        let port = free_port()?;
        let audit = Product::of(program).audit(&scratch.path().join(AUDIT));
        let log = File::create(scratch.path().join("vault.log"))?;
        let mut command = Process::command(program);
        command.args(["server", "-dev", "-dev-no-store-token"]);
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        command.arg(format!("-dev-root-token-id={ROOT_TOKEN}"));
        if let Audit::Config(lines) = &audit {
            let config = scratch.path().join("vault.hcl");
            files::write(&config, lines)?;
            command.arg(format!("-config={}", config.display()));
        }
        command.env("HOME", scratch.path()).current_dir(scratch.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let address = format!("http://127.0.0.1:{port}");
        let vault = Self { child: command.spawn()?, program: program.into(), address, scratch };
        let since = Instant::now();
        while vault.vault(&["token", "lookup"]).is_err() {
            if since.elapsed() > PATIENCE {
                let log = files::text(&vault.scratch.path().join("vault.log"))?;
                return Err(format!("Vault does not start:\n{log}").into());
            }
            sleep(Duration::from_millis(100));
        }
        if let Audit::Command(words) = &audit {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            vault.vault(&words)?;
        }
        Ok(vault)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs `vault` with these words, as root; gives what it printed.
    pub fn vault(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(words).env("VAULT_ADDR", &self.address).env("VAULT_TOKEN", ROOT_TOKEN);
        command.env("HOME", self.scratch.path()).stdin(Stdio::null());
        let said = answer(&mut command)?.ok();
        said.map_err(|error| error.within(format!("vault {}", words.join(" "))))
    }

    /// Sends each body in JSON to its path, over one connection: thousands in seconds.
    pub fn write_all(&self, bodies: impl Iterator<Item = (String, String)>) -> Result<()> {
        let host = self.address.trim_start_matches("http://");
        let mut to = TcpStream::connect(host)?;
        to.set_nodelay(true)?;
        let mut from = BufReader::new(to.try_clone()?);
        for (path, body) in bodies {
            let request = format!(
                "POST /v1/{path} HTTP/1.1\r\nHost: {host}\r\nX-Vault-Token: {ROOT_TOKEN}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            to.write_all(request.as_bytes())?;
            let (status, length) = read_head(&mut from)?;
            from.read_exact(&mut vec![0; length])?;
            if !(200..300).contains(&status) {
                return Err(format!("{path}: Vault answers with status {status}").into());
            }
        }
        Ok(())
    }

    /// How many requests it has answered so far.
    pub fn requests(&self) -> Result<usize> {
        let log = files::read(&self.scratch.path().join(AUDIT))?;
        Ok(files::count(&log, br#""type":"request""#))
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Kills it; what it held is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for DevVault {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of an answer, and how many bytes come after its head.
fn read_head(from: &mut impl BufRead) -> Result<(u16, usize)> {
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let line = line.trim_end();
        if let Some(number) = line.strip_prefix("HTTP/1.1 ") {
            status = number.split(' ').next().and_then(|number| number.parse().ok());
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        } else if line.is_empty() {
            return Ok((status.ok_or("Vault's answer is no HTTP")?, length));
        }
    }
}

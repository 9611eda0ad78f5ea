//! A running Vault.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_kit::command::{answer, answer_to};
use test_kit::{Result, Scratch, files};

use crate::{Product, program};
use test_kit::{Certificates, Process};

/// How long it may take to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const TICK: Duration = Duration::from_millis(100);

/// A node of a Vault; it ends with this value.
pub struct Vault {
    process: Process,
    node: String,
    port: u16,
    unseal_key: String,
    root_token: String,
    certificates: Certificates,
    scratch: Scratch,
}

impl Vault {
    /// Starts one with empty storage and unseals it.
    pub fn start() -> Result<Self> {
        let scratch = Scratch::new("vault")?;
        let certificates = Certificates::make(scratch.path())?;
        let mut vault = Self::in_folder(scratch, certificates, "n1")?;
        vault.run()?;
        let words = ["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"];
        let made: Value = json(&vault.with_patience(&words)?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        vault.unseal_key = text(&made["unseal_keys_b64"][0]);
        vault.root_token = text(&made["root_token"]);
        vault.unseal()?;
        Ok(vault)
    }

    /// Starts one more node, called `name`, of the Vault that `leader` is one of.
    pub fn join(leader: &Self, name: &str) -> Result<Self> {
        let scratch = Scratch::new("vault")?;
        let mut vault = Self::in_folder(scratch, leader.certificates.clone(), name)?;
        vault.unseal_key.clone_from(&leader.unseal_key);
        vault.root_token.clone_from(&leader.root_token);
        vault.run()?;
        let ca = format!("-leader-ca-cert=@{}", leader.certificates.path("ca.pem").display());
        vault.with_patience(&["operator", "raft", "join", &ca, &leader.address()])?;
        vault.unseal()?;
        Ok(vault)
    }

    fn in_folder(scratch: Scratch, certificates: Certificates, node: &str) -> Result<Self> {
        fs::create_dir(scratch.path().join("data"))?;
        Ok(Self {
            process: Process::default(),
            node: node.to_owned(),
            port: two_free_ports()?,
            unseal_key: String::new(),
            root_token: String::new(),
            certificates,
            scratch,
        })
    }

    /// Starts the process again after [`kill`](Self::kill): it is sealed.
    pub fn run(&mut self) -> Result<()> {
        let program = some_program()?;
        let config = self.write_config()?;
        let mut command = Process::command(program);
        command.arg("server").arg(format!("-config={}", config.display()));
        let log = self.path("vault.log");
        self.process.start(command, &log)
    }

    /// Kills the process.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Unseals it and waits until it answers.
    pub fn unseal(&self) -> Result<()> {
        self.with_patience(&["operator", "unseal", &self.unseal_key])?;
        self.wait_for("it to answer", || self.vault(&["token", "lookup"]))
    }

    /// Seals this node, whether it leads or not: a standby hands the request on, so it is started
    /// again, which leaves it sealed.
    pub fn seal_this(&mut self) -> Result<()> {
        if self.leads()? {
            return self.seal();
        }
        self.kill()?;
        self.run()?;
        self.wait_for("it to be sealed", || match self.vault(&["status"]) {
            Err(sealed) if sealed.to_string().contains("exit code 2") => Ok(String::new()),
            other => Err(format!("{other:?}").into()),
        })
    }

    /// Seals it.
    pub fn seal(&self) -> Result<()> {
        self.vault(&["operator", "seal"]).map(drop)
    }

    /// Whether it leads; an error where it does not answer.
    pub fn leads(&self) -> Result<bool> {
        let status: Value = json(&self.vault(&["status", "-format=json"])?)?;
        Ok(status["is_self"].as_bool() == Some(true))
    }

    /// Waits until `count` nodes vote for a leader: one that has just joined does not yet.
    pub fn wait_for_voters(&self, count: usize) -> Result<()> {
        self.wait_for("all nodes to vote", || {
            let peers = self.vault(&["operator", "raft", "list-peers", "-format=json"])?;
            let peers: Value = json(&peers)?;
            let servers = peers["data"]["config"]["servers"].as_array().cloned();
            let voters = servers.unwrap_or_default();
            match voters.iter().filter(|one| one["voter"] == Value::Bool(true)).count() {
                found if found == count => Ok(String::new()),
                found => Err(format!("{found} of {count} nodes vote").into()),
            }
        })
    }

    /// Has it read its certificate again.
    pub fn reload_certificate(&self) -> Result<()> {
        let pid = self.process.id()?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).map_err(|e| e.to_string())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP)
            .map_err(|error| error.to_string())?;
        // It does so on a thread of its own and says so nowhere.
        sleep(TICK * 5);
        Ok(())
    }

    /// Runs `vault` with these words, as root; gives what it printed.
    pub fn vault(&self, words: &[&str]) -> Result<String> {
        let said = answer(self.command().args(words))?.ok();
        said.map_err(|error| error.within(format!("vault {}", words.join(" "))))
    }

    /// The same in a namespace.
    pub fn vault_in(&self, namespace: &str, words: &[&str]) -> Result<String> {
        let said = answer(self.command().args(words).env("VAULT_NAMESPACE", namespace))?.ok();
        said.map_err(|error| error.within(format!("in {namespace}: vault {}", words.join(" "))))
    }

    /// The same with `input` on its standard input, for policies.
    pub fn vault_with(&self, words: &[&str], input: &str) -> Result<String> {
        let said = answer_to(self.command().args(words), input)?.ok();
        said.map_err(|error| error.within(format!("vault {}", words.join(" "))))
    }

    /// One field of what `vault` answers.
    pub fn field(&self, name: &str, words: &[&str]) -> Result<String> {
        let field = format!("-field={name}");
        let mut all: Vec<&str> = words.to_vec();
        // Options stand before the path, which is the first word with a slash in it.
        let at = all.iter().position(|word| word.contains('/')).unwrap_or(all.len());
        all.insert(at, &field);
        self.vault(&all).map(|said| said.trim().to_owned())
    }

    /// Makes a policy with these rules.
    pub fn policy(&self, name: &str, rules: &str) -> Result<()> {
        self.vault_with(&["policy", "write", name, "-"], rules).map(drop)
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// The test's own authority, and what it signed.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// A place in its folder.
    #[must_use]
    pub fn path(&self, within: &str) -> PathBuf {
        self.scratch.path().join(within)
    }

    /// Writes a file that only we can read, for tokens and the like.
    pub fn private(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path(name);
        files::write(&path, content)?;
        files::chmod(&path, 0o600)?;
        Ok(path)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        files::text(&self.path("vault.log")).unwrap_or_default()
    }

    /// Whose it is.
    pub fn product(&self) -> Result<Product> {
        Ok(Product::of(&some_program()?))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program().unwrap_or_default());
        command.env("VAULT_ADDR", self.address());
        command.env("VAULT_CACERT", self.certificates.path("ca.pem"));
        command.env("VAULT_TOKEN", &self.root_token);
        command.env("HOME", self.scratch.path()).stdin(Stdio::null());
        command
    }

    fn write_config(&self) -> Result<PathBuf> {
        let at = |within: &str| self.path(within).display().to_string();
        let text = format!(
            "storage \"raft\" {{\n  path = {:?}\n  node_id = {:?}\n}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_cert_file = {:?}\n  \
             tls_key_file = {:?}\n}}\n\
             {}api_addr = \"{}\"\ncluster_addr = \"https://127.0.0.1:{}\"\n",
            at("data"),
            self.node,
            self.certificates.path("server.pem"),
            self.certificates.path("server.key"),
            self.product()?.without_mlock(),
            self.address(),
            self.port + 1,
            port = self.port,
        );
        let path = self.path("vault.hcl");
        files::write(&path, text)?;
        Ok(path)
    }

    fn with_patience(&self, words: &[&str]) -> Result<String> {
        let mut said = String::new();
        self.wait_for(&words.join(" "), || {
            said = self.vault(words)?;
            Ok(said.clone())
        })?;
        Ok(said)
    }

    fn wait_for(&self, what: &str, mut done: impl FnMut() -> Result<String>) -> Result<()> {
        let since = Instant::now();
        loop {
            match done() {
                Ok(_) => return Ok(()),
                Err(error) if since.elapsed() > PATIENCE => {
                    return Err(format!("waiting for {what}: {error}\n{}", self.log()).into());
                }
                Err(_) => sleep(TICK),
            }
        }
    }
}

fn some_program() -> Result<PathBuf> {
    Ok(program().ok_or("there is no Vault; `cargo xtask setup` builds it")?)
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| format!("{error} in: {text}").into())
}

/// The first of two free ports in a row: Vault's nodes talk to each other on the next.
fn two_free_ports() -> Result<u16> {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err("no two free ports in a row".into())
}

//! A real API server of Kubernetes on etcd: what gives a pod its tokens, and what a Vault asks about
//! them. No node is there, so that a pod is an entry and no process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::command::{answer, answer_to};
use test_kit::{Certificates, Process, Result, Scratch, cache, files, free_port};

use crate::KUBERNETES_VARIABLE;

/// How long it may take to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const TICK: Duration = Duration::from_millis(200);

/// The administrator's token.
const ADMIN: &str = "keyward-test-administrator";

/// The account that a Vault asks as, with the right to ask and no other.
const REVIEWER: &str = "reviewer";

/// A running API server; it ends with this value.
pub struct Cluster {
    etcd: Process,
    server: Process,
    programs: PathBuf,
    port: u16,
    certificates: Certificates,
    scratch: Scratch,
}

impl Cluster {
    /// Starts one with nothing in it but the account that a Vault asks as.
    pub fn start() -> Result<Self> {
        let programs = cache::find(KUBERNETES_VARIABLE, "kubernetes-1.36.3");
        let programs = programs.ok_or("`cargo xtask test kubernetes` builds the API server")?;
        let scratch = Scratch::new("kubernetes")?;
        let certificates = Certificates::make(scratch.path())?;
        let (etcd, server) = (Process::default(), Process::default());
        let mut cluster =
            Self { etcd, server, programs, port: free_port()?, certificates, scratch };
        let store = cluster.start_etcd()?;
        cluster.start_server(&store)?;
        cluster.kubectl(&["create", "serviceaccount", REVIEWER, "--namespace=default"])?;
        let account = format!("--serviceaccount=default:{REVIEWER}");
        let role = "--clusterrole=system:auth-delegator";
        cluster.kubectl(&["create", "clusterrolebinding", REVIEWER, role, &account])?;
        Ok(cluster)
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Whom its certificate is of.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.certificates.path("ca.pem")
    }

    /// A token of the account that a Vault asks as.
    pub fn reviewer(&self) -> Result<String> {
        let words = ["create", "token", REVIEWER, "--namespace=default", "--duration=24h"];
        Ok(self.kubectl(&words)?.trim().to_owned())
    }

    /// Runs `kubectl` with these words, as the administrator; gives what it printed.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        let said = answer(self.command().args(words))?.ok();
        said.map_err(|error| error.within(format!("kubectl {}", words.join(" "))))
    }

    /// Makes what the manifest describes.
    pub fn create(&self, manifest: &str) -> Result<()> {
        answer_to(self.command().args(["create", "--filename=-"]), manifest)?.ok().map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.arg(format!("--server={}", self.address()));
        command.arg(format!("--certificate-authority={}", self.ca_file().display()));
        command.arg(format!("--token={ADMIN}")).env("HOME", self.scratch.path());
        command.env_remove("KUBECONFIG");
        command
    }

    /// Starts the store; gives its address.
    fn start_etcd(&mut self) -> Result<String> {
        let (port, peers) = (free_port()?, free_port()?);
        let (store, peers) =
            (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let mut command = Process::command(self.programs.join("etcd"));
        command.arg(format!("--data-dir={}", self.scratch.path().join("etcd").display()));
        command.arg(format!("--listen-client-urls={store}"));
        command.arg(format!("--advertise-client-urls={store}"));
        command.arg(format!("--listen-peer-urls={peers}"));
        command.arg(format!("--initial-advertise-peer-urls={peers}"));
        command.arg(format!("--initial-cluster=default={peers}"));
        self.etcd.start(command, &self.scratch.path().join("etcd.log"))?;
        self.etcd.wait_for_port(port)?;
        Ok(store)
    }

    fn start_server(&mut self, store: &str) -> Result<()> {
        let at = |path: &Path| path.display().to_string();
        let (key, tokens) =
            (self.certificates.path("accounts.key"), self.certificates.path("tokens"));
        test_kit::run("openssl", ["genrsa", "-out", &at(&key), "2048"])?;
        files::write(&tokens, format!("{ADMIN},administrator,1,system:masters\n"))?;
        let mut command = Process::command(self.programs.join("kube-apiserver"));
        command.arg(format!("--etcd-servers={store}"));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]);
        // It tells pods where it is, and there are none.
        command.arg("--endpoint-reconciler-type=none");
        command.arg(format!("--secure-port={}", self.port));
        command.arg(format!("--tls-cert-file={}", at(&self.certificates.path("server.pem"))));
        command
            .arg(format!("--tls-private-key-file={}", at(&self.certificates.path("server.key"))));
        command.arg("--service-account-issuer=https://kubernetes.default.svc");
        command.arg(format!("--service-account-signing-key-file={}", at(&key)));
        command.arg(format!("--service-account-key-file={}", at(&key)));
        command.arg(format!("--token-auth-file={}", at(&tokens)));
        command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"]);
        self.server.start(command, &self.scratch.path().join("apiserver.log"))?;
        let since = Instant::now();
        while let Err(error) = self.kubectl(&["get", "--raw=/readyz"]) {
            if since.elapsed() > PATIENCE {
                let log = files::text(&self.scratch.path().join("apiserver.log"))?;
                return Err(format!("the API server does not start: {error}\n{log}").into());
            }
            sleep(TICK);
        }
        Ok(())
    }
}

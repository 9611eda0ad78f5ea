//! keyward in namespaces of a real OpenBao: engines and log-ins in them, and what an administrator can
//! do to one.

mod mariadb;
mod reach;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use keyward::Kind;
use keyward::backend::http::{TlsConfig, Url};
use keyward::backend::vault::{
    KvServer, KvSettings, Login, RoleId, Settings, TransitSettings, TransitWrapper,
};
use keyward::env::{Deadline, System};
use keyward::key::PageMode;
use keyward::secret::source::SecretSource;
use test_kit::{Result, Scratch, ensure, files, seen, shared};
use test_vault::{Product, Vault};

/// What a server may do in a namespace, by paths within it.
const RULES: &str = r#"
path "transit/*" { capabilities = ["read", "update"] }
path "secret/*" { capabilities = ["create", "read", "update", "list"] }
"#;

const ROLE: &str = "auth/approle/role/keyward";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn shortly() -> Deadline {
    Deadline::after(Duration::from_secs(2))
}

fn said<T>(outcome: keyward::Result<T>) -> Result<T> {
    outcome.map_err(|error| error.to_string().into())
}

fn refused<T>(outcome: keyward::Result<T>, kind: Kind) -> Result<String> {
    let error = outcome.err().ok_or_else(|| format!("it went through, and {kind:?} was due"))?;
    ensure!(error.kind() == kind, "{:?}: {error}", error.kind());
    Ok(error.to_string())
}

/// The OpenBao of this process.
fn bao() -> Result<Arc<Vault>> {
    static SHARED: shared::Shared<Vault> = shared::Shared::new();
    SHARED.get(|| {
        let vault = Vault::start()?;
        let is_bao = vault.product()? == Product::OpenBao;
        ensure!(is_bao, "Vault has namespaces in no free edition: `cargo xtask test namespaces`");
        Ok(vault)
    })
}

/// A namespace with engines `transit` and `secret`, a transit key `keyward`, and a role to log in as.
struct Team {
    vault: Arc<Vault>,
    /// Its whole path: `team-3/db`.
    path: String,
    scratch: Scratch,
}

impl Team {
    /// A new one in a new one.
    fn new() -> Result<Self> {
        let vault = bao()?;
        let parent = format!("team-{}", shared::new_name());
        vault.vault(&["namespace", "create", &parent])?;
        vault.vault_in(&parent, &["namespace", "create", "db"])?;
        Self::furnished(vault, format!("{parent}/db"))
    }

    /// A namespace that is there, with all that keyward needs put into it.
    fn furnished(vault: Arc<Vault>, path: String) -> Result<Self> {
        let team = Self { vault, path, scratch: Scratch::new("team")? };
        team.run(&["secrets", "enable", "transit"])?;
        team.run(&["secrets", "enable", "-path=secret", "-version=2", "kv"])?;
        team.run(&["write", "-f", "transit/keys/keyward"])?;
        team.run(&["auth", "enable", "approle"])?;
        let rules = team.file("rules.hcl", RULES)?.display().to_string();
        team.run(&["policy", "write", "keyward", &rules])?;
        team.run(&["write", ROLE, "token_policies=keyward"])?;
        Ok(team)
    }

    /// The namespace that it is in.
    fn parent(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// Runs `bao` with these words, in it.
    fn run(&self, words: &[&str]) -> Result<String> {
        self.vault.vault_in(&self.path, words)
    }

    /// Runs the line of `bao` that `advice` ends with, and these words after it.
    fn follow(&self, advice: &str, more: &[&str]) -> Result<String> {
        let line = advice.rsplit_once("it: bao ").ok_or_else(|| format!("no line in: {advice}"))?.1;
        let words: Vec<_> = line.split_whitespace().chain(more.iter().copied()).collect();
        self.vault.vault(&words)
    }

    fn file(&self, name: &str, content: &str) -> Result<std::path::PathBuf> {
        let path = self.scratch.path().join(name);
        files::write(&path, content)?;
        files::chmod(&path, 0o600)?;
        Ok(path)
    }

    /// Its role, with a new secret.
    fn login(&self) -> Result<Login> {
        let role_id = self.run(&["read", "-field=role_id", &format!("{ROLE}/role-id")])?;
        let path = format!("{ROLE}/secret-id");
        let secret = self.run(&["write", "-f", "-field=secret_id", &path])?;
        Ok(Login::AppRole {
            mount: "approle".into(),
            role_id: RoleId::Given(role_id.trim().to_owned()),
            secret_id: SecretSource::File(self.file("secret-id", secret.trim())?),
            wrapped: false,
        })
    }

    /// How this OpenBao is reached in `namespace`.
    fn settings(&self, namespace: &str, login: Login) -> Result<Settings> {
        let ca_file = Some(self.vault.certificates().path("ca.pem"));
        Ok(Settings {
            addresses: vec![Url::parse(&self.vault.address()).map_err(|error| error.to_string())?],
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            trust: TlsConfig { ca_file, ..TlsConfig::default() },
            login,
        })
    }

    fn transit(&self) -> Result<TransitWrapper> {
        Ok(wrapper(self.settings(&self.path, self.login()?)?, "transit"))
    }

    fn kv(&self) -> Result<KvServer> {
        let settings = KvSettings {
            vault: self.settings(&self.path, self.login()?)?,
            mount: "secret".into(),
            prefix: "keyward".into(),
            mode: PageMode::Ctr,
            refresh: Duration::from_secs(10),
        };
        Ok(KvServer::new(settings, Arc::new(System)))
    }

    /// `text` without what differs from run to run, shown to the reader.
    fn show(&self, text: &str) {
        let text = text.replace(&self.vault.address(), "https://vault");
        seen!("{}", text.replace(self.parent(), "team"));
    }
}

fn wrapper(vault: Settings, mount: &str) -> TransitWrapper {
    let settings = TransitSettings { vault, mount: mount.into(), key: "keyward".into() };
    TransitWrapper::new(settings, Arc::new(System))
}

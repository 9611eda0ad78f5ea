//! Logging in to a real OpenBao by the tokens of a real API server of Kubernetes, which OpenBao asks
//! about each.

mod mariadb;
mod pod;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use keyward::Kind;
use keyward::backend::http::{TlsConfig, Url};
use keyward::backend::vault::{Jwt, Login, Settings, TransitSettings, TransitWrapper};
use keyward::env::{Deadline, System};
use keyward::provider::{KeyWrapper, WrapContext};
use keyward::secret::DataKey;
use test_kit::{Result, ensure, seen, shared};
use test_vault::{Cluster, Product, Vault};

use crate::pod::Pod;

/// What a server may do.
const RULES: &str = r#"path "transit/*" { capabilities = ["read", "update"] }"#;

/// How long the API server may take a token that is over: ten seconds what it remembers of one, a
/// minute one past its end; with some time to spare.
const BELIEVED: Duration = Duration::from_secs(90);

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// An OpenBao that asks an API server.
struct World {
    vault: Vault,
    cluster: Cluster,
}

impl World {
    /// The one of this process.
    fn get() -> Result<Arc<Self>> {
        static SHARED: shared::Shared<World> = shared::Shared::new();
        SHARED.get(Self::start)
    }

    fn start() -> Result<Self> {
        let (vault, cluster) = (Vault::start()?, Cluster::start()?);
        let is_bao = vault.product()? == Product::OpenBao;
        ensure!(is_bao, "the Vault of the tests lacks this log-in: `cargo xtask test kubernetes`");
        vault.vault(&["secrets", "enable", "transit"])?;
        vault.policy("keyward", RULES)?;
        let world = Self { vault, cluster };
        world.mount("kubernetes", &world.cluster.address())?;
        Ok(world)
    }

    /// Mounts a log-in that asks the API server at `address`.
    fn mount(&self, name: &str, address: &str) -> Result<()> {
        let ca_file = self.cluster.ca_file();
        self.vault.vault(&["auth", "enable", &format!("-path={name}"), "kubernetes"])?;
        let words = [
            "write".to_owned(),
            format!("auth/{name}/config"),
            format!("kubernetes_host={address}"),
            format!("kubernetes_ca_cert=@{}", ca_file.display()),
            format!("token_reviewer_jwt={}", self.cluster.reviewer()?),
        ];
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.vault.vault(&words).map(drop)
    }

    /// A wrapper by the transit key of `pod`, with its role and its token.
    fn wrapper(&self, pod: &Pod) -> Result<TransitWrapper> {
        self.wrapper_at("kubernetes", pod)
    }

    /// The same with a log-in that is mounted there.
    fn wrapper_at(&self, mount: &str, pod: &Pod) -> Result<TransitWrapper> {
        let role = &pod.namespace;
        let jwt = Jwt::Pod(pod.token_file());
        let ca_file = Some(self.vault.certificates().path("ca.pem"));
        let vault = Settings {
            addresses: vec![Url::parse(&self.vault.address()).map_err(|error| error.to_string())?],
            namespace: None,
            trust: TlsConfig { ca_file, ..TlsConfig::default() },
            login: Login::Jwt { mount: mount.into(), role: role.clone(), jwt },
        };
        let settings = TransitSettings { vault, mount: "transit".into(), key: role.clone() };
        Ok(TransitWrapper::new(settings, Arc::new(System)))
    }

    /// Takes away what was given to all that logged in, as the end of a lease does.
    fn revoke(&self, role: &str) -> Result<()> {
        let list = ["list", "-format=json", "auth/token/accessors"];
        let accessors: Vec<String> =
            serde_json::from_str(&self.vault.vault(&list)?).map_err(|error| error.to_string())?;
        for accessor in accessors {
            let words = ["token", "lookup", "-accessor", "-format=json", &accessor];
            // One that has ended meanwhile is none of ours any more.
            let said = self.vault.vault(&words).unwrap_or_default();
            if said.contains(&format!("\"role\": \"{role}\"")) {
                self.vault.vault(&["token", "revoke", "-accessor", &accessor])?;
            }
        }
        // A token this young is not taken for the cause of a denial.
        std::thread::sleep(Duration::from_millis(1100));
        Ok(())
    }

    /// Shows `text` without what differs from run to run.
    fn show(&self, text: &str) {
        seen!("{}", text.replace(&self.vault.address(), "https://vault"));
    }
}

/// Wraps and unwraps.
fn works(wrapper: &TransitWrapper) -> Result<()> {
    let said = |error: keyward::Error| error.to_string();
    let keystore = "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into();
    let context = WrapContext { keystore, store_key: 1 };
    let data = DataKey::generate(32, &System).map_err(said)?;
    let wrapped = wrapper.wrap(&data, &context, soon()).map_err(said)?;
    let opened = wrapper.unwrap(&wrapped, &context, soon()).map_err(said)?;
    ensure!(opened.expose() == data.expose(), "another key came back");
    Ok(())
}

fn refused(wrapper: &TransitWrapper) -> Result<String> {
    match wrapper.describe(soon()) {
        Ok(_) => Err("it went through, and was to be refused".into()),
        Err(error) => {
            ensure!(error.kind() == Kind::Denied, "{:?}: {error}", error.kind());
            Ok(error.to_string())
        }
    }
}

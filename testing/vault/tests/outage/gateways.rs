//! Namespaces, and an HTTP proxy on the way.

use std::sync::Arc;
use std::time::Duration;

use keyward::Kind;
use keyward::backend::http::{TlsConfig, Url};
use keyward::backend::vault::{KvServer, KvSettings, Login, RoleId, Settings};
use keyward::env::{Deadline, System};
use keyward::key::{Cipher, KeyId, KeyRef, KeyVersion, PageMode};
use keyward::provider::KeyServer;
use keyward::secret::DataKey;
use keyward::secret::source::SecretSource;
use test_kit::command::answer;
use test_kit::{Result, Scratch, artefacts, ensure, files, seen};
use test_vault::{Namespaced, Shared, Tunnel};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn said<T>(outcome: keyward::Result<T>) -> Result<T> {
    outcome.map_err(|error| error.to_string().into())
}

#[test]
fn every_call_names_its_namespace() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("namespace")?);
    let gateway = Namespaced::start(shared.vault.port(), shared.vault.certificates(), "team/db")?;
    let path = scratch.path().join("id");
    files::write(&path, &shared.secret_id)?;
    files::chmod(&path, 0o600)?;
    let prefix = shared.new_name();
    let server = |namespace: Option<&str>| -> Result<KvServer> {
        let login = Login::AppRole {
            mount: "approle".into(),
            role_id: RoleId::Given(shared.role_id.clone()),
            secret_id: SecretSource::File(path.clone()),
            wrapped: false,
        };
        let ca_file = Some(shared.vault.certificates().path("ca.pem"));
        let vault = Settings {
            addresses: vec![Url::parse(&gateway.address()).map_err(|error| error.to_string())?],
            namespace: namespace.map(str::to_owned),
            trust: TlsConfig { ca_file, ..TlsConfig::default() },
            login,
        };
        let settings = KvSettings {
            vault,
            mount: "secret".into(),
            prefix: prefix.clone(),
            mode: PageMode::Ctr,
            refresh: Duration::from_secs(10),
        };
        Ok(KvServer::new(settings, Arc::new(System)))
    };
    let named = server(Some("team/db"))?;
    let key = KeyRef::new(said(KeyId::try_from(1))?, KeyVersion::FIRST);
    let data = said(DataKey::generate(32, &System))?;
    said(named.put_for(&key, &data, Cipher::DEFAULT, soon()))?;
    let found = said(server(Some("team/db"))?.fetch(&key, soon()))?;
    ensure!(found.expose() == data.expose(), "another key came back");
    ensure!(gateway.refused() == 0, "{} requests named no namespace", gateway.refused());
    for wrong in [None, Some("team"), Some("team/db/x")] {
        let error = server(wrong)?.list(soon()).err().ok_or("it went through")?;
        ensure!(error.kind() == Kind::Denied, "{wrong:?}: {error}");
    }
    ensure!(gateway.refused() >= 3, "it refused {}", gateway.refused());
    seen!(
        "log-in, metadata, data: each request named team/db; without it {} refused",
        gateway.refused()
    );
    Ok(())
}

#[test]
fn a_proxy_of_the_environment_leads_there_and_tls_goes_through_it() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("tunnel")?);
    let tunnel = Tunnel::start("vault.test:8200", shared.vault.port())?;
    let at = |name: &str| scratch.path().join(name).display().to_string();
    files::write(&scratch.path().join("id"), &shared.secret_id)?;
    files::chmod(&scratch.path().join("id"), 0o600)?;
    let (prefix, data) = (shared.new_name(), format!("data={}", "5d".repeat(32)));
    shared.vault.vault(&["kv", "put", "-mount=secret", &format!("{prefix}/1"), &data])?;
    let ca = shared.vault.certificates().path("ca.pem").display().to_string();
    let config = |name: &str| {
        format!(
            "[keystore]\npath = {:?}\n[[provider]]\ntype = \"vault-kv\"\nprefix = {prefix:?}\n\
             address = \"https://vault.test:8200\"\nserver_name = {name:?}\nca_file = {ca:?}\n\
             auth = \"approle\"\nrole_id = {:?}\nsecret_id_file = {:?}\n",
            at("keystore.json"),
            shared.role_id,
            at("id"),
        )
    };
    let list = |name: &str, proxy: &str| {
        files::write(&scratch.path().join("keyward.toml"), config(name))?;
        let mut command = std::process::Command::new(artefacts::command());
        command
            .args(["--config", &at("keyward.toml"), "keys", "list"])
            .env(proxy, tunnel.address());
        answer(&mut command)
    };
    for proxy in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let before = tunnel.asked();
        let listed = list("localhost", proxy)?.ok()?;
        ensure!(listed.contains('1') && tunnel.asked() > before, "{proxy}: {listed}");
    }
    // Whoever the proxy leads to must be who we want: it cannot vouch for anybody.
    let refused = list("vault.example", "HTTPS_PROXY")?;
    ensure!(refused.code == 1, "{}", refused.text());
    ensure!(refused.err.contains("its certificate is for another name"), "{}", refused.err);
    seen!("through CONNECT, {} times: {}", tunnel.asked(), refused.err.trim());
    Ok(())
}

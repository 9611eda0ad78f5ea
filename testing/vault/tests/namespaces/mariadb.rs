//! A real MariaDB with its keys in a namespace, set up there by `keyward init`.

use std::path::Path;
use std::sync::Arc;

use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;
use test_mariadb::rows::{Table, check, create};
use test_vault::Vault;

use crate::bao;

const TABLES: &[Table] = &[Table { name: "one", options: "ENCRYPTED=YES", rows: 200 }];

/// A server's folder, and the namespace of its keys.
struct Field {
    vault: Arc<Vault>,
    namespace: String,
    site: Site,
}

impl Field {
    /// What `keyward init` makes with `words`, in a new namespace.
    fn new(words: &[&str]) -> Result<Self> {
        let vault = bao()?;
        let namespace = format!("site-{}", test_kit::shared::new_name());
        vault.vault(&["namespace", "create", &namespace])?;
        let mut site = Site::new("namespace")?;
        let token = vault.private(&format!("{namespace}-token"), vault.root_token())?;
        let ca = site.path("etc/ca.pem");
        files::write(&ca, files::read(&vault.certificates().path("ca.pem"))?)?;
        let settings = [
            format!("address={}", vault.address()),
            format!("ca_file={}", text(&ca)),
            format!("namespace={namespace}"),
            "timeout=2s".to_owned(),
        ];
        let (folder, token) = (text(&site.path("keyward")), text(&token));
        let mut init = vec!["init", "--dir", &folder, "--admin-token-file", &token];
        init.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        init.extend(words);
        site.keyward(&init)?.ok()?;
        site.load_keyward();
        Ok(Self { vault, namespace, site })
    }

    fn lock(&self) -> Result<()> {
        self.vault.vault(&["namespace", "lock", &self.namespace]).map(drop)
    }

    fn unlock(&self) -> Result<()> {
        self.vault.vault(&["namespace", "unlock", &self.namespace]).map(drop)
    }

    /// What is said of the lock.
    fn told(&self) -> String {
        let name = &self.namespace;
        format!("the namespace {name} is locked; unlock it: bao namespace unlock {name}")
    }
}

#[test]
fn a_server_wrapped_in_a_namespace_outlives_its_lock() -> Result<()> {
    let field = Field::new(&["--provider", "vault-transit"])?;
    let (vault, site) = (&field.vault, &field.site);
    let engines = vault.vault_in(&field.namespace, &["secrets", "list"])?;
    ensure!(engines.contains("transit/"), "the engine is elsewhere: {engines}");
    let server = site.start()?;
    create(&server, TABLES)?;
    let doctor = site.keyward(&["doctor", "--socket", &text(server.socket())])?;
    ensure!(doctor.code == 3 && doctor.out.contains("all that are needed"), "{}", doctor.text());
    field.lock()?;
    check(&server, TABLES)?;
    let rotation = server.sql_refused("SET GLOBAL keyward_rotate_key = 1")?;
    ensure!(rotation.contains(&field.told()), "{rotation}");
    let shown = rotation.replace(&vault.address(), "https://vault");
    seen!("a rotation in a locked namespace: {}", shown.replace(&field.namespace, "team"));
    server.stop()?;
    let refused = site.refusal()?;
    ensure!(refused.contains(&field.told()), "{refused}");
    field.unlock()?;
    let server = site.start()?;
    check(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = 1")?;
    server.stop().map(drop)
}

#[test]
fn a_server_with_a_stash_starts_while_the_namespace_of_its_keys_is_locked() -> Result<()> {
    let field = Field::new(&["--provider", "vault-kv", "--stash"])?;
    let server = field.site.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    field.lock()?;
    let server = field.site.start()?;
    check(&server, TABLES)?;
    ensure!(server.status("Keyward_stash_in_use")? == "1", "{}", server.log());
    let reason = server.status("Keyward_degraded_reason")?;
    ensure!(reason.contains(&field.told()), "{reason}");
    field.unlock()?;
    server.sql("SET GLOBAL keyward_refresh = 1")?;
    ensure!(server.status("Keyward_stash_in_use")? == "0", "{}", server.log());
    server.stop().map(drop)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

//! A pod as far as its token goes: an account, an entry that the token is bound to, and the volume that
//! the kubelet keeps the newest token in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use test_kit::{Result, Scratch, files, shared};

use crate::World;

/// The name of each pod's account.
pub(crate) const ACCOUNT: &str = "mariadb";

/// Whom the tokens are for.
pub(crate) const AUDIENCE: &str = "vault";

/// A pod called `mariadb-0` in a namespace of its own, which names its role in Vault, too.
pub(crate) struct Pod {
    pub(crate) world: Arc<World>,
    pub(crate) namespace: String,
    volume: Scratch,
}

impl Pod {
    /// One with its account, its role, its transit key and its first token.
    pub(crate) fn new() -> Result<Self> {
        let (world, namespace) = (World::get()?, format!("db-{}", shared::new_name()));
        world.cluster.kubectl(&["create", "namespace", &namespace])?;
        let pod = Self { world, namespace, volume: Scratch::new("pod")? };
        pod.make_account()?;
        pod.make_entry()?;
        pod.world.vault.vault(&["write", "-f", &format!("transit/keys/{}", pod.namespace)])?;
        pod.make_role(&[])?;
        pod.rotate()?;
        Ok(pod)
    }

    /// The role in Vault that the account has.
    pub(crate) fn make_role(&self, more: &[&str]) -> Result<()> {
        self.make_role_at("kubernetes", more)
    }

    /// The same where another log-in is mounted.
    pub(crate) fn make_role_at(&self, mount: &str, more: &[&str]) -> Result<()> {
        let role = format!("auth/{mount}/role/{}", self.namespace);
        let (name, namespace, audience) = (
            format!("bound_service_account_names={ACCOUNT}"),
            format!("bound_service_account_namespaces={}", self.namespace),
            format!("audience={AUDIENCE}"),
        );
        let words = ["write", &role, &name, &namespace, &audience, "token_policies=keyward"];
        self.world.vault.vault(&[&words, more].concat()).map(drop)
    }

    pub(crate) fn make_account(&self) -> Result<()> {
        self.kubectl(&["create", "serviceaccount", ACCOUNT]).map(drop)
    }

    /// The entry of the pod; the one before it is gone.
    pub(crate) fn make_entry(&self) -> Result<()> {
        self.world.cluster.create(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: mariadb-0, namespace: {}}}\n\
             spec: {{serviceAccountName: {ACCOUNT}, containers: [{{name: mariadb, image: mariadb}}]}}\n",
            self.namespace
        ))
    }

    pub(crate) fn delete_entry(&self) -> Result<()> {
        let words = ["delete", "pod", "mariadb-0", "--grace-period=0", "--force"];
        self.kubectl(&words).map(drop)
    }

    /// Runs `kubectl` with these words, in its namespace.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={}", self.namespace);
        self.world.cluster.kubectl(&[words, &[&namespace]].concat())
    }

    /// A token of `account` in this namespace, good for ten minutes, which is the least that the API
    /// server gives.
    pub(crate) fn token(&self, account: &str, more: &[&str]) -> Result<String> {
        let words = ["create", "token", account, "--duration=10m"];
        Ok(self.kubectl(&[&words, more].concat())?.trim().to_owned())
    }

    /// A new token of the pod's own goes into its volume; gives it.
    pub(crate) fn rotate(&self) -> Result<String> {
        let audience = format!("--audience={AUDIENCE}");
        let bound = ["--bound-object-kind=Pod", "--bound-object-name=mariadb-0", &audience];
        let token = self.token(ACCOUNT, &bound)?;
        self.put(&token)?;
        Ok(token)
    }

    /// Puts a token into the volume as the kubelet does: the file is a link through a folder that is
    /// replaced by another as a whole.
    pub(crate) fn put(&self, token: &str) -> Result<()> {
        let at = |name: &str| self.volume.path().join(name);
        let folder = format!("..{}", shared::new_name());
        fs::create_dir(at(&folder))?;
        files::write(&at(&folder).join("token"), token)?;
        files::chmod(&at(&folder).join("token"), 0o644)?;
        let before = fs::read_link(at("..data")).ok();
        symlink(&folder, at("..data_tmp"))?;
        fs::rename(at("..data_tmp"), at("..data"))?;
        if let Some(before) = before {
            fs::remove_dir_all(at("").join(before))?;
        } else {
            symlink("..data/token", at("token"))?;
        }
        Ok(())
    }

    /// Where the newest token is.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.volume.path().join("token")
    }
}

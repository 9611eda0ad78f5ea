//! Every way to log in, and to stay logged in.

use std::thread::sleep;
use std::time::{Duration, Instant};

use keyward::backend::vault::{Jwt, Login, RoleId};
use keyward::env::System;
use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use keyward::secret::DataKey;
use keyward::secret::source::SecretSource;
use test_kit::{Result, Scratch, ensure, seen};
use test_vault::{Shared, Vault};

use crate::{approle, context, secret, settings, soon, transit, wrapper};

/// A role with a mount of its own: what is taken away from all who logged in there is taken from no
/// other test.
struct Role<'a> {
    vault: &'a Vault,
    mount: String,
}

impl<'a> Role<'a> {
    fn new(shared: &'a Shared, settings: &[&str]) -> Result<Self> {
        let (vault, mount) = (&shared.vault, format!("approle-{}", shared.new_name()));
        vault.vault(&["auth", "enable", &format!("-path={mount}"), "approle"])?;
        let role = Self { vault, mount };
        let path = role.path("");
        vault.vault(&[&["write", &path, "token_policies=keyward"], settings].concat())?;
        Ok(role)
    }

    fn path(&self, of: &str) -> String {
        format!("auth/{}/role/keyward{of}", self.mount)
    }

    fn id(&self) -> Result<String> {
        self.vault.field("role_id", &["read", &self.path("/role-id")])
    }

    fn new_secret(&self) -> Result<String> {
        self.vault.field("secret_id", &["write", "-f", &self.path("/secret-id")])
    }

    fn login(&self, secret_id: SecretSource, wrapped: bool) -> Result<Login> {
        let (mount, role_id) = (self.mount.clone(), RoleId::Given(self.id()?));
        Ok(Login::AppRole { mount, role_id, secret_id, wrapped })
    }

    /// What was given to those who logged in.
    fn given(&self) -> Result<String> {
        self.vault.vault(&["list", &format!("sys/leases/lookup/auth/{}/login", self.mount)])
    }

    /// Takes away all of it.
    fn revoke(&self) -> Result<()> {
        let given = format!("auth/{}/login", self.mount);
        self.vault.vault(&["lease", "revoke", "-f", "-prefix", &given]).map(drop)
    }
}

/// Wraps and unwraps; what went wrong as a text.
fn works(wrapper: &dyn KeyWrapper) -> Result<()> {
    let said = |error: keyward::Error| error.to_string();
    let data = DataKey::generate(32, &System).map_err(said)?;
    let wrapped = wrapper.wrap(&data, &context(), soon()).map_err(said)?;
    let opened = wrapper.unwrap(&wrapped, &context(), soon()).map_err(said)?;
    ensure!(opened.expose() == data.expose(), "another key came back");
    Ok(())
}

fn refused(wrapper: &dyn KeyWrapper) -> Result<String> {
    match wrapper.describe(soon()) {
        Ok(_) => Err("it went through, and was to be refused".into()),
        Err(error) => {
            ensure!(error.kind() == Kind::Denied, "{:?}: {error}", error.kind());
            Ok(error.to_string())
        }
    }
}

/// A token that may do what a server may, for so long.
fn token(vault: &Vault, words: &[&str]) -> Result<String> {
    let mut all = vec!["token", "create", "-policy=keyward", "-field=token"];
    all.extend(words);
    Ok(vault.vault(&all)?.trim().to_owned())
}

#[test]
fn by_a_token_that_is_replaced_in_its_file() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("token")?);
    let first = token(&shared.vault, &["-ttl=1h"])?;
    let source = secret(&scratch, "token", &format!("{first}\n"))?;
    let wrapper = transit(&shared, Login::Token(source))?;
    works(&wrapper)?;
    shared.vault.vault(&["token", "revoke", &first])?;
    sleep(Duration::from_millis(1100));
    let said = refused(&wrapper)?;
    ensure!(said.contains("does not accept the token from"), "{said}");
    ensure!(!said.contains(&first), "the token shows: {said}");
    seen!("a revoked token: {said}");
    secret(&scratch, "token", &token(&shared.vault, &["-ttl=1h"])?)?;
    works(&wrapper)
}

#[test]
fn a_token_of_some_seconds_is_renewed_for_as_long_as_it_is_used() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("renewed")?);
    let short = token(&shared.vault, &["-period=4s"])?;
    let wrapper = transit(&shared, Login::Token(secret(&scratch, "token", &short)?))?;
    works(&wrapper)?;
    let maintenance = wrapper.maintenance().ok_or("nothing keeps the log-in up")?;
    for _ in 0..24 {
        sleep(Duration::from_millis(500));
        maintenance.maintain(soon()).map_err(|error| error.to_string())?;
    }
    works(&wrapper)?;
    seen!("a token of 4 s served for 12 s");
    Ok(())
}

#[test]
fn a_token_that_ends_is_told_of_once_and_replaced_in_time() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("ends")?);
    for words in [["-ttl=8s", "-explicit-max-ttl=20s"], ["-ttl=12s", "-renewable=false"]] {
        let ending = token(&shared.vault, &words)?;
        let source = secret(&scratch, "token", &ending)?;
        let wrapper = transit(&shared, Login::Token(source.clone()))?;
        works(&wrapper)?;
        let maintenance = wrapper.maintenance().ok_or("nothing keeps the log-in up")?;
        let (began, mut told) = (Instant::now(), Vec::new());
        let look = |told: &mut Vec<String>| {
            sleep(Duration::from_millis(100));
            told.extend(maintenance.maintain(soon()).err().map(|error| error.to_string()));
        };
        while told.is_empty() && began.elapsed() < Duration::from_secs(25) {
            look(&mut told);
        }
        let after = began.elapsed();
        works(&wrapper)?;
        (0..3).for_each(|_| look(&mut told));
        let advice = format!("and is not renewed beyond that; put a new one into {source} before");
        ensure!(told.len() == 1, "{words:?}: {told:?}");
        let line = told[0].clone();
        ensure!(line.starts_with("its token ends at 20") && line.ends_with(&advice), "{line}");
        secret(&scratch, "token", &token(&shared.vault, &["-ttl=1h"])?)?;
        sleep(Duration::from_secs(21).saturating_sub(began.elapsed()));
        works(&wrapper)?;
        look(&mut told);
        ensure!(told.len() == 1 && after > Duration::from_secs(8), "{after:?}: {told:?}");
        seen!("{words:?}: after {:.1} s: {line}", after.as_secs_f64());
    }
    Ok(())
}

#[test]
fn a_role_logs_in_again_when_its_token_may_live_no_longer() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("longest")?);
    let name = shared.new_name();
    let role = format!("auth/approle/role/{name}");
    let words = ["write", &role, "token_policies=keyward", "token_ttl=3s", "token_max_ttl=5s"];
    shared.vault.vault(&words)?;
    let role_id = shared.vault.field("role_id", &["read", &format!("{role}/role-id")])?;
    let path = format!("{role}/secret-id");
    let secret_id = shared.vault.field("secret_id", &["write", "-f", &path])?;
    let wrapper = transit(&shared, approle(&role_id, secret(&scratch, "id", &secret_id)?))?;
    works(&wrapper)?;
    let maintenance = wrapper.maintenance().ok_or("nothing keeps the log-in up")?;
    for _ in 0..24 {
        sleep(Duration::from_millis(500));
        maintenance.maintain(soon()).map_err(|error| error.to_string())?;
        wrapper.describe(soon()).map_err(|error| error.to_string())?;
    }
    seen!("tokens of 3 s, 5 s at most, served for 12 s");
    Ok(())
}

#[test]
fn by_approle_whose_token_is_revoked_and_whose_secret_is_replaced() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("approle")?);
    let role = Role::new(&shared, &[])?;
    let first = role.new_secret()?;
    let wrapper = transit(&shared, role.login(secret(&scratch, "id", &first)?, false)?)?;
    works(&wrapper)?;
    // The next call logs in again.
    role.revoke()?;
    sleep(Duration::from_millis(1100));
    works(&wrapper)?;
    let body = format!("secret_id={first}");
    shared.vault.vault(&["write", &role.path("/secret-id/destroy"), &body])?;
    role.revoke()?;
    sleep(Duration::from_millis(1100));
    let said = refused(&wrapper)?;
    ensure!(said.contains("its role id or secret id is wrong, over or used up"), "{said}");
    ensure!(!said.contains(&first) && !said.contains(&role.id()?), "a secret shows: {said}");
    secret(&scratch, "id", &role.new_secret()?)?;
    works(&wrapper)
}

#[test]
fn a_wrong_secret_is_tried_once_and_locks_nobody_out() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("lockout")?);
    let name = shared.new_name();
    let role = format!("auth/approle/role/{name}");
    shared.vault.vault(&["write", &role, "token_policies=keyward"])?;
    let role_id = shared.vault.field("role_id", &["read", &format!("{role}/role-id")])?;
    let wrong = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let wrapper = transit(&shared, approle(&role_id, secret(&scratch, "id", wrong)?))?;
    // After five failures Vault would refuse the right one as well, for 15 minutes.
    for _ in 0..12 {
        let said = refused(&wrapper)?;
        ensure!(said.contains("its role id or secret id is wrong, over or used up"), "{said}");
    }
    let path = format!("{role}/secret-id");
    secret(&scratch, "id", &shared.vault.field("secret_id", &["write", "-f", &path])?)?;
    works(&wrapper)?;
    seen!("refused 12 times, asked once: the right secret works at once");
    Ok(())
}

#[test]
fn a_token_revoked_right_after_its_renewal_is_replaced() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("renewed-revoked")?);
    let role = Role::new(&shared, &["token_ttl=4s"])?;
    let secret_id = secret(&scratch, "id", &role.new_secret()?)?;
    let wrapper = transit(&shared, role.login(secret_id, false)?)?;
    works(&wrapper)?;
    let maintenance = wrapper.maintenance().ok_or("nothing keeps the log-in up")?;
    sleep(Duration::from_millis(2900));
    let before = role.given()?;
    maintenance.maintain(soon()).map_err(|error| error.to_string())?;
    ensure!(role.given()? == before, "it logged in again instead of renewing");
    role.revoke()?;
    works(&wrapper)
}

#[test]
fn by_approle_with_a_wrapped_secret_that_works_once() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("wrapped")?);
    let role = Role::new(&shared, &[])?;
    let words = ["write", "-f", "-wrap-ttl=60s", &role.path("/secret-id")];
    let wrapping = shared.vault.field("wrapping_token", &words)?;
    let login = role.login(secret(&scratch, "wrapped", &wrapping)?, true)?;
    let wrapper = transit(&shared, login.clone())?;
    works(&wrapper)?;
    // The secret within is kept: the same process logs in again though the wrapping is spent.
    role.revoke()?;
    sleep(Duration::from_millis(1100));
    works(&wrapper)?;
    let said = refused(&transit(&shared, login)?)?;
    ensure!(said.contains("cannot be unwrapped") && !said.contains(&wrapping), "{said}");
    seen!("a wrapping that is spent: {said}");
    Ok(())
}

#[test]
fn by_a_users_name_and_password() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("user")?);
    let (vault, mount) = (&shared.vault, shared.new_name());
    vault.vault(&["auth", "enable", &format!("-path={mount}"), "userpass"])?;
    let user = format!("auth/{mount}/users/db-1.mariadb");
    let made_for = |password: &str| format!("password={password}");
    vault.vault(&["write", &user, &made_for("right-password"), "token_policies=keyward"])?;
    let login = || -> Result<Login> {
        let password = secret(&scratch, "password", "wrong-password\n")?;
        Ok(Login::User { mount: mount.clone(), name: "db-1.mariadb".into(), password })
    };
    let wrapper = transit(&shared, login()?)?;
    // After five failures Vault would refuse the right one as well.
    for _ in 0..12 {
        let said = refused(&wrapper)?;
        ensure!(said.contains("the user's name or password is wrong"), "{said}");
        ensure!(!said.contains("wrong-password"), "the password shows: {said}");
    }
    seen!("a wrong password, asked for once: {}", refused(&wrapper)?);
    secret(&scratch, "password", "right-password\n")?;
    works(&wrapper)?;
    // The user's password is changed, and the tokens that were given for it are taken away.
    vault.vault(&["write", &format!("{user}/password"), &made_for("next-password")])?;
    let given = format!("auth/{mount}/login");
    vault.vault(&["lease", "revoke", "-f", "-prefix", &given])?;
    secret(&scratch, "password", "next-password\n")?;
    sleep(Duration::from_millis(1100));
    works(&wrapper)
}

#[test]
fn by_a_certificate() -> Result<()> {
    let shared = Shared::get()?;
    let vault = &shared.vault;
    // Another test of this process may have enabled it.
    let _ = vault.vault(&["auth", "enable", "cert"]);
    let ca = format!("certificate=@{}", vault.certificates().path("client.pem").display());
    vault.vault(&["write", "auth/cert/certs/keyward", "token_policies=keyward", &ca])?;
    let login = Login::Certificate { mount: "cert".into(), role: Some("keyward".into()) };
    let key = shared.new_name();
    vault.vault(&["write", "-f", &format!("transit/keys/{key}")])?;
    let mut with = settings(vault, login)?;
    let said = refused(&wrapper(with.clone(), &key))?;
    ensure!(said.contains("no role accepts our client certificate"), "{said}");
    with.trust.client_certificate = Some(vault.certificates().path("client.pem"));
    with.trust.client_key = Some(vault.certificates().path("client.key"));
    works(&wrapper(with, &key))
}

#[test]
fn by_a_signed_token_as_kubernetes_gives_one() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("jwt")?);
    let vault = &shared.vault;
    let mount = shared.new_name();
    vault.vault(&["auth", "enable", &format!("-path={mount}"), "jwt"])?;
    let signer = Signer::new(&scratch)?;
    let key = format!("jwt_validation_pubkeys=@{}", signer.public.display());
    vault.vault(&["write", &format!("auth/{mount}/config"), &key])?;
    vault.vault(&[
        "write",
        &format!("auth/{mount}/role/database"),
        "role_type=jwt",
        "user_claim=sub",
        "bound_audiences=vault",
        "token_policies=keyward",
    ])?;
    let path = scratch.path().join("token");
    test_kit::files::write(&path, signer.sign("vault")?)?;
    let login = |jwt| Login::Jwt { mount: mount.clone(), role: "database".into(), jwt };
    works(&transit(&shared, login(Jwt::Pod(path.clone())))?)?;
    let said = refused(&transit(
        &shared,
        login(Jwt::Secret(secret(&scratch, "other", &signer.sign("somebody-else")?)?)),
    )?)?;
    let words = "role database does not accept the JWT of system:serviceaccount:db:mariadb for somebody-else";
    ensure!(said.contains(words), "{said}");
    seen!("a JWT for somebody else: {said}");
    Ok(())
}

/// Signs tokens as an issuer does (RFC 7519, RS256), by openssl.
struct Signer {
    folder: std::path::PathBuf,
    public: std::path::PathBuf,
}

impl Signer {
    fn new(scratch: &Scratch) -> Result<Self> {
        let folder = scratch.path().to_owned();
        let (private, public) = (folder.join("jwt.key"), folder.join("jwt.pub"));
        let at = |path: &std::path::Path| path.display().to_string();
        test_kit::run("openssl", ["genrsa", "-out", &at(&private), "2048"])?;
        let words = ["rsa", "-in", &at(&private), "-pubout", "-out", &at(&public)];
        test_kit::run("openssl", words)?;
        Ok(Self { folder, public })
    }

    fn sign(&self, audience: &str) -> Result<String> {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_err(|error| error.to_string())?.as_secs();
        let claims = format!(
            "{{\"sub\":\"system:serviceaccount:db:mariadb\",\"aud\":\"{audience}\",\
             \"iat\":{now},\"exp\":{}}}",
            now + 600
        );
        let body = format!(
            "{}.{}",
            BASE64.encode(br#"{"alg":"RS256","typ":"JWT"}"#),
            BASE64.encode(claims)
        );
        let (input, output) = (self.folder.join("body"), self.folder.join("signature"));
        test_kit::files::write(&input, &body)?;
        let key = self.folder.join("jwt.key");
        let at = |path: &std::path::Path| path.display().to_string();
        let words = ["dgst", "-sha256", "-sign", &at(&key), "-out", &at(&output), &at(&input)];
        test_kit::run("openssl", words)?;
        let signature = test_kit::files::read(&output)?;
        Ok(format!("{body}.{}", BASE64.encode(signature)))
    }
}

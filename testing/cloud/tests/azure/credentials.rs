//! Every kind of credentials, from its file or its machine to a key that opens.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use keyward::backend::azure_keyvault::{Environment, Settings};
use keyward::env::Deadline;
use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use test_cloud::azure::{
    Answer, CLIENT_ID, IDENTITY, SUBJECT_TOKEN, TENANT, certificate, oauth_error,
};
use test_kit::{Result, ensure, files, seen};

use crate::{Room, Told as _, context, fact, new_key, round_trip, soon, wrapper};

const OTHER: &str = "99999999-1111-4222-8333-0123456789ab";

#[test]
fn fake_azure_an_application_by_its_secret() -> Result<()> {
    let room = Room::new("secret")?;
    let vault = room.provider()?;
    let wrapped = vault.wrap(&new_key()?, &context(), soon()).told()?;
    room.fake.take_actions();
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    let actions = room.fake.take_actions();
    ensure!(actions == ["challenge", "token", "unwrapkey"], "{actions:?}");
    let said = fact(&vault, "credentials")?;
    ensure!(said.starts_with(&format!("{CLIENT_ID}, by /")), "{said}");
    seen!("client secret: {actions:?}");

    room.file("secret", "another")?;
    let words =
        ["does not accept the secret in /", "(AADSTS7000215)", "credential reset --id 0f0c"];
    let error = room.refused(vault.describe(soon()), Kind::Denied, &words)?;
    seen!("wrong secret: {error}");
    room.file("secret", "\n")?;
    room.refused(vault.describe(soon()), Kind::Config, &["has no text for Azure"])?;
    room.fake.fail(|request| request.path.contains("/token").then(|| oauth_error("x", 7_000_222)));
    room.file("secret", "another")?;
    room.refused(vault.describe(soon()), Kind::Denied, &["or it has ended", "AADSTS7000222"])?;
    Ok(())
}

#[test]
fn fake_azure_an_application_by_its_certificate() -> Result<()> {
    let room = Room::new("certificate")?;
    let both = room.file("both.pem", &certificate()?)?;
    let client_id = Some(CLIENT_ID.to_owned());
    let settings = Settings { client_id, ..room.settings()? };
    let with = Settings { client_certificate_file: Some(both.clone()), ..settings.clone() };
    round_trip(&wrapper(with.clone()))?;
    // By PSS, and by the certificate's SHA-256: the fake verifies both.
    let seen = room.fake.state().seen.clone();
    let asked = seen.iter().find(|request| request.path.contains("/token")).ok_or("nobody")?;
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    ensure!(body.contains("client-assertion-type%3Ajwt-bearer"), "{body}");

    // In two files.
    let text = certificate()?;
    let at = text.find("-----BEGIN CERTIFICATE").ok_or("no certificate")?;
    let end = text.find("-----BEGIN PRIVATE KEY").ok_or("no key")?;
    let (own_certificate, own_key) =
        if at < end { (&text[at..end], &text[end..]) } else { (&text[at..], &text[end..at]) };
    let apart = Settings {
        client_certificate_file: Some(room.file("own.pem", own_certificate)?),
        client_key_file: Some(room.file("own.key", own_key)?),
        ..settings.clone()
    };
    round_trip(&wrapper(apart.clone()))?;
    // By the environment.
    let environment = Environment { client_certificate: Some(both), ..Environment::default() };
    round_trip(&wrapper(Settings { environment, ..settings }))?;

    room.fake.state().applications.get_mut(CLIENT_ID).ok_or("none")?.certificate.1 = vec![0; 270];
    let words = ["does not know the certificate in /", "(AADSTS700027)", "--cert @CERTIFICATE"];
    let error = room.refused(wrapper(with).describe(soon()), Kind::Denied, &words)?;
    seen!("certificate: {error}");
    room.file("own.key", "none")?;
    let words = ["own.key has no RSA key", "az ad app credential reset"];
    room.refused(wrapper(apart.clone()).describe(soon()), Kind::Config, &words)?;
    room.file("own.pem", "none")?;
    room.refused(wrapper(apart).describe(soon()), Kind::Config, &["own.pem has no certificate"])?;
    Ok(())
}

#[test]
fn fake_azure_workload_identity_by_the_token_that_a_cluster_writes() -> Result<()> {
    let room = Room::new("federation")?;
    let token = room.file("token", &format!("{SUBJECT_TOKEN}\n"))?;
    files::chmod(&token, 0o644)?;
    let environment = Environment {
        client_id: Some(CLIENT_ID.to_owned()),
        federated_token: Some(token.clone()),
        authority_host: Some(room.fake.url()),
        ..Environment::default()
    };
    let of_pod = Settings { environment, authority_host: None, ..room.settings()? };
    round_trip(&wrapper(of_pod.clone()))?;
    let named = Settings {
        client_id: Some(CLIENT_ID.to_owned()),
        federated_token_file: Some(token.clone()),
        ..room.settings()?
    };
    round_trip(&wrapper(named))?;
    files::write(&token, "an.other.token")?;
    let words = ["no federated credential for the token in /", "federated-credential list"];
    let error = room.refused(wrapper(of_pod.clone()).describe(soon()), Kind::Denied, &words)?;
    seen!("federation: {error}");
    files::write(&token, "\n")?;
    room.refused(wrapper(of_pod).describe(soon()), Kind::Config, &["token has no text for Azure"])?;
    Ok(())
}

#[test]
fn fake_azure_a_machine_by_its_metadata_service() -> Result<()> {
    let room = Room::new("machine")?;
    let environment = Environment { metadata: Some(room.fake.url()), ..Environment::default() };
    let settings = Settings { environment, ..room.settings()? };
    let vault = wrapper(settings.clone());
    let words = ["no managed identity, or several", "az vm identity assign"];
    let error = room.refused(vault.describe(soon()), Kind::Denied, &words)?;
    seen!("machine without an identity: {error}");
    room.fake.state().machine.insert("system".to_owned());
    round_trip(&vault)?;
    let seen = room.fake.state().seen.clone();
    for asked in seen.iter().filter(|request| request.path.starts_with("/metadata/")) {
        ensure!(asked.header("metadata") == "true", "without the header");
    }
    let assigned = wrapper(Settings { client_id: Some(IDENTITY.to_owned()), ..settings });
    let words = [&format!("the managed identity {IDENTITY}"), "client_id"];
    room.refused(assigned.describe(soon()), Kind::Denied, &words.map(|word| word))?;
    room.fake.state().machine.insert(IDENTITY.to_owned());
    round_trip(&assigned)?;

    // While the service is renewed, or the identity comes around.
    for status in [404, 410, 429, 500, 503] {
        let left = AtomicI32::new(2);
        room.fake.fail(move |request| {
            let asked = request.path.starts_with("/metadata/");
            let fails = asked && left.fetch_sub(1, Ordering::SeqCst) > 0;
            fails.then(|| Answer::text(status, "{}"))
        });
        assigned.describe(soon()).told()?;
    }
    Ok(())
}

#[test]
fn fake_azure_a_machine_of_arc_shows_a_key_of_its_agents_and_no_other_file() -> Result<()> {
    let room = Room::new("arc")?;
    let tokens = room.scratch.path().join("tokens");
    std::fs::create_dir(&tokens)?;
    room.fake.state().arc = Some(tokens.clone());
    let endpoint = format!("{}/arc/metadata/identity/oauth2/token", room.fake.url());
    let environment =
        Environment { arc: Some(endpoint), arc_tokens: tokens.clone(), ..Environment::default() };
    let vault = wrapper(Settings { environment, ..room.settings()? });
    round_trip(&vault)?;
    ensure!(fact(&vault, "credentials")? == "Azure Arc's agent", "another");
    let outside = room.file("outside.key", "hunter2")?;
    std::os::unix::fs::symlink(&outside, tokens.join("link.key"))?;
    files::write(&tokens.join("long.key"), "a".repeat(4097))?;
    files::write(&tokens.join("a.txt"), "hunter2")?;
    let inside = |name: &str| tokens.join(name).display().to_string();
    for (file, kind) in [
        (outside.display().to_string(), Kind::Untrusted),
        ("/etc/shadow".to_owned(), Kind::Untrusted),
        (inside("../outside.key"), Kind::Untrusted),
        (inside("link.key"), Kind::Untrusted),
        (inside("a.txt"), Kind::Untrusted),
        (inside("none.key"), Kind::Untrusted),
        (String::new(), Kind::Untrusted),
        (inside("long.key"), Kind::Config),
    ] {
        let realm = format!("Basic realm={file}");
        room.fake.fail(move |request| {
            let asked = request.path.starts_with("/arc/");
            asked.then(|| Answer::text(401, "{}").with("WWW-Authenticate", &realm))
        });
        room.fake.take_actions();
        let error = vault.describe(soon()).err().ok_or("it went through")?;
        ensure!(error.kind() == kind, "{file}: {error}");
        let asked = room.fake.state().seen.clone();
        let shown =
            asked.iter().any(|request| request.header("authorization").starts_with("Basic"));
        ensure!(!shown, "{file} was sent");
    }
    Ok(())
}

#[test]
fn fake_azure_a_token_that_somebody_else_gets() -> Result<()> {
    let room = Room::new("token")?;
    let file = room.file("token", "eyJ0.mine\n")?;
    let settings = Settings { access_token_file: Some(file), ..room.settings()? };
    let vault = wrapper(settings);
    let words = ["does not accept our token", "access_token_file"];
    room.refused(vault.describe(soon()), Kind::Denied, &words)?;
    let given = (CLIENT_ID.to_owned(), false);
    room.fake.state().tokens.insert("eyJ0.mine".to_owned(), given);
    round_trip(&vault)?;
    Ok(())
}

#[test]
fn fake_azure_no_token_goes_to_who_wants_one_for_something_else() -> Result<()> {
    let room = Room::new("resource")?;
    let vault = room.provider()?;
    for (header, words) in [
        (
            format!(
                "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", \
                 resource=\"https://management.azure.com\""
            ),
            "asks for a token for another resource than its own",
        ),
        ("Bearer realm=\"a\"".to_owned(), "does not ask for a token as a vault of Azure does"),
        (String::new(), "does not ask for a token as a vault of Azure does"),
    ] {
        room.fake.fail(move |_| Some(Answer::text(401, "{}").with("WWW-Authenticate", &header)));
        room.fake.take_actions();
        let error = room.refused(vault.describe(soon()), Kind::Untrusted, &[words])?;
        let actions = room.fake.take_actions();
        ensure!(actions == ["challenge"], "{actions:?}");
        seen!("challenge refused: {error}");
    }
    room.fake.fail(|_| Some(Answer::text(200, "{}")));
    let words = ["does not ask for a token"];
    room.refused(vault.describe(soon()), Kind::Untrusted, &words)?;
    Ok(())
}

#[test]
fn fake_azure_the_tenant_is_the_vaults() -> Result<()> {
    let room = Room::new("tenant")?;
    let settings = room.with_secret()?;
    let same = Settings { tenant: Some(TENANT.to_uppercase()), ..settings.clone() };
    round_trip(&wrapper(same))?;
    let other = wrapper(Settings { tenant: Some(OTHER.to_owned()), ..settings.clone() });
    let words = ["belongs to the tenant 72f9", "correct `tenant`"];
    room.refused(other.describe(soon()), Kind::Config, &words)?;
    let nobody = wrapper(Settings { client_id: Some(OTHER.to_owned()), ..settings.clone() });
    let words = ["has no application 9999", "az ad sp create"];
    room.refused(nobody.describe(soon()), Kind::Denied, &words)?;
    let nowhere = wrapper(Settings { authority_host: None, ..settings });
    room.refused(nowhere.describe(soon()), Kind::Config, &["set authority_host"])?;
    Ok(())
}

#[test]
fn fake_azure_claims_that_the_vault_wants_are_asked_for_once() -> Result<()> {
    let room = Room::new("claims")?;
    let vault = room.provider()?;
    let wrapped = round_trip(&vault)?;
    room.fake.state().wants_claims = true;
    room.fake.take_actions();
    vault.unwrap(&wrapped, &context(), soon()).told()?;
    let actions = room.fake.take_actions();
    let due = ["challenge", "token", "unwrapkey", "token", "unwrapkey"];
    ensure!(actions == due, "{actions:?}");
    // A machine's tokens have none: that is the end of it.
    let environment = Environment { metadata: Some(room.fake.url()), ..Environment::default() };
    let machine = wrapper(Settings { environment, ..room.settings()? });
    room.fake.state().machine.insert("system".to_owned());
    room.fake.take_actions();
    let words = ["does not accept our token"];
    room.refused(machine.unwrap(&wrapped, &context(), soon()), Kind::Denied, &words)?;
    let actions = room.fake.take_actions();
    ensure!(actions == due, "{actions:?}");
    Ok(())
}

#[test]
fn fake_azure_what_gives_tokens_may_be_out_of_order_for_a_moment() -> Result<()> {
    let room = Room::new("flaky")?;
    let vault = room.provider()?;
    let left = AtomicI32::new(3);
    room.fake.fail(move |request| {
        let asked = request.path.contains("/token");
        let fails = asked && left.fetch_sub(1, Ordering::SeqCst) > 0;
        fails.then(|| Answer::text(503, "busy"))
    });
    round_trip(&vault)?;
    room.fake.fail(|request| {
        request.path.contains("/token").then(|| oauth_error("temporarily_unavailable", 90_033))
    });
    let (began, by) = (Instant::now(), Deadline::after(Duration::from_secs(5)));
    room.refused(vault.describe(by), Kind::Unavailable, &["fails (status 400)"])?;
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    for answer in ["<html>", "{}", "{\"access_token\": 3}", "[]"] {
        room.fake.fail(move |request| {
            request.path.contains("/token").then(|| Answer::text(200, answer))
        });
        let by = Deadline::after(Duration::from_secs(4));
        let words = ["something else than Azure's API has"];
        room.refused(vault.wrap(&new_key()?, &context(), by), Kind::Unavailable, &words)?;
    }
    Ok(())
}

#[test]
fn fake_azure_over_tls_with_an_authority_of_our_own() -> Result<()> {
    let room = Room::new("tls")?;
    let mut settings = room.with_secret()?;
    settings.key = format!("{}/keys/store", room.fake.tls_url()).parse().told()?;
    let words = ["cannot trust https://localhost", "ca_file"];
    let vault = wrapper(settings.clone());
    room.refused(vault.describe(soon()), Kind::Untrusted, &words)?;
    settings.trust.ca_file = Some(room.fake.authority());
    round_trip(&wrapper(settings))?;
    Ok(())
}

#[test]
fn fake_azure_a_file_of_credentials_that_others_can_write_or_read_is_refused() -> Result<()> {
    let room = Room::new("modes")?;
    let vault = room.provider()?;
    let secret = room.scratch.path().join("secret");
    for (mode, words) in [(0o644, "can be read by others"), (0o666, "can be written by others")] {
        files::chmod(&secret, mode)?;
        room.refused(vault.describe(soon()), Kind::Config, &[words])?;
    }
    let token = room.file("token", SUBJECT_TOKEN)?;
    let pod = wrapper(Settings {
        client_id: Some(CLIENT_ID.to_owned()),
        federated_token_file: Some(token.clone()),
        ..room.settings()?
    });
    files::chmod(&token, 0o666)?;
    room.refused(pod.describe(soon()), Kind::Config, &["token can be written by others"])?;
    files::chmod(&token, 0o644)?;
    round_trip(&pod)?;
    Ok(())
}

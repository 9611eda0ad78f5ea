//! Every kind of credentials, from its file or its machine to a key that opens.

use std::time::{Duration, Instant};

use keyward::backend::gcp_kms::{Environment, Settings};
use keyward::env::Deadline;
use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use serde_json::json;
use test_cloud::gcp::{ACCOUNT, Answer};
use test_kit::{Result, ensure, files, seen};

use crate::{Room, context, fact, new_key, round_trip, soon, wrapper};

/// Somebody whom others become.
const DATABASE: &str = "database@keyward-test.iam.gserviceaccount.com";

/// Whom federation makes of the cluster's token.
const PRINCIPAL: &str = "principal://pool/subject/database";

/// What a machine's tokens are for.
const ALL: &str = "https://www.googleapis.com/auth/cloud-platform";

#[test]
fn fake_gcp_a_service_accounts_key_signs_for_itself() -> Result<()> {
    let room = Room::new("service-account")?;
    let kms = room.provider()?;
    round_trip(&kms)?;
    // Its own proof is the token: nobody is asked for one.
    let actions = room.fake.take_actions();
    ensure!(actions == ["get", "encrypt", "decrypt"], "{actions:?}");
    let said = fact(&kms, "credentials")?;
    ensure!(said.starts_with(&format!("{ACCOUNT}, by /")), "{said}");
    seen!("service account: {actions:?}");
    Ok(())
}

#[test]
fn fake_gcp_a_key_that_another_account_has_is_not_accepted() -> Result<()> {
    let room = Room::new("signature")?;
    let kms = room.provider()?;
    room.fake.state().accounts.insert(ACCOUNT.to_owned(), vec![0; 270]);
    let words = ["does not accept our token", "clock", "keys list --iam-account=keyward@"];
    let error = room.refused(kms.describe(soon()), Kind::Denied, &words)?;
    seen!("wrong signature: {error}");
    Ok(())
}

#[test]
fn fake_gcp_a_person_by_the_log_in_that_gcloud_left() -> Result<()> {
    let room = Room::new("user")?;
    let mut settings = room.settings()?;
    let gcloud = room.scratch.path().join("gcloud");
    std::fs::create_dir(&gcloud)?;
    room.file("gcloud/application_default_credentials.json", &room.fake.user())?;
    settings.environment.gcloud = Some(gcloud);
    round_trip(&wrapper(settings.clone()))?;
    let seen = room.fake.state().seen.clone();
    let of_kms = seen.iter().filter(|request| request.path.starts_with("/v1/"));
    for request in of_kms {
        let project = request.header("x-goog-user-project");
        ensure!(project == "of-the-file", "counted for {project:?}");
    }
    settings.environment.quota_project = Some("of-the-environment".to_owned());
    settings.quota_project = Some("of-the-section".to_owned());
    room.fake.take_actions();
    round_trip(&wrapper(settings.clone()))?;
    let last = room.fake.state().seen.last().cloned().ok_or("nothing was asked")?;
    ensure!(last.header("x-goog-user-project") == "of-the-section", "{last:?}");

    room.fake
        .fail(|request| (request.path == "/token").then(|| Answer::oauth(400, "invalid_grant")));
    let words =
        ["does not accept the log-in", "(invalid_grant)", "gcloud auth application-default login"];
    let error = room.refused(wrapper(settings).describe(soon()), Kind::Denied, &words)?;
    seen!("log-in over: {error}");
    Ok(())
}

#[test]
fn fake_gcp_federation_by_a_file_and_by_an_address() -> Result<()> {
    let room = Room::new("federation")?;
    let token = room.scratch.path().join("token");
    files::write(&token, format!("{}\n", test_cloud::gcp::SUBJECT_TOKEN))?;
    files::chmod(&token, 0o644)?;
    let in_json = room.scratch.path().join("token.json");
    files::write(&in_json, json!({ "the_token": test_cloud::gcp::SUBJECT_TOKEN }).to_string())?;
    let of_field = json!({ "type": "json", "subject_token_field_name": "the_token" });
    let url = room.fake.url();
    for source in [
        json!({ "file": token }),
        json!({ "file": token, "format": { "type": "text" } }),
        json!({ "file": in_json, "format": of_field }),
        json!({ "url": format!("{url}/subject"), "headers": { "Let-Me": "in" } }),
        json!({ "url": format!("{url}/subject.json"), "format": of_field }),
    ] {
        room.fake.take_actions();
        round_trip(&wrapper(room.with(&room.fake.federation(&source))?))?;
        seen!("federation by {source}: {:?}", room.fake.take_actions());
    }
    let of_file = || room.fake.federation(&json!({ "file": token }));
    // As a service account, too.
    let mut through = of_file();
    through["service_account_impersonation_url"] = json!(room.fake.impersonation_url(DATABASE));
    let kms = wrapper(room.with(&through)?);
    let words = [&format!("become {DATABASE}"), "serviceAccountTokenCreator"];
    room.refused(kms.describe(soon()), Kind::Denied, &words.map(|word| word))?;
    room.fake.let_become(PRINCIPAL, DATABASE);
    round_trip(&kms)?;
    ensure!(fact(&kms, "credentials")?.starts_with(DATABASE), "another account");

    files::write(&token, "another token")?;
    let words = ["does not accept the token", "(invalid_grant)", "providers describe"];
    let kms = wrapper(room.with(&of_file())?);
    let error = room.refused(kms.describe(soon()), Kind::Denied, &words)?;
    seen!("federation refused: {error}");
    let mut other = of_file();
    other["audience"] = json!("//iam.googleapis.com/other");
    let kms = wrapper(room.with(&other)?);
    room.refused(kms.describe(soon()), Kind::Denied, &["(invalid_target)"])?;
    files::write(&token, "\n")?;
    let kms = wrapper(room.with(&of_file())?);
    room.refused(kms.describe(soon()), Kind::Config, &["token has no token for Google"])?;
    let source = json!({ "url": format!("{url}/subject"), "headers": { "Let-Me": "out" } });
    let kms = wrapper(room.with(&room.fake.federation(&source))?);
    room.refused(kms.describe(soon()), Kind::Denied, &["gives no token for Google (status 404)"])?;
    Ok(())
}

#[test]
fn fake_gcp_an_account_that_others_become() -> Result<()> {
    let room = Room::new("impersonation")?;
    let source = room.fake.service_account()?;
    // By the file.
    let kms = wrapper(room.with(&room.fake.impersonated(&source, DATABASE))?);
    let grant = format!(
        "gcloud iam service-accounts add-iam-policy-binding {DATABASE} \
         --member=serviceAccount:{ACCOUNT} --role=roles/iam.serviceAccountTokenCreator"
    );
    let error = room.refused(kms.describe(soon()), Kind::Denied, &[&grant])?;
    seen!("not impersonated: {error}");
    room.fake.let_become(ACCOUNT, DATABASE);
    round_trip(&kms)?;
    let of_person = wrapper(room.with(&room.fake.impersonated(&room.fake.user(), DATABASE))?);
    room.fake.let_become("user:person@example.com", DATABASE);
    round_trip(&of_person)?;

    // By the configuration, and by way of another account.
    let between = "between@keyward-test.iam.gserviceaccount.com".to_owned();
    let impersonate = vec![between.clone(), "last@keyward-test.iam.gserviceaccount.com".to_owned()];
    let settings = Settings { impersonate: impersonate.clone(), ..room.with(&source)? };
    let kms = wrapper(settings);
    room.refused(kms.describe(soon()), Kind::Denied, &[&format!("become {}", impersonate[1])])?;
    room.fake.let_become(ACCOUNT, &between);
    room.fake.let_become(&between, &impersonate[1]);
    room.fake.take_actions();
    round_trip(&kms)?;
    let seen = room.fake.state().seen.clone();
    let asked = seen.iter().find(|request| request.path.ends_with(":generateAccessToken"));
    let body = String::from_utf8_lossy(&asked.ok_or("nobody was asked")?.body).into_owned();
    ensure!(body.contains("\"https://www.googleapis.com/auth/cloudkms\""), "for more: {body}");
    ensure!(body.contains("projects/-/serviceAccounts/between@"), "no delegate: {body}");

    room.fake.fail(|request| {
        let asked = request.path.ends_with(":generateAccessToken");
        asked.then(|| Answer::reason(403, "PERMISSION_DENIED", "off", "SERVICE_DISABLED"))
    });
    room.refused(kms.describe(soon()), Kind::Denied, &["services enable iamcredentials"])?;
    Ok(())
}

#[test]
fn fake_gcp_a_machine_by_its_metadata_service() -> Result<()> {
    let room = Room::new("machine")?;
    let of_machine =
        Environment { metadata: Some(room.fake.address().to_string()), ..Environment::default() };
    let kms = wrapper(Settings { environment: of_machine, ..room.settings()? });
    let words = ["no service account that gives a token", "set-service-account"];
    let error = room.refused(kms.describe(soon()), Kind::Denied, &words)?;
    seen!("machine without an account: {error}");
    let allow = |scopes: &str| room.fake.state().machine = Some((ACCOUNT.into(), scopes.into()));
    allow("https://www.googleapis.com/auth/devstorage.read_only");
    let words = ["scopes of our token leave Cloud KMS out", "--scopes=cloud-platform"];
    let error = room.refused(kms.describe(soon()), Kind::Denied, &words)?;
    seen!("scopes: {error}");
    allow(ALL);
    round_trip(&kms)?;
    let seen = room.fake.state().seen.clone();
    let asked = seen.iter().filter(|request| request.path.starts_with("/computeMetadata/"));
    for request in asked {
        ensure!(request.header("metadata-flavor") == "Google", "without the header");
    }
    // Somebody who answers at that address, and is no metadata service of Google's.
    room.fake.fail(|request| {
        let asked = request.path.starts_with("/computeMetadata/");
        asked.then(|| Answer::text(200, "{\"access_token\": \"ya29.theirs\"}"))
    });
    room.refused(kms.describe(soon()), Kind::Denied, &["there are no Google credentials"])?;
    Ok(())
}

#[test]
fn fake_gcp_what_gives_tokens_may_be_out_of_order_for_a_moment() -> Result<()> {
    let room = Room::new("flaky")?;
    let kms = wrapper(room.with(&room.fake.user())?);
    let left = std::sync::atomic::AtomicI32::new(3);
    room.fake.fail(move |request| {
        let fails =
            request.path == "/token" && left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) > 0;
        fails.then(|| Answer::text(503, "busy"))
    });
    round_trip(&kms)?;
    room.fake.fail(|request| (request.path == "/token").then(|| Answer::text(503, "busy")));
    let (began, by) = (Instant::now(), Deadline::after(Duration::from_secs(2)));
    room.refused(kms.describe(by), Kind::Unavailable, &["fails (status 503)"])?;
    ensure!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    for answer in ["<html>", "{}", "{\"access_token\": 3}", "[]"] {
        room.fake
            .fail(move |request| (request.path == "/token").then(|| Answer::text(200, answer)));
        let by = Deadline::after(Duration::from_secs(1));
        let words = ["something else than Google's API has"];
        room.refused(kms.wrap(&new_key()?, &context(), by), Kind::Unavailable, &words)?;
    }
    Ok(())
}

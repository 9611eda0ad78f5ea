//! Google's own client on the same server, so that this cannot drift towards ours: `google-cloud-kms`
//! over REST, with `google-auth` for each kind of credentials.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::provider::{KeyWrapper, WrappedKey};
use serde_json::{Value, json};
use test_cloud::gcp::{ACCOUNT, SUBJECT_TOKEN};
use test_kit::command::answer;
use test_kit::{Result, ensure, files, seen};

use crate::{Room, Told as _, context, new_key, soon};

const SCRIPT: &str = include_str!("google.py");

/// Somebody whom the account becomes.
const DATABASE: &str = "database@keyward-test.iam.gserviceaccount.com";

#[test]
fn fake_gcp_is_as_googles_own_client_wants_it() -> Result<()> {
    let python = test_cloud::google_python();
    let python = python.ok_or("Google's client is missing; `cargo xtask setup` installs it")?;
    let room = Room::new("google")?;
    let kms = room.provider()?;
    let data = new_key()?;
    let wrapped = kms.wrap(&data, &context(), soon()).told()?;
    room.fake.let_become(ACCOUNT, DATABASE);
    let all = "https://www.googleapis.com/auth/cloud-platform".to_owned();
    room.fake.state().machine = Some((ACCOUNT.to_owned(), all));
    let token = room.scratch.path().join("token");
    files::write(&token, SUBJECT_TOKEN)?;
    let file = |name: &str, content: &Value| -> Result<String> {
        Ok(room.file(name, content)?.display().to_string())
    };
    let order = json!({
        "url": room.fake.url(),
        "key": room.key,
        "service_account": file("service.json", &room.fake.service_account()?)?,
        "federation": file("federation.json", &room.fake.federation(&json!({ "file": token })))?,
        "user": room.fake.user(),
        "database": DATABASE,
        "impersonation": room.fake.impersonation_url(DATABASE),
        "aad": STANDARD.encode(bound(&wrapped)),
        "wrapped": STANDARD.encode(&wrapped.blob),
        "data": STANDARD.encode(data.expose()),
    });
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT, &order.to_string()]).env("HOME", room.scratch.path());
    command.env("GCE_METADATA_HOST", room.fake.address().to_string());
    command.env("GCE_METADATA_IP", room.fake.address().to_string());
    for name in ["GOOGLE_APPLICATION_CREDENTIALS", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(name);
    }
    let said = answer(&mut command)?.ok()?;
    let said: Value =
        serde_json::from_str(said.trim()).map_err(|error| format!("{error}: {said}"))?;
    // What Google's client encrypted, ours opens.
    let blob = STANDARD.decode(said["ciphertext"].as_str().unwrap_or_default());
    let theirs = WrappedKey { blob: blob.map_err(|error| error.to_string())?, ..wrapped };
    let opened = kms.unwrap(&theirs, &context(), soon()).told()?;
    ensure!(opened.same_as(&data), "another key");
    seen!("google-cloud-kms {}: {} checks", said["version"], said["checks"]);
    Ok(())
}

/// What the documentation says that a wrapped key is bound to.
fn bound(wrapped: &WrappedKey) -> Vec<u8> {
    context()
        .associated_data("keyward gcp-kms v1", &WrappedKey { blob: Vec::new(), ..wrapped.clone() })
}

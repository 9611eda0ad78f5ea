//! Microsoft's own client on the same server, so that this cannot drift towards ours: `azure-keyvault-keys`
//! with `azure-identity` for each kind of credentials.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::provider::{KeyWrapper, WrappedKey};
use serde_json::{Value, json};
use test_cloud::azure::{CLIENT_ID, CLIENT_SECRET, SUBJECT_TOKEN, TENANT, certificate};
use test_kit::command::answer;
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _, context, new_key, soon};

const SCRIPT: &str = include_str!("microsoft.py");

#[test]
fn fake_azure_is_as_microsofts_own_client_wants_it() -> Result<()> {
    let python = test_cloud::microsoft_python();
    let python = python.ok_or("Microsoft's client is missing; `cargo xtask setup` installs it")?;
    for kty in ["RSA", "oct-HSM"] {
        let room = Room::with_key("microsoft", kty)?;
        let vault = room.provider()?;
        let data = new_key()?;
        let wrapped = vault.wrap(&data, &context(), soon()).told()?;
        room.fake.state().machine.insert("system".to_owned());
        let file = |name: &str, content: &str| -> Result<String> {
            Ok(room.file(name, content)?.display().to_string())
        };
        let order = json!({
            "url": room.fake.tls_url(),
            "plain": room.fake.url(),
            "kty": kty,
            "algorithm": wrapped.algorithm,
            "version": room.newest()?,
            "tenant": TENANT,
            "client": CLIENT_ID,
            "secret": CLIENT_SECRET,
            "certificate": file("both.pem", &certificate()?)?,
            "token": file("token", SUBJECT_TOKEN)?,
            "wrapped": STANDARD.encode(&wrapped.blob),
            "payload": STANDARD.encode(payload(data.expose(), &wrapped)),
        });
        let mut command = Command::new(&python);
        command.args(["-c", SCRIPT, &order.to_string()]).env("HOME", room.scratch.path());
        command.env("REQUESTS_CA_BUNDLE", room.fake.authority());
        command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", room.fake.url());
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
            command.env_remove(name);
        }
        let said = answer(&mut command)?.ok()?;
        let said: Value =
            serde_json::from_str(said.trim()).map_err(|error| format!("{error}: {said}"))?;
        // What Microsoft's client wrapped, ours opens.
        let blob = STANDARD.decode(said["wrapped"].as_str().unwrap_or_default());
        let theirs = WrappedKey { blob: blob.map_err(|error| error.to_string())?, ..wrapped };
        let opened = vault.unwrap(&theirs, &context(), soon()).told()?;
        ensure!(opened.same_as(&data), "another key");
        seen!("azure-keyvault-keys {} on {kty}: {} checks", said["package"], said["checks"]);
    }
    Ok(())
}

/// What the documentation says that is wrapped: the key, and SHA-256 of what it is bound to.
fn payload(data: &[u8], wrapped: &WrappedKey) -> Vec<u8> {
    let bare = WrappedKey { blob: Vec::new(), ..wrapped.clone() };
    let bound = context().associated_data("keyward azure-keyvault v1", &bare);
    let hash = ring::digest::digest(&ring::digest::SHA256, &bound);
    [data, hash.as_ref()].concat()
}

//! What each kind of trouble is told as.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use keyward::backend::gcp_kms::Settings;
use keyward::env::Deadline;
use keyward::error::Kind;
use keyward::provider::{KeyWrapper, WrapContext};
use serde_json::json;
use test_cloud::gcp::{ACCOUNT, Answer, action};
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _, context, new_key, round_trip, soon, wrapper};

#[test]
fn fake_gcp_a_store_key_of_another_keystore_is_refused() -> Result<()> {
    let room = Room::new("context")?;
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    let other = WrapContext { store_key: 2, ..context() };
    let words = ["store key 2, wrapped by", "another keystore"];
    let error = room.refused(kms.unwrap(&wrapped, &other, soon()), Kind::Corrupt, &words)?;
    seen!("wrong context: {error}");
    let mut changed = wrapped.clone();
    changed.kek = format!("{}/cryptoKeyVersions/2", room.key);
    room.refused(kms.unwrap(&changed, &context(), soon()), Kind::Corrupt, &["another keystore"])?;
    let mut settings = room.with(&room.fake.service_account()?)?;
    settings.key = room.fake.new_key("other").parse().told()?;
    let words = ["made by projects/", "cryptoKeys/store", "keyward keystore rewrap"];
    let error = wrapper(settings).unwrap(&wrapped, &context(), soon());
    seen!("another key: {}", room.refused(error, Kind::NotMine, &words)?);
    Ok(())
}

#[test]
fn fake_gcp_a_version_that_cannot_be_used_is_named_with_the_cure() -> Result<()> {
    let room = Room::new("states")?;
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    let of = "1 --key=store --keyring=databases --location=europe-west3 --project=keyward-test";
    for (state, cure) in [
        ("DISABLED", format!("is disabled; gcloud kms keys versions enable {of}")),
        ("DESTROY_SCHEDULED", format!("at once: gcloud kms keys versions restore {of}")),
        (
            "DESTROYED",
            "is destroyed; nobody can restore it: open the keystore by another".to_owned(),
        ),
        (
            "IMPORT_FAILED",
            format!("is in the state IMPORT_FAILED; gcloud kms keys versions describe {of}"),
        ),
    ] {
        room.fake.set_version(&room.key, 1, state);
        let told = room.refused(
            kms.unwrap(&wrapped, &context(), soon()),
            Kind::State,
            &[&cure, &room.key],
        )?;
        seen!("{told}");
        room.refused(kms.wrap(&new_key()?, &context(), soon()), Kind::State, &[&cure])?;
        room.refused(kms.rewrap(&wrapped, &context(), soon()), Kind::State, &[&cure])?;
        room.refused(kms.describe(soon()), Kind::State, &[&cure])?;
        room.refused(kms.probe(soon()), Kind::State, &[&cure])?;
        room.fake.set_version(&room.key, 1, "ENABLED");
        kms.unwrap(&wrapped, &context(), soon()).told()?;
    }
    room.fake.state().keys.get_mut(&room.key).ok_or("no key")?.primary = None;
    let cure = "gcloud kms keys versions create --primary --key=store";
    room.refused(kms.wrap(&new_key()?, &context(), soon()), Kind::State, &[cure])?;
    room.fake.deny("cloudkms.cryptoKeys.get");
    room.refused(kms.wrap(&new_key()?, &context(), soon()), Kind::State, &[cure])?;
    kms.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn fake_gcp_a_key_that_is_not_there_not_symmetric_or_elsewhere_is_told() -> Result<()> {
    let room = Room::new("absent")?;
    let on = |key: &str| -> Result<_> {
        let credentials = room.with(&room.fake.service_account()?)?;
        Ok(wrapper(Settings { key: key.parse().told()?, ..credentials }))
    };
    let none = room.key.replace("cryptoKeys/store", "cryptoKeys/none");
    let words = ["has no key", &none, "gcloud kms keys list --keyring=databases"];
    let error = room.refused(on(&none)?.describe(soon()), Kind::NotFound, &words)?;
    seen!("no key: {error}");
    let elsewhere = room.key.replace("europe-west3", "nowhere");
    let words = ["does not serve keys of the location nowhere", "gcloud kms locations list"];
    let error = room.refused(on(&elsewhere)?.describe(soon()), Kind::Config, &words)?;
    seen!("wrong location: {error}");
    room.fake.state().keys.get_mut(&room.key).ok_or("no key")?.purpose = "ASYMMETRIC_SIGN".into();
    room.refused(on(&room.key)?.probe(soon()), Kind::Config, &["--purpose=encryption"])?;
    Ok(())
}

#[test]
fn fake_gcp_denials_name_the_permission_the_role_and_the_line() -> Result<()> {
    let room = Room::new("denied")?;
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    let grant = |role: &str| {
        format!(
            "gcloud kms keys add-iam-policy-binding store --keyring=databases --location=europe-west3 \
             --project=keyward-test --member=serviceAccount:{ACCOUNT} --role=roles/cloudkms.{role}"
        )
    };
    room.fake.deny("cloudkms.cryptoKeyVersions.useToDecrypt");
    room.fake.deny("cloudkms.cryptoKeyVersions.useToEncrypt");
    room.fake.take_actions();
    let (decrypter, both) = (grant("cryptoKeyDecrypter"), grant("cryptoKeyEncrypterDecrypter"));
    let words = ["denies cloudkms.cryptoKeyVersions.useToDecrypt on projects/", decrypter.as_str()];
    let error = room.refused(kms.unwrap(&wrapped, &context(), soon()), Kind::Denied, &words)?;
    seen!("denied: {error}");
    let words = ["cloudkms.cryptoKeyVersions.useToEncrypt on projects/", both.as_str()];
    room.refused(kms.wrap(&new_key()?, &context(), soon()), Kind::Denied, &words)?;
    let actions = room.fake.take_actions();
    ensure!(actions == ["decrypt", "get", "encrypt"], "a denial was asked for again: {actions:?}");

    let mut settings = room.with(&room.fake.service_account()?)?;
    settings.quota_project = Some("payer".to_owned());
    let kms = wrapper(settings);
    for (reason, cure) in [
        ("SERVICE_DISABLED", "gcloud services enable cloudkms.googleapis.com --project=payer"),
        ("USER_PROJECT_DENIED", "--role=roles/serviceusage.serviceUsageConsumer"),
        ("SECURITY_POLICY_VIOLATED", "VPC Service Controls"),
        ("BILLING_DISABLED", "gcloud billing projects link payer"),
    ] {
        room.fake.fail(move |_| Some(Answer::reason(403, "PERMISSION_DENIED", "no", reason)));
        let error =
            room.refused(kms.unwrap(&wrapped, &context(), soon()), Kind::Denied, &[cure])?;
        seen!("{reason}: {error}");
    }
    Ok(())
}

#[test]
fn fake_gcp_a_quota_is_waited_for_within_the_deadline() -> Result<()> {
    let room = Room::new("quota")?;
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    let busy =
        || Answer::reason(429, "RESOURCE_EXHAUSTED", "Quota exceeded", "RATE_LIMIT_EXCEEDED");
    let left = AtomicI32::new(3);
    room.fake.fail(move |_| (left.fetch_sub(1, Ordering::SeqCst) > 0).then(busy));
    let began = Instant::now();
    kms.unwrap(&wrapped, &context(), soon()).told()?;
    seen!("a quota used up three times, then open after {} ms", began.elapsed().as_millis());
    room.fake.fail(move |_| Some(busy()));
    let (began, by) = (Instant::now(), Deadline::after(Duration::from_secs(2)));
    let words = ["come back later", "quotas of Cloud KMS"];
    room.refused(kms.unwrap(&wrapped, &context(), by), Kind::Unavailable, &words)?;
    ensure!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn fake_gcp_bytes_that_change_on_the_way_are_noticed_both_ways() -> Result<()> {
    let room = Room::new("checksums")?;
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    let by = || Deadline::after(Duration::from_secs(1));
    let plain = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let version = format!("{}/cryptoKeyVersions/1", room.key);
    for answer in [
        // Of a decryption: a checksum of something else, and none.
        json!({ "plaintext": plain, "plaintextCrc32c": "1" }),
        json!({ "plaintext": plain }),
    ] {
        room.fake.fail(move |request| (action(request) == "decrypt").then(|| Answer::ok(&answer)));
        let words = ["a checksum shows that bytes were changed"];
        room.refused(kms.unwrap(&wrapped, &context(), by()), Kind::Unavailable, &words)?;
    }
    for (verified, of_aad, crc) in
        [(false, true, "1617208186"), (true, false, "1617208186"), (true, true, "7")]
    {
        // "AAAA" is three zero bytes.
        let answer = json!({
            "name": version, "ciphertext": "AAAA", "ciphertextCrc32c": crc,
            "verifiedPlaintextCrc32c": verified,
            "verifiedAdditionalAuthenticatedDataCrc32c": of_aad,
        });
        room.fake.fail(move |request| (action(request) == "encrypt").then(|| Answer::ok(&answer)));
        let words = ["a checksum shows that bytes were changed"];
        room.refused(kms.wrap(&new_key()?, &context(), by()), Kind::Unavailable, &words)?;
    }
    let message = "The checksum in field ciphertext_crc32c did not match the data";
    room.fake.fail(move |_| Some(Answer::error(400, "INVALID_ARGUMENT", message, &json!([]))));
    let words = ["a checksum shows that bytes were changed"];
    room.refused(kms.unwrap(&wrapped, &context(), by()), Kind::Unavailable, &words)?;
    // Once only, it does no harm.
    let once = AtomicI32::new(1);
    room.fake.fail(move |_| {
        let first = once.fetch_sub(1, Ordering::SeqCst) > 0;
        first.then(|| Answer::error(400, "INVALID_ARGUMENT", message, &json!([])))
    });
    kms.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn fake_gcp_servers_that_are_no_kms_are_no_trouble_to_us() -> Result<()> {
    let room = Room::new("senseless")?;
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    let by = || Deadline::after(Duration::from_secs(1));
    for body in ["<html>hello</html>", "", "{\"name\": 3", "[]", "{\"plaintext\": 1}"] {
        room.fake.fail(move |_| Some(Answer::text(200, body)));
        let words = ["something else than"];
        room.refused(kms.unwrap(&wrapped, &context(), by()), Kind::Unavailable, &words)?;
        room.refused(kms.wrap(&new_key()?, &context(), by()), Kind::Unavailable, &words)?;
    }
    // The version of another key, and one that nobody asked for.
    for name in ["projects/x/cryptoKeyVersions/1", "projects/p/locations/l/keyRings/r/cryptoKeys/k"]
    {
        let answer = json!({
            "name": name, "ciphertext": "AAAA", "ciphertextCrc32c": "1617208186",
            "verifiedPlaintextCrc32c": true, "verifiedAdditionalAuthenticatedDataCrc32c": true,
        });
        room.fake.fail(move |request| (action(request) == "encrypt").then(|| Answer::ok(&answer)));
        let words = ["something else than Cloud KMS"];
        room.refused(kms.wrap(&new_key()?, &context(), by()), Kind::Unavailable, &words)?;
    }
    for status in [302, 404, 500, 503] {
        room.fake.fail(move |_| Some(Answer::text(status, "<html>")));
        room.refused(kms.unwrap(&wrapped, &context(), by()), Kind::Unavailable, &["127.0.0.1"])?;
    }
    let Room { fake, .. } = room;
    drop(fake);
    let began = Instant::now();
    let error = kms.unwrap(&wrapped, &context(), soon()).err().ok_or("it went through")?;
    ensure!(error.to_string().contains("connection refused"), "{error}");
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    Ok(())
}

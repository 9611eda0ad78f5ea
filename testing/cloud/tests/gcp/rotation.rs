//! New versions of a key, and keys that keyward makes.

use keyward::backend::gcp_kms::{ProtectionLevel, Settings};
use keyward::env::{Clock as _, System};
use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use test_cloud::gcp::{Answer, RING};
use test_kit::{Result, ensure, seen};

use crate::{Room, Told as _, context, fact, new_key, round_trip, soon, wrapper};

#[test]
fn fake_gcp_a_rewrap_is_by_the_new_primary_though_that_is_not_in_force_yet() -> Result<()> {
    let room = Room::new("rotation")?;
    let kms = room.provider()?;
    let before = round_trip(&kms)?;
    {
        let mut state = room.fake.state();
        let key = state.keys.get_mut(&room.key).ok_or("no key")?;
        key.primary = Some(key.new_version());
        // Who names no version has the old one encrypt for some time.
        key.stale = Some(1);
    }
    room.fake.take_actions();
    let after = kms.rewrap(&before, &context(), soon()).told()?;
    let actions = room.fake.take_actions();
    ensure!(after.kek == format!("{}/cryptoKeyVersions/2", room.key), "{}", after.kek);
    ensure!(actions == ["decrypt", "get", "encrypt"], "{actions:?}");
    kms.unwrap(&before, &context(), soon()).told()?;
    kms.unwrap(&after, &context(), soon()).told()?;
    seen!("rewrap to the newest: {actions:?}");
    Ok(())
}

#[test]
fn fake_gcp_who_may_only_encrypt_and_decrypt_can_wrap_and_rewrap() -> Result<()> {
    let room = Room::new("least")?;
    room.fake.deny("cloudkms.cryptoKeys.get");
    let kms = room.provider()?;
    let wrapped = round_trip(&kms)?;
    ensure!(wrapped.kek.ends_with("/cryptoKeyVersions/1"), "{}", wrapped.kek);
    let actions = room.fake.take_actions();
    ensure!(actions == ["get", "encrypt", "encrypt", "decrypt"], "{actions:?}");
    ensure!(fact(&kms, "rights")? == "encrypts and decrypts", "{}", fact(&kms, "rights")?);
    ensure!(fact(&kms, "state")?.contains("roles/cloudkms.viewer"), "{}", fact(&kms, "state")?);
    let words = ["cloudkms.cryptoKeys.get", "roles/cloudkms.viewer"];
    room.refused(kms.describe(soon()), Kind::Denied, &words)?;

    // A server needs no more than this.
    room.fake.deny("cloudkms.cryptoKeyVersions.useToEncrypt");
    kms.unwrap(&wrapped, &context(), soon()).told()?;
    let rights = fact(&kms, "rights")?;
    ensure!(
        rights.starts_with("decrypts; lacks cloudkms.cryptoKeyVersions.useToEncrypt"),
        "{rights}"
    );
    room.fake.deny("cloudkms.cryptoKeyVersions.useToDecrypt");
    let words =
        ["lack cloudkms.cryptoKeyVersions.useToDecrypt", "roles/cloudkms.cryptoKeyDecrypter"];
    let error = room.refused(kms.probe(soon()), Kind::Denied, &words)?;
    seen!("doctor: {error}");
    Ok(())
}

#[test]
fn fake_gcp_a_key_is_made_and_then_a_version_of_it() -> Result<()> {
    let room = Room::new("make")?;
    let ring = RING.replace("databases", "new");
    let key = format!("{ring}/cryptoKeys/made");
    let credentials = room.with(&room.fake.service_account()?)?;
    let settings = Settings {
        key: key.parse().told()?,
        protection_level: ProtectionLevel::Hsm,
        ..credentials.clone()
    };
    let kms = wrapper(settings);
    room.refused(kms.describe(soon()), Kind::NotFound, &["has no key", "gcloud kms keys list"])?;
    room.fake.take_actions();
    let info = kms.create_key(System.now(), soon()).told()?;
    let actions = room.fake.take_actions();
    ensure!(info.kek == format!("{key}/cryptoKeyVersions/1"), "{}", info.kek);
    ensure!(info.place.contains("europe-west3, HSM"), "{}", info.place);
    ensure!(info.created.is_some() && !info.exportable, "{info:?}");
    seen!("made in a new key ring: {actions:?}");
    let rotation = fact(&kms, "rotation")?;
    ensure!(rotation.starts_with("every 31536000s"), "{rotation}");
    ensure!(fact(&kms, "protection level")? == "HSM", "{}", fact(&kms, "protection level")?);

    room.fake.take_actions();
    let info = kms.create_key(System.now(), soon()).told()?;
    ensure!(info.kek == format!("{key}/cryptoKeyVersions/2"), "{}", info.kek);
    let actions = room.fake.take_actions();
    let due = ["get", "cryptoKeyVersions", "updatePrimaryVersion", "get"];
    ensure!(actions == due, "{actions:?}");
    ensure!(round_trip(&kms)?.kek == info.kek, "wrapped by another");
    seen!("a new version: {actions:?}");

    // One outside of Google's is its owner's to make, and administrators are told their roles.
    room.fake.state().keys.get_mut(&key).ok_or("no key")?.level = "EXTERNAL_VPC".to_owned();
    let words = ["outside of Google", "--external-key-uri"];
    room.refused(kms.create_key(System.now(), soon()), Kind::Unsupported, &words)?;
    ensure!(fact(&kms, "protection level")? == "EXTERNAL_VPC", "external");
    room.fake.deny("cloudkms.cryptoKeys.create");
    let key = format!("{ring}/cryptoKeys/other");
    let kms = wrapper(Settings { key: key.parse().told()?, ..credentials });
    let words = ["cloudkms.cryptoKeys.create", "roles/cloudkms.admin"];
    room.refused(kms.create_key(System.now(), soon()), Kind::Denied, &words)?;
    Ok(())
}

#[test]
fn fake_gcp_an_hsm_takes_its_time_to_make_a_version() -> Result<()> {
    let room = Room::new("pending")?;
    let kms = room.provider()?;
    let times = std::sync::atomic::AtomicU32::new(0);
    let name = format!("{}/cryptoKeyVersions/2", room.key);
    room.fake.fail(move |request| {
        let is_it = request.path.ends_with("/cryptoKeyVersions")
            || request.path.ends_with("/cryptoKeyVersions/2");
        let early = is_it && times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3;
        let pending = serde_json::json!({ "name": name, "state": "PENDING_GENERATION" });
        (early && request.method == "GET").then(|| Answer::ok(&pending))
    });
    let info = kms.create_key(System.now(), soon()).told()?;
    ensure!(info.kek.ends_with("/cryptoKeyVersions/2"), "{}", info.kek);
    kms.wrap(&new_key()?, &context(), soon()).told()?;
    Ok(())
}

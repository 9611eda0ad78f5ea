#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::wrapper::{FORMAT, open, seal};
use super::*;
use crate::env::fake::FakeRng;
use crate::env::{Deadline, System};
use crate::error::{Kind, Result};
use crate::provider::{KeyWrapper as _, WrapContext, WrappedKey};
use crate::secret::DataKey;
use crate::secret::source::SecretSource;

const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}

fn write(path: &Path, content: &str) -> SecretSource {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    SecretSource::File(path.into())
}

fn wrapper(kek: KekSource, cost: Cost) -> LocalWrapper {
    LocalWrapper::new(Settings { kek, cost }, Arc::new(System)).unwrap()
}

#[test]
fn another_key_file_is_told_apart_by_name() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    let ours = wrapper(KekSource::KeyFile(write(&path, &"ab".repeat(32))), CHEAP);
    let wrapped = ours.wrap(&DataKey::generate(32, &System)?, &context(), soon())?;
    write(&path, &"cd".repeat(32));
    let error = ours.unwrap(&wrapped, &context(), soon()).err().unwrap();
    assert_eq!(error.kind(), Kind::NotMine);
    let now = ours.describe(soon())?.kek;
    assert_eq!(
        error.to_string(),
        format!(
            "wrapped by KEK {}, the key in {} is {now}; point `key_file` at the right one",
            wrapped.kek,
            path.display()
        )
    );
    Ok(())
}

#[test]
fn a_key_file_and_a_passphrase_are_not_each_others() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file =
        wrapper(KekSource::KeyFile(write(&folder.path().join("kek"), &"ab".repeat(32))), CHEAP);
    let phrase =
        wrapper(KekSource::Passphrase(write(&folder.path().join("phrase"), "open sesame")), CHEAP);
    let data = DataKey::generate(32, &System)?;
    for (mine, other) in [(&file, &phrase), (&phrase, &file)] {
        let wrapped = mine.wrap(&data, &context(), soon())?;
        let error = other.unwrap(&wrapped, &context(), soon()).err().unwrap();
        assert_eq!(error.kind(), Kind::NotMine, "{error}");
    }
    Ok(())
}

#[test]
fn to_wrap_again_costs_no_second_derivation_unless_the_cost_was_raised() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let source = write(&folder.path().join("phrase"), "open sesame\n");
    let before = wrapper(KekSource::Passphrase(source.clone()), CHEAP);
    let data = DataKey::generate(32, &System)?;
    let first = before.wrap(&data, &context(), soon())?;
    let again = before.wrap(&data, &context(), soon())?;
    assert_eq!((&first.kek, &first.parameters), (&again.kek, &again.parameters));
    assert_ne!(first.blob, again.blob);

    let dearer = wrapper(KekSource::Passphrase(source), Cost { passes: 2, ..CHEAP });
    let raised = dearer.rewrap(&first, &context(), soon())?;
    assert_eq!(raised.parameters["passes"], "2");
    assert_ne!(raised.parameters["salt"], first.parameters["salt"]);
    assert!(before.unwrap(&raised, &context(), soon()).is_ok(), "the cost travels with the key");
    Ok(())
}

#[test]
fn a_passphrase_that_was_changed_is_noticed_at_once() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("phrase");
    let ours = wrapper(KekSource::Passphrase(write(&path, "open sesame")), CHEAP);
    let wrapped = ours.wrap(&DataKey::generate(32, &System)?, &context(), soon())?;
    write(&path, "open barley");
    let error = ours.unwrap(&wrapped, &context(), soon()).err().unwrap();
    assert_eq!(error.kind(), Kind::NotMine, "{error}");
    assert!(!error.to_string().contains("barley"), "{error}");
    write(&path, "open sesame");
    assert!(ours.unwrap(&wrapped, &context(), soon()).is_ok());
    write(&path, "\n");
    let error = ours.unwrap(&wrapped, &context(), soon()).err().unwrap();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    Ok(())
}

#[test]
fn without_randomness_nothing_is_wrapped() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let source = write(&folder.path().join("kek"), &"ab".repeat(32));
    let rng = Arc::new(FakeRng::new(1));
    rng.fail_after(0);
    let settings = Settings { kek: KekSource::KeyFile(source), cost: CHEAP };
    let ours = LocalWrapper::new(settings, rng)?;
    assert!(ours.wrap(&DataKey::generate(32, &System)?, &context(), soon()).is_err());
    Ok(())
}

#[test]
fn a_blob_of_any_length_is_refused_and_never_a_panic() -> Result<()> {
    let kek = DataKey::generate(KEK_LEN, &System)?;
    let blob = seal(&kek, &DataKey::generate(16, &System)?, b"aad", &System)?;
    for len in 0..blob.len() {
        let error = open(&kek, &blob[..len], b"aad").err().unwrap();
        assert_eq!(error.kind(), Kind::Corrupt, "{len}");
    }
    let mut long = vec![FORMAT];
    long.resize(1 << 20, 0);
    assert_eq!(open(&kek, &long, b"aad").err().unwrap().kind(), Kind::Corrupt);
    assert!(open(&kek, &blob, b"aad").is_ok());
    Ok(())
}

/// Keys that were wrapped when format 1 was new, in every way that it has. They must open for ever.
#[test]
fn what_an_earlier_version_wrapped_still_opens() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let kek = KekSource::KeyFile(write(&folder.path().join("kek"), &"ab".repeat(32)));
    let phrase = KekSource::Passphrase(write(&folder.path().join("phrase"), "open sesame"));
    for (kek, json) in [
        (kek, include_str!("../../../tests/golden/wrapped/local-v1-key-file.json")),
        (phrase, include_str!("../../../tests/golden/wrapped/local-v1-passphrase.json")),
    ] {
        let wrapped: WrappedKey = serde_json::from_str(json).unwrap();
        let data = wrapper(kek, Cost::default()).unwrap(&wrapped, &context(), soon())?;
        assert_eq!(data.expose(), (0..32).collect::<Vec<u8>>());
    }
    Ok(())
}

//! What each kind of trouble is told as.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use keyward::env::Deadline;
use keyward::error::Kind;
use keyward::provider::{KeyWrapper, WrapContext};
use serde_json::json;
use test_cloud::{FakeAws, REGION, Reply, Shared};
use test_kit::{Result, ensure, seen};

use crate::{
    Told as _, context, file, new_key, nobody, on_a_new_key, refused, settings, soon, wrapper,
};

#[test]
fn a_store_key_of_another_keystore_is_refused() -> Result<()> {
    let shared = Shared::get()?;
    let (_, kms) = on_a_new_key(&shared)?;
    let wrapped = kms.wrap(&new_key()?, &context(), soon()).told()?;
    let other = WrapContext { store_key: 2, ..context() };
    let error =
        refused(kms.unwrap(&wrapped, &other, soon()), Kind::Corrupt, &["another keystore"])?;
    seen!("wrong context: {}", nameless(&error.to_string(), &wrapped.kek));
    kms.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn a_key_that_is_disabled_or_going_to_be_deleted_is_named_with_the_cure() -> Result<()> {
    let shared = Shared::get()?;
    let (key, kms) = on_a_new_key(&shared)?;
    let wrapped = kms.wrap(&new_key()?, &context(), soon()).told()?;
    let admin = |action, body| shared.localstack.kms(REGION, action, &body);
    admin("DisableKey", json!({ "KeyId": key }))?;
    let cure = "aws kms enable-key --key-id";
    let told = refused(kms.unwrap(&wrapped, &context(), soon()), Kind::State, &[cure, &key])?;
    seen!("disabled: {}", nameless(&told.to_string(), &key));
    refused(kms.wrap(&new_key()?, &context(), soon()), Kind::State, &[cure])?;
    refused(kms.rewrap(&wrapped, &context(), soon()), Kind::State, &[cure])?;
    refused(kms.probe(soon()), Kind::State, &[cure])?;
    refused(kms.describe(soon()), Kind::State, &[cure])?;
    admin("EnableKey", json!({ "KeyId": key }))?;
    kms.unwrap(&wrapped, &context(), soon()).told()?;

    admin("ScheduleKeyDeletion", json!({ "KeyId": key, "PendingWindowInDays": 7 }))?;
    let cure = "aws kms cancel-key-deletion --key-id";
    let told = refused(kms.unwrap(&wrapped, &context(), soon()), Kind::State, &[cure, &key])?;
    seen!("pending deletion: {}", nameless(&told.to_string(), &key));
    refused(kms.wrap(&new_key()?, &context(), soon()), Kind::State, &[cure])?;
    refused(kms.probe(soon()), Kind::State, &[cure])?;
    admin("CancelKeyDeletion", json!({ "KeyId": key }))?;
    admin("EnableKey", json!({ "KeyId": key }))?;
    kms.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn a_key_that_is_not_there_or_not_symmetric_is_told() -> Result<()> {
    let shared = Shared::get()?;
    let localstack = &shared.localstack;
    let none = wrapper(settings(&shared, &gone(), &localstack.url())?);
    refused(none.describe(soon()), Kind::NotFound, &[&gone(), "region and account"])?;
    let body = json!({ "KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY" });
    let signing = localstack.kms(REGION, "CreateKey", &body)?;
    let arn = signing["KeyMetadata"]["Arn"].as_str().unwrap_or_default();
    let signing = wrapper(settings(&shared, arn, &localstack.url())?);
    refused(signing.probe(soon()), Kind::Config, &["ENCRYPT_DECRYPT"])?;
    Ok(())
}

fn gone() -> String {
    format!("arn:aws:kms:{REGION}:000000000000:key/00000000-0000-0000-0000-000000000000")
}

#[test]
fn fake_denials_name_the_action_and_the_key() -> Result<()> {
    let shared = Shared::get()?;
    let (key, kms) = on_a_new_key(&shared)?;
    let wrapped = kms.wrap(&new_key()?, &context(), soon()).told()?;
    let fake = FakeAws::start(|_| Ok(Reply::error(400, "AccessDeniedException")))?;
    let kms = wrapper(settings(&shared, &key, &fake.url())?);
    let data = new_key()?;
    let denied = Kind::Denied;
    refused(kms.wrap(&data, &context(), soon()), denied, &["kms:Encrypt on ", &key])?;
    refused(kms.rewrap(&wrapped, &context(), soon()), denied, &["kms:ReEncrypt* on ", &key])?;
    refused(kms.describe(soon()), denied, &["kms:DescribeKey on ", &key])?;
    let error = refused(
        kms.unwrap(&wrapped, &context(), soon()),
        denied,
        &["kms:Decrypt on ", &key, "get-caller-identity"],
    )?;
    seen!("denied: {}", nameless(&error.to_string(), &key));
    ensure!(fake.seen().len() == 4, "a denial was asked for again: {}", fake.seen().len());
    Ok(())
}

#[test]
fn fake_throttling_is_waited_for_within_the_deadline() -> Result<()> {
    let shared = Shared::get()?;
    let (key, kms) = on_a_new_key(&shared)?;
    let data = new_key()?;
    let wrapped = kms.wrap(&data, &context(), soon()).told()?;
    let (left, address) = (Mutex::new(4), shared.localstack.address());
    let fake = FakeAws::start(move |request| {
        let mut left = left.lock().map_err(|_| "broken off")?;
        *left -= 1;
        if *left >= 0 {
            Ok(Reply::error(400, "ThrottlingException"))
        } else {
            request.send(address)
        }
    })?;
    let began = Instant::now();
    let kms = wrapper(settings(&shared, &key, &fake.url())?);
    let opened = kms.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(opened.check_value() == data.check_value(), "another key");
    seen!("throttled four times, then open after {} ms", began.elapsed().as_millis());

    let fake = FakeAws::start(|_| Ok(Reply::error(400, "ThrottlingException")))?;
    let kms = wrapper(settings(&shared, &key, &fake.url())?);
    let (began, by) = (Instant::now(), Deadline::after(Duration::from_secs(3)));
    let words = ["come back later", "quotas of KMS"];
    refused(kms.unwrap(&wrapped, &context(), by), Kind::Unavailable, &words)?;
    let (took, calls) = (began.elapsed(), fake.seen().len());
    ensure!(took < Duration::from_secs(4), "it took {took:?}");
    ensure!((3..10).contains(&calls), "{calls} calls in three seconds");
    Ok(())
}

#[test]
fn fake_trouble_with_credentials_has_its_own_advice() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.localstack.new_key(REGION)?;
    for (name, words) in [
        ("ExpiredTokenException", "has expired; renew them"),
        ("UnrecognizedClientException", "does not know the access key"),
        ("InvalidSignatureException", "the clock right"),
        ("IncompleteSignature", "the clock right"),
    ] {
        let fake = FakeAws::start(move |_| Ok(Reply::error(400, name)))?;
        let kms = wrapper(settings(&shared, &key, &fake.url())?);
        let error = refused(kms.wrap(&new_key()?, &context(), soon()), Kind::Denied, &[words])?;
        seen!("{name}: {error}");
    }
    Ok(())
}

#[test]
fn fake_servers_that_are_no_kms_are_no_trouble_to_us() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.localstack.new_key(REGION)?;
    let by = || Deadline::after(Duration::from_secs(2));
    for body in ["<html>hello</html>", "", "{\"KeyId\": 3", "[]", "{}"] {
        let fake = FakeAws::start(move |_| Ok(Reply::ok(body)))?;
        let kms = wrapper(settings(&shared, &key, &fake.url())?);
        refused(kms.wrap(&new_key()?, &context(), by()), Kind::Unavailable, &["KMS's API"])?;
    }
    let fake = FakeAws::start(|_| Err("hangs up".into()))?;
    let kms = wrapper(settings(&shared, &key, &fake.url())?);
    refused(kms.describe(by()), Kind::Unavailable, &["cannot reach http://127.0.0.1"])?;
    let fake = FakeAws::start(|_| Ok(Reply { status: 503, body: b"busy".to_vec() }))?;
    let kms = wrapper(settings(&shared, &key, &fake.url())?);
    refused(kms.describe(by()), Kind::Unavailable, &["status 503"])?;
    let fake = FakeAws::start(|_| {
        std::thread::sleep(Duration::from_secs(4));
        Ok(Reply::ok("{}"))
    })?;
    let kms = wrapper(settings(&shared, &key, &fake.url())?);
    let began = Instant::now();
    refused(kms.describe(by()), Kind::Timeout, &["no answer in time"])?;
    ensure!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_region_where_nobody_answers_is_given_up_soon() -> Result<()> {
    let shared = Shared::get()?;
    let kms = wrapper(settings(&shared, &gone(), &nobody()?)?);
    let began = Instant::now();
    refused(kms.describe(soon()), Kind::Unavailable, &["connection refused"])?;
    ensure!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn an_endpoint_of_the_profile_is_not_called_in_the_clear() -> Result<()> {
    let shared = Shared::get()?;
    let mut settings = settings(&shared, &gone(), "https://unused.invalid")?;
    settings.endpoint = None;
    let config =
        "[default]\nservices = x\n[services x]\nkms =\n  endpoint_url = http://192.0.2.1\n";
    settings.config_file = Some(file(&shared, config)?);
    let words = ["http://192.0.2.1 is not https", "AWS_ENDPOINT_URL"];
    refused(wrapper(settings).describe(soon()), Kind::Config, &words)?;
    Ok(())
}

#[test]
fn no_credentials_and_no_region_are_told_as_such() -> Result<()> {
    let shared = Shared::get()?;
    let config = format!("[default]\nec2_metadata_service_endpoint = {}\n", nobody()?);
    let mut without = settings(&shared, &gone(), &nobody()?)?;
    without.config_file = Some(file(&shared, &config)?);
    without.credentials_file = Some(file(&shared, "")?);
    let error = wrapper(without.clone()).describe(soon()).err().ok_or("it went through")?;
    seen!("no credentials: {error}");
    ensure!(error.to_string().contains("AWS credentials"), "{error}");
    without.credentials_file = Some(shared.credentials_file.clone());
    without.profile = Some("nobody".into());
    let words = ["is profile \"nobody\" in the AWS files?"];
    refused(wrapper(without.clone()).describe(soon()), Kind::Denied, &words)?;
    without.profile = None;
    without.key = "alias/keyward".into();
    refused(wrapper(without).describe(soon()), Kind::Config, &["no AWS region", "AWS_REGION"])?;
    Ok(())
}

fn nameless(text: &str, key: &str) -> String {
    text.replace(key, "ARN")
}

//! Keys in more than one region.

use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use serde_json::json;
use test_cloud::{REGION, Shared};
use test_kit::{Result, ensure, seen};

use crate::{Told as _, context, new_key, on_a_new_key, refused, settings, soon, wrapper};

const OTHER: &str = "us-east-1";

#[test]
fn a_replica_opens_what_the_primary_wrapped() -> Result<()> {
    let shared = Shared::get()?;
    let localstack = &shared.localstack;
    let made = localstack.kms(REGION, "CreateKey", &json!({ "MultiRegion": true }))?;
    let arn = made["KeyMetadata"]["Arn"].as_str().unwrap_or_default().to_owned();
    localstack.kms(REGION, "ReplicateKey", &json!({ "KeyId": arn, "ReplicaRegion": OTHER }))?;
    let primary = wrapper(settings(&shared, &arn, &localstack.url())?);
    let replica = wrapper(settings(&shared, &arn.replace(REGION, OTHER), &localstack.url())?);
    let data = new_key()?;
    let wrapped = primary.wrap(&data, &context(), soon()).told()?;
    let opened = replica.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(opened.check_value() == data.check_value(), "another key");
    let facts = replica.probe(soon()).told()?.facts;
    let told = facts.iter().find(|(name, _)| name == "multi-region").map(|(_, value)| value);
    let told = told.ok_or("nothing of regions")?;
    ensure!(told.contains(REGION) && told.contains(OTHER) && told.contains("replica"), "{told}");
    seen!("doctor on a replica: multi-region: {told}");
    Ok(())
}

#[test]
fn a_key_of_one_region_opens_nothing_of_another() -> Result<()> {
    let shared = Shared::get()?;
    let (_, here) = on_a_new_key(&shared)?;
    let there = shared.localstack.new_key(OTHER)?;
    let there = wrapper(settings(&shared, &there, &shared.localstack.url())?);
    let wrapped = here.wrap(&new_key()?, &context(), soon()).told()?;
    refused(
        there.unwrap(&wrapped, &context(), soon()),
        Kind::NotMine,
        &["a [[provider]] of its own"],
    )?;
    Ok(())
}

#[test]
fn an_alias_that_was_turned_to_another_key_says_not_mine() -> Result<()> {
    let shared = Shared::get()?;
    let localstack = &shared.localstack;
    let name = format!("alias/{}", shared.new_name());
    let point = |action: &str| -> Result<()> {
        let key = localstack.new_key(REGION)?;
        let id = key.rsplit('/').next().unwrap_or_default();
        let body = json!({ "AliasName": name, "TargetKeyId": id });
        localstack.kms(REGION, action, &body).map(drop)
    };
    point("CreateAlias")?;
    let mut settings = settings(&shared, &name, &localstack.url())?;
    settings.region = Some(REGION.to_owned());
    let kms = wrapper(settings);
    let wrapped = kms.wrap(&new_key()?, &context(), soon()).told()?;
    point("UpdateAlias")?;
    refused(kms.unwrap(&wrapped, &context(), soon()), Kind::NotMine, &["keyward keystore rewrap"])?;
    Ok(())
}

//! What becomes of the key in KMS, for somebody who is not its owner.

use keyward::provider::KeyWrapper;
use serde_json::json;
use test_kit::{Result, ensure, seen, shared};

use crate::{Room, account, context, documented, new_key, refusal, soon, told, wrapper};

#[test]
fn new_material_by_the_command_wants_one_right_more() -> Result<()> {
    let mut room = Room::new("iam-new-kek")?;
    room.init()?;
    let policy = documented(&room.key)?;
    let more =
        policy.replace("\"kms:DescribeKey\"", "\"kms:DescribeKey\", \"kms:RotateKeyOnDemand\"");
    ensure!(more != policy, "the documented policy has no kms:DescribeKey: {policy}");
    room.account.set_policy(&room.user, &more)?;
    let said = room.keyward(&["keystore", "rewrap", "--new-kek", "aws-kms"], &[])?.ok()?;
    ensure!(said.contains("new wrapping key") && said.contains("renewed"), "{said}");
    let rotations = room.account.kms("ListKeyRotations", &json!({ "KeyId": room.key }))?;
    let rotations = rotations["Rotations"].as_array().map_or(0, Vec::len);
    ensure!(rotations == 1, "KMS knows of {rotations} rotations");
    seen!("rewrap --new-kek: {}", said.trim().replace(&room.key, "ARN"));
    Ok(())
}

#[test]
fn disabled_enabled_going_to_be_deleted_and_kept() -> Result<()> {
    let account = account()?;
    let key = account.new_key()?;
    let credentials = account.new_user(&shared::new_name(), &documented(&key)?)?;
    let kms = wrapper(&account, &key, &credentials)?;
    let wrapped = told(kms.wrap(&new_key()?, &context(), soon()))?;
    let opens = || kms.unwrap(&wrapped, &context(), soon());
    for (does, words, undoes) in [
        ("DisableKey", "aws kms enable-key --key-id", &["EnableKey"][..]),
        (
            "ScheduleKeyDeletion",
            "aws kms cancel-key-deletion --key-id",
            &["CancelKeyDeletion", "EnableKey"],
        ),
    ] {
        account.kms(does, &json!({ "KeyId": key }))?;
        refusal(opens(), &[words, &key])?;
        refusal(kms.wrap(&new_key()?, &context(), soon()), &[words, &key])?;
        refusal(kms.rewrap(&wrapped, &context(), soon()), &[words, &key])?;
        refusal(kms.probe(soon()), &[words, &key])?;
        for action in undoes {
            account.kms(action, &json!({ "KeyId": key }))?;
        }
        told(opens())?;
    }
    Ok(())
}

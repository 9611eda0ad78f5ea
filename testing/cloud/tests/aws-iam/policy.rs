//! What a policy must allow, and that no more is needed.

use std::sync::Arc;

use keyward::backend::aws_kms::{FileSettings, KeyFiles};
use keyward::env::System;
use keyward::key::{KeyId, KeyRef, KeyVersion};
use keyward::provider::{KeyServer, KeyWrapper, WrapContext};
use test_kit::{Result, Scratch, ensure, seen};
use test_mariadb::Backup;
use test_mariadb::rows::{Table, check, create, wait_for_version};

use crate::{
    KEYSTORE, Room, account, allowing, context, documented, new_key, refusal, settings, soon, told,
    wrapper,
};

const TABLES: &[Table] = &[Table { name: "payroll", options: "ENCRYPTED=YES", rows: 1000 }];

#[test]
fn the_documented_policy_is_enough_for_a_whole_life() -> Result<()> {
    let mut room = Room::new("iam-enough")?;
    room.init()?;
    let server = room.site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    wait_for_version(&server, "test/%", 3)?;
    let socket = server.socket().display().to_string();
    let doctor = room.keyward(&["doctor", "--socket", &socket], &[])?;
    ensure!(doctor.code == 3 && doctor.out.contains("encrypts and decrypts"), "{}", doctor.text());
    let said = room.keyward(&["keystore", "rewrap", "--to-latest"], &[])?.ok()?;
    ensure!(said.contains("renewed"), "{said}");
    Backup::of(&room.site).make(&server, &room.site.path("backup"), None)?;
    server.stop()?;
    let server = room.site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    seen!(
        "the documented policy: init, start, rotate, doctor, rewrap --to-latest, backup, restart"
    );
    Ok(())
}

#[test]
fn the_documented_policy_allows_nothing_else() -> Result<()> {
    let mut room = Room::new("iam-nothing-else")?;
    let made = room.try_init(&["--set", "key=alias/other", "--create-key"], &[])?;
    ensure!(made.code != 0, "a key was made: {}", made.text());
    room.init()?;
    let words = ["AWS denies kms:RotateKeyOnDemand on ", &room.key, "get-caller-identity"];
    let line = room.refused(&["keystore", "rewrap", "--new-kek", "aws-kms"], &words)?;
    seen!("outside the policy: {line}");

    let account = &room.account;
    let credentials = account.new_user(&format!("{}-2", room.user), &documented(&room.key)?)?;
    let other = account.new_key()?;
    let kms = wrapper(account, &other, &credentials)?;
    let denied = ["AWS denies kms:Encrypt on ", &other];
    refusal(kms.wrap(&new_key()?, &context(), soon()), &denied)?;
    refusal(kms.describe(soon()), &["AWS denies kms:DescribeKey on ", &other])?;
    let owner = account.new_user(&format!("{}-3", room.user), &documented(&other)?)?;
    let wrapped = wrapper(account, &other, &owner)?.wrap(&new_key()?, &context(), soon());
    let denied = ["AWS denies kms:Decrypt on ", &other];
    refusal(kms.unwrap(&told(wrapped)?, &context(), soon()), &denied)?;

    // Without an encryption context, as the key files of the drop-in are wrapped.
    let scratch = Scratch::new("iam-files")?;
    let kms = settings(account, &room.key, &credentials)?;
    let files = FileSettings { folder: scratch.path().into(), key_len: 32, kms };
    let files = KeyFiles::new(files, Arc::new(System));
    let denied = ["AWS denies kms:Encrypt on ", &room.key];
    let key = KeyRef::new(told(KeyId::try_from(1))?, KeyVersion::FIRST);
    refusal(files.put(&key, &new_key()?, soon()), &denied)?;
    Ok(())
}

#[test]
fn the_policy_of_one_keystore_opens_no_other() -> Result<()> {
    let account = account()?;
    let key = account.new_key()?;
    let any = "\"Null\": { \"kms:EncryptionContext:keyward:keystore\": \"false\" }";
    let one = format!(
        "\"StringEquals\": {{ \"kms:EncryptionContext:keyward:keystore\": \"{KEYSTORE}\" }}"
    );
    let policy = documented(&key)?;
    ensure!(policy.contains(any), "the documented condition is another: {policy}");
    let credentials =
        account.new_user(&test_kit::shared::new_name(), &policy.replace(any, &one))?;
    let kms = wrapper(&account, &key, &credentials)?;
    let data = new_key()?;
    let wrapped = told(kms.wrap(&data, &context(), soon()))?;
    let again = told(kms.rewrap(&wrapped, &context(), soon()))?;
    let opened = told(kms.unwrap(&again, &context(), soon()))?;
    ensure!(opened.check_value() == data.check_value(), "another key");
    let other = WrapContext { keystore: "another".into(), ..context() };
    refusal(kms.wrap(&data, &other, soon()), &["AWS denies kms:Encrypt on ", &key])?;
    refusal(kms.unwrap(&again, &other, soon()), &["AWS denies kms:Decrypt on ", &key])?;
    let facts = told(kms.probe(soon()))?.facts;
    let rights = facts.iter().find(|(name, _)| name == "rights").map(|(_, value)| value);
    let rights = rights.ok_or("no fact of rights")?;
    ensure!(rights.contains("only the keystore's own context is allowed"), "{rights}");
    Ok(())
}

#[test]
fn a_server_needs_decrypt_alone_and_says_when_it_has_it_no_more() -> Result<()> {
    let mut room = Room::new("iam-server")?;
    room.init()?;
    let (account, key) = (&room.account, &room.key);
    account.set_policy(&room.user, &allowing(&["kms:Decrypt"], key))?;
    let server = room.site.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    room.refused(&["keystore", "rewrap", "--to-latest"], &["AWS denies kms:ReEncrypt* on ", key])?;
    // Half of the right is none.
    account.set_policy(&room.user, &allowing(&["kms:Decrypt", "kms:ReEncryptFrom"], key))?;
    room.refused(&["keystore", "rewrap", "--to-latest"], &["AWS denies kms:ReEncrypt* on ", key])?;

    account.set_policy(&room.user, &allowing(&["kms:Encrypt"], key))?;
    check(&server, TABLES)?;
    server.stop()?;
    let log = room.site.refusal()?;
    let line = log.lines().find(|line| line.contains("AWS denies kms:Decrypt on"));
    let line = line.ok_or_else(|| format!("no line names the action:\n{log}"))?;
    ensure!(line.contains(key.as_str()), "{line}");
    seen!("a start without kms:Decrypt: {}", line.replace(key.as_str(), "ARN"));
    account.set_policy(&room.user, &allowing(&["kms:Decrypt"], key))?;
    let server = room.site.start()?;
    check(&server, TABLES)?;
    server.stop()?;
    Ok(())
}

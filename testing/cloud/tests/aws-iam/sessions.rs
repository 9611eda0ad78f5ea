//! Roles, and the sessions that STS gives for them.

use keyward::provider::KeyWrapper;
use test_cloud::fakecloud::ACCOUNT;
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen, shared};

use crate::{Room, account, allowing, context, documented, new_key, refusal, soon, told, wrapper};

#[test]
fn a_profile_that_assumes_a_role() -> Result<()> {
    let mut room = Room::new("iam-role")?;
    let (role, user) = (shared::new_name(), shared::new_name());
    let arn = room.account.new_role(&role, ACCOUNT, "sts:AssumeRole", &documented(&room.key)?)?;
    // The user may become the role, and touch no key by itself.
    let base = room.account.new_user(&user, &allowing(&["sts:AssumeRole"], &arn))?;
    let config = format!("[profile db]\nrole_arn = {arn}\nsource_profile = base\n");
    files::write(&room.config_file(), config)?;
    room.sign_with(&base.profile("base"))?;
    let sts = [("AWS_ENDPOINT_URL_STS", room.account.url()), ("AWS_REGION", "eu-central-1".into())];
    let alone = room.try_init(&["--set", "profile=base"], &sts)?;
    ensure!(alone.text().contains("AWS denies kms:Encrypt on "), "{}", alone.text());
    room.try_init(&["--set", "profile=db"], &sts)?.ok()?;
    let said = room.keyward(&["doctor"], &sts)?;
    ensure!(said.text().contains("encrypts and decrypts"), "{}", said.text());

    let denying = allowing(&["sts:AssumeRole"], &arn).replace("\"Allow\"", "\"Deny\"");
    room.account.set_policy(&user, &denying)?;
    let said = room.keyward(&["keystore", "rewrap", "--to-latest"], &sts)?;
    let words = "the AWS credentials could not be had";
    ensure!(said.code != 0 && said.text().contains(words), "{}", said.text());
    seen!("a role that may not be assumed: {}", said.err.trim());
    Ok(())
}

#[test]
fn a_web_identity() -> Result<()> {
    let mut room = Room::new("iam-web")?;
    let action = "sts:AssumeRoleWithWebIdentity";
    let arn = room.account.new_role(&shared::new_name(), "*", action, &documented(&room.key)?)?;
    room.sign_with("")?;
    let token = room.site.path("etc/token");
    files::write(&token, "a token of the cluster's")?;
    give_to_server(&token)?;
    let environment = |arn: &str| {
        [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
            ("AWS_ROLE_ARN", arn.to_owned()),
            ("AWS_ENDPOINT_URL_STS", room.account.url()),
            ("AWS_REGION", "eu-central-1".to_owned()),
        ]
    };
    let (right, wrong) = (environment(&arn), environment(&format!("{arn}-gone")));
    let said = room.try_init(&[], &wrong)?;
    let words = "the AWS credentials could not be had";
    ensure!(said.code != 0 && said.text().contains(words), "{}", said.text());
    room.try_init(&[], &right)?.ok()?;
    let said = room.keyward(&["keystore", "rewrap", "--to-latest"], &right)?.ok()?;
    ensure!(said.contains("renewed"), "{said}");
    Ok(())
}

#[test]
fn a_session_opens_until_it_has_expired() -> Result<()> {
    let account = account()?;
    let key = account.new_key()?;
    let role =
        account.new_role(&shared::new_name(), ACCOUNT, "sts:AssumeRole", &documented(&key)?)?;
    let session = account.session(&role)?;
    ensure!(session.token.is_some(), "STS gave no token");
    let kms = wrapper(&account, &key, &session)?;
    let data = new_key()?;
    let wrapped = told(kms.wrap(&data, &context(), soon()))?;
    account.expire(&session)?;
    let words = ["the session token of the AWS credentials has expired", "renew them"];
    seen!("expired: {}", refusal(kms.unwrap(&wrapped, &context(), soon()), &words)?);
    let renewed = wrapper(&account, &key, &account.session(&role)?)?;
    let opened = told(renewed.unwrap(&wrapped, &context(), soon()))?;
    ensure!(opened.check_value() == data.check_value(), "another key");
    Ok(())
}

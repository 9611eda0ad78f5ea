//! Requests that AWS does not believe.

use keyward::provider::KeyWrapper;
use test_cloud::Credentials;
use test_kit::{Result, seen, shared};

use crate::{account, context, documented, new_key, refusal, soon, told, wrapper};

#[test]
fn a_wrong_secret_and_an_unknown_key_are_told_apart() -> Result<()> {
    let account = account()?;
    let key = account.new_key()?;
    let user = shared::new_name();
    let good = account.new_user(&user, &documented(&key)?)?;
    let wrap = |credentials: &Credentials| -> Result<_> {
        Ok(wrapper(&account, &key, credentials)?.wrap(&new_key()?, &context(), soon()))
    };
    told(wrap(&good)?)?;

    let wrong = Credentials { secret: format!("{}x", good.secret), ..good.clone() };
    let words = ["does not accept the signature", "the clock right"];
    seen!("a wrong secret: {}", refusal(wrap(&wrong)?, &words)?);

    let unknown = Credentials { access_key: "AKIAIOSFODNN7EXAMPLE".into(), ..good.clone() };
    let words = ["does not know the access key"];
    seen!("an unknown access key: {}", refusal(wrap(&unknown)?, &words)?);

    let state = |status| {
        let words =
            [("UserName", user.as_str()), ("AccessKeyId", &good.access_key), ("Status", status)];
        account.query("iam", "UpdateAccessKey", &words)
    };
    state("Inactive")?;
    refusal(wrap(&good)?, &["does not know the access key", "is it active"])?;
    state("Active")?;
    told(wrap(&good)?)?;
    Ok(())
}

//! Making a key, and new material for one.

#![forbid(unsafe_code)]

use super::client::Call;
use super::wrapper::KmsWrapper;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::provider::KekInfo;

/// What a key of ours says of itself in AWS's console.
const DESCRIPTION: &str = "keyward: wraps the store key of a keystore of database encryption keys";

impl KmsWrapper {
    /// Makes the key where an alias is configured that nobody has; else new key material for it.
    pub fn create_key(&self, by: Deadline) -> Result<KekInfo> {
        self.client.run("making a key in AWS KMS", by, |call| {
            key_or_material(call, &self.key)?;
            Ok(self.info(call, &self.usable(call)?))
        })
    }
}

/// Where `key` is an alias that nobody has, makes a key with yearly rotation and gives it the alias.
/// Else gives the key that there is new material: what the old one wrapped still opens.
fn key_or_material(call: &Call<'_>, key: &str) -> Result<()> {
    let described =
        call.send("kms:DescribeKey", key, || call.kms().describe_key().key_id(key).send());
    match described {
        Ok(answer) => {
            let id = answer.key_metadata.map(|found| found.key_id).ok_or_else(|| call.foreign())?;
            call.send("kms:RotateKeyOnDemand", key, || {
                call.kms().rotate_key_on_demand().key_id(&id).send()
            })
            .map(drop)
        }
        Err(error) if error.kind() == Kind::NotFound => match alias(key) {
            Some(alias) => new_key(call, alias),
            None => Err(Error::new(
                Kind::Config,
                format!("AWS KMS chooses the id of a key, and {key} is one"),
            )
            .advise("name it as `key`, and keyward makes both: alias/NAME")),
        },
        Err(error) => Err(error),
    }
}

/// The alias's name, of itself or of its ARN.
fn alias(key: &str) -> Option<&str> {
    let name = key.rsplit(':').next()?;
    name.starts_with("alias/").then_some(name)
}

fn new_key(call: &Call<'_>, alias: &str) -> Result<()> {
    let made = call.send("kms:CreateKey", "a new key", || {
        call.kms().create_key().description(DESCRIPTION).send()
    })?;
    let id = made.key_metadata.map(|found| found.key_id).ok_or_else(|| call.foreign())?;
    call.send("kms:CreateAlias", alias, || {
        call.kms().create_alias().alias_name(alias).target_key_id(&id).send()
    })
    .map_err(|error| error.within(format_args!("key {id} was made and has no alias yet")))?;
    call.send("kms:EnableKeyRotation", alias, || {
        call.kms().enable_key_rotation().key_id(&id).send()
    })
    .map_err(|error| error.within(format_args!("{alias} was made and is not rotated yet")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_told_from_a_key() {
        assert_eq!(alias("alias/keyward"), Some("alias/keyward"));
        assert_eq!(alias("arn:aws:kms:eu-central-1:1:alias/a/b"), Some("alias/a/b"));
        assert_eq!(alias("arn:aws:kms:eu-central-1:1:key/1234"), None);
        assert_eq!(alias("1234abcd"), None);
    }
}

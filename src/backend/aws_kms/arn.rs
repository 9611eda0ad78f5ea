//! Names of keys (AWS General Reference, "Amazon Resource Names"):
//! `arn:aws:kms:eu-central-1:111122223333:key/1234abcd-...`.

#![forbid(unsafe_code)]

/// The region of an ARN; nothing for an id and for an alias's name.
#[must_use]
pub fn region_of(key: &str) -> Option<&str> {
    let mut parts = key.split(':');
    let head = (parts.next()?, parts.next()?, parts.next()?);
    let region = parts.next()?;
    matches!(head, ("arn", _, "kms")).then_some(region).filter(|region| !region.is_empty())
}

/// Whether two ARNs are of one key: a multi-region key has one id in all its regions, and each of
/// them opens what another one wrapped.
#[must_use]
pub fn is_same_key(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    match (parts(one), parts(other)) {
        (Some(one), Some(other)) => one == other && one.2.starts_with("key/mrk-"),
        _ => false,
    }
}

/// Partition, account and resource of an ARN of KMS.
fn parts(arn: &str) -> Option<(&str, &str, &str)> {
    match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", partition, "kms", _, account, resource] => Some((partition, account, resource)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
    const MULTI: &str = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd";

    #[test]
    fn an_arn_has_its_region() {
        assert_eq!(region_of(KEY), Some("eu-central-1"));
        assert_eq!(region_of("arn:aws-cn:kms:cn-north-1:1:alias/x"), Some("cn-north-1"));
        for other in ["1234abcd", "alias/keyward", "arn:aws:kms", "arn:aws:kms::1:key/x", ""] {
            assert_eq!(region_of(other), None, "{other}");
        }
        assert_eq!(region_of("arn:aws:s3:eu-central-1:1:key/x"), None);
    }

    #[test]
    fn only_a_multi_region_key_is_the_same_elsewhere() {
        let moved = |arn: &str| arn.replace("eu-central-1", "us-east-1");
        assert!(is_same_key(KEY, KEY));
        assert!(!is_same_key(KEY, &moved(KEY)));
        assert!(is_same_key(MULTI, &moved(MULTI)));
        assert!(!is_same_key(MULTI, &moved(MULTI).replace("111122223333", "444455556666")));
        assert!(!is_same_key(MULTI, &moved(MULTI).replace("arn:aws:", "arn:aws-cn:")));
        assert!(!is_same_key(MULTI, &format!("{}0", moved(MULTI))));
        assert!(!is_same_key(MULTI, "mrk-1234abcd"));
    }
}

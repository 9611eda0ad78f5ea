//! Names of keys (Cloud KMS, "Get a Cloud KMS resource ID"):
//! `projects/P/locations/L/keyRings/R/cryptoKeys/K`, and below it `/cryptoKeyVersions/1`.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// A key of Cloud KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The project's id.
    pub project: String,
    /// The location of the key ring, such as `europe-west3`.
    pub location: String,
    /// The key ring.
    pub ring: String,
    /// The key in it.
    pub key: String,
}

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Err(Error::new(Kind::Config, what)
                .advise("write it as projects/P/locations/L/keyRings/R/cryptoKeys/K"))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let named = match parts[..] {
            ["projects", project, "locations", location, "keyRings", ring, "cryptoKeys", key] => {
                [project, location, ring, key]
            }
            [.., "cryptoKeyVersions", _] => return wrong("names a version, not a key"),
            _ => return wrong("is no name of a key"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        // Projects of a domain are called example.com:name.
        let of_project = |c: char| plain(c) || ".:".contains(c);
        let fits = |part: &str, is: &dyn Fn(char) -> bool| {
            !part.is_empty() && part.len() <= 100 && part.chars().all(is)
        };
        if !fits(named[0], &of_project) || !named[1..].iter().all(|part| fits(part, &plain)) {
            return wrong("has a part that is no name");
        }
        let [project, location, ring, key] = named.map(str::to_owned);
        Ok(Self { project, location, ring, key })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/cryptoKeys/{}", self.ring_name(), self.key)
    }
}

impl KeyName {
    /// `projects/P/locations/L`.
    #[must_use]
    pub fn location_name(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.location)
    }

    /// `projects/P/locations/L/keyRings/R`.
    #[must_use]
    pub fn ring_name(&self) -> String {
        format!("{}/keyRings/{}", self.location_name(), self.ring)
    }

    /// The full name of version `number`.
    #[must_use]
    pub fn version(&self, number: u64) -> String {
        format!("{self}/cryptoKeyVersions/{number}")
    }

    /// The number of the version of this key that is called `name`; nothing for another key's.
    #[must_use]
    pub fn version_in(&self, name: &str) -> Option<u64> {
        let number = name.rsplit('/').next()?.parse().ok().filter(|number| *number > 0)?;
        (self.version(number) == name).then_some(number)
    }

    /// Whether `name` is one of a version of this key, be its number right or wrong.
    #[must_use]
    pub fn is_key_of(&self, name: &str) -> bool {
        name.rsplit_once("/cryptoKeyVersions/").is_some_and(|(key, _)| key == self.to_string())
    }

    /// As `gcloud kms keys` takes it.
    pub(super) fn for_gcloud(&self) -> String {
        let Self { project, location, ring, key } = self;
        format!("{key} --keyring={ring} --location={location} --project={project}")
    }

    /// As `gcloud kms keys versions` takes a version of it.
    pub(super) fn version_for_gcloud(&self, number: u64) -> String {
        format!("{number} --key={}", self.for_gcloud())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "projects/p-1/locations/europe-west3/keyRings/ring/cryptoKeys/db_1";

    #[test]
    fn a_name_has_its_parts_and_comes_back() {
        let key: KeyName = KEY.parse().unwrap();
        assert_eq!((key.location.as_str(), key.ring.as_str()), ("europe-west3", "ring"));
        assert_eq!(key.to_string(), KEY);
        assert_eq!(
            key.version_for_gcloud(3),
            "3 --key=db_1 --keyring=ring --location=europe-west3 --project=p-1"
        );
        let of_domain = KEY.replace("p-1", "example.com:p");
        assert_eq!(of_domain.parse::<KeyName>().unwrap().to_string(), of_domain);
    }

    #[test]
    fn what_is_no_key_is_told() {
        for (text, words) in [
            ("", "is no name of a key"),
            ("db_1", "is no name of a key"),
            ("projects/p/locations/l/keyRings/r", "is no name of a key"),
            (&format!("{KEY}/cryptoKeyVersions/1"), "names a version"),
            (&KEY.replace("ring/", "/"), "a part that is no name"),
            (&KEY.replace("ring/", "ri ng/"), "a part that is no name"),
            (&KEY.replace("ring/", "..%2f/"), "a part that is no name"),
            (&format!("{KEY}:encrypt"), "a part that is no name"),
        ] {
            let error = text.parse::<KeyName>().unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_version_is_told_from_one_of_another_key() {
        let key: KeyName = KEY.parse().unwrap();
        assert_eq!(key.version_in(&key.version(7)), Some(7));
        for other in [
            &key.version(0),
            KEY,
            &format!("{KEY}/cryptoKeyVersions/07"),
            &format!("{KEY}/cryptoKeyVersions/+7"),
            &format!("{KEY}2/cryptoKeyVersions/7"),
            "",
        ] {
            assert_eq!(key.version_in(other), None, "{other}");
        }
        assert!(key.is_key_of(&key.version(0)) && !key.is_key_of(&format!("{KEY}2")));
    }
}

//! What a vault asks of somebody without a token (RFC 6750 section 3): whose token, for what.

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::super::http::{Url, place};
use super::failure;
use super::name::KeyName;
use super::settings::is_id;
use crate::error::Result;

/// The longest claims, in bytes.
const MAX_CLAIMS: usize = 4096;

/// A challenge that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The tenant of the vault.
    pub(super) tenant: String,
    /// What the token is to be for: `https://vault.azure.net`.
    pub(super) resource: String,
    /// Claims that it must have, in JSON, where an earlier one lacked them ("continuous access evaluation").
    pub(super) claims: Option<String>,
}

impl Challenge {
    /// The challenge in `header`, which the vault of `key` sent. A resource that the vault is not of is
    /// refused: whoever answers in a vault's place would get a token for something else.
    pub(super) fn judged(header: &str, key: &KeyName) -> Result<Self> {
        let broken = || failure::no_challenge(&key.vault);
        let bearer = header.get(..7).filter(|word| word.eq_ignore_ascii_case("bearer "));
        let pairs = bearer.map(|word| parameters(&header[word.len()..])).ok_or_else(broken)?;
        let find = |names: &[&str]| {
            let known = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
            pairs.iter().find(|(name, _)| known(name)).map(|(_, value)| value.as_str())
        };
        let authorization = find(&["authorization", "authorization_uri"]).ok_or_else(broken)?;
        let authorization = Url::parse(authorization).map_err(|_| broken())?;
        let tenant = authorization.path_segments().and_then(|mut parts| parts.next());
        let tenant = tenant.filter(|tenant| is_id(tenant)).ok_or_else(broken)?;
        let resource = find(&["resource"]).or_else(|| find(&["scope"])).ok_or_else(broken)?;
        let resource = resource.strip_suffix("/.default").unwrap_or(resource);
        let resource = Url::parse(resource).map_err(|_| broken())?;
        if !key.is_of(&resource) {
            return Err(failure::wrong_resource(&key.vault));
        }
        let claims = find(&["claims"]).filter(|_| find(&["error"]) == Some("insufficient_claims"));
        Ok(Self {
            tenant: tenant.to_owned(),
            resource: place(&resource),
            claims: claims.and_then(decoded),
        })
    }
}

/// The claims in `text`, whichever base64 it is.
fn decoded(text: &str) -> Option<String> {
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let bytes = engines.iter().find_map(|engine| engine.decode(text).ok())?;
    String::from_utf8(bytes).ok().filter(|claims| claims.len() <= MAX_CLAIMS)
}

/// Names and values of `text`: `name="value", name=value`.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']);
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find([',', ' ']).unwrap_or(after.len())),
        };
        found.push((name, value.to_owned()));
        rest = left;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn judged(header: &str) -> Result<Challenge> {
        Challenge::judged(header, &"https://a.vault.azure.net/keys/k".parse().unwrap())
    }

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    #[test]
    fn tells_tenant_and_resource_of_both_forms() {
        for header in [
            format!(
                "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", \
                 resource=\"https://vault.azure.net\""
            ),
            format!(
                "bearer authorization_uri=\"https://login.windows.net/{TENANT}/oauth2\",\
                 scope=\"https://vault.azure.net/.default\""
            ),
            format!(
                "Bearer authorization=https://login.microsoftonline.com/{TENANT}, \
                 resource=https://vault.azure.net"
            ),
        ] {
            let found = judged(&header).unwrap();
            assert_eq!((found.tenant.as_str(), found.claims), (TENANT, None));
            assert_eq!(found.resource, "https://vault.azure.net");
        }
    }

    #[test]
    fn claims_are_decoded_where_they_are_what_lacks() {
        let header = |error: &str| {
            format!(
                "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/{TENANT}\", \
                 resource=\"https://vault.azure.net\", error=\"{error}\", claims=\"eyJhIjoxfQ==\""
            )
        };
        let found = judged(&header("insufficient_claims")).unwrap();
        assert_eq!(found.claims.as_deref(), Some("{\"a\":1}"));
        assert_eq!(judged(&header("invalid_token")).unwrap().claims, None);
    }

    #[test]
    fn what_is_none_and_what_is_for_something_else_is_refused() {
        let of = |authorization: &str, resource: &str| {
            format!("Bearer authorization=\"{authorization}\", resource=\"{resource}\"")
        };
        let login = format!("https://login.microsoftonline.com/{TENANT}");
        for header in [
            String::new(),
            "Bearer".to_owned(),
            "Basic realm=\"a\"".to_owned(),
            "Bearer a".to_owned(),
            "Bearer authorization=\"".to_owned(),
            "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}".to_owned(),
            of("none", "https://vault.azure.net"),
            of("https://login.microsoftonline.com/", "https://vault.azure.net"),
            of("https://login.microsoftonline.com/..%2f", "https://vault.azure.net"),
            of(&login, "none"),
            format!("Bearer authorization=\"{login}\""),
        ] {
            assert_eq!(judged(&header).unwrap_err().kind(), Kind::Untrusted, "{header}");
        }
        for resource in
            ["https://management.azure.com", "https://azure.example", "https://a.vault.azure.net"]
        {
            let error = judged(&of(&login, resource)).unwrap_err();
            assert_eq!(error.kind(), Kind::Untrusted, "{resource}");
            let text = error.to_string();
            assert!(text.contains("another resource"), "{text}");
            let told = text.strip_prefix("https://a.vault.azure.net").unwrap_or(&text);
            assert!(!told.contains(resource), "it shows what somebody else wrote: {text}");
        }
    }
}

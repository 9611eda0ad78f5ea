//! A service account's own proof of who it is: a JWT that it signs (RFC 7519; RS256, RFC 7518 section 3.3).
//! Google takes one with a `scope` as an access token (AIP-4111), so that nobody need be asked for one.

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use zeroize::Zeroizing;

use crate::env::Timestamp;

/// How long one is valid, in seconds: the longest that Google takes.
const LIFE: u64 = 3600;

/// The JWT of `account`, signed with its `key` in PEM; nothing where that is no RSA key.
pub(super) fn signed(
    account: &str,
    key: &str,
    key_id: Option<&str>,
    scope: &str,
    now: Timestamp,
) -> Option<Zeroizing<String>> {
    let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    let key = any_supported_type(&der).ok()?;
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
    let mut header = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = key_id {
        header["kid"] = json!(id);
    }
    let issued = now.as_unix();
    let claims = json!({
        "iss": account, "sub": account, "scope": scope, "iat": issued, "exp": issued + LIFE,
    });
    let encoded = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let mut text = Zeroizing::new(format!("{}.{}", encoded(&header), encoded(&claims)));
    let signature = signer.sign(text.as_bytes()).ok()?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Some(text)
}

//! An application's own proof of who it is: a JWT that it signs with its certificate's key (RFC 7523; PS256,
//! RFC 7518 section 3.5; `x5t#S256`, RFC 7515 section 4.1.8).

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::env::{Rng, Timestamp};
use crate::error::Result;
use crate::hex;

/// How long one is valid, in seconds.
const LIFE: u64 = 600;

/// How far behind Entra ID's clock ours may be, in seconds.
const EARLIER: u64 = 60;

/// Who signs, for whom.
pub(super) struct Claims<'a> {
    pub(super) client_id: &'a str,
    /// Where the token is asked for.
    pub(super) audience: &'a str,
    pub(super) now: Timestamp,
}

/// What is wrong with a certificate or its key.
pub(super) enum Unusable {
    Certificate,
    Key,
}

/// The JWT of `claims`, signed with `key` in PEM, which is that of `certificate` in PEM.
pub(super) fn signed(
    claims: &Claims<'_>,
    certificate: &[u8],
    key: &[u8],
    rng: &dyn Rng,
) -> Result<Result<Zeroizing<String>, Unusable>> {
    let Ok(certificate) = CertificateDer::from_pem_slice(certificate) else {
        return Ok(Err(Unusable::Certificate));
    };
    let print = URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate));
    let mut id = [0; 16];
    rng.fill(&mut id)?;
    let issued = claims.now.as_unix();
    let header = |alg: &str| json!({ "alg": alg, "typ": "JWT", "x5t#S256": print });
    let body = json!({
        "aud": claims.audience, "iss": claims.client_id, "sub": claims.client_id,
        "jti": hex::text(&id), "iat": issued, "nbf": issued.saturating_sub(EARLIER),
        "exp": issued + LIFE,
    });
    Ok(sign(key, &header, &body).ok_or(Unusable::Key))
}

/// Whether `pem` has a certificate and a key that signs, for a fuzzer.
#[cfg(fuzzing)]
pub fn signs_as_fuzzed(pem: &[u8], rng: &dyn Rng) -> Result<bool> {
    let (audience, now) =
        ("https://login.microsoftonline.com", Timestamp::from_unix(1_800_000_000));
    let signed = signed(&Claims { client_id: "0f0c6f3c", audience, now }, pem, pem, rng)?;
    Ok(signed.is_ok_and(|text| text.split('.').count() == 3))
}

/// Of a key whose signer has no PSS, by the older RS256.
fn sign(
    key: &[u8],
    header: &dyn Fn(&str) -> serde_json::Value,
    body: &serde_json::Value,
) -> Option<Zeroizing<String>> {
    let der = PrivateKeyDer::from_pem_slice(key).ok()?;
    let key = any_supported_type(&der).ok()?;
    let (alg, signer) =
        [("PS256", SignatureScheme::RSA_PSS_SHA256), ("RS256", SignatureScheme::RSA_PKCS1_SHA256)]
            .into_iter()
            .find_map(|(alg, scheme)| Some((alg, key.choose_scheme(&[scheme])?)))?;
    let encoded = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let mut text = Zeroizing::new(format!("{}.{}", encoded(&header(alg)), encoded(body)));
    let signature = signer.sign(text.as_bytes()).ok()?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Some(text)
}

//! The signature at the end of a report. What is signed is a note in the format of C2SP's signed-note
//! (c2sp.org), as a checkpoint is, and of another name:
//!
//! ```text
//! keyward/report/KEYSTORE
//! html
//! SHA-256 of all bytes before the signature, in base64
//! ```
//!
//! The last line of the file holds the number of the key and the signature, in base64: as a comment of HTML, a
//! member of JSON, a row of CSV.

#![forbid(unsafe_code)]

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::event::checkpoint::{ED25519_KIND, key_id};
use crate::hex::Hex;

/// The longest report that is read, in bytes.
pub const MAX_LEN: u64 = 1 << 26;

/// What a name of a checkpoint's key begins with: `keyward audit checkpoint --key` prints one.
const AUDIT: &str = "keyward/audit/";

/// As what a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page.
    Html,
    /// A document.
    Json,
    /// A table.
    Csv,
}

/// Who has signed a report, if its signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The id of the keystore.
    pub keystore: String,
    /// The public key.
    pub key: Hex<32>,
}

/// A report's text, taken apart.
struct Parts<'a> {
    body: &'a str,
    form: Form,
    signature: Option<&'a str>,
}

impl Form {
    const ALL: [Self; 3] = [Self::Html, Self::Json, Self::Csv];

    /// The text before and after the signature.
    const fn frame(self) -> (&'static str, &'static str) {
        match self {
            Self::Html => ("<!-- keyward report signature: ", " -->\n"),
            Self::Json => (",\n  \"signature\": \"", "\"\n}\n"),
            Self::Csv => ("\"\",\"report\",\"\",\"signature\",\"", "\"\n"),
        }
    }

    /// The same for a report that nobody signs.
    const fn unsigned(self) -> &'static str {
        match self {
            Self::Html => "<!-- keyward report without a signature -->\n",
            Self::Json => ",\n  \"signature\": null\n}\n",
            Self::Csv => "\"\",\"report\",\"\",\"signature\",\"none\"\n",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::Csv => "csv",
        })
    }
}

/// What is to be signed of `body`, a report on the keystore called `keystore`.
#[must_use]
pub fn text(keystore: &str, form: Form, body: &str) -> String {
    let hash = STANDARD.encode(Sha256::digest(body));
    format!("{}\n{form}\n{hash}\n", name(keystore))
}

/// The whole report: `body` with the `signature` by the key `public` over its [`text()`].
#[must_use]
pub fn signed(
    body: &str,
    form: Form,
    keystore: &str,
    public: &Hex<32>,
    signature: &[u8; 64],
) -> String {
    let (before, after) = form.frame();
    let bytes = [&key_id(&name(keystore), public)[..], signature].concat();
    format!("{body}{before}{}{after}", STANDARD.encode(bytes))
}

/// The whole report without a signature.
#[must_use]
pub fn unsigned(body: &str, form: Form) -> String {
    format!("{body}{}", form.unsigned())
}

/// Which of `signers` has signed the report `text`. `Config` where it is no report, or nobody has signed it;
/// `Denied` where none of them has signed what it says now.
pub fn verify<'a>(report: &str, signers: &'a [Signer]) -> Result<&'a Signer> {
    let Parts { body, form, signature } = Parts::of(report)?;
    let signature = signature.ok_or_else(|| {
        Error::new(Kind::Config, "the report has no signature").advise(
            "a key store that serves the keys cannot sign; for a report of many, verify the ones that it \
             was made from",
        )
    })?;
    let bytes = STANDARD.decode(signature).unwrap_or_default();
    let has_signed = |signer: &&Signer| {
        let name = name(&signer.keystore);
        let verifier = UnparsedPublicKey::new(&ED25519, signer.key.0);
        let signature = bytes.strip_prefix(&key_id(&name, &signer.key));
        let text = text(&signer.keystore, form, body);
        signature.is_some_and(|bytes| verifier.verify(text.as_bytes(), bytes).is_ok())
    };
    signers.iter().find(has_signed).ok_or_else(|| {
        Error::new(
            Kind::Denied,
            "none of the keys has signed what the report says: it was changed, or is of another keystore",
        )
        .advise("have `keyward report` make a new one")
    })
}

/// Whether the report `text` has a signature at all, whoever's.
pub fn has_signature(report: &str) -> Result<bool> {
    Ok(Parts::of(report)?.signature.is_some())
}

impl<'a> Parts<'a> {
    /// Takes a report apart at its last line, of which every byte counts.
    fn of(report: &'a str) -> Result<Self> {
        for form in Form::ALL {
            if let Some(body) = report.strip_suffix(form.unsigned()) {
                return Ok(Self { body, form, signature: None });
            }
            let (before, after) = form.frame();
            let signed = report.strip_suffix(after).and_then(|text| text.rsplit_once(before));
            let is_base64 = |text: &str| {
                text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
            };
            if let Some((body, signature)) = signed.filter(|(_, text)| is_base64(text)) {
                return Ok(Self { body, form, signature: Some(signature) });
            }
        }
        Err(Error::new(
            Kind::Config,
            "this is no report of keyward's, or its last line was changed",
        )
        .advise("verify the file that `keyward report` wrote, byte by byte as it was"))
    }
}

impl Signer {
    /// The key that `keyward audit checkpoint --key` prints: it signs reports as well. `Config` where `text` is
    /// none.
    pub fn parse(text: &str) -> Result<Self> {
        let none = || {
            Error::new(Kind::Config, "this is no key of a keystore's")
                .advise("give what `keyward audit checkpoint --key` printed there")
        };
        let (name, rest) = text.trim().split_once('+').ok_or_else(none)?;
        let keystore = name.strip_prefix(AUDIT).ok_or_else(none)?;
        let (id, key) = rest.split_once('+').ok_or_else(none)?;
        let key = STANDARD.decode(key).map_err(|_| none())?;
        let key = key.strip_prefix(&[ED25519_KIND]).ok_or_else(none)?;
        let key = Hex(key.try_into().map_err(|_| none())?);
        match Hex(key_id(name, &key)).to_string() == id {
            true => Ok(Self { keystore: keystore.to_owned(), key }),
            false => Err(none()),
        }
    }
}

/// The name of what is signed, and of the key that signs it.
fn name(keystore: &str) -> String {
    format!("keyward/report/{keystore}")
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::event::checkpoint::verifier_key;

    const KEYSTORE: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    fn signer(seed: u8) -> (Ed25519KeyPair, Signer) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = Hex(pair.public_key().as_ref().try_into().unwrap());
        (pair, Signer { keystore: KEYSTORE.to_owned(), key })
    }

    fn body(form: Form) -> &'static str {
        match form {
            Form::Html => "<!doctype html>\n<p>k&auml;rnten \u{e4}</p>\n",
            Form::Json => "{\n  \"a\": 1",
            Form::Csv => "server,section,item,field,value\n",
        }
    }

    fn report(form: Form) -> (String, Signer) {
        let (pair, signer) = signer(7);
        let signature = pair.sign(text(KEYSTORE, form, body(form)).as_bytes());
        let signature = signature.as_ref().try_into().unwrap();
        (signed(body(form), form, KEYSTORE, &signer.key, signature), signer)
    }

    /// For ever: auditors keep them.
    #[test]
    fn what_is_signed_is_written_in_one_way() {
        assert_eq!(
            text(KEYSTORE, Form::Json, "{}"),
            "keyward/report/6ba7b810-9dad-41d1-80b4-00c04fd430c8\njson\n\
             RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=\n"
        );
        let (html, _) = report(Form::Html);
        let last = html.lines().last().unwrap();
        assert!(last.starts_with("<!-- keyward report signature: "), "{last}");
        let json: serde_json::Value = serde_json::from_str(&report(Form::Json).0).unwrap();
        assert_eq!(json["signature"].as_str().unwrap().len(), 92);
        let none = unsigned(body(Form::Json), Form::Json);
        assert!(serde_json::from_str::<serde_json::Value>(&none).unwrap()["signature"].is_null());
    }

    #[test]
    fn any_change_of_a_bit_is_refused() {
        for form in Form::ALL {
            let (report, signer) = report(form);
            let signers = [super::tests::signer(1).1, signer.clone()];
            assert_eq!(verify(&report, &signers).unwrap(), &signer);
            for at in 0..report.len() {
                for bit in 0..8 {
                    let mut bytes = report.clone().into_bytes();
                    bytes[at] ^= 1 << bit;
                    let Ok(changed) = String::from_utf8(bytes) else { continue };
                    assert!(verify(&changed, &signers).is_err(), "{form} byte {at} bit {bit}");
                }
            }
            for other in [report.clone() + "\n", format!(" {report}"), report[1..].to_owned()] {
                assert!(verify(&other, &signers).is_err());
            }
        }
    }

    #[test]
    fn another_key_or_kind_of_text_is_no_signature() {
        let (html, signer) = report(Form::Html);
        assert_eq!(verify(&html, &[]).unwrap_err().kind(), Kind::Denied);
        let other = Signer { keystore: "another".to_owned(), ..signer.clone() };
        assert_eq!(verify(&html, &[other]).unwrap_err().kind(), Kind::Denied);
        // The same key's signature over the report as another form, or over a checkpoint.
        let (pair, _) = super::tests::signer(7);
        for text in [text(KEYSTORE, Form::Csv, body(Form::Html)), "keyward/audit/x\n1\n".to_owned()]
        {
            let signature = pair.sign(text.as_bytes()).as_ref().try_into().unwrap();
            let forged = signed(body(Form::Html), Form::Html, KEYSTORE, &signer.key, &signature);
            assert_eq!(
                verify(&forged, std::slice::from_ref(&signer)).unwrap_err().kind(),
                Kind::Denied
            );
        }
        let none = unsigned(body(Form::Csv), Form::Csv);
        assert_eq!(verify(&none, &[signer]).unwrap_err().kind(), Kind::Config);
        assert!(!has_signature(&none).unwrap() && has_signature(&html).unwrap());
        assert!(has_signature("no report\n").is_err());
    }

    #[test]
    fn the_auditor_s_key_is_the_one_of_checkpoints() {
        let (_, signer) = signer(7);
        let key = verifier_key(KEYSTORE, &signer.key);
        assert_eq!(Signer::parse(&format!("{key}\n")).unwrap(), signer);
        let other = key.replacen("keyward/audit/", "keyward/other/", 1);
        for wrong in
            ["", "keyward/audit/x", &other, &key[..key.len() - 4], &key.replacen('6', "7", 1)]
        {
            assert_eq!(Signer::parse(wrong).unwrap_err().kind(), Kind::Config, "{wrong}");
        }
    }
}

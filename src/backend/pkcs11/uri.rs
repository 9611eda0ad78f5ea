//! PKCS#11 URIs (RFC 7512): which module, token and key, and where the PIN lies, in one line.

#![forbid(unsafe_code)]

use crate::error::{Error, Kind, Result};

/// No URI of a token is longer, in bytes.
const MAX_LEN: usize = 4096;

/// The characters beside letters and digits that may stand as they are, in the path and in the
/// query (RFC 7512 section 2.3).
const IN_PATH: &[u8] = b"-._~:[]@!$'()*+,=&";
const IN_QUERY: &[u8] = b"-._~:[]@!$'()*+,=/?|";

/// What a URI says; all of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// The token's manufacturer.
    pub manufacturer: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The slot's number.
    pub slot: Option<u64>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's id.
    pub id: Option<Vec<u8>>,
    /// The file that holds the PIN.
    pub pin_file: Option<String>,
    /// The module's file.
    pub module: Option<String>,
}

impl Uri {
    /// Reads `text`. What we could not obey, an attribute that we do not know or a PIN inline, is an
    /// error: a URI must not be without effect in part.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_LEN {
            return Err(wrong(format!("a URI of {} bytes", text.len()))
                .advise(format!("it has at most {MAX_LEN}")));
        }
        let Some(rest) = text.strip_prefix("pkcs11:") else {
            return Err(wrong("it does not begin with \"pkcs11:\"".to_owned()));
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut uri = Self::default();
        let mut seen = Vec::new();
        for part in parts(path, ';') {
            let (name, value) = attribute(part, IN_PATH)?;
            once(&mut seen, name)?;
            uri.take_path(name, value)?;
        }
        for part in parts(query.unwrap_or_default(), '&') {
            let (name, value) = attribute(part, IN_QUERY)?;
            once(&mut seen, name)?;
            uri.take_query(name, value)?;
        }
        Ok(uri)
    }

    fn take_path(&mut self, name: &str, value: Vec<u8>) -> Result<()> {
        match name {
            "token" => self.token = Some(text_of(name, value)?),
            "serial" => self.serial = Some(text_of(name, value)?),
            "manufacturer" => self.manufacturer = Some(text_of(name, value)?),
            "model" => self.model = Some(text_of(name, value)?),
            "object" => self.object = Some(text_of(name, value)?),
            "id" if value.is_empty() => return Err(wrong("id is empty".to_owned())),
            "id" => self.id = Some(value),
            "slot-id" => {
                let number = text_of(name, value)?;
                let digits = number.bytes().all(|byte| byte.is_ascii_digit());
                let parsed = number.parse().ok().filter(|_| digits);
                let none = || wrong("slot-id is not a whole number".to_owned());
                self.slot = Some(parsed.ok_or_else(none)?);
            }
            "type" => match value.as_slice() {
                b"secret-key" | b"private" => {}
                _ => {
                    return Err(wrong("type is none that wraps".to_owned()).advise(
                        "use type=secret-key (AES) or type=private (RSA), or leave it out",
                    ));
                }
            },
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn take_query(&mut self, name: &str, value: Vec<u8>) -> Result<()> {
        match name {
            "pin-source" => {
                let source = text_of(name, value)?;
                let path = source.strip_prefix("file://").or(source.strip_prefix("file:"));
                let path = path.unwrap_or(&source);
                if !path.starts_with('/') {
                    return Err(wrong("pin-source is not the absolute path of a file".to_owned())
                        .advise("write it as file:/etc/keyward/hsm.pin"));
                }
                self.pin_file = Some(path.to_owned());
            }
            "pin-value" => {
                return Err(wrong(
                    "pin-value: a secret may not stand in the configuration".to_owned(),
                )
                .advise("put it into a file of mode 0600 and name that as pin-source"));
            }
            "module-path" => self.module = Some(text_of(name, value)?),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    // Nothing at all is an empty list; an empty part between separators is an attribute without a
    // name, and wrong.
    text.split(separator).filter(move |_| !text.is_empty())
}

/// Name and decoded value of `name=value`.
fn attribute<'a>(part: &'a str, allowed: &[u8]) -> Result<(&'a str, Vec<u8>)> {
    let Some((name, value)) = part.split_once('=') else {
        return Err(wrong("an attribute is not written as name=value".to_owned()));
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(wrong("an attribute has no proper name".to_owned()));
    }
    Ok((name, decoded(name, value, allowed)?))
}

fn decoded(name: &str, value: &str, allowed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match first {
            b'%' => {
                let hex = rest.split_at_checked(2).and_then(|(hex, after)| {
                    rest = after;
                    let hex = std::str::from_utf8(hex).ok()?;
                    let both = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
                    u8::from_str_radix(hex, 16).ok().filter(|_| both)
                });
                hex.ok_or_else(|| wrong(format!("{name}: a % without two hex digits")))?
            }
            byte if byte.is_ascii_alphanumeric() || allowed.contains(byte) => *byte,
            _ => {
                return Err(wrong(format!("{name}: a character that must be written as %XX"))
                    .advise("a space is %20, a slash %2F"));
            }
        };
        bytes.push(byte);
    }
    Ok(bytes)
}

fn once<'a>(seen: &mut Vec<&'a str>, name: &'a str) -> Result<()> {
    if seen.contains(&name) {
        return Err(wrong(format!("{name} stands there twice")));
    }
    seen.push(name);
    Ok(())
}

fn text_of(name: &str, value: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(value).ok();
    let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
    text.ok_or_else(|| wrong(format!("{name} is no text")))
}

fn unknown(name: &str) -> Error {
    wrong(format!("unknown attribute {name:?}")).advise(
        "known are: token, serial, manufacturer, model, slot-id, object, id, type; behind the ?: \
         module-path, pin-source",
    )
}

fn wrong(what: String) -> Error {
    Error::new(Kind::Config, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_is_read_and_decoded() {
        let text = "pkcs11:token=Our%20token;serial=0a1b;manufacturer=ACME;model=X;slot-id=42;\
                    object=my-key;id=%01%ffA;type=secret-key\
                    ?pin-source=file:/etc/keyward/pin&module-path=/usr/lib/p11.so";
        let wanted = Uri {
            token: Some("Our token".into()),
            serial: Some("0a1b".into()),
            manufacturer: Some("ACME".into()),
            model: Some("X".into()),
            slot: Some(42),
            object: Some("my-key".into()),
            id: Some(vec![1, 255, b'A']),
            pin_file: Some("/etc/keyward/pin".into()),
            module: Some("/usr/lib/p11.so".into()),
        };
        assert_eq!(Uri::parse(text).unwrap(), wanted);
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7512 section 3, those of which every attribute concerns a key that wraps.
        let uri = |text| Uri::parse(text).unwrap();
        assert_eq!(uri("pkcs11:"), Uri::default());
        assert_eq!(uri("pkcs11:object=my-key").object.as_deref(), Some("my-key"));
        assert_eq!(
            uri("pkcs11:object=my-key;type=private?pin-source=file:/etc/token").pin_file.as_deref(),
            Some("/etc/token")
        );
        let token = uri("pkcs11:token=My%20token%25%20created%20by%20Joe");
        assert_eq!(token.token.as_deref(), Some("My token% created by Joe"));
        assert_eq!(uri("pkcs11:id=%3f%1a").id, Some(vec![0x3f, 0x1a]));
        assert_eq!(uri("pkcs11:token=a?pin-source=/etc/pin").pin_file.as_deref(), Some("/etc/pin"));
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_without_a_secret() {
        for (text, wanted) in [
            ("pkcs12:token=a", "it does not begin with \"pkcs11:\""),
            ("token=a", "it does not begin with \"pkcs11:\""),
            ("pkcs11:token", "an attribute is not written as name=value"),
            ("pkcs11:;token=a", "an attribute is not written as name=value"),
            ("pkcs11:=a", "an attribute has no proper name"),
            ("pkcs11:to ken=a", "an attribute has no proper name"),
            ("pkcs11:token=a;token=b", "token stands there twice"),
            ("pkcs11:token=a%2", "token: a % without two hex digits"),
            ("pkcs11:token=%+1", "token: a % without two hex digits"),
            ("pkcs11:token=%ff", "token is no text"),
            ("pkcs11:token=%00", "token is no text"),
            ("pkcs11:token=", "token is no text"),
            ("pkcs11:id=", "id is empty"),
            (
                "pkcs11:token=a/b",
                "token: a character that must be written as %XX; a space is %20, a slash %2F",
            ),
            (
                "pkcs11:token=a b",
                "token: a character that must be written as %XX; a space is %20, a slash %2F",
            ),
            ("pkcs11:slot-id=+1", "slot-id is not a whole number"),
            ("pkcs11:slot-id=99999999999999999999", "slot-id is not a whole number"),
            (
                "pkcs11:type=cert",
                "type is none that wraps; use type=secret-key (AES) or type=private (RSA), or leave it out",
            ),
            (
                "pkcs11:?pin-source=pin",
                "pin-source is not the absolute path of a file; write it as file:/etc/keyward/hsm.pin",
            ),
            (
                "pkcs11:?pin-value=hunter2",
                "pin-value: a secret may not stand in the configuration; put it into a file of mode 0600 and name that as pin-source",
            ),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert_eq!(error.to_string(), wanted, "for {text}");
            assert_eq!(error.kind(), Kind::Config);
        }
        let unknown = Uri::parse("pkcs11:colour=blue").unwrap_err().to_string();
        assert!(unknown.starts_with("unknown attribute \"colour\"; known are: "), "{unknown}");
        assert!(Uri::parse(&format!("pkcs11:token={}", "a".repeat(MAX_LEN))).is_err());
    }
}

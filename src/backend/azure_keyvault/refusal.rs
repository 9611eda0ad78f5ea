//! Errors as Azure answers them. None of their text is shown.

#![forbid(unsafe_code)]

use serde::Deserialize;

use super::super::http::Reply;

/// An error of Key Vault or Managed HSM.
#[derive(Default)]
pub(super) struct Refusal {
    /// From the outermost to the innermost.
    codes: Vec<String>,
    message: String,
}

#[derive(Deserialize)]
struct Body {
    error: Detail,
}

/// Azure spells the inner one in two ways.
#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(alias = "innerError")]
    innererror: Option<Box<Detail>>,
}

impl Refusal {
    pub(super) fn of(reply: &Reply) -> Self {
        let Ok(Body { error }) = serde_json::from_slice::<Body>(&reply.body) else {
            return Self::default();
        };
        let message = error.message.clone();
        let mut next = Some(&error);
        let mut codes = Vec::new();
        while let Some(detail) = next {
            codes.push(detail.code.clone());
            next = detail.innererror.as_deref();
        }
        codes.retain(|code| !code.is_empty());
        Self { codes, message }
    }

    /// Whether it is none of Azure's.
    pub(super) fn is_foreign(&self) -> bool {
        self.codes.is_empty()
    }

    pub(super) fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|known| known == code)
    }

    /// Whether one of its codes has this in it.
    pub(super) fn tells_of(&self, part: &str) -> bool {
        self.codes.iter().any(|known| known.contains(part))
    }

    /// Whether its text has this in it.
    pub(super) fn says(&self, word: &str) -> bool {
        self.message.contains(word)
    }

    /// The letters of its innermost name.
    pub(super) fn name(&self) -> String {
        let last = self.codes.last().map(String::as_str).unwrap_or_default();
        last.chars().filter(char::is_ascii_alphanumeric).take(40).collect()
    }
}

/// An error of Entra ID (RFC 6749 section 5.2, with numbers of its own).
#[derive(Deserialize)]
pub(super) struct OfEntra {
    #[serde(rename = "error")]
    name: String,
    #[serde(default)]
    error_codes: Vec<u64>,
}

impl OfEntra {
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        serde_json::from_slice(&reply.body).ok()
    }

    /// Whether the same may go well later.
    pub(super) fn is_transient(&self) -> bool {
        self.name == "temporarily_unavailable" || self.has(90033)
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.error_codes.contains(&number)
    }

    /// `AADSTS7000215`, else its name.
    pub(super) fn name(&self) -> String {
        match self.error_codes.first() {
            Some(number) => format!("AADSTS{number}"),
            None => {
                let plain = |c: &char| c.is_ascii_alphabetic() || *c == '_';
                self.name.chars().filter(plain).take(40).collect()
            }
        }
    }
}

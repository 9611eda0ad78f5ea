//! A webhook: JSON by HTTP POST. Its member `text` is what Slack and its kin show.

#![forbid(unsafe_code)]

use serde_json::json;
use zeroize::Zeroizing;

use super::{Sink, Told};
use crate::backend::http::{
    Body, Connection, HeaderName, IN_THE_CLEAR, Method, Request, TlsConfig, USE_TLS, Url,
    is_private, place,
};
use crate::config::Section;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::secret::source::{SecretSource, without_line_end};

/// The longest address and the longest token, in bytes.
const MAX_SECRET: usize = 8192;

/// Where it is.
enum Address {
    Given(Url),
    /// Whoever knows it may write there, as with Slack's.
    Secret(SecretSource),
}

/// A receiver that is reached by HTTPS, or by plain HTTP on this machine.
pub(super) struct Webhook {
    address: Address,
    token: Option<SecretSource>,
    trust: TlsConfig,
}

impl Webhook {
    pub(super) fn read(section: &Section) -> Result<Self> {
        let secret = section.secret("secret_url", ["url_file", "url_env", "url_credential"])?;
        let address = match (section.text("url")?, secret) {
            (Some(text), None) => Address::Given(
                parse(&text).map_err(|[what, advice]| section.wrong("url", what).advise(advice))?,
            ),
            (None, Some(source)) => Address::Secret(source),
            (None, None) => return Err(section.lacks("url")),
            (Some(_), Some(_)) => return Err(section.wrong("url", "is named twice")),
        };
        let token = section.secret("token", ["token_file", "token_env", "token_credential"])?;
        Ok(Self { address, token, trust: TlsConfig::read(section)? })
    }

    fn url(&self) -> Result<Url> {
        match &self.address {
            Address::Given(url) => Ok(url.clone()),
            Address::Secret(source) => parse(&text(source)?).map_err(|[what, advice]| {
                Error::new(Kind::Config, format!("the address in {source} {what}")).advise(advice)
            }),
        }
    }
}

impl Sink for Webhook {
    fn deliver(&mut self, told: &Told<'_>, by: Deadline) -> Result<()> {
        let url = self.url()?;
        let mut headers = Vec::new();
        if let Some(token) = &self.token {
            let value = Zeroizing::new(format!("Bearer {}", &*text(token)?));
            headers.push((HeaderName::from_static("authorization"), value));
        }
        let line: serde_json::Value = serde_json::from_str(told.text).unwrap_or_default();
        let body = json!({
            "text": format!("keyward on {}: {}", told.host, told.sentence()),
            "host": told.host,
            "keystore": told.keystore,
            "line": line,
        });
        let body = Some(Body::Json(Zeroizing::new(body.to_string().into_bytes())));
        let (to, request) = (place(&url), Request { method: Method::POST, url, headers, body });
        match Connection::open(&self.trust)?.send_for_status(request, by)? {
            200..=299 => Ok(()),
            status => {
                let what = format!("the webhook at {to} answers with HTTP status {status}");
                Err(Error::new(Kind::Unavailable, what).advise("look at its address and its token"))
            }
        }
    }
}

/// The address, or the fault and its cure. These do not repeat the address: it may be secret.
fn parse(text: &str) -> Result<Url, [&'static str; 2]> {
    let url = Url::parse(text.trim()).map_err(|_| ["is no address", USE_TLS])?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(["has a user name or a password in it", "put a token into token_file instead"]);
    }
    if is_private(&url) { Ok(url) } else { Err([IN_THE_CLEAR, USE_TLS]) }
}

fn text(source: &SecretSource) -> Result<Zeroizing<String>> {
    let secret = source.read(MAX_SECRET)?;
    let text = std::str::from_utf8(without_line_end(secret.expose())).map(str::to_owned);
    let no_text = |_| Error::new(Kind::Config, format!("{source} holds no text"));
    text.map(Zeroizing::new).map_err(no_text)
}

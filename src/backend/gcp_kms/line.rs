//! Requests to Google, made again while their failures may pass.

#![forbid(unsafe_code)]

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::http::{
    Body, Connection, HeaderName, Reply, Request, TlsAdvice, TlsConfig, Url, place,
};
use crate::env::{Deadline, Retry, Rng};
use crate::error::{Error, Kind, Result};

/// How often one whom nobody reaches is tried: another provider may be waiting.
const CONNECT_TRIES: u32 = 3;

/// A request's headers.
pub(super) type Headers = Vec<(HeaderName, Zeroizing<String>)>;

/// The header `name`.
pub(super) fn header(
    name: &'static str,
    value: impl Into<String>,
) -> (HeaderName, Zeroizing<String>) {
    (HeaderName::from_static(name), Zeroizing::new(value.into()))
}

/// What the requests of one operation go over.
pub(super) struct Line<'a> {
    connection: Connection,
    by: Deadline,
    rng: &'a dyn Rng,
}

/// What to do about TLS: no certificate of ours is shown, and the name is the address's.
pub(super) static FOR_GOOGLE: TlsAdvice = TlsAdvice {
    authority: "name the file of that authority's certificate as ca_file",
    no_authority: "name one as ca_file, in PEM",
    name: "use the name in the certificate, as `endpoint`",
    client: "use an `endpoint` that wants none",
    client_key: "use an `endpoint` that wants none",
    certified: false,
};

impl<'a> Line<'a> {
    /// A line that trusts as `trust` says, until `by`.
    pub(super) fn open(trust: &TlsConfig, by: Deadline, rng: &'a dyn Rng) -> Result<Self> {
        Ok(Self { connection: Connection::open(trust)?, by, rng })
    }

    /// When the operation ends.
    pub(super) fn by(&self) -> Deadline {
        self.by
    }

    /// What `read` makes of the reply to `request`.
    pub(super) fn ask<T>(
        &self,
        request: impl Fn() -> Result<Request>,
        read: impl Fn(Reply) -> Result<T>,
    ) -> Result<T> {
        self.ask_by(self.by, || self.connection.send(request()?, self.by), read)
    }

    /// The same of a metadata service, which is near: at most for `time`.
    pub(super) fn ask_metadata<T>(
        &self,
        time: Duration,
        request: impl Fn() -> Result<Request>,
        read: impl Fn(Reply) -> Result<T>,
    ) -> Result<T> {
        let by = Deadline::after(self.by.left("asking the metadata service")?.min(time));
        self.ask_by(by, || self.connection.send_to_metadata(request()?, by), read)
    }

    /// Again and again while the failures are transient, until `by`. The error is the last cause but
    /// for a timeout, if there was another.
    fn ask_by<T>(
        &self,
        by: Deadline,
        send: impl Fn() -> Result<Reply>,
        read: impl Fn(Reply) -> Result<T>,
    ) -> Result<T> {
        let mut retry = Retry::until(by, self.rng);
        let (mut unreached, mut before) = (0, None);
        loop {
            let reply = send();
            unreached += u32::from(reply.is_err());
            let cause = match reply.and_then(&read) {
                Ok(found) => return Ok(found),
                Err(cause) => cause,
            };
            let again = cause.kind() == Kind::Unavailable && unreached < CONNECT_TRIES;
            if !again || !retry.wait() {
                let is_late = cause.kind() == Kind::Timeout;
                return Err(before.filter(|_| is_late).unwrap_or(cause));
            }
            before = Some(cause);
        }
    }
}

/// `body` as it is sent.
pub(super) fn json(body: &Value) -> Result<Body> {
    let broken = |_| Error::new(Kind::Internal, "a request to Google cannot be written");
    serde_json::to_vec(body).map(|bytes| Body::Json(Zeroizing::new(bytes))).map_err(broken)
}

/// The body of `reply` from `url`, which must be what the API promises.
pub(super) fn read_json<T: DeserializeOwned>(url: &Url, reply: &Reply) -> Result<T> {
    serde_json::from_slice(&reply.body).map_err(|_| senseless(url, reply.status))
}

/// The error that the answer from `url` is none of Google's.
pub(super) fn senseless(url: &Url, status: u16) -> Error {
    let what =
        format!("{} answers something else than Google's API has (status {status})", place(url));
    Error::new(Kind::Unavailable, what).advise("is it the right address?")
}

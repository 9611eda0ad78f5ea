//! What is answered, and errors as Google's APIs have them (`google.rpc.Status`).

use std::io::Write;

use serde_json::{Value, json};
use test_kit::Result;

/// A text in errors that nobody may be shown.
pub const TEXT: &str = "a text that nobody is shown";

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// One that went well.
    #[must_use]
    pub fn ok(body: &Value) -> Self {
        Self::text(200, body.to_string())
    }

    /// Any text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// One of a machine's metadata service.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// An error of an API.
    #[must_use]
    pub fn error(code: u16, status: &str, message: &str, details: &Value) -> Self {
        let message = format!("{message} ({TEXT})");
        let error =
            json!({ "code": code, "message": message, "status": status, "details": details });
        Self::text(code, json!({ "error": error }).to_string())
    }

    /// One whose details name a reason.
    #[must_use]
    pub fn reason(code: u16, status: &str, message: &str, reason: &str) -> Self {
        let info = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": { "service": "cloudkms.googleapis.com", "note": TEXT },
        }]);
        Self::error(code, status, message, &info)
    }

    /// One of OAuth (RFC 6749 section 5.2).
    #[must_use]
    pub fn oauth(status: u16, name: &str) -> Self {
        Self::text(status, json!({ "error": name, "error_description": TEXT }).to_string())
    }

    /// The error that `permission` is denied on `resource`.
    #[must_use]
    pub fn denied(permission: &str, resource: &str) -> Self {
        let message = format!(
            "Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
        );
        Self::reason(403, "PERMISSION_DENIED", &message, "IAM_PERMISSION_DENIED")
    }

    /// Sends it.
    pub(crate) fn write(&self, mut stream: impl Write) -> Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} Status\r\ncontent-type: application/json; charset=UTF-8\r\n\
             content-length: {}\r\nconnection: close\r\n",
            self.status,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        stream.write_all(&self.body)?;
        Ok(())
    }
}

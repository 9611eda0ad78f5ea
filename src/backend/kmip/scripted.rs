//! What stands in a connection's place where a fuzzer thinks of the answers: a script of them.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io::Cursor;
use std::sync::Arc;

use rustls::ClientConfig;

use super::super::http::TlsAdvice;
use super::frame::{read, understood};
use super::message::Response;
use super::settings::Address;
use crate::env::Deadline;
use crate::error::Result;

thread_local! {
    static SCRIPT: RefCell<Cursor<Vec<u8>>> = RefCell::default();
}

/// From now on, this thread's connections read from `script`, one behind the other.
pub fn answer_with(script: &[u8]) {
    SCRIPT.set(Cursor::new(script.to_vec()));
}

/// As [`super::connection::Connection`] is without a fuzzer.
pub(super) struct Connection {
    place: String,
    advice: &'static TlsAdvice,
}

impl Connection {
    /// A connection to nobody.
    pub(super) fn open(
        address: &Address,
        _: Arc<ClientConfig>,
        advice: &'static TlsAdvice,
        by: Deadline,
    ) -> Result<Self> {
        by.left("connecting to nobody")?;
        Ok(Self { place: address.to_string(), advice })
    }

    /// The next message of the script.
    pub(super) fn exchange(&mut self, _: &[u8], by: Deadline) -> Result<Response> {
        by.left("calling nobody")?;
        understood(&self.place, self.advice, SCRIPT.with_borrow_mut(read))
    }

    /// As if it were the newest.
    pub(super) fn tls(&self) -> &'static str {
        "1.3"
    }
}

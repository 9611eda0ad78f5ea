//! What stands in the network's place where a fuzzer thinks of the answers: a script of them.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{Reply, Request, TlsConfig, Url, place};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};

thread_local! {
    static SCRIPT: RefCell<VecDeque<Vec<u8>>> = RefCell::default();
}

/// From now on, requests from this thread get the lines of `script`, one after the other: a status of
/// three digits, a space, a header as `name: value` and a tab, if any, and the body, which is also where a
/// redirect leads. Then nobody answers.
pub fn answer_with(script: &[u8]) {
    let lines = script.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    SCRIPT.with_borrow_mut(|answers| *answers = lines);
}

/// As [`super::Connection`] is without a fuzzer.
pub struct Connection;

impl Connection {
    /// A line; nobody is trusted, because nobody is called.
    pub fn open(_: &TlsConfig) -> Result<Self> {
        Ok(Self)
    }

    /// The next answer of the script.
    pub fn send(&self, request: Request, by: Deadline) -> Result<Reply> {
        by.left("calling nobody")?;
        let answer = SCRIPT.with_borrow_mut(VecDeque::pop_front);
        answer.and_then(|line| reply(&request.url, &line)).ok_or_else(|| {
            Error::new(Kind::Unavailable, format!("cannot reach {}", place(&request.url)))
        })
    }

    /// The same.
    pub fn send_to_metadata(&self, request: Request, by: Deadline) -> Result<Reply> {
        self.send(request, by)
    }

    /// The status of the next answer.
    pub fn send_for_status(&self, request: Request, by: Deadline) -> Result<u16> {
        self.send(request, by).map(|reply| reply.status)
    }

    /// The next answers of the script.
    pub fn send_all(
        &self,
        requests: Vec<Request>,
        _: usize,
        by: Deadline,
    ) -> Result<Vec<Result<Reply>>> {
        Ok(requests.into_iter().map(|request| self.send(request, by)).collect())
    }
}

fn reply(asked: &Url, line: &[u8]) -> Option<Reply> {
    let (status, body) = line.split_at_checked(4)?;
    let status: u16 = std::str::from_utf8(status).ok()?.trim_end().parse().ok()?;
    let (headers, body) = header(body).unwrap_or((HeaderMap::new(), body));
    let location = std::str::from_utf8(body).ok().and_then(|to| asked.join(to).ok());
    let body = Zeroizing::new(body.to_vec());
    Some(Reply { status, location, retry_after: None, headers, body })
}

/// The header before the body, and what is left.
fn header(line: &[u8]) -> Option<(HeaderMap, &[u8])> {
    let end = line.iter().position(|byte| *byte == b'\t')?;
    let (name, value) = std::str::from_utf8(&line[..end]).ok()?.split_once(": ")?;
    let name = HeaderName::try_from(name).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::try_from(value).ok()?);
    Some((headers, &line[end + 1..]))
}

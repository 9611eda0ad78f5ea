//! The network below a key store's calls over HTTP.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, redirect};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::failure::failed;
use super::{
    Reply, Request, TlsAdvice, TlsConfig, check_metadata, check_private, is_loopback, late, place,
};
use crate::env::{Deadline, run_apart};
use crate::error::{Error, Kind, Result};

/// The longest answer that is read, in bytes: a list of 10,000 keys has a hundredth of it.
const MAX_BODY: usize = 8 << 20;

/// Where `localhost` is, whatever a resolver says. The port is the URL's.
const LOOPBACK: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
];

/// What the requests of one operation go over; its connections are kept from one to the next.
pub struct Connection {
    proxied: Client,
    direct: Client,
    advice: &'static TlsAdvice,
    runtime: Runtime,
}

impl Connection {
    /// A line that trusts as `trust` says. The files it names are read now; nobody is called yet.
    pub fn open(trust: &TlsConfig) -> Result<Self> {
        let broken = |cause: &dyn std::fmt::Display| {
            Error::new(Kind::Internal, format!("cannot prepare HTTP: {cause}"))
        };
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|cause| broken(&cause))?;
        let tls = trust.tls()?;
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .resolve_to_addrs("localhost", &LOOPBACK)
                .redirect(redirect::Policy::none())
                .referer(false)
                .http1_only()
                .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")))
        };
        let proxied = builder().build().map_err(|cause| broken(&cause))?;
        let direct = builder().no_proxy().build().map_err(|cause| broken(&cause))?;
        Ok(Self { proxied, direct, advice: trust.advice, runtime })
    }

    /// Sends `request` and reads the whole reply. Errors are `Timeout`, `Unavailable`, or
    /// `Untrusted` where TLS found the wrong peer; they name the address and hold nothing of what was sent.
    pub fn send(&self, request: Request, by: Deadline) -> Result<Reply> {
        let (client, request) = self.ready(request, by)?;
        run_apart(|| self.runtime.block_on(exchange(client, request, self.advice, by)))?
    }

    /// Sends `request` and gives the reply's status; its body is not read, so one that never ends well is no
    /// failure.
    pub fn send_for_status(&self, request: Request, by: Deadline) -> Result<u16> {
        let (client, request) = self.ready(request, by)?;
        run_apart(|| self.runtime.block_on(status(client, request, self.advice, by)))?
    }

    /// The same to where a cloud's machine learns who it is: also in plain HTTP to its
    /// [metadata service](super::METADATA), and never by a proxy.
    pub fn send_to_metadata(&self, request: Request, by: Deadline) -> Result<Reply> {
        check_metadata(&request.url)?;
        let left = by.left(format_args!("calling {}", place(&request.url)))?;
        let request = prepare(&self.direct, request, left)?;
        let client = self.direct.clone();
        run_apart(|| self.runtime.block_on(exchange(client, request, self.advice, by)))?
    }

    /// Sends all of `requests`, at most `at_once` of them at a time, and gives the replies in their
    /// order; each as [`Self::send`] would.
    pub fn send_all(
        &self,
        requests: Vec<Request>,
        at_once: usize,
        by: Deadline,
    ) -> Result<Vec<Result<Reply>>> {
        run_apart(|| self.runtime.block_on(self.exchange_all(requests, at_once, by)))
    }

    async fn exchange_all(
        &self,
        requests: Vec<Request>,
        at_once: usize,
        by: Deadline,
    ) -> Vec<Result<Reply>> {
        let mut replies: Vec<Result<Reply>> = Vec::with_capacity(requests.len());
        replies.resize_with(requests.len(), || {
            Err(Error::new(Kind::Internal, "a request was not carried out"))
        });
        let mut waiting = requests.into_iter().enumerate();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < at_once
                && let Some((n, request)) = waiting.next()
            {
                match self.ready(request, by) {
                    Ok((client, request)) => {
                        let advice = self.advice;
                        under_way
                            .spawn(async move { (n, exchange(client, request, advice, by).await) });
                    }
                    Err(error) => replies[n] = Err(error),
                }
            }
            match under_way.join_next().await {
                None => return replies,
                Some(Ok((n, reply))) => replies[n] = reply,
                // It panicked, which was reported: its place says that it was not carried out.
                Some(Err(_)) => {}
            }
        }
    }

    /// The client for `request`, and what it sends.
    fn ready(&self, request: Request, by: Deadline) -> Result<(Client, reqwest::Request)> {
        check_private(&request.url)?;
        let left = by.left(format_args!("calling {}", place(&request.url)))?;
        let client = if is_loopback(&request.url) { &self.direct } else { &self.proxied };
        Ok((client.clone(), prepare(client, request, left)?))
    }
}

async fn exchange(
    client: Client,
    request: reqwest::Request,
    advice: &TlsAdvice,
    by: Deadline,
) -> Result<Reply> {
    let place = place(request.url());
    let left = by.left(format_args!("calling {place}"))?;
    match tokio::time::timeout(left, client.execute(request)).await {
        Ok(Ok(response)) => {
            let body = tokio::time::timeout(by.left(&place)?, receive(response, advice));
            body.await.unwrap_or_else(|_| Err(late(&place)))
        }
        Ok(Err(cause)) => Err(failed(&place, &cause, advice)),
        Err(_) => Err(late(&place)),
    }
}

async fn status(
    client: Client,
    request: reqwest::Request,
    advice: &TlsAdvice,
    by: Deadline,
) -> Result<u16> {
    let place = place(request.url());
    let left = by.left(format_args!("calling {place}"))?;
    match tokio::time::timeout(left, client.execute(request)).await {
        Ok(Ok(response)) => Ok(response.status().as_u16()),
        Ok(Err(cause)) => Err(failed(&place, &cause, advice)),
        Err(_) => Err(late(&place)),
    }
}

fn prepare(client: &Client, request: Request, left: Duration) -> Result<reqwest::Request> {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers {
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            Error::new(Kind::Config, format!("what is sent as {name} has a line end or the like"))
                .advise("look at the file it comes from")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let mut builder = client.request(request.method, request.url).headers(headers);
    if let Some(body) = request.body {
        let (content_type, bytes) = body.into_parts();
        builder = builder.header("content-type", content_type).body(bytes.to_vec());
    }
    builder
        .timeout(left)
        .build()
        .map_err(|_| Error::new(Kind::Internal, "a request could not be put together"))
}

async fn receive(mut response: reqwest::Response, advice: &TlsAdvice) -> Result<Reply> {
    let place = place(response.url());
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let seconds = header(RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
    let location = header(LOCATION).and_then(|to| response.url().join(to).ok());
    let mut reply = Reply {
        status: response.status().as_u16(),
        location,
        retry_after: seconds.map(Duration::from_secs),
        headers: response.headers().clone(),
        body: Zeroizing::new(Vec::new()),
    };
    while let Some(chunk) =
        response.chunk().await.map_err(|cause| failed(&place, &cause, advice))?
    {
        if reply.body.len() + chunk.len() > MAX_BODY {
            return Err(Error::new(
                Kind::Unavailable,
                format!("{place} answers with more than {} MiB", MAX_BODY >> 20),
            )
            .advise("is it the right address?"));
        }
        reply.body.extend_from_slice(&chunk);
    }
    Ok(reply)
}

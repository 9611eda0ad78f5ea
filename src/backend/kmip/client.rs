//! Calls to one of several servers: which, in which release of the protocol, and again or not.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ClientConfig;

use super::connection::Connection;
use super::failure::{
    CallError, FOR_SECTIONS, INVALID_MESSAGE, KeyAdvice, OPERATION_NOT_SUPPORTED, ServerError,
};
use super::message::{Asked, Operation, Response, Version, request};
use super::requests::discover;
use super::settings::{Address, Settings};
use super::tags::PROTOCOL_VERSION;
use super::ttlv::Item;
use crate::env::{Deadline, Retry, Rng, run_apart};
use crate::error::{Error, Kind, Result};
use crate::provider::End;

/// In which release a server is asked which ones it speaks. That question came with 1.1, and some
/// servers answer nothing that is older than their own.
const ASK_IN: [Version; 4] =
    [Version::new(1, 1), Version::new(1, 4), Version::new(2, 0), Version::new(2, 1)];

/// The servers of one key store, each as good as the other.
pub(super) struct Client {
    settings: Settings,
    rng: Arc<dyn Rng>,
    /// The server that answered last.
    preferred: AtomicUsize,
    pub(super) advice: &'static KeyAdvice,
}

impl Client {
    pub(super) fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        Self { settings, rng, preferred: AtomicUsize::new(0), advice: &FOR_SECTIONS }
    }

    /// When certificates end.
    pub(super) fn ends(&self) -> Vec<End> {
        self.settings.trust.ends()
    }

    /// Begins an operation, which `what` names. Nobody is called yet.
    pub(super) fn exchange(
        &self,
        what: impl std::fmt::Display,
        by: Deadline,
    ) -> Result<Exchange<'_>> {
        by.left(what)?;
        let tls = Arc::new(self.settings.trust.tls()?);
        Ok(Exchange { client: self, tls, by, open: None, reconnected: false, repeated: false })
    }

    /// `KMIP server kms:5696`, for people.
    pub(super) fn place(&self) -> String {
        let places: Vec<_> = self.settings.servers.iter().map(Address::to_string).collect();
        format!("KMIP server {}", places.join(", "))
    }
}

/// One operation: some requests, over a connection that ends with it.
pub(super) struct Exchange<'a> {
    client: &'a Client,
    tls: Arc<ClientConfig>,
    by: Deadline,
    open: Option<Open>,
    /// Whether the connection was lost once already.
    reconnected: bool,
    /// Whether something was asked twice, so that the first time may have been carried out.
    repeated: bool,
}

struct Open {
    connection: Connection,
    version: Version,
    server: usize,
}

impl Exchange<'_> {
    /// What to do where the wrapping key is not as it must be.
    pub(super) fn advice(&self) -> &'static KeyAdvice {
        self.client.advice
    }

    /// Asks for one thing and reads what was given.
    pub(super) fn ask<T>(
        &mut self,
        asked: Asked<'_>,
        read: impl FnOnce(&Item<'_>) -> Option<T>,
    ) -> Result<T, CallError> {
        let operation = asked.operation;
        let response = self.exchange(&[asked])?;
        let senseless = || self.senseless(operation);
        let mut answers = response.answers(1).map_err(|_| senseless())?;
        let answer = answers.pop().ok_or_else(senseless)?;
        match answer.reason {
            Some(reason) => Err(CallError::Refused(ServerError { operation, reason })),
            None => Ok(read(&answer.payload).ok_or_else(senseless)?),
        }
    }

    /// Asks for several things of one kind in one message; `read` gets what was given, or why not,
    /// for each of them in order.
    pub(super) fn ask_all<T>(
        &mut self,
        asked: &[Asked<'_>],
        mut read: impl FnMut(usize, Result<&Item<'_>, ServerError>) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let Some(operation) = asked.first().map(|one| one.operation) else { return Ok(Vec::new()) };
        let response = self.exchange(asked)?;
        let answers = response.answers(asked.len()).map_err(|_| self.senseless(operation))?;
        let mut all = Vec::with_capacity(answers.len());
        for (n, answer) in answers.iter().enumerate() {
            let outcome = match answer.reason {
                Some(reason) => Err(ServerError { operation, reason }),
                None => Ok(&answer.payload),
            };
            all.push(read(n, outcome)?.ok_or_else(|| self.senseless(operation))?);
        }
        Ok(all)
    }

    /// The release of the protocol that was agreed on, and that of TLS.
    pub(super) fn versions(&mut self) -> Result<(Version, &'static str)> {
        let open = run_apart(|| self.opened())??;
        Ok((open.version, open.connection.tls()))
    }

    /// Whether a request was sent again after its first outcome was lost.
    pub(super) fn was_repeated(&self) -> bool {
        self.repeated
    }

    /// `KMIP server kms:5696`: the one that we talk to, or all of them.
    pub(super) fn place(&self) -> String {
        match &self.open {
            Some(open) => format!("KMIP server {}", self.client.settings.servers[open.server]),
            None => self.client.place(),
        }
    }

    /// Where random bytes come from.
    pub(super) fn rng(&self) -> &dyn Rng {
        &*self.client.rng
    }

    fn senseless(&self, operation: Operation) -> Error {
        let what = format!("{} answers {operation} with something senseless", self.place());
        Error::new(Kind::Unavailable, what).advise("is it the right address and port?")
    }

    /// Sends `asked`, once more over a new connection where the first was lost, unless that could do
    /// it twice.
    fn exchange(&mut self, asked: &[Asked<'_>]) -> Result<Response> {
        let error = match self.send(asked) {
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Timeout) => error,
            outcome => return outcome,
        };
        let twice = !asked.iter().all(|one| one.operation.is_repeatable());
        if self.reconnected || twice || self.by.left("").is_err() {
            return Err(error);
        }
        (self.reconnected, self.repeated) = (true, true);
        self.send(asked)
    }

    fn send(&mut self, asked: &[Asked<'_>]) -> Result<Response> {
        run_apart(|| self.send_on_this_stack(asked))?
    }

    fn send_on_this_stack(&mut self, asked: &[Asked<'_>]) -> Result<Response> {
        let (by, servers) = (self.by, self.client.settings.servers.len());
        // One that hangs leaves time for the others.
        let by = if self.reconnected { by } else { by.share(servers, "calling a KMIP server")? };
        let open = self.opened()?;
        let message = request(open.version, asked);
        let (outcome, server) = (open.connection.exchange(message.written(), by), open.server);
        if outcome.is_err() {
            self.open = None;
            self.client.preferred.store((server + 1) % servers, Ordering::Relaxed);
        }
        outcome
    }

    fn opened(&mut self) -> Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        Ok(self.open.insert(open))
    }

    /// Connects to the first server that answers, all of them in turn, again and again while that may
    /// help, until the deadline. The error is the last cause.
    fn connect(&self) -> Result<Open> {
        let servers = self.client.settings.servers.len();
        let mut retry = Retry::until(self.by, &*self.client.rng);
        loop {
            let first = self.client.preferred.load(Ordering::Relaxed);
            let (mut cause, mut may_help) = (None, false);
            for turn in 0..servers {
                let server = (first + turn) % servers;
                let by = self.by.share(servers - turn, "calling a KMIP server");
                match by.and_then(|by| self.connect_to(server, by)) {
                    Ok(open) => {
                        self.client.preferred.store(server, Ordering::Relaxed);
                        return Ok(open);
                    }
                    Err(error) => {
                        may_help |= matches!(error.kind(), Kind::Unavailable | Kind::Timeout);
                        cause = Some(error);
                    }
                }
            }
            let cause = cause.unwrap_or_else(|| Error::new(Kind::Config, "KMIP has no server"));
            if !may_help || !retry.wait() {
                return Err(cause);
            }
        }
    }

    fn connect_to(&self, server: usize, by: Deadline) -> Result<Open> {
        let address = &self.client.settings.servers[server];
        let mut connection = Connection::open(
            address,
            Arc::clone(&self.tls),
            self.client.settings.trust.advice,
            by,
        )?;
        let version = match self.client.settings.version {
            Some(version) => version,
            None => agree(&mut connection, address, by)?,
        };
        Ok(Open { connection, version, server })
    }
}

/// The best release of the protocol that both speak. A server that cannot be asked speaks 1.0.
fn agree(connection: &mut Connection, address: &Address, by: Deadline) -> Result<Version> {
    let asked = [discover()];
    let operation = Operation::DiscoverVersions;
    for version in ASK_IN {
        let response = connection.exchange(request(version, &asked).written(), by)?;
        let answers = response.answers(1).ok();
        let Some(answer) = answers.and_then(|mut answers| answers.pop()) else {
            let what =
                format!("KMIP server {address} answers {operation} with something senseless");
            return Err(Error::new(Kind::Unavailable, what));
        };
        match answer.reason {
            None => return best(&answer.payload, address),
            Some(OPERATION_NOT_SUPPORTED) => return Ok(Version::new(1, 0)),
            // 0x3F: "unsupported protocol version", of later releases.
            Some(INVALID_MESSAGE | 0x3F | 0x100) => {}
            Some(reason) => {
                let refusal = CallError::Refused(ServerError { operation, reason });
                return Err(refusal.told(format_args!("KMIP server {address}"), "KMIP"));
            }
        }
    }
    Ok(Version::new(1, 0))
}

fn best(payload: &Item<'_>, address: &Address) -> Result<Version> {
    let theirs: Vec<Version> = payload.all(PROTOCOL_VERSION).filter_map(Version::read).collect();
    let both = Version::ALL.into_iter().find(|version| theirs.contains(version));
    both.ok_or_else(|| {
        let what = format!("KMIP server {address} speaks no release from KMIP 1.0 to 2.1");
        Error::new(Kind::Unsupported, what).advise("allow one of them there")
    })
}

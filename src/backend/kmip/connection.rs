//! One connection to a server: TCP and TLS, each step of it bounded by a deadline.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, Stream};

use super::super::http::{TlsAdvice, broken_off};
use super::frame::{read, understood};
use super::message::Response;
use super::settings::Address;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};

/// A connection on which TLS has been agreed. It ends with this value.
pub(super) struct Connection {
    tls: ClientConnection,
    stream: Timed,
    place: String,
    advice: &'static TlsAdvice,
}

impl Connection {
    /// Connects to `address`. Errors are `Timeout`, `Unavailable`, or `Untrusted` where TLS found the
    /// wrong peer.
    pub(super) fn open(
        address: &Address,
        tls: Arc<ClientConfig>,
        advice: &'static TlsAdvice,
        by: Deadline,
    ) -> Result<Self> {
        let place = address.to_string();
        let name = ServerName::try_from(address.host.clone()).map_err(|_| {
            Error::new(Kind::Config, format!("{place}: is no host name and no address"))
        })?;
        let stream = Timed { stream: connect(address, advice, by)?, by };
        let tls = ClientConnection::new(tls, name)
            .map_err(|_| Error::new(Kind::Internal, "TLS cannot be set up"))?;
        let mut connection = Self { tls, stream, place, advice };
        while connection.tls.is_handshaking() {
            let done = connection.tls.complete_io(&mut connection.stream);
            done.map_err(|cause| broken_off(&connection.place, &cause, advice))?;
        }
        Ok(connection)
    }

    /// Sends `message` and reads what is answered.
    pub(super) fn exchange(&mut self, message: &[u8], by: Deadline) -> Result<Response> {
        self.stream.by = by;
        let mut stream = Stream::new(&mut self.tls, &mut self.stream);
        let answer = stream
            .write_all(message)
            .and_then(|()| stream.flush())
            .and_then(|()| read(&mut stream));
        understood(&self.place, self.advice, answer)
    }

    /// The release of TLS that was agreed on.
    pub(super) fn tls(&self) -> &'static str {
        match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        }
    }
}

/// A connection to the first of the host's addresses that takes one.
fn connect(address: &Address, advice: &TlsAdvice, by: Deadline) -> Result<TcpStream> {
    let unknown = || {
        let what = format!("cannot reach {address}: its name is not known");
        Error::new(Kind::Unavailable, what)
    };
    let places = (address.host.as_str(), address.port).to_socket_addrs().map_err(|_| unknown())?;
    let mut failure = unknown();
    for place in places {
        let left = by.left(format_args!("calling {address}"))?;
        match TcpStream::connect_timeout(&place, left) {
            Ok(stream) => {
                // Requests are small and each waits for its answer. Where that cannot be set, it is slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(cause) => failure = broken_off(&address.to_string(), &cause, advice),
        }
    }
    Err(failure)
}

/// A connection whose every step ends by a deadline.
struct Timed {
    stream: TcpStream,
    by: Deadline,
}

impl Timed {
    fn left(&self) -> io::Result<std::time::Duration> {
        self.by.left("").map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

impl Read for Timed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(to)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

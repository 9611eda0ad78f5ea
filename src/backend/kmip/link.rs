//! One connection to a server: TCP and TLS, each step of it bounded by a deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, Stream};
use zeroize::Zeroizing;

use super::super::http::broken_off;
use super::Address;
use super::message::Response;
use super::tags::RESPONSE_MESSAGE;
use super::ttlv::{HEAD_LEN, MAX_MESSAGE, head};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};

/// How much of an answer is made room for at a time, in bytes: what it says of its length is believed
/// only as far as it comes.
const CHUNK: usize = 64 << 10;

/// A connection on which TLS has been agreed. It ends with this value.
pub(super) struct Link {
    tls: ClientConnection,
    stream: Timed,
    place: String,
}

impl Link {
    /// Connects to `address`. Errors are `Timeout`, `Unavailable`, or `Untrusted` where TLS found the
    /// wrong peer.
    pub(super) fn open(address: &Address, tls: Arc<ClientConfig>, by: Deadline) -> Result<Self> {
        let place = address.to_string();
        let name = ServerName::try_from(address.host.clone()).map_err(|_| {
            Error::new(Kind::Config, format!("{place}: is no host name and no address"))
        })?;
        let stream = Timed { stream: connect(address, by)?, by };
        let tls = ClientConnection::new(tls, name)
            .map_err(|_| Error::new(Kind::Internal, "TLS cannot be set up"))?;
        let mut link = Self { tls, stream, place };
        while link.tls.is_handshaking() {
            let done = link.tls.complete_io(&mut link.stream);
            done.map_err(|cause| broken_off(&link.place, &cause))?;
        }
        Ok(link)
    }

    /// Sends `message` and reads what is answered.
    pub(super) fn exchange(&mut self, message: &[u8], by: Deadline) -> Result<Response> {
        self.stream.by = by;
        let mut stream = Stream::new(&mut self.tls, &mut self.stream);
        let answer = stream
            .write_all(message)
            .and_then(|()| stream.flush())
            .and_then(|()| read(&mut stream));
        match answer {
            Ok(Some(bytes)) => Ok(Response::new(bytes)),
            Ok(None) => Err(Error::new(
                Kind::Unavailable,
                format!("{} answers something else than KMIP", self.place),
            )
            .advise("is it the right address and port?")),
            Err(cause) => Err(broken_off(&self.place, &cause)),
        }
    }

    /// The release of TLS that was agreed on.
    pub(super) fn tls(&self) -> &'static str {
        match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        }
    }
}

/// A whole message; nothing where it is none of KMIP's.
fn read(from: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut first = [0; HEAD_LEN];
    from.read_exact(&mut first)?;
    let (tag, kind, len) = head(&first);
    if tag != RESPONSE_MESSAGE || kind != 1 || len > MAX_MESSAGE - HEAD_LEN {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new(first.to_vec());
    let whole = HEAD_LEN + len;
    while bytes.len() < whole {
        let start = bytes.len();
        bytes.resize(whole.min(start + CHUNK), 0);
        from.read_exact(&mut bytes[start..])?;
    }
    Ok(Some(bytes))
}

/// A connection to the first of the host's addresses that takes one.
fn connect(address: &Address, by: Deadline) -> Result<TcpStream> {
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
            Err(cause) => failure = broken_off(&address.to_string(), &cause),
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

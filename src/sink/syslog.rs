//! syslog (RFC 5424): to the socket of this machine (RFC 5426's datagrams, as on UDP), or over TCP with octet counting
//! (RFC 6587), in TLS (RFC 5425) where the address says so.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{Sink, Told};
use crate::backend::http::TlsConfig;
use crate::config::Section;
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};

/// The socket that every syslog daemon of this machine has.
const SOCKET: &str = "/dev/log";

/// `authpriv.notice`: facility 10, severity 5 (RFC 5424 section 6.2.1).
const PRIORITY: u8 = 10 * 8 + 5;

/// The structured data's name. Nobody has registered a number for us: this one is for examples (RFC 5612).
const DATA_ID: &str = "keyward@32473";

/// How it is reached.
enum Transport {
    Unix(PathBuf),
    Udp(String),
    Tcp(String),
    Tls(String),
}

/// A syslog daemon.
pub(super) struct Syslog {
    transport: Transport,
    address: String,
    trust: TlsConfig,
    stream: Option<Stream>,
}

/// An open connection.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Syslog {
    pub(super) fn read(section: &Section) -> Result<Self> {
        let address = section.text("address")?.unwrap_or_else(|| format!("unix:{SOCKET}"));
        let wrong = || {
            section
                .wrong("address", "is no address of a syslog daemon")
                .advise("write unix:/dev/log, or udp://, tcp:// or tls:// before host and port")
        };
        let transport = match address.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Transport::Unix(path.into()),
            Some((kind, rest)) => {
                let host =
                    rest.strip_prefix("//").filter(|rest| has_port(rest)).ok_or_else(wrong)?;
                match kind {
                    "udp" => Transport::Udp(host.to_owned()),
                    "tcp" => Transport::Tcp(host.to_owned()),
                    "tls" => Transport::Tls(host.to_owned()),
                    _ => return Err(wrong()),
                }
            }
            None => return Err(wrong()),
        };
        Ok(Self { transport, address, trust: TlsConfig::read(section)?, stream: None })
    }

    fn send(&mut self, message: &[u8], by: Deadline) -> io::Result<()> {
        let left = || by.left("syslog").map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
        match &self.transport {
            Transport::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(left()?))?;
                socket.send_to(message, path).map(drop)
            }
            Transport::Udp(host) => {
                let to = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                UdpSocket::bind(from)?.send_to(message, to).map(drop)
            }
            Transport::Tcp(host) | Transport::Tls(host) => {
                // A daemon that went away has closed the connection: what is sent into it is lost.
                let mut stream = match self.stream.take().filter(Stream::is_open) {
                    Some(stream) => stream,
                    None => connect(host, self.transport_tls()?, left()?)?,
                };
                stream.set_timeout(left()?)?;
                let framed = [format!("{} ", message.len()).as_bytes(), message].concat();
                stream.write_all(&framed)?;
                self.stream = Some(stream);
                Ok(())
            }
        }
    }

    fn transport_tls(&self) -> io::Result<Option<(Arc<rustls::ClientConfig>, Option<String>)>> {
        match &self.transport {
            Transport::Tls(_) => {
                let config = self.trust.tls().map_err(|e| io::Error::other(e.to_string()))?;
                Ok(Some((Arc::new(config), self.trust.server_name.clone())))
            }
            _ => Ok(None),
        }
    }
}

impl Sink for Syslog {
    fn deliver(&mut self, told: &Told<'_>, by: Deadline) -> Result<()> {
        self.send(message(told).as_bytes(), by).map_err(|cause| {
            let what = format!("cannot tell syslog at {}: {cause}", self.address);
            Error::new(Kind::Unavailable, what).advise("does it listen there?")
        })
    }
}

impl Stream {
    /// Whether the other end is still there; it has nothing to say to us.
    fn is_open(&self) -> bool {
        let tcp = self.tcp();
        let mut nothing = [0; 1];
        if tcp.set_nonblocking(true).is_err() {
            return false;
        }
        let seen = tcp.peek(&mut nothing);
        let is_blocking_again = tcp.set_nonblocking(false).is_ok();
        let is_tls = matches!(self, Self::Tls(_));
        // Session tickets come unasked.
        is_blocking_again
            && match seen {
                Ok(0) => false,
                Ok(_) => is_tls,
                Err(cause) => cause.kind() == io::ErrorKind::WouldBlock,
            }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn set_timeout(&self, time: Duration) -> io::Result<()> {
        self.tcp().set_write_timeout(Some(time))?;
        self.tcp().set_read_timeout(Some(time))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

fn connect(
    host: &str,
    tls: Option<(Arc<rustls::ClientConfig>, Option<String>)>,
    time: Duration,
) -> io::Result<Stream> {
    let to = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect_timeout(&to, time)?;
    stream.set_write_timeout(Some(time))?;
    stream.set_read_timeout(Some(time))?;
    let Some((config, name)) = tls else { return Ok(Stream::Plain(stream)) };
    let name = name.unwrap_or_else(|| host_of(host).to_owned());
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// `host` without its port and the brackets of an IPv6 address.
fn host_of(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']'])
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

/// The message of RFC 5424: what is in the line as structured data, and a sentence.
fn message(told: &Told<'_>) -> String {
    let line = &told.line;
    let data = [
        ("number", line.number.to_string()),
        ("event", line.event.clone()),
        ("generation", line.generation.to_string()),
        ("keys", told.keys()),
        ("actor", line.actor.clone()),
        ("reason", line.reason.clone()),
        ("keystore", told.keystore.display().to_string()),
    ];
    let data: String =
        data.iter().map(|(name, value)| format!(" {name}=\"{}\"", escaped(value))).collect();
    let host = printable(told.host, 255);
    let id = printable(&line.event, 32);
    let sentence: String =
        told.sentence().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(
        "<{PRIORITY}>1 {} {host} keyward {} {id} [{DATA_ID}{data}] {sentence}",
        line.at,
        std::process::id()
    )
}

/// A value within quotation marks (RFC 5424 section 6.3.3). A line end would be another message to some daemons.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' | ']' => text.extend(['\\', c]),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

/// A name of the head: printable ASCII without blanks, `-` where there is none.
fn printable(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

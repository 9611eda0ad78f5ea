//! A proxy before a Vault that can be told to fail in the ways that networks and what stands in them
//! fail. What passes unharmed passes as it is, TLS and all; only a fault within an answer needs the
//! proxy to end TLS itself, as the Vault whose certificate it has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use test_kit::Result;

use test_kit::Certificates;
use test_kit::listening::{Listening, TICK, is_pause, join};

/// What a slow line adds to each piece, in either direction.
const DELAY: Duration = Duration::from_millis(200);

/// What a lost packet costs beside that: the time after which TCP sends it again (RFC 6298).
const LOSS: Duration = Duration::from_millis(600);

/// How many of a hundred packets a bad line loses.
const LOST: u64 = 30;

/// How long a drip waits between two bytes.
const DRIP: Duration = Duration::from_millis(200);

/// The length of the huge answer, in bytes.
const HUGE: usize = 10 << 20;

/// What happens to connections that are made from now on. Those that are open are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all is handed on.
    None,
    /// Nobody listens.
    Refused,
    /// What is sent is swallowed.
    BlackHole,
    /// 200 ms each way, and three packets of ten are lost and sent again.
    BadLine,
    /// The connection is reset in the middle of an answer.
    Reset,
    /// An answer comes a byte at a time.
    Drip,
    /// An answer is noise.
    Garbage,
    /// An answer is JSON, and 10 MB of it.
    Huge,
    /// Something in between is out of order (503).
    Unavailable,
}

/// A proxy of one Vault.
pub struct Proxy {
    listening: Listening,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    tls: Arc<ServerConfig>,
    fault: Mutex<Fault>,
    /// Raised when the fault changes: then what is open is cut.
    era: AtomicU64,
}

type Secured = StreamOwned<ServerConnection, TcpStream>;

impl Proxy {
    /// A proxy before the Vault on `port`, with that one's certificate.
    pub fn start(port: u16, certificates: &Certificates) -> Result<Self> {
        let state = Arc::new(State {
            upstream: SocketAddr::from(([127, 0, 0, 1], port)),
            tls: server_config(certificates)?,
            fault: Mutex::new(Fault::None),
            era: AtomicU64::new(0),
        });
        let serving = Arc::clone(&state);
        let listening = Listening::start(move |client| serving.serve(client))?;
        Ok(Self { listening, state })
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.listening.port())
    }

    /// From now on fails like this.
    pub fn fail(&self, fault: Fault) {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.state.era.fetch_add(1, Ordering::SeqCst);
        self.listening.refuse(fault == Fault::Refused);
    }
}

impl State {
    fn serve(&self, client: TcpStream) {
        let era = self.era.load(Ordering::SeqCst);
        let over = || self.era.load(Ordering::SeqCst) != era;
        let fault = *self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Fault::None => self.hand_on(&client, &over, [&mut || (), &mut || ()]),
            Fault::Refused => {}
            Fault::BlackHole => swallow(client, &over),
            Fault::BadLine => {
                let (mut there, mut back) = (bad_line(era), bad_line(!era));
                self.hand_on(&client, &over, [&mut there, &mut back]);
            }
            Fault::Reset | Fault::Drip | Fault::Garbage | Fault::Huge | Fault::Unavailable => {
                // A client that gives up on such an answer is what is looked for.
                let _ = self.answer(client, fault, &over);
            }
        }
    }

    fn hand_on(
        &self,
        client: &TcpStream,
        over: &(dyn Fn() -> bool + Sync),
        before: [&mut (dyn FnMut() + Send); 2],
    ) {
        if let Ok(upstream) = TcpStream::connect(self.upstream) {
            join(client, &upstream, over, before);
        }
    }

    fn answer(&self, client: TcpStream, fault: Fault, over: &dyn Fn() -> bool) -> Result<()> {
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        let connection =
            ServerConnection::new(Arc::clone(&self.tls)).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, client);
        read_head(&mut stream)?;
        match fault {
            Fault::Unavailable => {
                let page = "<html><body><h1>503 Service Unavailable</h1></body></html>";
                head(&mut stream, "503 Service Unavailable", "text/html", page.len())?;
                stream.write_all(page.as_bytes())?;
            }
            Fault::Garbage => {
                let noise: Vec<u8> =
                    (0..1024_u32).map(|n| ((n * 7919) >> 3) as u8 | 0x80).collect();
                head(&mut stream, "200 OK", "application/json", noise.len())?;
                stream.write_all(&noise)?;
            }
            Fault::Huge => {
                head(&mut stream, "200 OK", "application/json", HUGE)?;
                stream.write_all(b"{\"data\":{\"keys\":[\"1\"")?;
                let block = ",\"1\"".repeat(1 << 12);
                while !over() && stream.write_all(block.as_bytes()).is_ok() {}
            }
            Fault::Drip => {
                let body = "{\"data\":{\"keys\":[\"1\",\"2\"]}}".repeat(20);
                head(&mut stream, "200 OK", "application/json", body.len())?;
                for byte in body.bytes().take_while(|_| !over()) {
                    stream.write_all(&[byte])?;
                    stream.flush()?;
                    sleep(DRIP);
                }
            }
            _ => {
                head(&mut stream, "200 OK", "application/json", 4096)?;
                stream.write_all(b"{\"data\":{\"keys\":[\"1\",")?;
                stream.flush()?;
                sleep(TICK * 2);
                return reset(&stream.sock);
            }
        }
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok(())
    }
}

/// Closes so that the other end is told of a reset and not of an end.
fn reset(stream: &TcpStream) -> Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).map_err(|error| error.to_string().into())
}

fn swallow(mut client: TcpStream, over: &dyn Fn() -> bool) {
    let mut piece = [0; 1400];
    let _ = client.set_read_timeout(Some(TICK * 5));
    while !over() {
        match client.read(&mut piece) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_pause(&error) => {}
            Err(_) => break,
        }
    }
}

/// Waits as long as a piece takes over a bad line; which ones are lost is the same each time.
fn bad_line(seed: u64) -> impl FnMut() + Send {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let is_lost = (state >> 33) % 100 < LOST;
        sleep(if is_lost { DELAY + LOSS } else { DELAY });
    }
}

/// Reads a request up to its body.
pub(crate) fn read_head(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err("the request ended within its head".into());
        }
        head.push(byte[0]);
    }
    Ok(head)
}

fn head(stream: &mut Secured, status: &str, kind: &str, len: usize) -> Result<()> {
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\
         connection: close\r\n\r\n"
    );
    Ok(stream.write_all(text.as_bytes())?)
}

/// TLS as the server whose certificate this is.
pub(crate) fn server_config(certificates: &Certificates) -> Result<Arc<ServerConfig>> {
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let chain = CertificateDer::pem_file_iter(certificates.path("server.pem"))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key"));
    let key = key.map_err(|error| wrong(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(&error))?;
    Ok(Arc::new(config))
}

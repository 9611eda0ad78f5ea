//! What stands before a Vault in larger networks: a namespace that must be named, and an HTTP proxy
//! that alone knows the way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use test_kit::Result;

use crate::proxy::{read_head, server_config};
use test_kit::Certificates;
use test_kit::listening::{Listening, join};

/// How long either side may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Vault whose engines are in one namespace: what names no other, or none, is refused. The
/// community edition knows none, so the name is taken off before it is asked.
pub struct Namespaced {
    listening: Listening,
    refused: Arc<AtomicUsize>,
}

/// An HTTP proxy (RFC 9110 section 9.3.6, CONNECT) that leads one name and no other to a Vault.
pub struct Tunnel {
    listening: Listening,
    asked: Arc<AtomicUsize>,
}

/// What a gateway needs to speak TLS on both sides.
struct Ends {
    namespace: String,
    port: u16,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Namespaced {
    /// Puts the Vault on `port` into `namespace`.
    pub fn start(port: u16, certificates: &Certificates, namespace: &str) -> Result<Self> {
        let ends = Ends {
            namespace: namespace.to_owned(),
            port,
            server: server_config(certificates)?,
            client: client_config(certificates)?,
        };
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&refused);
        let listening = Listening::start(move |client| match ends.serve(client) {
            Ok(true) | Err(_) => {}
            Ok(false) => drop(counted.fetch_add(1, Ordering::SeqCst)),
        })?;
        Ok(Self { listening, refused })
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.listening.port())
    }

    /// How many requests named another namespace, or none.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

impl Tunnel {
    /// Leads `target`, such as `vault.test:8200`, to `port` of this machine.
    pub fn start(target: &str, port: u16) -> Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, wanted) = (Arc::clone(&asked), format!("CONNECT {target} HTTP/1.1\r\n"));
        let listening = Listening::start(move |mut client| {
            let Ok(head) = read_head(&mut client) else { return };
            if !head.starts_with(wanted.as_bytes()) {
                let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
                return;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(vault) = TcpStream::connect(("127.0.0.1", port)) else { return };
            if client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok() {
                join(&client, &vault, &|| false, [&mut || (), &mut || ()]);
            }
        })?;
        Ok(Self { listening, asked })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.listening.port())
    }

    /// How often it was asked for the way.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Ends {
    /// Serves one request; whether it was in our namespace.
    fn serve(&self, client: TcpStream) -> Result<bool> {
        client.set_read_timeout(Some(PATIENCE))?;
        let connection = ServerConnection::new(Arc::clone(&self.server)).map_err(text)?;
        let mut client = StreamOwned::new(connection, client);
        let head = read_head(&mut client)?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let header = |line: &&str, name: &str| line.to_ascii_lowercase().starts_with(name);
        let length = head.lines().find(|line| header(line, "content-length:"));
        let length = length.and_then(|line| line.split_once(':')).map_or("0", |(_, len)| len);
        let mut body = vec![0; length.trim().parse()?];
        client.read_exact(&mut body)?;
        let named = head.lines().find(|line| header(line, "x-vault-namespace:"));
        let named = named.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
        if named != Some(&self.namespace) {
            let refusal = "{\"errors\":[\"permission denied\"]}";
            let len = refusal.len();
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{refusal}"
            );
            client.write_all(answer.as_bytes())?;
        } else {
            let dropped =
                |line: &&str| header(line, "x-vault-namespace:") || header(line, "connection:");
            let kept: Vec<_> =
                head.lines().filter(|line| !line.is_empty() && !dropped(line)).collect();
            let request = format!("{}\r\nconnection: close\r\n\r\n", kept.join("\r\n"));
            client.write_all(&self.ask(request.as_bytes(), &body)?)?;
        }
        client.conn.send_close_notify();
        client.flush()?;
        Ok(named == Some(&self.namespace))
    }

    /// Asks the Vault; its whole answer.
    fn ask(&self, head: &[u8], body: &[u8]) -> Result<Vec<u8>> {
        let name = ServerName::try_from("localhost").map_err(text)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(text)?;
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut vault = StreamOwned::new(connection, stream);
        vault.write_all(head)?;
        vault.write_all(body)?;
        vault.flush()?;
        let mut answer = Vec::new();
        vault.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn client_config(certificates: &Certificates) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates.path("ca.pem")).map_err(text)?;
    roots.add(ca).map_err(text)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(text)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

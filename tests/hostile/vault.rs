//! A Vault in a few lines.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A Vault that has one key, until it is dropped.
pub(crate) struct Vault {
    pub(crate) address: String,
    away: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Vault {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !gone.load(Ordering::SeqCst)) {
                answer(stream.unwrap());
            }
        });
        Self { address, away, thread: Some(thread) }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.away.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address.trim_start_matches("http://")));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Answers one request, as Vault's API has it.
fn answer(mut stream: TcpStream) {
    let (mut request, mut room) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut room) {
            Ok(len @ 1..) => request.extend(&room[..len]),
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let version = "{\"version\":1,\"created_time\":\"2026-03-01T12:00:00Z\",\"deletion_time\":\"\",\
                   \"destroyed\":false}";
    let (status, body) = match path.split('?').next().unwrap_or_default() {
        "/v1/auth/token/lookup-self" => {
            (200, "{\"data\":{\"ttl\":3600,\"renewable\":false}}".to_owned())
        }
        "/v1/secret/metadata/keyward" => (200, "{\"data\":{\"keys\":[\"1\"]}}".to_owned()),
        "/v1/secret/metadata/keyward/1" => (
            200,
            format!("{{\"data\":{{\"current_version\":1,\"versions\":{{\"1\":{version}}}}}}}"),
        ),
        "/v1/secret/data/keyward/1" => (
            200,
            format!(
                "{{\"data\":{{\"data\":{{\"data\":\"{}\"}},\"metadata\":{version}}}}}",
                "5a".repeat(32)
            ),
        ),
        _ => (404, "{}".to_owned()),
    };
    let head = format!("HTTP/1.1 {status} OK\r\ncontent-length: {}\r\n", body.len());
    let _ = stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes());
}

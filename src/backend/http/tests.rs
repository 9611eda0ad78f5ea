//! Peers that misbehave, on loopback.

#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Instant;

use super::*;
use crate::env::Deadline;
use crate::error::Result;

/// A peer that takes one connection, reads the head of a request and does `then` with it.
struct Peer {
    url: Url,
    thread: JoinHandle<Vec<u8>>,
}

impl Peer {
    fn new(then: impl FnOnce(std::net::TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/x", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = vec![0; 4096];
            let len = stream.read(&mut head).unwrap();
            head.truncate(len);
            then(stream);
            head
        });
        Self { url: Url::parse(&url).unwrap(), thread }
    }

    fn answering(text: &'static str) -> Self {
        Self::new(move |mut stream| stream.write_all(text.as_bytes()).unwrap())
    }

    fn ask(&self, time: Duration) -> Result<Reply> {
        Connection::open(&TlsConfig::default())
            .unwrap()
            .send(request(&self.url), Deadline::after(time))
    }
}

fn request(url: &Url) -> Request {
    let headers = vec![(HeaderName::from_static("x-token"), Zeroizing::new("hunter2".to_owned()))];
    Request { method: Method::GET, url: url.clone(), headers, body: None }
}

fn refused(reply: Result<Reply>, kind: Kind) -> String {
    let error = reply.err().unwrap();
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(!text.contains("hunter2") && !text.contains("/v1/x"), "{text}");
    text
}

#[test]
fn an_answer_comes_whole_with_what_stands_beside_it() {
    let peer = Peer::answering(
        "HTTP/1.1 307 T\r\nLocation: /v2?a\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbody",
    );
    let reply = peer.ask(Duration::from_secs(10)).unwrap();
    assert_eq!((reply.status, &reply.body[..]), (307, &b"body"[..]));
    assert_eq!(reply.location, Some(peer.url.join("/v2?a").unwrap()));
    assert_eq!(reply.retry_after, Some(Duration::from_secs(7)));
    let head = String::from_utf8(peer.thread.join().unwrap()).unwrap();
    assert!(head.starts_with("GET /v1/x HTTP/1.1\r\n") && head.contains("x-token: hunter2\r\n"));
}

#[test]
fn a_peer_that_drips_is_left_at_the_deadline() {
    let peer = Peer::new(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
        for _ in 0..100 {
            if stream.write_all(b"x").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let began = Instant::now();
    let text = refused(peer.ask(Duration::from_millis(400)), Kind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(text, format!("calling {}: no answer in time", place(&peer.url)));
}

#[test]
fn a_peer_that_says_nothing_is_left_at_the_deadline() {
    let peer = Peer::new(|stream| {
        std::thread::sleep(Duration::from_secs(2));
        drop(stream);
    });
    refused(peer.ask(Duration::from_millis(300)), Kind::Timeout);
}

#[test]
fn a_connection_that_ends_in_the_middle_is_no_answer() {
    let peer = Peer::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":");
    let text = refused(peer.ask(Duration::from_secs(10)), Kind::Unavailable);
    assert!(text.starts_with(&format!("cannot reach {}: ", place(&peer.url))), "{text}");
}

#[test]
fn what_is_no_http_is_no_answer() {
    let peer = Peer::answering("220 mail.example ESMTP\r\n");
    refused(peer.ask(Duration::from_secs(10)), Kind::Unavailable);
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    let peer = Peer::new(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let block = vec![b'x'; 1 << 16];
        while stream.write_all(&block).is_ok() {}
    });
    let text = refused(peer.ask(Duration::from_secs(60)), Kind::Unavailable);
    assert!(text.contains("answers with more than 8 MiB"), "{text}");
    peer.thread.join().unwrap();
}

#[test]
fn nobody_there_is_said_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/v1/x", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let line = Connection::open(&TlsConfig::default()).unwrap();
    let text = refused(
        line.send(request(&url), Deadline::after(Duration::from_secs(10))),
        Kind::Unavailable,
    );
    assert_eq!(text, format!("cannot reach {}: connection refused", place(&url)));
}

#[test]
fn a_peer_without_tls_is_told_from_one_that_is_away() {
    let peer = Peer::answering("HTTP/1.1 400 Bad Request\r\n\r\n");
    let url = Url::parse(&peer.url.as_str().replace("http:", "https:")).unwrap();
    let line = Connection::open(&TlsConfig::default()).unwrap();
    let reply = line.send(request(&url), Deadline::after(Duration::from_secs(10)));
    let text = refused(reply, Kind::Untrusted);
    assert_eq!(
        text,
        format!("cannot trust {}: it does not speak TLS; is the port right?", place(&url))
    );
}

#[test]
fn a_name_that_nobody_knows_is_said() {
    let line = Connection::open(&TlsConfig::default()).unwrap();
    let url = Url::parse("https://vault.invalid:8200/v1/x").unwrap();
    let error = line.send(request(&url), Deadline::after(Duration::from_secs(20))).err().unwrap();
    assert!(error.is_transient(), "{error}");
}

#[test]
fn a_secret_in_two_lines_is_not_sent() {
    let line = Connection::open(&TlsConfig::default()).unwrap();
    let url = Url::parse("http://127.0.0.1:1/v1/x").unwrap();
    let mut request = request(&url);
    request.headers[0].1.push('\n');
    refused(line.send(request, Deadline::after(Duration::from_secs(1))), Kind::Config);
}

#[test]
fn loopback_is_never_asked_through_a_proxy() {
    for (url, is) in [
        ("https://127.0.0.1:8200", true),
        ("https://[::1]:8200", true),
        ("https://localhost", true),
        ("https://127.example.org", false),
        ("https://10.0.0.1", false),
    ] {
        assert_eq!(is_loopback(&Url::parse(url).unwrap()), is, "{url}");
    }
}

#[test]
fn nothing_is_sent_in_the_clear_but_to_this_machine() {
    let line = Connection::open(&TlsConfig::default()).unwrap();
    for url in [
        "http://192.0.2.1:8200/v1/x",
        "http://vault.example:8200/v1/x",
        "http://localhost.example/v1/x",
        "http://0.0.0.0/v1/x",
        "http://[::ffff:127.0.0.1]/v1/x",
        "http://169.254.169.254/v1/x",
    ] {
        let url = Url::parse(url).unwrap();
        let soon = || Deadline::after(Duration::from_secs(1));
        let wanted = format!(
            "{} is not https: secrets would cross the network in the clear; write it as https://...; \
             plain http is for 127.0.0.1, [::1] and localhost",
            place(&url)
        );
        assert_eq!(refused(line.send(request(&url), soon()), Kind::Config), wanted);
        let mut replies = line.send_all(vec![request(&url)], 1, soon()).unwrap();
        assert_eq!(refused(replies.remove(0), Kind::Config), wanted);
    }
}

#[test]
fn localhost_is_this_machine_whatever_its_port() {
    let peer = Peer::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let url = Url::parse(&peer.url.as_str().replace("127.0.0.1", "localhost")).unwrap();
    let line = Connection::open(&TlsConfig::default()).unwrap();
    let reply = line.send(request(&url), Deadline::after(Duration::from_secs(10))).unwrap();
    assert_eq!(reply.status, 200);
}

#[test]
fn private_is_what_is_tls_or_stays_here() {
    for (url, is) in [
        ("https://vault.example", true),
        ("http://127.0.0.1:8200", true),
        ("http://127.8.9.10", true),
        ("http://[::1]:8200", true),
        ("http://localhost:8200", true),
        ("http://LOCALHOST:8200", true),
        ("http://vault.example", false),
        ("http://127.0.0.1.example", false),
        ("http://10.0.0.1", false),
        ("http://[fe80::1]", false),
        ("ftp://127.0.0.1", false),
    ] {
        assert_eq!(is_private(&Url::parse(url).unwrap()), is, "{url}");
    }
}

#[test]
fn a_folder_of_authorities_that_others_can_change_is_refused() {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("5ed36f99.0");
    write(&file, "").unwrap();
    let open = |as_original| {
        let ca_folder = Some(folder.path().to_owned());
        let opened =
            Connection::open(&TlsConfig { ca_folder, as_original, ..TlsConfig::default() });
        opened.err().unwrap().to_string()
    };
    let none = "has no certificate of an authority to trust";
    assert!(open(false).contains(none), "{}", open(false));
    for path in [file.as_path(), folder.path()] {
        set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        let words = format!("{} can be written by others", path.display());
        assert!(open(false).contains(&words), "{}", open(false));
        // As the original does.
        assert!(open(true).contains(none), "{}", open(true));
        set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_form_is_told_from_json_and_its_values_are_escaped() {
    let sent = |body| {
        let peer = Peer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let request = Request { method: Method::POST, body: Some(body), ..request(&peer.url) };
        let line = Connection::open(&TlsConfig::default()).unwrap();
        line.send(request, Deadline::after(Duration::from_secs(10))).unwrap();
        String::from_utf8(peer.thread.join().unwrap()).unwrap()
    };
    let of_form = sent(form(&[("grant_type", "urn:a b&c=d"), ("token", "x+/\u{e4}~*")]));
    assert!(of_form.contains("content-type: application/x-www-form-urlencoded\r\n"), "{of_form}");
    let body = of_form.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(body, "grant_type=urn%3Aa%20b%26c%3Dd&token=x%2B%2F%C3%A4%7E*");
    let of_json = sent(Body::Json(Zeroizing::new(b"{}".to_vec())));
    assert!(of_json.contains("content-type: application/json\r\n"), "{of_json}");
}

#[test]
fn headers_of_an_answer_are_known_by_their_names() {
    let peer =
        Peer::answering("HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: 0\r\n\r\n");
    let reply = peer.ask(Duration::from_secs(10)).unwrap();
    assert_eq!(reply.header("metadata-flavor"), Some("Google"));
    assert_eq!(reply.header("www-authenticate"), None);
}

/// Nobody is there, or it is a cloud's machine: it is called, and no other address is.
#[test]
fn a_metadata_service_is_called_in_the_clear_and_nobody_else() {
    let line = Connection::open(&TlsConfig::default()).unwrap();
    let ask = |url: &str| {
        let url = Url::parse(url).unwrap();
        line.send_to_metadata(request(&url), Deadline::after(Duration::from_millis(200)))
    };
    if let Err(error) = ask("http://169.254.169.254/v1/x") {
        assert!(error.is_outage(), "{error}");
    }
    for url in [
        "http://169.254.169.253/",
        "https://169.254.169.254/",
        "http://192.0.2.1/",
        "http://metadata.example/",
        "https://metadata.example/",
    ] {
        refused(ask(url), Kind::Config);
    }
}

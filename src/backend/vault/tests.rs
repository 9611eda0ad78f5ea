//! What a Vault can answer that a real one answers only in a cluster or in trouble; each from a peer
//! on loopback that says the same to everybody.

#![forbid(unsafe_code)]

mod login;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::backend;
use crate::backend::http::{TlsConfig, Url};
use crate::config::Config;
use crate::env::{Deadline, Rng, System};
use crate::error::{Error, Kind, Result};
use crate::key::{KeyId, KeyRef, KeyVersion, PageMode};
use crate::provider::{KeyServer as _, KeyWrapper as _, Provider};
use crate::secret::source::SecretSource;

/// A peer that gives every request the same answer, and counts them.
struct Peer {
    address: String,
    requests: Arc<AtomicUsize>,
}

impl Peer {
    /// `PEER` in `answer` stands for its own address.
    fn new(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.replace("PEER", &address);
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 8192];
                if stream.read(&mut head).is_ok_and(|len| len > 0) {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self { address, requests }
    }

    fn status(status: u16, body: &str) -> Self {
        Self::new(&format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Has `body` at paths with these words, and nothing elsewhere.
    fn by_path(words: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 8192];
                let len = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..len]).into_owned();
                let (status, body) = match (head.contains(words), head.contains("auth/token")) {
                    (true, _) => (200, body),
                    (_, true) => (200, r#"{"data":{"ttl":0}}"#),
                    _ => (404, r#"{"errors":[]}"#),
                };
                let _ = stream.write_all(
                    format!(
                        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n\
                         {body}",
                        body.len()
                    )
                    .as_bytes(),
                );
            }
        });
        Self { address, requests: Arc::default() }
    }

    /// A peer with an answer for each method and path, 404 for any other; with the log of them all.
    fn routes(answers: Vec<(&'static str, String)>) -> (Self, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 8192];
                let len = stream.read(&mut head).unwrap_or(0);
                let text = String::from_utf8_lossy(&head[..len]).into_owned();
                let Some(what) = text.split(" HTTP/").next() else { continue };
                let what = what.replace("/v1/", "");
                let found = answers.iter().find(|(asked, _)| *asked == what);
                let (status, body) = found.map_or((404, "{}"), |(_, body)| (200, body.as_str()));
                let len = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
                asked.lock().unwrap().push(what);
                let _ = write!(stream, "{head}Content-Length: {len}\r\n\r\n{body}");
            }
        });
        (Self { address, requests: Arc::default() }, log)
    }

    fn refusal(&self, kind: Kind) -> String {
        let folder = tempfile::tempdir().unwrap();
        let wrapper = wrapper(&[&self.address], folder.path());
        let by = Deadline::after(Duration::from_millis(3000));
        let error = crate::provider::KeyWrapper::describe(&wrapper, by).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(!text.contains("hunter2") && !text.contains("s3cret"), "{text}");
        text.replace(&self.address, "VAULT")
    }
}

fn wrapper(addresses: &[&str], folder: &Path) -> TransitWrapper {
    let vault = vault(addresses, folder);
    let settings = TransitSettings { vault, mount: "transit".into(), key: "k".into() };
    TransitWrapper::new(settings, Arc::new(System))
}

fn server(peer: &Peer, folder: &Path) -> KvServer {
    let settings = KvSettings {
        vault: vault(&[&peer.address], folder),
        mount: "secret".into(),
        prefix: "keyward".into(),
        mode: PageMode::Ctr,
        refresh: Duration::from_secs(10),
    };
    KvServer::new(settings, Arc::new(System))
}

fn vault(addresses: &[&str], folder: &Path) -> Settings {
    use std::os::unix::fs::PermissionsExt as _;
    let token = folder.join("token");
    std::fs::write(&token, "hunter2").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    Settings {
        addresses: addresses.iter().map(|address| Url::parse(address).unwrap()).collect(),
        namespace: Some("team".into()),
        trust: TlsConfig::default(),
        login: Login::Token(SecretSource::File(token)),
    }
}

#[test]
fn each_state_of_a_node_has_its_own_words() {
    for (status, body, words) in [
        (412, "{}", "Vault at VAULT has not caught up with its leader yet"),
        (
            429,
            r#"{"errors":["s3cret"]}"#,
            "Vault at VAULT asks us to come back later: a quota of requests is used up; \
             raise the quota, or poll less often with `refresh`",
        ),
        (
            472,
            "",
            "Vault at VAULT is the standby of a disaster recovery pair; name the primary first",
        ),
        (
            473,
            "",
            "Vault at VAULT is a performance standby and does not forward; name the leader first",
        ),
        (501, "{}", "Vault at VAULT is not initialised; run `vault operator init` there"),
        (
            503,
            r#"{"errors":["Vault is sealed"]}"#,
            "Vault at VAULT is sealed; unseal it with `vault operator unseal`",
        ),
        (
            503,
            r#"{"errors":["API access to this namespace has been locked by an administrator - \"team/\" must be unlocked to gain access."]}"#,
            "Vault at VAULT: the namespace team is locked; unlock it: bao namespace unlock team",
        ),
        (
            503,
            r#"{"errors":["namespace is sealed"]}"#,
            "Vault at VAULT: the namespace team is sealed; unseal it: bao namespace unseal team",
        ),
        (503, "s3cret", "Vault at VAULT is out of order (status 503)"),
        (500, r#"{"errors":["s3cret"]}"#, "Vault at VAULT fails (status 500); see its log"),
        (
            200,
            "<html>s3cret</html>",
            "Vault at VAULT returned an unexpected response; \
             is it the right address and mount?",
        ),
    ] {
        assert_eq!(Peer::status(status, body).refusal(Kind::Unavailable), words);
    }
    let words = Peer::status(418, "s3cret").refusal(Kind::Config);
    assert_eq!(words, "VAULT is no Vault (status 418); correct the address");
    let absent = Peer::status(404, r#"{"errors":["namespace not found"]}"#).refusal(Kind::Config);
    assert_eq!(
        absent,
        "Vault at VAULT has no namespace team; correct `namespace`, or make it: bao namespace create team"
    );
    let words = Peer::status(403, r#"{"errors":["s3cret"]}"#).refusal(Kind::Denied);
    assert!(words.starts_with("Vault does not accept the token from "), "{words}");
}

#[test]
fn no_redirect_is_followed_for_ever_or_to_where_it_may_not_lead() {
    let circle = Peer::new(
        "HTTP/1.1 307 X\r\nLocation: PEER/v1/x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    let words = circle.refusal(Kind::Unavailable);
    assert_eq!(words, "Vault at VAULT knows of no leader: it sends us in a circle");
    // Two requests a try, and a pause after each.
    let requests = circle.requests.load(Ordering::SeqCst);
    assert!((2..20).contains(&requests), "{requests} requests");
    let elsewhere = Peer::new(
        "HTTP/1.1 307 X\r\nLocation: ftp://h/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    let words = elsewhere.refusal(Kind::Unavailable);
    assert!(words.contains("sends us to a place that cannot be trusted"), "{words}");
}

#[test]
fn from_https_nobody_is_led_to_http() {
    let base = Url::parse("https://vault:8200").unwrap();
    let lead = |to: &str| {
        let location = Some(Url::parse(to).unwrap());
        let body = zeroize::Zeroizing::new(Vec::new());
        let reply = super::super::http::Reply {
            status: 307,
            location,
            retry_after: None,
            headers: Default::default(),
            body,
        };
        nodes::redirect(&base, &reply)
    };
    assert!(lead("https://other:8200/v1/x").unwrap().is_some());
    assert_eq!(lead("http://other:8200/v1/x").err().unwrap().kind(), Kind::Unavailable);
    assert_eq!(lead("http://127.0.0.1:8200/v1/x").err().unwrap().kind(), Kind::Unavailable);
}

#[test]
fn from_plain_http_nobody_is_led_off_this_machine() {
    let base = Url::parse("http://127.0.0.1:8200").unwrap();
    for (to, may) in [
        ("http://127.0.0.1:8202/v1/x", true),
        ("https://localhost:8202/v1/x", true),
        ("http://other:8200/v1/x", false),
        ("https://other:8200/v1/x", false),
    ] {
        let location = Some(Url::parse(to).unwrap());
        let body = zeroize::Zeroizing::new(Vec::new());
        let reply = super::super::http::Reply {
            status: 307,
            location,
            retry_after: None,
            headers: Default::default(),
            body,
        };
        assert_eq!(nodes::redirect(&base, &reply).is_ok(), may, "{to}");
    }
}

#[test]
fn an_address_in_the_clear_is_an_error_of_the_configuration() {
    let text = "[[provider]]\ntype = \"vault-transit\"\nkey = \"k\"\ntoken_env = \"T\"\naddress = ";
    let read = |address: &str| {
        let config = Config::parse(Path::new("/c.toml"), &format!("{text}{address}\n")).unwrap();
        Settings::read(&config.providers[0].section).err().map(|error| error.to_string())
    };
    let refused = "/c.toml:5:1: address: is not https: secrets would cross the network in the clear; \
                   write it as https://...; plain http is for 127.0.0.1, [::1] and localhost";
    for address in ["\"http://vault:8200\"", "[\"https://a\", \"http://10.1.2.3:8200\"]"] {
        assert_eq!(read(address).as_deref(), Some(refused), "{address}");
    }
    for address in ["\"https://vault:8200\"", "\"http://127.0.0.1:8200\"", "\"http://localhost:1\""]
    {
        assert_eq!(read(address), None, "{address}");
    }
}

#[test]
fn what_is_transient_is_tried_again_until_the_deadline_and_what_is_not_is_not() {
    let sealed = Peer::status(503, r#"{"errors":["Vault is sealed"]}"#);
    let began = Instant::now();
    sealed.refusal(Kind::Unavailable);
    assert!(sealed.requests.load(Ordering::SeqCst) >= 3);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let wrong = Peer::status(418, "");
    wrong.refusal(Kind::Config);
    assert_eq!(wrong.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn the_node_that_answers_is_asked_first_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = Peer::status(503, "");
    let live = Peer::status(404, r#"{"errors":[]}"#);
    let wrapper = wrapper(&[&sealed.address, &live.address], folder.path());
    for _ in 0..3 {
        let by = Deadline::after(Duration::from_secs(10));
        let error = crate::provider::KeyWrapper::describe(&wrapper, by).err().unwrap();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
    }
    assert_eq!(sealed.requests.load(Ordering::SeqCst), 1);
    assert_eq!(live.requests.load(Ordering::SeqCst), 3);
}

fn opened(text: &str) -> Result<Provider> {
    let text = format!("[[provider]]\n{text}");
    let config = Config::parse(Path::new("k.toml"), &text)?;
    let rng: Arc<dyn Rng> = Arc::new(System);
    backend::open(&config.providers[0].section, &rng)
}

#[test]
fn the_configuration_is_read_to_its_end() {
    const BASE: &str = "type = \"vault-transit\"\naddress = \"https://v:8200\"\nkey = \"k\"\n";
    for login in [
        "token_file = \"/t\"",
        "auth = \"token\"\ntoken_env = \"T\"",
        "auth = \"approle\"\nrole_id = \"r\"\nsecret_id_file = \"/s\"\nsecret_id_wrapped = true",
        "auth = \"approle\"\nauth_mount = \"db/approle\"\nrole_id_file = \"/r\"\n\
         secret_id_credential = \"s\"",
        "auth = \"jwt\"\nrole = \"r\"\njwt_env = \"J\"",
        "auth = \"kubernetes\"\nrole = \"r\"",
        "auth = \"userpass\"\nuser = \"db-1\"\npassword_file = \"/p\"",
        "auth = \"ldap\"\nauth_mount = \"corp/ldap\"\nuser = \"db$@example.com\"\npassword_env = \"P\"",
        "auth = \"cert\"\nclient_certificate_file = \"/c\"\nclient_key_file = \"/k\"",
    ] {
        let opened = opened(&format!("{BASE}{login}\nnamespace = \"a/b\"\nca_file = \"/ca\"\n"));
        assert!(matches!(opened, Ok(Provider::Wraps(_))), "{login}: {:?}", opened.err());
    }
    let kv = "type = \"vault-kv\"\naddress = [\"https://a:8200\", \"https://b:8200\"]\n\
              token_file = \"/t\"\nmount = \"kv\"\nprefix = \"db/one\"\nrefresh = \"3s\"\n\
              mode = \"cbc\"\n";
    assert!(matches!(opened(kv), Ok(Provider::Serves(_))));
}

#[test]
fn what_is_wrong_in_the_configuration_is_named() {
    const BASE: &str = "type = \"vault-transit\"\nkey = \"k\"\n";
    for (text, words) in [
        ("token_file = \"/t\"\n", "lacks \"address\""),
        ("address = \"vault:8200\"\n", "is neither https nor http"),
        ("address = \"https://v:8200/v1/\"\n", "has more than a scheme, a host and a port"),
        ("address = \"https://u:p@v:8200\"\n", "has more than a scheme, a host and a port"),
        ("address = []\n", "lacks \"address\""),
        ("address = [\"https://v\", \"v\"]\n", "is no address"),
        ("address = \"https://v\"\n", "lacks \"token_file\""),
        ("address = \"https://v\"\ntoken = \"hvs.x\"\n", "a secret may not stand"),
        ("address = \"https://v\"\nauth = \"github\"\n", "is no way to log in"),
        (
            "address = \"https://v\"\nauth = \"aws\"\n",
            "is a log-in that only AWS can sign for, and is not supported; use jwt where AWS gives the \
             machine a signed token in a file, cert, approle, or the token_file of an agent that logs in \
             by aws",
        ),
        ("address = \"https://v\"\nauth = \"azure\"\n", "is a log-in that only Azure can sign for"),
        ("address = \"https://v\"\nauth = \"gcp\"\n", "that only Google Cloud can sign for"),
        ("address = \"https://v\"\nauth = \"ldap\"\n", "lacks \"user\""),
        ("address = \"https://v\"\nauth = \"userpass\"\nuser = \"u\"\n", "lacks \"password_file\""),
        (
            "address = \"https://v\"\nauth = \"userpass\"\nuser = \"a/b\"\npassword_file = \"/p\"\n",
            "user: may have letters, digits and - _ . @ $ + ~",
        ),
        (
            "address = \"https://v\"\nauth = \"userpass\"\nuser = \"u\"\npassword = \"hvs.x\"\n",
            "a secret may not stand",
        ),
        ("address = \"https://v\"\nauth = \"approle\"\n", "lacks \"role_id\""),
        ("address = \"https://v\"\nauth = \"cert\"\n", "lacks \"client_certificate_file\""),
        ("address = \"https://v\"\nauth = \"jwt\"\nrole = \"r\"\n", "lacks \"jwt_file\""),
        (
            "address = \"https://v\"\ntoken_file = \"/t\"\nclient_key_file = \"/k\"\n",
            "lacks \"client_certificate_file\"",
        ),
        ("address = \"https://v\"\ntoken_file = \"/t\"\nmount = \"a/../b\"\n", "mount: may have"),
        ("address = \"https://v\"\ntoken_file = \"/t\"\nmont = \"a\"\n", "did you mean \"mount\"?"),
    ] {
        let error = opened(&format!("{BASE}{text}")).err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        let said = error.to_string();
        assert!(said.contains(words) && !said.contains("hvs.x"), "{text}: {said}");
    }
}

#[test]
fn a_lease_and_a_date_beyond_all_time_are_taken_for_the_last_ones() {
    let folder = tempfile::tempdir().unwrap();
    let peer = Peer::status(
        200,
        r#"{"data":{"ttl":18446744073709551615,"renewable":true,"type":"aes256-gcm96",
            "latest_version":1,"keys":{"1":18446744073709551615}}}"#,
    );
    let by = Deadline::after(Duration::from_secs(10));
    let info = wrapper(&[&peer.address], folder.path()).describe(by).unwrap();
    assert_eq!(info.created.unwrap().to_string(), "9999-12-31T23:59:59Z");
}

/// The metadata and the data of a secret of one live version, and a folder's names.
fn secret(fields: &str) -> Peer {
    let body = format!(
        r#"{{"data":{{"ttl":0,{fields},
            "versions":{{"1":{{"created_time":"2026-03-01T12:00:00Z"}}}},
            "data":{{"data":"{}"}},
            "metadata":{{"version":1,"created_time":"2026-03-01T12:00:00Z"}}}}}}"#,
        "5a".repeat(32)
    );
    Peer::status(200, &body)
}

#[test]
fn a_secret_whose_name_is_a_number_in_another_spelling_is_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let peer = secret(r#""keys":["1","01","+1","1","0","keys/"]"#);
    let by = Deadline::after(Duration::from_secs(10));
    let infos = server(&peer, folder.path()).list(by).unwrap();
    let names: Vec<_> = infos.iter().map(|info| info.key.to_string()).collect();
    assert_eq!(names, ["key 1 version 1"]);
}

#[test]
fn numbers_at_their_end_neither_wrap_round_nor_refuse_what_can_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let put = |fields: &str| {
        let version = KeyVersion::try_from(2).unwrap();
        let data = crate::secret::DataKey::copy_of(&[7; 32]).unwrap();
        let by = Deadline::after(Duration::from_secs(10));
        server(&secret(fields), folder.path()).put(&KeyRef::new(KeyId::SYSTEM, version), &data, by)
    };
    put(r#""current_version":1,"max_versions":4294967295"#).unwrap();
    let error = put(r#""current_version":4294967295,"max_versions":0"#).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
}

#[test]
fn a_pause_is_between_half_and_all_of_its_length() {
    let all = Duration::from_secs(2);
    for seed in 0..100 {
        let pause = crate::env::jittered(all, &crate::env::fake::FakeRng::new(seed));
        assert!(pause >= all / 2 && pause <= all, "{pause:?}");
    }
}

fn key_1(version: u32) -> KeyRef {
    KeyRef::new(KeyId::SYSTEM, KeyVersion::try_from(version).unwrap())
}

#[test]
fn an_answer_of_another_version_than_the_one_asked_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let body = format!(
        r#"{{"data":{{"ttl":0,"data":{{"data":"{}"}},
            "metadata":{{"version":2,"created_time":"2026-03-01T12:00:00Z"}}}}}}"#,
        "5a".repeat(32)
    );
    let peer = Peer::status(200, &body);
    let by = Deadline::after(Duration::from_secs(10));
    let error = server(&peer, folder.path()).fetch(&key_1(1), by).err().unwrap();
    assert_eq!(error.kind(), Kind::Untrusted);
    assert_eq!(
        error.to_string().replace(&peer.address, "VAULT"),
        "Vault at VAULT was asked for key 1 version 1 and gave version 2; look for a proxy or cache \
         on the way that drops ?version="
    );
    assert!(server(&peer, folder.path()).fetch(&key_1(2), by).is_ok());
}

#[test]
fn an_engine_of_version_1_is_refused_by_what_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |error: Error| {
        assert_eq!(error.kind(), Kind::Config);
        let said = error.to_string();
        assert!(said.contains("the KV engine at secret in Vault at http"), "{said}");
        assert!(
            said.ends_with(
                "is of version 1; keyward needs version 2: run vault kv enable-versioning -namespace=team secret, or \
                 name another `mount`"
            ),
            "{said}"
        );
    };
    let by = || Deadline::after(Duration::from_secs(10));
    let data = crate::secret::DataKey::copy_of(&[7; 32]).unwrap();
    // What was written to it, as if it were of version 2, comes back as it is.
    let written = Peer::status(200, r#"{"data":{"keys":["1"],"ttl":0,"options":{"cas":0}}}"#);
    refused(server(&written, folder.path()).list(by()).err().unwrap());
    refused(server(&written, folder.path()).put(&key_1(1), &data, by()).err().unwrap());
    refused(server(&written, folder.path()).fetch(&key_1(1), by()).err().unwrap());
    // An empty folder: Vault tells what is mounted.
    let mounted = r#"{"data":{"type":"kv","options":null,"ttl":0}}"#;
    let empty = Peer::by_path("sys/internal/ui/mounts", mounted);
    refused(server(&empty, folder.path()).list(by()).err().unwrap());
    refused(server(&empty, folder.path()).put(&key_1(1), &data, by()).err().unwrap());
    refused(server(&empty, folder.path()).probe(by()).err().unwrap());
}

/// What a Vault answers in which somebody has set up `policy` and a role with `policies`.
fn occupied(policy: &str, policies: &str) -> Vec<(&'static str, String)> {
    let policy = serde_json::json!({ "data": { "policy": policy } });
    let all: Vec<_> = policies.split(',').collect();
    let role = serde_json::json!({ "data": { "token_policies": all } });
    let mounts = serde_json::json!({ "data": {
        "transit/": { "type": "transit", "options": null },
        "approle/": { "type": "approle", "options": null },
    }});
    let lookup = r#"{"data":{"ttl":0,"renewable":false}}"#.to_owned();
    vec![
        ("GET auth/token/lookup-self", lookup),
        ("GET sys/policies/acl/keyward-k", policy.to_string()),
        ("GET auth/approle/role/keyward-k", role.to_string()),
        ("GET sys/mounts", mounts.to_string()),
        ("GET sys/auth", mounts.to_string()),
        ("POST transit/keys/k", "{}".to_owned()),
        ("GET auth/approle/role/keyward-k/role-id", r#"{"data":{"role_id":"r"}}"#.to_owned()),
        ("POST auth/approle/role/keyward-k/secret-id", r#"{"data":{"secret_id":"s"}}"#.to_owned()),
    ]
}

#[test]
fn what_another_server_may_need_is_not_written_over() {
    let rules = "path \"transit/encrypt/k\" { capabilities = [\"update\"] }\n\
                 path \"transit/decrypt/k\" { capabilities = [\"update\"] }\n\
                 path \"transit/keys/k\" { capabilities = [\"read\"] }";
    let set_up = |policy: &str, policies: &str| {
        let (peer, log) = Peer::routes(occupied(policy, policies));
        let folder = tempfile::tempdir().unwrap();
        let outcome = wrapper(&[&peer.address], folder.path())
            .set_up(Deadline::after(Duration::from_secs(5)))
            .map(|login| login.settings)
            .map_err(|error| error.to_string().replace(&peer.address, "VAULT"));
        let posts: Vec<_> =
            log.lock().unwrap().iter().filter(|line| line.starts_with("POST")).cloned().collect();
        (outcome, posts)
    };
    let (refused, posts) = set_up("path \"secret/*\" { capabilities = [\"read\"] }", "keyward-k");
    assert_eq!(
        refused.unwrap_err(),
        format!(
            "Vault at VAULT has a policy \"keyward-k\" with other rules; a server may need it; \
             choose another name with --set key=NAME, or add to that policy: {}",
            rules.replace('\n', " ")
        )
    );
    assert!(posts.is_empty(), "{posts:?}");
    let (refused, posts) = set_up(rules, "other");
    assert_eq!(
        refused.unwrap_err(),
        "Vault at VAULT has a role \"keyward-k\" without the policy \"keyward-k\"; a server may \
         need it; choose another name with --set key=NAME"
    );
    assert!(posts.is_empty(), "{posts:?}");
    // A further server of the same keys: only a secret id is made.
    let (same, posts) = set_up(&format!("# ours\n{rules}\n"), "more,keyward-k");
    assert_eq!(same.unwrap(), [("auth", "approle".to_owned()), ("role_id", "r".to_owned())]);
    assert_eq!(posts, ["POST transit/keys/k", "POST auth/approle/role/keyward-k/secret-id"]);
}

//! Handshakes with the server of OpenSSL that fail, and each advice followed.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use test_kit::{Process, free_port, run};

use super::super::{Connection, HeaderName, Method, Request, Url};
use super::*;
use crate::env::Deadline;

/// An authority in a folder, with keys for RSA, which openssl makes.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.sh(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=authority -days 2 \
             -addext keyUsage=keyCertSign -out ca.pem",
        );
        for name in ["server", "client"] {
            this.sh(&format!(
                "openssl req -newkey rsa:2048 -nodes -keyout {name}.key -subj /CN={name} -out {name}.csr"
            ));
        }
        this.sh("chmod 0600 *.key");
        this
    }

    fn sh(&self, line: &str) {
        let line = format!("cd {} && {line}", self.0.path().display());
        run("sh", ["-c", &line]).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Whom we trust and, with `certified`, who we are, as a configuration says it.
    fn config(&self, certified: bool) -> Result<TlsConfig> {
        let line = |key: &str, name: &str| format!("{key} = {:?}\n", self.at(name));
        let own =
            line("client_certificate_file", "client.pem") + &line("client_key_file", "client.key");
        let lines = line("ca_file", "ca.pem") + if certified { &own } else { "" };
        let text = format!("[[provider]]\ntype = \"x\"\n{lines}");
        let config = crate::config::Config::parse(Path::new("keyward.toml"), &text)?;
        TlsConfig::read(&config.providers[0].section)
    }

    /// What comes of a request to OpenSSL's server, which runs with `words`.
    fn ask(&self, words: &str, config: &TlsConfig) -> Result<()> {
        let port = free_port().unwrap();
        let mut server = Process::default();
        let mut command = Process::command("openssl");
        command.args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")]);
        command.args(["-cert", "server.pem", "-key", "server.key", "-CAfile", "ca.pem"]);
        command.args(words.split_whitespace()).current_dir(self.0.path());
        server.start(command, &self.at("said.log")).unwrap();
        server.wait_for_port(port).unwrap();
        let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
        let headers: Vec<(HeaderName, zeroize::Zeroizing<String>)> = Vec::new();
        let request = Request { method: Method::GET, url, headers, body: None };
        let by = Deadline::after(Duration::from_secs(20));
        Connection::open(config)?.send(request, by).map(drop)
    }

    fn refused(&self, words: &str, certified: bool, wanted: &[&str]) -> String {
        let outcome = self.config(certified).and_then(|config| self.ask(words, &config));
        let text = outcome.unwrap_err().to_string();
        for wanted in wanted {
            assert!(text.contains(wanted), "no {wanted:?} in {text}");
        }
        text
    }

    fn accepted(&self, words: &str, certified: bool) {
        self.config(certified).and_then(|config| self.ask(words, &config)).unwrap();
    }

    /// Signs a request as openssl does when it is told no more.
    fn issue_version_1(&self, name: &str) {
        self.sh(&format!(
            "openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem"
        ));
    }

    /// Does what `text` advises: what is in it from `printf` on, for localhost.
    fn follow(&self, text: &str) {
        let at = text.find("printf ").unwrap();
        self.sh(&text[at..].replace("NAME", "localhost"));
    }
}

#[test]
fn certificates_of_version_1_are_named_and_the_advice_makes_others() {
    let authority = Authority::new();
    for name in ["server", "client"] {
        authority.issue_version_1(name);
    }
    let version_1 = "is of X.509 version 1";
    let text = authority.refused("-tls1_2", false, &["cannot trust", version_1, "server.pem"]);
    authority.follow(&text);
    authority.accepted("-tls1_2", false);
    let text = authority.refused(
        "-Verify 1",
        true,
        &["client.pem is a certificate of X.509 version 1", "extendedKeyUsage=clientAuth"],
    );
    assert!(!text.contains("do not belong together"), "{text}");
    authority.follow(&text);
    authority.accepted("-Verify 1", true);
    // One that belongs to another key is told apart, and so is a key that TLS has no use for.
    authority.sh("openssl genrsa -out client.key 2048 2>/dev/null");
    authority.refused("-Verify 1", true, &["do not belong together"]);
    authority.sh("openssl ecparam -name secp256k1 -genkey -noout -out client.key");
    authority.refused("-Verify 1", true, &["client.key is no RSA, ECDSA (P-256, P-384)"]);
}

#[test]
fn a_server_without_a_suite_of_ours_is_told_from_one_that_wants_a_certificate() {
    let authority = Authority::new();
    for (name, extension) in
        [("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")]
    {
        authority.sh(&format!("printf {extension} > v3.ext"));
        authority.sh(&format!(
            "openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile v3.ext -out {name}.pem"
        ));
    }
    let suites = "no TLS cipher suite in common";
    let wants = "it wants a client certificate";
    let old = "-tls1_2 -cipher AES128-SHA256";
    let text = authority.refused(old, true, &[suites, "AES128-SHA256"]);
    assert!(!text.contains(wants) && !text.contains("client_certificate_file"), "{text}");
    authority.refused(old, false, &[wants, suites, "where it wants none"]);
    // Each suite that the advice names serves.
    let named = text.split([' ', ',', ';']).filter(|word| word.starts_with("ECDHE-RSA-"));
    let named: Vec<_> = named.collect();
    assert_eq!(named.len(), 3, "{text}");
    for suite in named {
        authority.accepted(&format!("-tls1_2 -cipher {suite}"), true);
    }
    // In TLS 1.3 it is clear that a certificate is missing.
    let text =
        authority.refused("-tls1_3 -Verify 1", false, &[wants, "set client_certificate_file"]);
    assert!(!text.contains(suites), "{text}");
    authority.refused(
        "-tls1_1 -cipher ALL:@SECLEVEL=0",
        true,
        &["it speaks neither TLS 1.2 nor TLS 1.3"],
    );
}

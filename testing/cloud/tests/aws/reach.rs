//! By which way, and at which name, KMS is called, and whom it is believed to be.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use test_cloud::{FakeAws, REGION, Reply, Request, Shared};
use test_kit::Certificates;
use test_kit::command::answer;
use test_kit::listening::Listening;
use test_kit::{Answer, Result, Scratch, ensure, seen};
use test_mariadb::Site;
use test_vault::Tunnel;

/// A key in Frankfurt, where nobody of a test's calls.
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";

/// What tells programs of a proxy, in both spellings.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];

/// A proxy that leads nowhere (RFC 9110, section 15.6.3).
fn proxy() -> Result<FakeAws> {
    FakeAws::start(|_| Ok(Reply { status: 502, body: Vec::new() }))
}

/// Which ways the proxy was asked for, each once.
fn asked(proxy: &FakeAws) -> Vec<String> {
    let mut all: Vec<_> =
        proxy.seen().iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    all.dedup();
    all
}

/// `keyward init` on a key in Frankfurt, with these settings and variables.
fn init(site: &Site, settings: &[&str], variables: &[(&str, &str)]) -> Result<Answer> {
    let key = format!("key={KEY}");
    init_on(site, &[&[key.as_str()], settings].concat(), variables)
}

fn init_on(site: &Site, settings: &[&str], variables: &[(&str, &str)]) -> Result<Answer> {
    let folder = site.path("keyward").display().to_string();
    let mut words = vec!["init", "--dir", &folder, "--provider", "aws-kms"];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let mut command = site.keyward_command(&words);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    for name in PROXIES {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HOME", "/nonexistent").env("AWS_ACCESS_KEY_ID", "AKIDREACH");
    command.env("AWS_SECRET_ACCESS_KEY", "secret").envs(variables.iter().copied());
    answer(&mut command)
}

#[test]
fn fips_is_the_regions_fips_endpoint_and_both_go_by_the_proxy() -> Result<()> {
    let site = Site::new("aws-reach")?;
    for (settings, variable, host) in [
        (&[][..], ("AWS_USE_FIPS_ENDPOINT", "false"), "kms.eu-central-1.amazonaws.com"),
        (&["fips=true"], ("AWS_USE_FIPS_ENDPOINT", "false"), "kms-fips.eu-central-1.amazonaws.com"),
        (&[], ("AWS_USE_FIPS_ENDPOINT", "true"), "kms-fips.eu-central-1.amazonaws.com"),
    ] {
        let proxy = proxy()?;
        let said = init(&site, settings, &[variable, ("HTTPS_PROXY", &proxy.url())])?;
        let text = said.text();
        let wanted = format!("cannot reach https://{host}");
        ensure!(said.code != 0 && text.contains(&wanted), "no {wanted:?} in: {text}");
        let asked = asked(&proxy);
        ensure!(asked == [format!("CONNECT {host}:443")], "the proxy was asked for {asked:?}");
        seen!("{settings:?}, {}={}: {}", variable.0, variable.1, asked[0]);
    }
    Ok(())
}

#[test]
fn this_machine_is_called_itself_and_others_by_the_proxy() -> Result<()> {
    let (site, proxy) = (Site::new("aws-no-proxy")?, proxy()?);
    let (url, timeout) = (proxy.url(), "timeout=3s");
    let by_proxy = [("HTTPS_PROXY", url.as_str())];
    init(&site, &["endpoint=https://kms.test", timeout], &by_proxy)?;
    ensure!(asked(&proxy) == ["CONNECT kms.test:443"], "asked for {:?}", asked(&proxy));

    proxy.take_actions();
    let kms = TcpListener::bind("127.0.0.1:0")?;
    kms.set_nonblocking(true)?;
    let endpoint = format!("endpoint=https://{}", kms.local_addr()?);
    init(&site, &[endpoint.as_str(), timeout], &by_proxy)?;
    ensure!(asked(&proxy).is_empty(), "the proxy was asked for {:?}", asked(&proxy));
    let (mut call, _) = kms.accept()?;
    call.set_nonblocking(false)?;
    let mut first = [0];
    call.read_exact(&mut first)?;
    // RFC 8446, section 5.1: a handshake.
    ensure!(first == [22], "KMS was called in the clear");
    Ok(())
}

#[test]
fn kms_is_who_a_trusted_authority_says_behind_a_proxy_too() -> Result<()> {
    let (shared, scratch) = (Shared::get()?, Scratch::new("aws-tls")?);
    let site = Site::new("aws-tls")?;
    let certificates = Certificates::make(scratch.path())?;
    certificates.issue("kms", "subjectAltName=DNS:kms.test", "2")?;
    let kms = over_tls(shared.localstack.address(), &certificates, "kms")?;
    let tunnel = Tunnel::start("kms.test:443", kms.port())?;
    let key = format!("key={}", shared.localstack.new_key(REGION)?);
    let settings = [key.as_str(), "endpoint=https://kms.test"];
    let (ca, proxy) = (certificates.path("ca.pem").display().to_string(), tunnel.address());
    let by_proxy = ("HTTPS_PROXY", proxy.as_str());

    let said = init_on(&site, &settings, &[by_proxy])?;
    let text = said.text();
    ensure!(said.code != 0 && text.contains("cannot trust https://kms.test"), "{text}");
    ensure!(text.contains("SSL_CERT_FILE") && !text.contains("ca_file"), "{text}");
    seen!("an unknown authority: {}", said.err.trim());
    init_on(&site, &settings, &[by_proxy, ("SSL_CERT_FILE", &ca)])?.ok()?;
    ensure!(tunnel.asked() >= 2, "the proxy was asked {} times", tunnel.asked());

    // The right authority, another name.
    let site = Site::new("aws-tls-name")?;
    let kms = over_tls(shared.localstack.address(), &certificates, "server")?;
    let tunnel = Tunnel::start("kms.test:443", kms.port())?;
    let proxy = tunnel.address();
    let said = init_on(&site, &settings, &[("HTTPS_PROXY", &proxy), ("SSL_CERT_FILE", &ca)])?;
    let text = said.text();
    ensure!(said.code != 0 && text.contains("another name"), "{text}");
    ensure!(text.contains("as `endpoint`") && !text.contains("server_name"), "{text}");
    Ok(())
}

/// The KMS at `address` behind TLS, with the certificate of this name.
fn over_tls(address: SocketAddr, certificates: &Certificates, name: &str) -> Result<Listening> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let chain = CertificateDer::from_pem_file(certificates.path(&format!("{name}.pem")))
        .map_err(|error| told(&error))?;
    let key = PrivateKeyDer::from_pem_file(certificates.path(&format!("{name}.key")))
        .map_err(|error| told(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![chain], key))
        .map_err(|error| told(&error))?;
    let config = Arc::new(config);
    Listening::start(move |client| {
        let Ok(connection) = ServerConnection::new(Arc::clone(&config)) else { return };
        let mut client = StreamOwned::new(connection, client);
        // A client that does not trust us hangs up.
        let Ok(Some(request)) = Request::read_from(&mut client) else { return };
        let answered = request.send(address).and_then(|reply| reply.write(&mut client));
        client.conn.send_close_notify();
        if let (Err(error), _) | (_, Err(error)) = (answered, client.flush().map_err(Into::into)) {
            eprintln!("KMS behind TLS: {error}");
        }
    })
}

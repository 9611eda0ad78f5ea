//! By which way, and at which name, KMS is called: seen by a proxy, behind which nothing is.

use std::io::Read;
use std::net::TcpListener;

use aws_test::{FakeAws, Reply};
use mariadb_test::command::answer;
use mariadb_test::{Answer, Result, Site, ensure, seen};

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
    let (folder, key) = (site.path("keyward").display().to_string(), format!("key={KEY}"));
    let mut words = vec!["init", "--dir", &folder, "--provider", "aws-kms", "--set", &key];
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
fn what_no_proxy_names_is_called_itself() -> Result<()> {
    let (site, proxy) = (Site::new("aws-no-proxy")?, proxy()?);
    let kms = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("endpoint=https://{}", kms.local_addr()?);
    let place = kms.local_addr()?.to_string();
    let settings = [endpoint.as_str(), "timeout=3s"];
    let by_proxy = [("HTTPS_PROXY", proxy.url())];
    let variables: Vec<_> = by_proxy.iter().map(|(name, url)| (*name, url.as_str())).collect();
    init(&site, &settings, &variables)?;
    ensure!(asked(&proxy) == [format!("CONNECT {place}")], "asked for {:?}", asked(&proxy));
    kms.set_nonblocking(true)?;
    ensure!(kms.accept().is_err(), "KMS was called beside the proxy");

    proxy.take_actions();
    let variables = [variables, vec![("NO_PROXY", "127.0.0.1")]].concat();
    init(&site, &settings, &variables)?;
    ensure!(asked(&proxy).is_empty(), "the proxy was asked for {:?}", asked(&proxy));
    let (mut call, _) = kms.accept()?;
    call.set_nonblocking(false)?;
    let mut first = [0];
    call.read_exact(&mut first)?;
    // RFC 8446, section 5.1: a handshake.
    ensure!(first == [22], "KMS was called in the clear");
    Ok(())
}

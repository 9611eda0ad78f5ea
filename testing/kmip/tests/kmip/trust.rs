//! Whoever answers must be the one that is trusted, and so must we.

use keyward::error::Kind;
use keyward::provider::{KeyServer, KeyWrapper};
use test_kit::Certificates;
use test_kit::{Result, Scratch, ensure, seen};
use test_kmip::{Kmip, Shared};

use crate::{context, data, refused, said, server, settings, soon, wrapper};

#[test]
fn a_server_with_another_certificate_is_refused_with_the_right_line() -> Result<()> {
    let mut kmip = Kmip::start()?;
    let name = "subjectAltName=IP:127.0.0.1,DNS:localhost";
    kmip.certificates().issue("over", name, "-1")?;
    kmip.certificates().issue("elsewhere", "subjectAltName=DNS:kms.example", "2")?;
    let says = |kmip: &Kmip, with, wanted: &str| {
        let text = refused(wrapper(with, "k", None).describe(soon()), Kind::Untrusted)?;
        ensure!(text.contains(wanted), "{text}");
        seen!("{}", text.replace(&kmip.port().to_string(), "PORT"));
        Ok(())
    };
    let scratch = Scratch::new("other-authority")?;
    let other = Certificates::make(scratch.path())?;
    let mut with = settings(&kmip);
    with.trust.ca_file = Some(other.path("ca.pem"));
    says(&kmip, with, "its certificate is from an authority that is not trusted here")?;
    for (certificate, wanted) in [
        ("over", "its certificate has expired; renew the certificate there"),
        ("elsewhere", "its certificate is for another name; use the name in the certificate"),
    ] {
        kmip.kill()?;
        kmip.run(certificate)?;
        says(&kmip, settings(&kmip), wanted)?;
    }
    // With the name that is in the certificate it is the right one.
    let mut with = settings(&kmip);
    with.trust.server_name = Some("kms.example".into());
    said(wrapper(with, "k", None).create_key(soon())).map(drop)
}

#[test]
fn our_own_certificate_must_be_there_and_right() -> Result<()> {
    let shared = Shared::get()?;
    let scratch = Scratch::new("other-client")?;
    let other = Certificates::make(scratch.path())?;
    let mut with = settings(&shared.kmip);
    (with.trust.client_certificate, with.trust.client_key) = (None, None);
    let text = refused(wrapper(with.clone(), "k", None).describe(soon()), Kind::Untrusted)?;
    ensure!(text.contains("it wants a client certificate"), "{text}");
    seen!("without a certificate: {}", text.replace(&shared.kmip.port().to_string(), "PORT"));
    with.trust.client_certificate = Some(other.path("client.pem"));
    with.trust.client_key = Some(other.path("client.key"));
    let text = refused(wrapper(with, "k", None).describe(soon()), Kind::Untrusted)?;
    ensure!(text.contains("it refuses our client certificate"), "{text}");
    seen!("with another's: {}", text.replace(&shared.kmip.port().to_string(), "PORT"));
    Ok(())
}

/// PyKMIP has no suite of ours for an RSA certificate in TLS 1.2.
#[test]
fn a_server_that_has_no_cipher_suite_of_ours_is_not_said_to_want_a_certificate() -> Result<()> {
    let mut kmip = Kmip::start()?;
    let folder = kmip.path("").display().to_string();
    let line = format!(
        "cd {folder} && openssl req -newkey rsa:2048 -nodes -keyout rsa.key -subj /CN=rsa -out rsa.csr \
         && printf 'subjectAltName=IP:127.0.0.1' > rsa.ext && openssl x509 -req -in rsa.csr -CA ca.pem \
         -CAkey ca.key -CAcreateserial -days 2 -extfile rsa.ext -out rsa.pem && chmod 600 rsa.key"
    );
    test_kit::run("sh", ["-c", &line])?;
    kmip.kill()?;
    kmip.run("rsa")?;
    let mut with = settings(&kmip);
    with.trust.advice = as_configured(&kmip)?;
    let text = refused(wrapper(with, "k", None).describe(soon()), Kind::Untrusted)?;
    ensure!(text.contains("it and we have no TLS cipher suite in common"), "{text}");
    ensure!(!text.contains("client certificate"), "{text}");
    seen!("{}", text.replace(&kmip.port().to_string(), "PORT"));
    Ok(())
}

/// The words that a configuration with a client certificate has.
fn as_configured(kmip: &Kmip) -> Result<&'static keyward::backend::http::TlsAdvice> {
    let at = |name: &str| kmip.path(name).display().to_string();
    let text = format!(
        "[[provider]]\ntype = \"kmip\"\nclient_certificate_file = {:?}\nclient_key_file = {:?}\n",
        at("client.pem"),
        at("client.key")
    );
    let config = keyward::config::Config::parse(std::path::Path::new("k.toml"), &text);
    let config = config.map_err(|error| error.to_string())?;
    let trust = keyward::backend::http::TlsConfig::read(&config.providers[0].section);
    Ok(trust.map_err(|error| error.to_string())?.advice)
}

/// Destroyed, or revoked: no new key opens what the old one wrapped, and nobody is sent to make one.
#[test]
fn a_wrapping_key_that_is_gone_or_revoked_is_not_to_be_made_again() -> Result<()> {
    let shared = Shared::get()?;
    for (script, kind, wanted) in [
        (
            "client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, id)",
            Kind::State,
            "is Deactivated",
        ),
        (
            "client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, id); client.destroy(id)",
            Kind::NotMine,
            "which wrapped the keystore",
        ),
    ] {
        let name = shared.new_name();
        let wrapper = wrapper(settings(&shared.kmip), &name, None);
        said(wrapper.create_key(soon()))?;
        let wrapped = said(wrapper.wrap(&data()?, &context(), soon()))?;
        let id = wrapped.kek.rsplit('#').next().ok_or("no id")?;
        crate::python::run(&shared.kmip, &format!("id = {id:?}\n{script}\n"))?;
        let text = refused(wrapper.unwrap(&wrapped, &context(), soon()), kind)?;
        ensure!(
            text.contains(wanted) && text.contains("a new key cannot open the keystore"),
            "{text}"
        );
        seen!("{}", text.replace(&shared.kmip.port().to_string(), "PORT"));
        // A new one of that name does not, and the line is the same.
        said(wrapper.create_key(soon()))?;
        let again = refused(wrapper.unwrap(&wrapped, &context(), soon()), kind)?;
        ensure!(again == text, "{again}");
    }
    Ok(())
}

#[test]
fn what_belongs_to_another_user_is_not_ours() -> Result<()> {
    let shared = Shared::get()?;
    let certificates = shared.kmip.certificates();
    certificates.issue("stranger", "extendedKeyUsage=clientAuth", "2")?;
    let (name, prefix) = (shared.new_name(), shared.new_name());
    let owner = wrapper(settings(&shared.kmip), &name, None);
    said(owner.create_key(soon()))?;
    let wrapped = said(owner.wrap(&data()?, &context(), soon()))?;
    let mut with = settings(&shared.kmip);
    with.trust.client_certificate = Some(certificates.path("stranger.pem"));
    with.trust.client_key = Some(certificates.path("stranger.key"));
    let stranger = wrapper(with.clone(), &name, None);
    let text = refused(stranger.describe(soon()), Kind::NotFound)?;
    ensure!(text.contains("use the certificate of the key's owner"), "{text}");
    let text = refused(stranger.unwrap(&wrapped, &context(), soon()), Kind::Denied)?;
    ensure!(
        text.contains("refuses Decrypt of key") && text.contains("permission denied"),
        "{text}"
    );
    seen!("{}", text.replace(&shared.kmip.port().to_string(), "PORT"));
    said(server(settings(&shared.kmip), &prefix).put(&crate::key(1, 1)?, &data()?, soon()))?;
    ensure!(said(server(with, &prefix).list(soon()))?.is_empty(), "a stranger sees the keys");
    Ok(())
}

//! What the configuration may say.

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use super::settings::PORT;
use super::*;
use crate::backend;
use crate::config::Config;
use crate::env::{Rng, System};
use crate::error::Kind;
use crate::provider::Provider;

/// The provider of a section that has `lines`.
fn provider(lines: &str) -> Result<Provider> {
    let text = format!("[[provider]]\ntype = \"kmip\"\n{lines}\n");
    let config = Config::parse(Path::new("keyward.toml"), &text)?;
    let rng: Arc<dyn Rng> = Arc::new(System);
    backend::open(&config.providers[0].section, &rng)
}

#[test]
fn an_address_is_read_as_people_write_it() {
    for (text, host, port, shown) in [
        ("kms", "kms", 5696, "kms:5696"),
        ("kms.example:9999", "kms.example", 9999, "kms.example:9999"),
        ("10.0.0.7", "10.0.0.7", 5696, "10.0.0.7:5696"),
        ("::1", "::1", 5696, "[::1]:5696"),
        ("[::1]:7", "::1", 7, "[::1]:7"),
        ("[fe80::2]", "fe80::2", 5696, "[fe80::2]:5696"),
    ] {
        let address = Address::parse(text, PORT).unwrap();
        assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
        assert_eq!(address.to_string(), shown);
    }
    for text in ["", "kms:0", "kms:65536", "kms:x", "[::1", "[::1]7", "a b", "https://kms", "kms:"]
    {
        assert!(Address::parse(text, PORT).is_err(), "{text}");
    }
}

#[test]
fn a_section_wraps_or_serves() {
    for lines in [
        "server = \"kms\"\nkey = \"kek\"",
        "server = \"kms\"\nkey = \"kek\"\nversion = \"2.1\"",
        "server = [\"a\", \"b:1\"]\nport = 5697\nkey_id = \"7\"\nversion = \"1.2\"",
        "server = \"kms\"\nmaster_key = \"kek\"\nuse = \"wrap\"\nmechanism = \"get\"",
    ] {
        assert!(matches!(provider(lines).unwrap(), Provider::Wraps(_)), "{lines}");
    }
    let served = provider("server = \"kms\"\nuse = \"serve\"\nprefix = \"db7\"\nrefresh = \"1m\"");
    assert!(matches!(served.unwrap(), Provider::Serves(_)));
}

#[test]
fn what_is_wrong_in_it_is_named() {
    for (lines, wanted) in [
        ("key = \"kek\"", "lacks \"server\""),
        ("server = \"kms\"", "lacks \"key\""),
        ("server = \"kms\"\nkey = \"\"", "lacks \"key\""),
        ("server = \"kms\"\nkey = \"a\"\nkey_id = \"b\"", "key: the key is named twice"),
        ("server = [\"kms\", \"a b\"]\nkey = \"k\"", "server: is no host name and no address"),
        ("server = \"https://kms\"\nkey = \"k\"", "server: is no host name and no address"),
        ("server = []\nkey = \"k\"", "lacks \"server\""),
        ("server = \"kms\"\nport = 0\nkey = \"k\"", "port: is not a port"),
        ("server = \"kms\"\nversion = \"2.2\"\nkey = \"k\"", "does not speak KMIP \"2.2\""),
        ("server = \"kms\"\nmechanism = \"rsa\"\nkey = \"k\"", "is not a way to wrap"),
        ("server = \"kms\"\nuse = \"both\"", "must be \"wrap\" or \"serve\""),
        ("server = \"kms\"\nuse = \"serve\"\nkey = \"k\"", "unknown key \"key\""),
        ("server = \"kms\"\nkey = \"k\"\nprefix = \"p\"", "unknown key \"prefix\""),
        ("server = \"kms\"\nuse = \"serve\"\nprefix = \"\"", "prefix: is empty"),
        (
            "server = \"kms\"\nkey = \"k\"\nclient_key_file = \"/k\"",
            "lacks \"client_certificate_file\"",
        ),
    ] {
        let error = provider(lines).err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.what().starts_with("keyward.toml:"), "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

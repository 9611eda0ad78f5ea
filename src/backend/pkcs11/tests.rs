//! What a `[[provider]]` section of this type may say.

#![forbid(unsafe_code)]

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::error::Result;
use crate::secret::source::SecretSource;

fn read(lines: &str) -> Result<Settings> {
    let text = format!("[[provider]]\ntype = \"pkcs11\"\n{lines}");
    let config = Config::parse(Path::new("k.toml"), &text).unwrap();
    let section = &config.providers[0].section;
    let settings = Settings::read(section)?;
    section.done()?;
    Ok(settings)
}

fn refused(lines: &str) -> String {
    read(lines).err().map(|error| error.to_string()).unwrap_or_else(|| panic!("taken: {lines}"))
}

#[test]
fn words_and_a_uri_say_the_same() {
    let words = read(
        "module = \"/usr/lib/p11.so\"\ntoken = \"Our token\"\nserial = \"0a\"\nslot = 7\n\
         key = \"kek\"\nkey_id = \"01aF\"\npin_file = \"/etc/pin\"\nmechanism = \"aes-256-kwp\"\n",
    );
    let uri = read(
        "uri = \"pkcs11:token=Our%20token;serial=0a;slot-id=7;object=kek;id=%01%af\
         ?module-path=/usr/lib/p11.so&pin-source=file:/etc/pin\"\nmechanism = \"aes-256-kwp\"\n",
    );
    for settings in [words.unwrap(), uri.unwrap()] {
        assert_eq!(settings.module, Path::new("/usr/lib/p11.so"));
        assert_eq!(settings.token.label.as_deref(), Some("Our token"));
        assert_eq!((settings.token.serial.as_deref(), settings.token.slot), (Some("0a"), Some(7)));
        assert_eq!(settings.key.label.as_deref(), Some("kek"));
        assert_eq!(settings.key.id, Some(vec![1, 0xaf]));
        assert_eq!(settings.pin, Some(SecretSource::File("/etc/pin".into())));
        assert_eq!(settings.way, Some(WrapMechanism::Kwp));
    }
}

#[test]
fn what_is_missing_wrong_or_said_twice_is_named_with_its_place() {
    let base = "module = \"/m.so\"\ntoken = \"t\"\n";
    for (lines, wanted) in [
        (
            "token = \"t\"\nkey = \"k\"\n".to_owned(),
            "k.toml:1:1: [[provider]] lacks \"module\"; add a line `module = \"...\"`",
        ),
        (
            "module = \"/m.so\"\nkey = \"k\"\n".to_owned(),
            "k.toml:1:1: [[provider]] lacks \"token\"; add a line `token = \"...\"`",
        ),
        (base.to_owned(), "k.toml:1:1: [[provider]] lacks \"key\"; add a line `key = \"...\"`"),
        (
            format!("{base}key = \"k\"\nkey_id = \"1\"\n"),
            "k.toml:6:1: key_id: is not written in pairs of hex digits; write it as pkcs11-tool shows it: 01af",
        ),
        (format!("{base}key = \"k\"\nslot = -1\n"), "k.toml:6:1: slot: is not a slot's number"),
        (
            format!("{base}key = \"k\"\nuri = \"pkcs11:token=u\"\n"),
            "k.toml:4:1: token: the uri says it, too; say it once",
        ),
        (
            format!("{base}uri = \"pkcs11:object\"\n"),
            "k.toml:5:1: uri: an attribute is not written as name=value",
        ),
        (
            "uri = \"pkcs11:token=t;object=k?module-path=m.so\"\n".to_owned(),
            "k.toml:3:1: uri: module-path is not an absolute path",
        ),
        (
            format!("{base}key = \"k\"\nmechanism = \"des\"\n"),
            "k.toml:6:1: mechanism: \"des\" is not a way to wrap; use one of aes-256-gcm, aes-256-kwp, aes-256-kw, rsa-oaep-sha256, rsa-oaep-sha1",
        ),
        (
            format!("{base}key = \"k\"\npin = \"1234\"\n"),
            "k.toml:6:1: pin: a secret may not stand in the configuration; put it into a file of mode 0600 and name that file as `pin_file`",
        ),
        (
            format!("{base}key = \"k\"\npinfile = \"/etc/pin\"\n"),
            "k.toml:6:1: unknown key \"pinfile\" in [[provider]]; did you mean \"pin_file\"?",
        ),
    ] {
        assert_eq!(refused(&lines), wanted);
    }
}

#![forbid(unsafe_code)]

use std::path::Path;

use super::*;
use crate::config::Config;
use crate::error::Result;

fn read(lines: &str) -> Result<Settings> {
    let text = format!("[[provider]]\ntype = \"aws-kms\"\n{lines}\n");
    let config = Config::parse(Path::new("k.toml"), &text)?;
    let section = &config.providers[0].section;
    section.required("type")?;
    let settings = Settings::read(section)?;
    section.done()?;
    Ok(settings)
}

fn refusal(lines: &str) -> String {
    read(lines).err().unwrap().to_string()
}

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";

#[test]
fn reads_all_settings() {
    let settings = read(
        "key = \"alias/keyward\"\nregion = \"eu-central-1\"\nendpoint = \"https://vpce-1.kms.eu-central-1.vpce.amazonaws.com\"\n\
         profile = \"db\"\nconfig_file = \"/etc/keyward/aws-config\"\n\
         credentials_file = \"/etc/keyward/aws-credentials\"\ntimeout = \"5s\"",
    )
    .unwrap();
    assert_eq!(settings.key, "alias/keyward");
    assert!(!settings.fips && settings.endpoint.is_some());
    assert_eq!(settings.profile.as_deref(), Some("db"));
    assert_eq!(
        settings.credentials_file.as_deref(),
        Some(Path::new("/etc/keyward/aws-credentials"))
    );
    let settings = read(&format!("key = {ARN:?}\nfips = true")).unwrap();
    assert!(settings.fips && settings.region.is_none());
}

#[test]
fn says_what_is_wrong_with_a_setting() {
    assert!(refusal("").contains("lacks \"key\""));
    assert!(refusal("key = \"\"").contains("ARN, its id, or alias/NAME"));
    let region = refusal(&format!("key = {ARN:?}\nregion = \"us-east-1\""));
    assert!(region.contains("is us-east-1, and the key's ARN is of eu-central-1"), "{region}");
    let clear = refusal("key = \"k\"\nendpoint = \"http://kms.example.com\"");
    assert!(clear.contains("k.toml:4:1") && clear.contains("in the clear"), "{clear}");
    assert!(read("key = \"k\"\nendpoint = \"http://127.0.0.1:4566\"").is_ok());
    assert!(refusal("key = \"k\"\nendpoint = \"kms\"").contains("is no address"));
    let both = refusal("key = \"k\"\nfips = true\nendpoint = \"https://kms.example.com\"");
    assert!(both.contains("k.toml:4:1") && both.contains("`endpoint` names one"), "{both}");
    let secret = refusal("key = \"k\"\nsecret_access_key = \"wJalrXUt\"");
    assert!(secret.contains("may not stand in the configuration"), "{secret}");
    assert!(!secret.contains("wJalrXUt"));
    assert!(refusal("key = \"k\"\nprofil = \"x\"").contains("did you mean \"profile\"?"));
}

#[test]
fn files_of_a_profile_that_others_can_change_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    for name in ["config_file", "credentials_file"] {
        let settings = read(&format!("key = {ARN:?}\n{name} = {file:?}")).unwrap();
        let rng = std::sync::Arc::new(crate::env::System);
        let by = crate::env::Deadline::after(std::time::Duration::from_secs(20));
        let called = client::Client::new(settings, rng).run("trying", by, |_| Ok(()));
        let error = called.unwrap_err().to_string();
        assert!(
            error.contains("file can be written by others") && error.contains("chmod"),
            "{error}"
        );
    }
}

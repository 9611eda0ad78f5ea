//! Log-ins that no server of the tests knows, and what a token says of itself.

#![forbid(unsafe_code)]

use super::*;

/// A wrapper that logs in as a user of a directory, in a Vault that answers the log-in so.
fn by_ldap(answer: &str) -> (Result<crate::provider::KekInfo>, Vec<String>) {
    let login = "POST auth/corp/ldap/login/db$@example.com";
    let key = r#"{"data":{"type":"aes256-gcm96","latest_version":1,"keys":{"1":1772000000}}}"#;
    let answers = vec![(login, answer.to_owned()), ("GET transit/keys/k", key.to_owned())];
    let (peer, log) = Peer::routes(answers);
    let folder = tempfile::tempdir().unwrap();
    let mut vault = vault(&[&peer.address], folder.path());
    vault.login = Login::User {
        mount: "corp/ldap".into(),
        name: "db$@example.com".into(),
        // What `vault` put there for a token does for a password.
        password: SecretSource::File(folder.path().join("token")),
    };
    let settings = TransitSettings { vault, mount: "transit".into(), key: "k".into() };
    let wrapper = TransitWrapper::new(settings, Arc::new(System));
    let described = wrapper.describe(Deadline::after(Duration::from_secs(10)));
    let asked = log.lock().unwrap().clone();
    (described, asked)
}

#[test]
fn a_user_of_a_directory_logs_in_under_a_name_in_the_path() {
    let (described, asked) =
        by_ldap(r#"{"auth":{"client_token":"t","lease_duration":60,"renewable":true}}"#);
    assert_eq!(described.unwrap().kek, "transit/k:v1");
    assert_eq!(asked, ["POST auth/corp/ldap/login/db$@example.com", "GET transit/keys/k"]);
}

#[test]
fn a_token_of_another_namespace_is_known_by_its_path() {
    let lookup = |path: &str| {
        let body = format!(
            r#"{{"data":{{"ttl":0,"namespace_path":"{path}","type":"aes256-gcm96",
                "latest_version":1,"keys":{{"1":1772000000}}}}}}"#
        );
        let (peer, folder) = (Peer::status(200, &body), tempfile::tempdir().unwrap());
        let by = Deadline::after(Duration::from_secs(10));
        wrapper(&[&peer.address], folder.path()).describe(by).map_err(|error| error.to_string())
    };
    // Ours is `team`.
    for path in ["", "team/", "team/db/"] {
        assert!(lookup(path).is_ok(), "{path}");
    }
    for path in ["tea/", "team2/", "other/team/"] {
        let said = lookup(path).unwrap_err();
        assert!(said.contains("is of another namespace than team; "), "{path}: {said}");
    }
}

#[test]
fn a_second_factor_is_more_than_a_server_can_give() {
    let (described, asked) = by_ldap(
        r#"{"auth":{"client_token":"","lease_duration":0,"renewable":false,
            "mfa_requirement":{"mfa_request_id":"s3cret"}}}"#,
    );
    assert_eq!(
        described.err().unwrap().to_string(),
        "Vault wants a second factor for our log-in at auth/corp/ldap; a server has none: exempt it from \
         that rule, or use another `auth`"
    );
    assert_eq!(asked.len(), 1, "{asked:?}");
}

//! Each error that Azure answers with, and what it says to an operator.

#![forbid(unsafe_code)]

use reqwest::header::HeaderMap;
use serde_json::json;
use zeroize::Zeroizing;

use super::*;
use crate::backend::http::Reply;

const SECRET: &str = "hunter2";
const VERSION: &str = "0123456789abcdef0123456789abcdef";

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        location: None,
        retry_after: None,
        headers: HeaderMap::new(),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn error(status: u16, code: &str, inner: &str) -> Reply {
    let error = json!({ "code": code, "message": SECRET, "innererror": { "code": inner } });
    reply(status, &json!({ "error": error }).to_string())
}

fn sorted(step: &'static Step, key: &str, reply: &Reply) -> Error {
    let key = key.parse().unwrap();
    let (version, account) = (Some(VERSION), Some("app-1"));
    let context = CallContext { step, key: &key, version, place: "https://v", account };
    refused(&context, reply.status, &Refusal::of(reply))
}

const IN_VAULT: &str = "https://v.vault.azure.net/keys/k";
const IN_HSM: &str = "https://h.managedhsm.azure.net/keys/k";

#[test]
fn every_name_has_its_kind_and_its_advice() {
    let inner = |code| error(403, "Forbidden", code);
    let spelled = json!({ "error": {
        "code": "Forbidden", "message": SECRET, "innerError": { "code": "KeyDisabled" },
    } });
    let tenant = json!({ "error": {
        "code": "Unauthorized", "message": format!("AKV10032: Invalid issuer. {SECRET}"),
    } });
    for (reply, kind, words) in [
        (inner("ForbiddenByRbac"), Kind::Denied, "Azure denies unwrapKey on https://v.vault"),
        (
            inner("ForbiddenByRbac"),
            Kind::Denied,
            "az role assignment create --role=\"Key Vault Crypto Service Encryption User\" \
             --assignee=app-1 --scope=\"$(az keyvault show --name=v",
        ),
        (inner("AccessDenied"), Kind::Denied, "az keyvault set-policy --name=v --spn=app-1"),
        (inner("ForbiddenByFirewall"), Kind::Denied, "az keyvault network-rule add --name=v"),
        (inner("ForbiddenByConnection"), Kind::Denied, "private endpoints"),
        (
            inner("KeyDisabled"),
            Kind::State,
            "is disabled; az keyvault key set-attributes --vault-name=v --name=k --version=0123",
        ),
        (reply(403, &spelled.to_string()), Kind::State, "is disabled"),
        (inner("KeyNotYetValid"), Kind::State, "wraps nothing yet"),
        (inner("KeyExpired"), Kind::State, "az keyvault key rotate"),
        (inner("KeyOperationForbidden"), Kind::State, "--ops wrapKey unwrapKey"),
        (reply(403, "<html>hunter2"), Kind::Denied, "does a proxy refuse it?"),
        (reply(401, &tenant.to_string()), Kind::Denied, "--query=properties.tenantId"),
        (error(401, "Unauthorized", ""), Kind::Denied, "does not accept our token"),
        (error(404, "KeyNotFound", ""), Kind::NotMine, "az keyvault key list-deleted"),
        (reply(404, "<html>hunter2"), Kind::Unavailable, "`key` the right address"),
        (
            error(409, "Conflict", "ObjectIsDeletedButRecoverable"),
            Kind::State,
            "az keyvault key recover --vault-name=v --name=k",
        ),
        (error(409, "Conflict", "ObjectIsBeingDeleted"), Kind::Conflict, "try again"),
        (error(400, "BadParameter", ""), Kind::Corrupt, "another keystore"),
        (error(429, "Throttled", ""), Kind::Unavailable, "a vault of its own"),
        (
            error(503, "ServiceUnavailable", ""),
            Kind::Unavailable,
            "fails (status 503); it may pass",
        ),
        (error(418, "Brand\nNew", ""), Kind::Denied, "(BrandNew)"),
    ] {
        let error = sorted(&UNWRAP, IN_VAULT, &reply);
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(words) && !text.contains(SECRET), "{words}: {text}");
        assert!(error.advice().is_some(), "{text}");
    }
}

#[test]
fn a_managed_hsm_and_other_steps_have_lines_of_their_own() {
    let denied = error(403, "Forbidden", "ForbiddenByRbac");
    for (step, key, words) in [
        (
            &WRAP,
            IN_HSM,
            "az keyvault role assignment create --hsm-name=h --role=\"Managed HSM Crypto Service \
             Encryption User\" --assignee=app-1 --scope=/keys/k",
        ),
        (&DECRYPT, IN_HSM, "\"Managed HSM Crypto User\""),
        (&MAKE, IN_VAULT, "\"Key Vault Crypto Officer\""),
    ] {
        let said = sorted(step, key, &denied).to_string();
        assert!(said.contains(words), "{said}");
    }
    let none = sorted(&DESCRIBE, IN_HSM, &error(404, "KeyNotFound", ""));
    assert_eq!(none.kind(), Kind::NotFound, "{none}");
    assert!(none.to_string().contains("az keyvault key list --hsm-name=h"), "{none}");
    let said = sorted(&MAKE, IN_VAULT, &error(400, "BadParameter", "")).to_string();
    assert!(said.contains("key_type"), "{said}");
    let hsm = IN_HSM.parse().unwrap();
    assert!(purgeable(&hsm).to_string().contains("az keyvault update-hsm --hsm-name=h"));
    assert!(deleted(&hsm, None).to_string().contains("key recover --hsm-name=h --name=k"));
}

#[test]
fn a_log_in_that_fails_is_known_by_its_number_alone() {
    let of = |number: u64| {
        let body = json!({
            "error": "invalid_client", "error_description": SECRET, "error_codes": [number],
        });
        let error = OfEntra::of(&reply(401, &body.to_string())).unwrap();
        not_logged_in("app-1", "/f", "t", &error)
    };
    for (number, words) in [
        (7_000_215, "az ad app credential reset --id app-1"),
        (7_000_222, "or it has ended"),
        (700_027, "does not know the certificate in /f"),
        (700_213, "az identity federated-credential list"),
        (700_024, "clock"),
        (700_016, "the tenant t has no application app-1"),
        (53_003, "conditional access"),
        (1, "(AADSTS1)"),
    ] {
        let error = of(number);
        let text = error.to_string();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(text.contains(words) && !text.contains(SECRET), "{words}: {text}");
        assert!(text.contains(&format!("AADSTS{number}")) && error.advice().is_some(), "{text}");
    }
    let body = json!({ "error": "a\nhunter2 ", "error_description": SECRET }).to_string();
    let error = OfEntra::of(&reply(400, &body)).unwrap();
    let text = not_logged_in("app-1", "/f", "t", &error).to_string();
    assert!(text.contains("(ahunter)"), "{text}");
}

#[test]
fn what_no_answer_of_a_vault_says_has_its_advice() {
    let key: KeyName = IN_VAULT.parse().unwrap();
    let url = Url::parse("https://v.vault.azure.net").unwrap();
    for (error, words) in [
        (machine_away("the metadata service", 410), "some minutes"),
        (machine_without_identity(None), "az vm identity assign"),
        (machine_without_identity(Some("app-1")), "the managed identity app-1"),
        (no_credentials(), "client_secret_file"),
        (foreign("https://v"), "`key` the right address"),
        (no_challenge(&url), "`key` the right address"),
        (wrong_resource(&url), "no token was sent"),
        (other_tenant(&url, "t"), "correct `tenant`"),
        (changed(), "from a backup"),
        (cannot_wrap(&key, "EC"), "RSA-HSM"),
        (wrong_algorithm(&key, KeyType::Rsa, Algorithm::A256Kw), "correct `algorithm`"),
        (not_mine(&key, "https://w.vault.azure.net/keys/k/1"), "keyward keystore rewrap"),
        (purgeable(&key), "--enable-purge-protection=true"),
    ] {
        let text = error.to_string();
        assert!(error.advice().is_some() && text.contains(words), "{words}: {text}");
    }
}

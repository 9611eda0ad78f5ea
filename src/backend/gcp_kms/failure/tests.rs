//! Each error that Google answers with, and what it says to an operator.

#![forbid(unsafe_code)]

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;

const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
const SECRET: &str = "hunter2";

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status,
        location: None,
        retry_after: None,
        headers: HeaderMap::new(),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn error(code: u16, status: &str, message: &str, details: Value) -> Reply {
    let message = format!("{message} {SECRET}");
    let error = json!({ "status": status, "message": message, "details": details });
    reply(code, &json!({ "error": error }).to_string())
}

fn reason(name: &str) -> Value {
    json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": name }])
}

fn violation(kind: &str) -> Value {
    json!([{ "violations": [{ "type": kind, "subject": SECRET }] }])
}

fn sorted(step: &'static Step, version: Option<u64>, reply: &Reply) -> Error {
    let key = KEY.parse().unwrap();
    let account = Some("a@p.iam.gserviceaccount.com");
    let place = "https://cloudkms.googleapis.com";
    let context =
        CallContext { step, key: &key, version, place, account, quota_project: Some("q") };
    refused(&context, reply)
}

#[test]
fn every_name_has_its_kind_and_its_advice() {
    let denied = |name| error(403, "PERMISSION_DENIED", "", reason(name));
    let state = |message, details| error(400, "FAILED_PRECONDITION", message, details);
    let of = "--key=k --keyring=r --location=l --project=p";
    for (reply, kind, words) in [
        (
            denied("IAM_PERMISSION_DENIED"),
            Kind::Denied,
            "denies cloudkms.cryptoKeyVersions.useToDecrypt",
        ),
        (
            denied("IAM_PERMISSION_DENIED"),
            Kind::Denied,
            "gcloud kms keys add-iam-policy-binding k --keyring=r --location=l --project=p \
             --member=serviceAccount:a@p.iam.gserviceaccount.com --role=roles/cloudkms.cryptoKeyDecrypter",
        ),
        (
            denied("SERVICE_DISABLED"),
            Kind::Denied,
            "gcloud services enable cloudkms.googleapis.com --project=q",
        ),
        (denied("ACCESS_TOKEN_SCOPE_INSUFFICIENT"), Kind::Denied, "--scopes=cloud-platform"),
        (denied("USER_PROJECT_DENIED"), Kind::Denied, "serviceUsageConsumer"),
        (denied("SECURITY_POLICY_VIOLATED"), Kind::Denied, "VPC Service Controls"),
        (denied("BILLING_DISABLED"), Kind::Denied, "gcloud billing projects link q"),
        (reply(403, "<html>hunter2"), Kind::Denied, "does a proxy refuse it?"),
        (error(401, "UNAUTHENTICATED", "", json!([])), Kind::Denied, "keys list --iam-account=a@p"),
        (
            error(404, "NOT_FOUND", "x not found.", json!([])),
            Kind::NotFound,
            "gcloud kms keys list --keyring=r",
        ),
        (
            error(
                404,
                "NOT_FOUND",
                "The request concerns location 'a' but was sent to location 'b'.",
                json!([]),
            ),
            Kind::Config,
            "gcloud kms locations list --project=p",
        ),
        (reply(404, "<html>hunter2"), Kind::Unavailable, "`endpoint`"),
        (
            state("", violation("KEY_DISABLED")),
            Kind::State,
            "is disabled; gcloud kms keys versions enable 3",
        ),
        (state("is not enabled, current state is: DISABLED.", json!([])), Kind::State, of),
        (state("", violation("KEY_DESTROY_SCHEDULED")), Kind::State, "versions restore 3"),
        (
            state("current state is: DESTROY_SCHEDULED.", json!([])),
            Kind::State,
            "scheduled for destruction",
        ),
        (state("", violation("KEY_DESTROYED")), Kind::State, "is destroyed; nobody can restore it"),
        (state("current state is: DESTROYED.", json!([])), Kind::State, "another of its providers"),
        (
            state("current state is: PENDING_GENERATION", json!([])),
            Kind::Unavailable,
            "still being made",
        ),
        (state("", violation("KEY_PENDING_IMPORT")), Kind::State, "is in the state PENDING_IMPORT"),
        (state("something else", json!([])), Kind::State, "versions describe 3 --key=k"),
        (error(400, "INVALID_ARGUMENT", "", json!([])), Kind::Corrupt, "another keystore"),
        (
            error(400, "INVALID_ARGUMENT", "The checksum in field", json!([])),
            Kind::Unavailable,
            "changed on the way",
        ),
        (error(429, "RESOURCE_EXHAUSTED", "", json!([])), Kind::Unavailable, "quotas of Cloud KMS"),
        (error(409, "ALREADY_EXISTS", "", json!([])), Kind::Conflict, "try again"),
        (error(503, "UNAVAILABLE", "", json!([])), Kind::Unavailable, "fails (status 503)"),
        (error(500, "INTERNAL", "", json!([])), Kind::Unavailable, "fails (status 500)"),
        (error(418, "BRAND_NEW hunter2", "", json!([])), Kind::Denied, "(BRAND_NEWhunter)"),
    ] {
        let error = sorted(&DECRYPT, Some(3), &reply);
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(words) && !text.contains(SECRET), "{words}: {text}");
        assert!(error.advice().is_some(), "{text}");
    }
}

#[test]
fn a_key_without_a_primary_version_and_one_of_another_purpose_are_told() {
    let none = error(400, "FAILED_PRECONDITION", "does not have a primary version", json!([]));
    let said = sorted(&ENCRYPT, None, &none).to_string();
    assert!(said.contains("gcloud kms keys versions create --primary --key=k"), "{said}");
    let purpose = error(400, "INVALID_ARGUMENT", "", json!([]));
    let said = sorted(&ENCRYPT, None, &purpose).to_string();
    assert!(said.contains("ENCRYPT_DECRYPT"), "{said}");
    let said = sorted(&MAKE_KEY, None, &purpose).to_string();
    assert!(said.contains("correct `key`"), "{said}");
    let denied = error(403, "PERMISSION_DENIED", "", reason("IAM_PERMISSION_DENIED"));
    let said = sorted(&MAKE_KEY, None, &denied).to_string();
    assert!(said.contains("gcloud projects add-iam-policy-binding p"), "{said}");
}

#[test]
fn a_log_in_that_fails_is_told_by_its_name_alone() {
    for error in [
        log_in_over("/f", "invalid_grant"),
        not_federated("/f", "invalid_grant"),
        log_in_over("/f", "a\nhunter2"),
    ] {
        let text = error.to_string();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(
            text.contains("/f") && text.contains("gcloud ") && !text.contains(SECRET),
            "{text}"
        );
    }
    let refusal = Refusal::of(&error(403, "PERMISSION_DENIED", "", reason("x")));
    let said = not_impersonated("a@p", None, &refusal).to_string();
    assert!(said.contains("become a@p") && said.contains("serviceAccountTokenCreator"), "{said}");
    let refusal = Refusal::of(&error(403, "PERMISSION_DENIED", "", reason("SERVICE_DISABLED")));
    let said = not_impersonated("a@p", None, &refusal).to_string();
    assert!(said.contains("gcloud services enable iamcredentials.googleapis.com"), "{said}");
    let refusal = Refusal::of(&error(404, "NOT_FOUND", "", json!([])));
    let said = not_impersonated("a@p", None, &refusal).to_string();
    assert!(said.contains("there is no service account a@p"), "{said}");
}

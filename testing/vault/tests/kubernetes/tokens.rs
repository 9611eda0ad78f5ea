//! Tokens that are good, rotated, over, for others, of others, of pods and accounts that are gone.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::{Result, ensure};

use crate::pod::{ACCOUNT, AUDIENCE, Pod};
use crate::{BELIEVED, refused, works};

#[test]
fn the_newest_token_logs_in_and_those_before_it_end_with_their_pod() -> Result<()> {
    let pod = Pod::new()?;
    let wrapper = pod.world.wrapper(&pod)?;
    works(&wrapper)?;
    let old = pod.rotate()?;
    works(&wrapper)?;
    // The pod is made again, which ends its tokens; the file still has the last.
    pod.delete_entry()?;
    pod.make_entry()?;
    gone(&pod, &old)?;
    let text = refused(&wrapper)?;
    pod.world.show(&text);
    ensure!(!text.contains(&old), "the token shows: {text}");
    pod.rotate()?;
    works(&wrapper)
}

#[test]
fn a_token_that_has_ended_is_told_with_its_end_and_the_line_for_another() -> Result<()> {
    let pod = Pod::new()?;
    let wrapper = pod.world.wrapper(&pod)?;
    let made = Instant::now();
    let old = pod.rotate()?;
    works(&wrapper)?;
    sleep(Duration::from_secs(601).saturating_sub(made.elapsed()));
    gone(&pod, &old)?;
    let text = refused(&wrapper)?;
    let words = format!("the JWT of system:serviceaccount:{}:{ACCOUNT} ended at ", pod.namespace);
    ensure!(text.contains(&words), "{text}");
    pod.world.show(&text);
    let line = text.split_once("put a new one there: kubectl ").ok_or("no line")?.1;
    let words: Vec<_> = line.split_whitespace().collect();
    pod.put(pod.world.cluster.kubectl(&words)?.trim())?;
    works(&wrapper)
}

#[test]
fn a_token_for_others_or_of_others_is_refused_by_name() -> Result<()> {
    let (pod, other) = (Pod::new()?, Pod::new()?);
    let wrapper = pod.world.wrapper(&pod)?;
    let audience = format!("--audience={AUDIENCE}");
    pod.kubectl(&["create", "serviceaccount", "backup"])?;
    let account = format!("system:serviceaccount:{}", pod.namespace);
    let cases = [
        (
            pod.token(ACCOUNT, &["--audience=elsewhere"])?,
            format!("{account}:{ACCOUNT} for elsewhere"),
        ),
        (pod.token("backup", &[&audience])?, format!("{account}:backup for {AUDIENCE}")),
        (
            other.token(ACCOUNT, &[&audience])?,
            format!("system:serviceaccount:{}:{ACCOUNT} for {AUDIENCE}", other.namespace),
        ),
    ];
    for (token, who) in cases {
        pod.put(&token)?;
        let text = refused(&wrapper)?;
        let words = format!("role {} does not accept the JWT of {who}; ", pod.namespace);
        ensure!(text.contains(&words), "{text}");
        ensure!(!text.contains(&token), "the token shows: {text}");
        pod.world.show(&text);
    }
    // One for whoever asks the API server itself, as a pod has it that asked for none.
    pod.put(&pod.token(ACCOUNT, &[])?)?;
    let text = refused(&wrapper)?;
    ensure!(text.contains(&format!("{ACCOUNT} for https://kubernetes.default.svc; ")), "{text}");
    pod.rotate()?;
    works(&wrapper)
}

#[test]
fn a_deleted_account_is_refused_until_it_is_made_again_and_has_a_new_token() -> Result<()> {
    let pod = Pod::new()?;
    let wrapper = pod.world.wrapper(&pod)?;
    works(&wrapper)?;
    let old = pod.rotate()?;
    pod.kubectl(&["delete", "serviceaccount", ACCOUNT])?;
    gone(&pod, &old)?;
    let text = refused(&wrapper)?;
    pod.world.show(&text);
    let line = format!("`kubectl get serviceaccount {ACCOUNT} --namespace={}`", pod.namespace);
    ensure!(text.contains(&line), "{text}");
    ensure!(pod.kubectl(&["get", "serviceaccount", ACCOUNT]).is_err(), "the account is there");
    pod.make_account()?;
    // It has the name and is another.
    refused(&wrapper)?;
    pod.delete_entry()?;
    pod.make_entry()?;
    pod.rotate()?;
    works(&wrapper)
}

#[test]
fn while_the_api_server_is_away_nobody_logs_in() -> Result<()> {
    let pod = Pod::new()?;
    pod.world.mount("away", "https://127.0.0.1:1")?;
    pod.make_role_at("away", &[])?;
    let text = refused(&pod.world.wrapper_at("away", &pod)?)?;
    pod.world.show(&text);
    ensure!(text.ends_with("does Vault reach Kubernetes?"), "{text}");
    Ok(())
}

/// Waits until the API server knows that `token` is over, and takes away what it was good for.
fn gone(pod: &Pod, token: &str) -> Result<()> {
    let began = Instant::now();
    let (role, jwt) = (format!("role={}", pod.namespace), format!("jwt={token}"));
    while pod.world.vault.vault(&["write", "auth/kubernetes/login", &role, &jwt]).is_ok() {
        ensure!(began.elapsed() < BELIEVED, "it is good after {BELIEVED:?}");
        sleep(Duration::from_millis(500));
    }
    test_kit::seen!("a token that is over is refused after {:.1} s", began.elapsed().as_secs_f64());
    pod.world.revoke(&pod.namespace)
}

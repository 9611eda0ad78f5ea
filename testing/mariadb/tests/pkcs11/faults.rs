//! A module that loses its token, refuses or hangs: nothing is lost, nobody waits beyond the
//! deadline, and work goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keyward::Kind;
use keyward::backend::pkcs11::{Pkcs11Wrapper, Settings, TokenChoice, WrapMechanism};
use keyward::env::{Clock as _, Deadline, System};
use keyward::provider::{KeyWrapper as _, WrappedKey};
use keyward::secret::DataKey;
use test_kit::{Result, ensure, seen};

use crate::{Bench, Told, context, soon};

const THREADS: u32 = 2;
const UNWRAPS: u32 = 10_000;

/// What a module says when it lost something, and where it may say so.
const LOSSES: &[(u32, &str)] = &[
    (0x05, "CKR_GENERAL_ERROR"),
    (0x30, "CKR_DEVICE_ERROR"),
    (0x32, "CKR_DEVICE_REMOVED"),
    (0xb0, "CKR_SESSION_CLOSED"),
    (0xb3, "CKR_SESSION_HANDLE_INVALID"),
    (0xe0, "CKR_TOKEN_NOT_PRESENT"),
    (0x101, "CKR_USER_NOT_LOGGED_IN"),
    (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED"),
];
const CALLS: &[&str] = &["C_GetSessionInfo", "C_FindObjectsInit", "C_DecryptInit", "C_Decrypt"];

/// A provider with a new key, and a key that it wrapped.
fn wrapped(bench: &Bench, key: &str) -> Result<(Pkcs11Wrapper, WrappedKey, DataKey)> {
    wrapped_on(bench, "faults", key)
}

fn wrapped_on(
    bench: &Bench,
    token: &str,
    key: &str,
) -> Result<(Pkcs11Wrapper, WrappedKey, DataKey)> {
    let provider = bench.wrapper(token, key);
    provider.create_key(System.now(), soon()).told()?;
    let data = DataKey::generate(32, &System).told()?;
    let wrapped = provider.wrap(&data, &context(), soon()).told()?;
    Ok((provider, wrapped, data))
}

#[test]
fn two_threads_unwrap_ten_thousand_times_each() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, wrapped, data) = wrapped_on(&bench, "many", "many")?;
    let since = Instant::now();
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..UNWRAPS {
                    let opened = provider.unwrap(&wrapped, &context(), soon());
                    if !opened.is_ok_and(|opened| opened.expose() == data.expose()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (took, failed) = (since.elapsed(), failed.into_inner());
    seen!("{THREADS} threads x {UNWRAPS} unwraps: {failed} failed, {:.1} s", took.as_secs_f64());
    ensure!(failed == 0, "{failed} unwraps failed");
    Ok(())
}

#[test]
fn the_key_is_sensitive_and_never_extractable() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, ..) = wrapped(&bench, "kept")?;
    let said = bench.hsm.tool("faults", &["--list-objects", "--type", "secrkey"])?;
    let about = said.split("Secret Key Object").find(|object| object.contains("kept"));
    let about = about.ok_or("pkcs11-tool shows no key \"kept\"")?;
    let line = about.lines().find(|line| line.contains("Access:")).ok_or("no line Access:")?.trim();
    seen!("pkcs11-tool on the wrapping key: {line}");
    for word in ["sensitive", "always sensitive", "never extract", "local"] {
        ensure!(line.contains(word), "not {word}: {line}");
    }
    let info = provider.describe(soon()).told()?;
    ensure!(!info.exportable && info.created.is_some(), "{info:?}");
    let value =
        bench.hsm.tool("faults", &["--read-object", "--type", "secrkey", "--label", "kept"]);
    ensure!(value.is_err(), "the key was read from the token: {value:?}");
    Ok(())
}

#[test]
fn what_was_lost_is_got_again_within_the_call() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, wrapped, data) = wrapped(&bench, "lost")?;
    let mut count = 0;
    for (code, name) in LOSSES {
        for call in CALLS {
            for times in [1, 2] {
                // The module is begun again once a second at most.
                if times == 2 {
                    std::thread::sleep(Duration::from_millis(1050));
                }
                bench.hsm.refuse(call, *code, times);
                let opened = provider.unwrap(&wrapped, &context(), soon());
                bench.hsm.release();
                let opened =
                    opened.map_err(|error| format!("{call}, {name} x {times}: {error}"))?;
                ensure!(opened.expose() == data.expose(), "{call} {name}: another key");
                count += 1;
            }
        }
    }
    seen!(
        "{count} calls lost in {} ways at {} places: each was done again",
        LOSSES.len(),
        CALLS.len()
    );
    Ok(())
}

#[test]
fn what_stays_lost_is_told_with_the_call_and_the_code() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, wrapped, _) = wrapped(&bench, "away")?;
    for (code, name) in LOSSES {
        bench.hsm.refuse("C_DecryptInit", *code, 1000);
        let error = provider.unwrap(&wrapped, &context(), soon()).err().ok_or("it went through")?;
        bench.hsm.release();
        ensure!(error.what().ends_with(&format!("C_DecryptInit said {name}")), "{error}");
        ensure!(!matches!(error.kind(), Kind::Corrupt | Kind::NotMine), "{:?}", error.kind());
        seen!("{}", error.to_string().replace(&bench.scratch.path().display().to_string(), ""));
    }
    provider.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn a_token_taken_away_under_load_and_put_back_is_used_again() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, wrapped, data) = wrapped(&bench, "removed")?;
    let away = bench.scratch.path().join("away");
    let (done, good, bad) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let wrong = AtomicU32::new(0);
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    match provider.unwrap(&wrapped, &context(), soon()) {
                        Ok(opened) if opened.expose() == data.expose() => &good,
                        Ok(_) => &wrong,
                        Err(error) if matches!(error.kind(), Kind::Corrupt) => &wrong,
                        Err(_) => &bad,
                    }
                    .fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let moved = (|| -> Result<Duration> {
            std::thread::sleep(Duration::from_millis(500));
            std::fs::rename(bench.hsm.tokens(), &away)?;
            std::thread::sleep(Duration::from_secs(3));
            std::fs::rename(&away, bench.hsm.tokens())?;
            let (since, before) = (Instant::now(), good.load(Ordering::Relaxed));
            while good.load(Ordering::Relaxed) == before {
                ensure!(since.elapsed() < Duration::from_secs(20), "it never came back");
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(since.elapsed())
        })();
        done.store(true, Ordering::Relaxed);
        seen!("a token put back under load was used again after {} ms", moved?.as_millis());
        Ok(())
    })?;
    let [good, bad, wrong] = [good, bad, wrong].map(AtomicU32::into_inner);
    seen!("meanwhile {good} unwraps went well, {bad} failed for the time being, {wrong} wrongly");
    ensure!(bad > 0 && wrong == 0, "{bad} failed, {wrong} wrongly");
    Ok(())
}

#[test]
fn a_module_that_hangs_is_waited_for_until_the_deadline() -> Result<()> {
    const PATIENCE: Duration = Duration::from_millis(300);
    let bench = Bench::get()?;
    let (provider, wrapped, data) = wrapped(&bench, "hung")?;
    let mut longest = Duration::ZERO;
    let calls =
        ["C_GetSlotList", "C_GetSessionInfo", "C_FindObjects", "C_GetAttributeValue", "C_Decrypt"];
    for call in calls {
        bench.hsm.hang(call);
        // More calls than threads that may hang: all end in time.
        for _ in 0..6 {
            let since = Instant::now();
            let error = provider.unwrap(&wrapped, &context(), Deadline::after(PATIENCE)).err();
            longest = longest.max(since.elapsed());
            let error = error.ok_or(format!("{call} hung, and the call went through"))?;
            ensure!(error.kind() == Kind::Timeout, "{call}: {error}");
            ensure!(error.advice().is_some_and(|text| text.contains("hangs")), "{error}");
        }
        bench.hsm.release();
        let opened = provider.unwrap(&wrapped, &context(), soon()).told()?;
        ensure!(opened.expose() == data.expose(), "after {call}: another key");
    }
    seen!(
        "hung in {}: {} ms at most with a deadline of {} ms",
        calls.join(", "),
        longest.as_millis(),
        PATIENCE.as_millis()
    );
    ensure!(longest < PATIENCE + Duration::from_secs(1), "{longest:?}");
    Ok(())
}

#[test]
fn a_module_that_hangs_at_the_start_or_the_end_holds_up_nobody() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, wrapped, _) = wrapped(&bench, "ends")?;
    bench.hsm.hang("C_Finalize");
    let since = Instant::now();
    drop(provider);
    let took = since.elapsed();
    bench.hsm.release();
    seen!("let go while C_Finalize hangs: {} ms", took.as_millis());
    ensure!(took < Duration::from_secs(6), "{took:?}");
    std::thread::sleep(Duration::from_millis(100));
    bench.hsm.hang("C_Initialize");
    let provider = bench.wrapper("faults", "ends");
    let error = provider.unwrap(&wrapped, &context(), Deadline::after(Duration::from_millis(300)));
    ensure!(error.as_ref().is_err_and(|e| e.kind() == Kind::Timeout), "{:?}", error.err());
    bench.hsm.release();
    provider.unwrap(&wrapped, &context(), soon()).told()?;
    Ok(())
}

#[test]
fn a_new_key_takes_over_and_the_old_one_still_opens() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, old, data) = wrapped(&bench, "newer")?;
    for _ in 0..3 {
        let made = provider.create_key(System.now(), soon()).told()?;
        ensure!(
            provider.describe(soon()).told()?.kek == made.kek,
            "the newest is not the one made last"
        );
    }
    ensure!(
        provider.unwrap(&old, &context(), soon()).told()?.expose() == data.expose(),
        "another key"
    );
    let new = provider.rewrap(&old, &context(), soon()).told()?;
    ensure!(new.kek != old.kek, "still wrapped by {}", new.kek);
    ensure!(
        provider.unwrap(&new, &context(), soon()).told()?.expose() == data.expose(),
        "another key"
    );
    Ok(())
}

#[test]
fn a_token_is_found_by_each_of_its_names() -> Result<()> {
    let bench = Bench::get()?;
    let (provider, wrapped, _) = wrapped(&bench, "named")?;
    let probe = provider.probe(soon()).told()?;
    let fact = |name: &str| probe.facts.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    let serial = fact("serial").ok_or("no serial")?.trim_matches('"').to_owned();
    let by_serial = TokenChoice { serial: Some(serial), ..TokenChoice::default() };
    bench.wrapper_at(by_serial, "named").unwrap(&wrapped, &context(), soon()).told()?;
    let none = TokenChoice { label: Some("none".into()), ..TokenChoice::default() };
    let error = bench.wrapper_at(none, "named").unwrap(&wrapped, &context(), soon()).err();
    seen!("{}", error.as_ref().map(ToString::to_string).unwrap_or_default());
    ensure!(error.is_some_and(|e| e.kind() == Kind::Unavailable), "a token that is not there");
    let any = TokenChoice { model: Some("SoftHSM v2".into()), ..TokenChoice::default() };
    let error = bench.wrapper_at(any, "named").unwrap(&wrapped, &context(), soon()).err();
    seen!("{}", error.as_ref().map(ToString::to_string).unwrap_or_default());
    ensure!(error.is_some_and(|e| e.kind() == Kind::Config), "two tokens of that model");
    Ok(())
}

/// A token that cannot wrap with AES: nothing is left of the key that was made for it, however often.
#[test]
fn a_key_that_cannot_wrap_is_taken_back_and_the_way_by_rsa_is_shown() -> Result<()> {
    let bench = Bench::get()?;
    let settings = Settings { way: Some(WrapMechanism::Gcm), ..bench.settings("faults", "unfit") };
    let provider = Pkcs11Wrapper::new(settings, Arc::new(System));
    // CKR_MECHANISM_INVALID.
    bench.hsm.refuse("C_EncryptInit", 0x70, 1000);
    let errors: Vec<_> = (0..2)
        .map(|_| provider.create_key(System.now(), soon()).err().map(|e| e.to_string()))
        .collect();
    bench.hsm.release();
    for error in errors {
        let error = error.ok_or("it went through")?;
        for words in
            ["cannot wrap: aes-256-gcm", "--keypairgen --key-type rsa:3072", "without --create-key"]
        {
            ensure!(error.contains(words), "no {words:?}: {error}");
        }
        ensure!(!error.contains("--create-key` makes one"), "{error}");
        seen!("{error}");
    }
    let keys = bench.hsm.tool("faults", &["--list-objects", "--type", "secrkey"])?;
    ensure!(!keys.contains("unfit"), "a key is left: {keys}");
    Ok(())
}

//! Whatever is wrong about the PIN or the module's file is told in one line, and no token is ever
//! locked.

use std::sync::Arc;

use keyward::Kind;
use keyward::backend::pkcs11::{KeyChoice, Pkcs11Wrapper, Settings, TokenChoice};
use keyward::env::{Clock as _, System};
use keyward::provider::KeyWrapper as _;
use test_kit::{Result, ensure, files, seen};

use crate::{Bench, Told, private, soon};
use test_kit::hsm::{Hsm, PIN};

#[test]
fn a_wrong_pin_is_tried_once_and_then_no_more() -> Result<()> {
    let bench = Bench::get()?;
    let (right, wrong) = (bench.pin_file(), bench.scratch.path().join("wrong"));
    let pin_of = |path: &std::path::Path| Settings {
        module: bench.hsm.module(),
        token: TokenChoice { label: Some("pins".into()), ..TokenChoice::default() },
        pin: Some(keyward::secret::source::SecretSource::File(path.into())),
        key: KeyChoice { label: Some("k".into()), id: None },
        way: None,
    };
    let open = |path: &std::path::Path| Pkcs11Wrapper::new(pin_of(path), Arc::new(System));
    private(&wrong, "wrong-pin-0000\n")?;
    let provider = open(&wrong);
    let before = bench.hsm.calls("C_Login");
    for n in 0..20 {
        let error = provider.describe(soon()).err().ok_or("a wrong PIN went through")?;
        ensure!(error.kind() == Kind::Denied, "{error}");
        let text = error.to_string();
        ensure!(
            !text.contains("wrong-pin-0000") && !text.contains(PIN),
            "it shows the PIN: {text}"
        );
        if n < 2 {
            seen!("{}", text.replace(&bench.scratch.path().display().to_string(), ""));
        }
        // Another provider on the same token does not try it again either.
        ensure!(open(&wrong).describe(soon()).is_err(), "a wrong PIN went through");
    }
    let tries = bench.hsm.calls("C_Login") - before;
    seen!("40 calls with a wrong PIN: {tries} log-in was tried");
    ensure!(tries == 1, "{tries} log-ins");
    private(&wrong, PIN)?;
    provider.create_key(System.now(), soon()).told()?;
    ensure!(bench.hsm.calls("C_Login") - before == 2, "the corrected PIN was to be tried once");
    open(&right).describe(soon()).told()?;
    Ok(())
}

#[test]
fn the_last_try_that_a_token_allows_is_left_to_a_person() -> Result<()> {
    let bench = Bench::get()?;
    let folder = bench.scratch.path().join("kryoptic");
    std::fs::create_dir(&folder)?;
    let hsm = Hsm::kryoptic(&folder, "last")?;
    let pin = folder.join("pin");
    let settings = || Settings {
        module: hsm.module(),
        token: TokenChoice { label: Some("last".into()), ..TokenChoice::default() },
        pin: Some(keyward::secret::source::SecretSource::File(pin.clone())),
        key: KeyChoice { label: Some("k".into()), id: None },
        way: None,
    };
    let open = || Pkcs11Wrapper::new(settings(), Arc::new(System));
    private(&pin, PIN)?;
    open().create_key(System.now(), soon()).told()?;
    // Each is another one, and each time it is a new process as far as keyward can tell.
    let mut last = String::new();
    for n in 0..40 {
        private(&pin, &format!("wrong-pin-{n:04}"))?;
        last = open().describe(soon()).err().ok_or("a wrong PIN went through")?.to_string();
    }
    seen!("40 wrong PINs, {} log-ins, then: {last}", hsm.calls("C_Login"));
    ensure!(last.contains("one more wrong PIN locks it"), "{last}");
    let said = hsm.tool("last", &["--list-objects", "--type", "secrkey"])?;
    ensure!(said.contains("label:      k"), "the right PIN was to open the token: {said}");
    private(&pin, PIN)?;
    open().describe(soon()).told()?;
    Ok(())
}

#[test]
fn a_pin_is_missing_or_none() -> Result<()> {
    let bench = Bench::get()?;
    let empty = bench.scratch.path().join("empty");
    private(&empty, "\n")?;
    bench.hsm.make_token("nobody")?;
    for (pin, wanted) in [
        (None, "token \"nobody\" wants a PIN; name the file that holds it as `pin_file`"),
        (Some(&empty), "holds no PIN; put the token's user PIN into it, and nothing else"),
    ] {
        let settings = Settings {
            module: bench.hsm.module(),
            token: TokenChoice { label: Some("nobody".into()), ..TokenChoice::default() },
            pin: pin.map(|path| keyward::secret::source::SecretSource::File(path.clone())),
            key: KeyChoice { label: Some("k".into()), id: None },
            way: None,
        };
        let error = Pkcs11Wrapper::new(settings, Arc::new(System)).describe(soon()).err();
        let error = error.ok_or("it went through without a PIN")?;
        ensure!(error.to_string().ends_with(wanted), "{error}");
        ensure!(error.kind() == Kind::Config, "{error}");
    }
    Ok(())
}

#[test]
fn a_module_that_is_none_is_refused() -> Result<()> {
    let bench = Bench::get()?;
    let folder = bench.scratch.path();
    let (open, none) = (folder.join("open.so"), folder.join("none.so"));
    std::fs::copy(bench.hsm.module(), &open)?;
    files::chmod(&open, 0o777)?;
    files::write(&none, "no library")?;
    files::chmod(&none, 0o755)?;
    let libc = std::path::PathBuf::from("/lib/x86_64-linux-gnu/libz.so.1");
    for (module, wanted) in [
        (folder.join("missing.so"), "cannot find the PKCS#11 module"),
        (open, "can be changed by others"),
        (none, "cannot be loaded"),
        (libc, "has no C_GetFunctionList"),
    ] {
        let settings = Settings {
            module,
            token: TokenChoice { label: Some("pins".into()), ..TokenChoice::default() },
            pin: None,
            key: KeyChoice { label: Some("k".into()), id: None },
            way: None,
        };
        let error = Pkcs11Wrapper::new(settings, Arc::new(System)).describe(soon()).err();
        let error = error.ok_or("it was taken")?;
        seen!("{}", error.to_string().replace(&folder.display().to_string(), ""));
        ensure!(error.what().contains(wanted) && error.advice().is_some(), "{error}");
    }
    Ok(())
}

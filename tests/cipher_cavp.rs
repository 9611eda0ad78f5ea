//! NIST's CAVP response files (`tests/golden/cavp`) through every kernel that this CPU runs. Each file
//! names its source.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

use keyward::cipher::Direction::{self, Decrypt, Encrypt};
use keyward::cipher::{CipherError, Context, Kernel, Mode, Padding};

/// One case: its fields by name, and which way it goes where the file says so in a heading.
struct Case {
    decrypt: bool,
    fields: BTreeMap<String, String>,
}

impl Case {
    fn bytes(&self, name: &str) -> Vec<u8> {
        let text = self.fields.get(name).unwrap_or_else(|| panic!("no {name}")).as_bytes();
        let digits = text.as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.iter().map(|pair| byte(pair).unwrap()).collect()
    }

    fn fails(&self) -> bool {
        self.fields.contains_key("FAIL")
    }
}

/// The cases of the file called `name`; each begins with its count.
fn cases(name: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cavp").join(name);
    let mut cases: Vec<Case> = Vec::new();
    let mut decrypt = false;
    for line in fs::read_to_string(path).unwrap().lines() {
        if line.starts_with('[') {
            decrypt = line == "[DECRYPT]";
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let (name, value) = (name.trim().to_ascii_uppercase(), value.trim().to_owned());
        if name == "COUNT" {
            cases.push(Case { decrypt, fields: BTreeMap::new() });
        }
        cases.last_mut().expect("a count comes first").fields.insert(name, value);
    }
    cases
}

fn kernels() -> Vec<Kernel> {
    for name in Kernel::NAMES.iter().filter(|name| Kernel::named(name).is_none()) {
        println!("{name}: NOT RUN, this CPU has not the instructions");
    }
    Kernel::NAMES.iter().filter_map(|name| Kernel::named(name)).collect()
}

fn run(
    kernel: Kernel,
    (mode, direction, padding): (Mode, Direction, Padding),
    key: &[u8],
    iv: &[u8],
    src: &[u8],
) -> Result<Vec<u8>, CipherError> {
    let mut slot = MaybeUninit::uninit();
    let context = Context::init_with(kernel, &mut slot, mode, direction, padding, key, iv)?;
    let mut out = vec![MaybeUninit::new(0); src.len() + 32];
    let done = context.update(src, &mut out)?;
    let tail = context.finish()?;
    Ok([&filled(&out[..done]), &*tail].concat())
}

#[allow(unsafe_code)]
fn filled(out: &[MaybeUninit<u8>]) -> Vec<u8> {
    // SAFETY: `run` makes its buffer of zeros.
    out.iter().map(|byte| unsafe { byte.assume_init() }).collect()
}

/// Every case of a CBC file; returns how many there were.
fn cbc(name: &str) -> usize {
    let cases = cases(name);
    for case in &cases {
        let (key, iv) = (case.bytes("KEY"), case.bytes("IV"));
        let (plain, cipher) = (case.bytes("PLAINTEXT"), case.bytes("CIPHERTEXT"));
        let (direction, from, to) =
            if case.decrypt { (Decrypt, cipher, plain) } else { (Encrypt, plain, cipher) };
        for kernel in kernels() {
            let done = run(kernel, (Mode::Cbc, direction, Padding::None), &key, &iv, &from);
            assert_eq!(done, Ok(to.clone()), "{name} {:?} on {kernel}", case.fields["COUNT"]);
        }
    }
    cases.len()
}

/// Every case of a GCM file; returns how many there were, and how many of them must fail.
fn gcm(name: &str, direction: Direction) -> (usize, usize) {
    let cases = cases(name);
    for case in &cases {
        let key = case.bytes("KEY");
        let iv = [case.bytes("IV"), case.bytes("AAD")].concat();
        let sealed = [case.bytes("CT"), case.bytes("TAG")].concat();
        for kernel in kernels() {
            let what = (Mode::Gcm, direction, Padding::Pkcs7);
            let (from, to) = match direction {
                Encrypt => (case.bytes("PT"), Ok(sealed.clone())),
                Decrypt if case.fails() => (sealed.clone(), Err(CipherError::BadData)),
                Decrypt => (sealed.clone(), Ok(case.bytes("PT"))),
            };
            assert_eq!(run(kernel, what, &key, &iv, &from), to, "{name} on {kernel}");
        }
    }
    (cases.len(), cases.iter().filter(|case| case.fails()).count())
}

#[test]
fn cbc_known_answers_and_messages() {
    for bits in [128, 192, 256] {
        for kind in ["GFSbox", "KeySbox", "MMT"] {
            let count = cbc(&format!("CBC{kind}{bits}.rsp"));
            assert!(count >= 10, "CBC{kind}{bits}: only {count} cases");
        }
    }
}

#[test]
fn gcm_encryption() {
    for bits in [128, 192, 256] {
        assert_eq!(gcm(&format!("gcmEncryptExtIV{bits}.rsp"), Encrypt), (25, 0), "{bits}");
    }
}

#[test]
fn gcm_decryption_and_its_failures() {
    for bits in [128, 192, 256] {
        assert_eq!(gcm(&format!("gcmDecrypt{bits}.rsp"), Decrypt), (50, 25), "{bits}");
    }
}

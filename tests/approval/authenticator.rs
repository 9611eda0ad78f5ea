//! Keys in a FIDO authenticator, which is software here, and signatures put together by hand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::approval::PublicKey;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256, Sha512};

use crate::bench::{Bench, CAROL, NAMESPACE};

const KIND: &str = "sk-ssh-ed25519@openssh.com";
const APPLICATION: &str = "ssh:";

/// What OpenSSH's PROTOCOL.u2f describes, without the hardware.
struct Authenticator(Ed25519KeyPair);

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A file `.sig` by `key`, with `signature` over what SSHSIG has signed of `text`.
fn armored(key: &[u8], text: &[u8], signature: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let parts = [&string(NAMESPACE.as_bytes())[..], &string(b""), &string(b"sha512")].concat();
    let signed = [b"SSHSIG", &parts[..], &string(&Sha512::digest(text))].concat();
    let head = [&b"SSHSIG"[..], &1_u32.to_be_bytes(), &string(key)].concat();
    let blob = [head, parts, string(&signature(&signed))].concat();
    let text = STANDARD.encode(blob);
    format!("-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n")
}

impl Authenticator {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn blob(&self) -> Vec<u8> {
        let key = string(self.0.public_key().as_ref());
        [string(KIND.as_bytes()), key, string(APPLICATION.as_bytes())].concat()
    }

    fn public(&self, name: &str) -> PublicKey {
        format!("{KIND} {} {name}", STANDARD.encode(self.blob())).parse().unwrap()
    }

    /// The signature over `text`, with the authenticator's `flags`.
    fn sign(&self, text: &[u8], flags: u8) -> String {
        armored(&self.blob(), text, |signed| {
            let more = [&[flags][..], &7_u32.to_be_bytes()].concat();
            let digest = |bytes: &[u8]| Sha256::digest(bytes).to_vec();
            let message = [digest(APPLICATION.as_bytes()), more.clone(), digest(signed)].concat();
            let signature = self.0.sign(&message);
            [string(KIND.as_bytes()), string(signature.as_ref()), more].concat()
        })
    }
}

/// What says to be signed by the certificate in `line`. It is refused before anybody verifies it.
pub(crate) fn by_certificate(line: &str, text: &[u8]) -> String {
    let key = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();
    armored(&key, text, |_| [string(b"ssh-ed25519"), string(&[0; 64])].concat())
}

#[test]
fn an_authenticator_approves_when_it_was_touched() {
    let bench = Bench::of(3);
    let (dora, erik) = (Authenticator::new(1), Authenticator::new(2));
    let keys = [dora.public("dora"), erik.public("erik"), bench.people.key("alice")];
    assert!(keys[0].fingerprint() != keys[1].fingerprint());
    bench.custodian.manager().unwrap().set_approvers(&keys, 2, CAROL).unwrap();
    let request = bench.waits(bench.plan());
    let text = request.text.as_bytes();
    let untouched = bench.approve(&request, dora.sign(text, 0).as_bytes()).err().unwrap();
    assert!(untouched.to_string().contains("dora (SHA256:"), "{untouched}");
    let other = bench.approve(&request, dora.sign(b"other", 1).as_bytes()).err().unwrap();
    assert!(other.to_string().contains("signed something else"), "{other}");
    // Touched, and touched with a PIN.
    bench.approve(&request, dora.sign(text, 1).as_bytes()).unwrap();
    bench.approve(&request, erik.sign(text, 5).as_bytes()).unwrap();
    bench.plan().unwrap();
}

/// `ssh-keygen` itself verifies what the software authenticator made, so the test's form is OpenSSH's.
#[test]
fn openssh_takes_what_this_authenticator_signs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let dora = Authenticator::new(1);
    std::fs::write(path("allowed"), format!("dora {}\n", dora.public("dora"))).unwrap();
    std::fs::write(path("text"), "a request\n").unwrap();
    std::fs::write(path("text.sig"), dora.sign(b"a request\n", 1)).unwrap();
    let mut verify = std::process::Command::new("ssh-keygen");
    verify.args(["-Y", "verify", "-n", NAMESPACE, "-I", "dora", "-f"]).arg(path("allowed"));
    let verified = verify
        .arg("-s")
        .arg(path("text.sig"))
        .stdin(std::fs::File::open(path("text")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

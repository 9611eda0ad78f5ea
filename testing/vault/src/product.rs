//! Vault and OpenBao, which the same suites run on: all in which the two differ for a test.

use std::path::Path;

use test_kit::files::count;
use test_mariadb::memory::Needle;

/// How many characters of an OpenBao token come after its prefix.
const TOKEN_LEN: usize = 24;

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// HashiCorp's Vault.
    Vault,
    /// OpenBao.
    OpenBao,
}

/// How a server is made to write down each request and each answer.
pub enum Audit {
    /// By lines of its configuration.
    Config(String),
    /// By these words to the command, once it runs.
    Command(Vec<String>),
}

/// What must stand nowhere.
pub enum Secret {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Any token that this product gives out.
    AnyToken(Product),
}

impl Product {
    /// Whose `program` is, as its name says.
    #[must_use]
    pub fn of(program: &Path) -> Self {
        match program.file_stem().is_some_and(|name| name == "bao") {
            true => Self::OpenBao,
            false => Self::Vault,
        }
    }

    /// How a server of it writes an audit log to `file`: OpenBao lets nobody name a file by its API.
    #[must_use]
    pub fn audit(self, file: &Path) -> Audit {
        let file = file.display();
        match self {
            Self::Vault => {
                let words = ["audit", "enable", "file", &format!("file_path={file}")];
                Audit::Command(words.map(str::to_owned).into())
            }
            Self::OpenBao => Audit::Config(format!(
                "audit \"file\" \"file\" {{\n  options = {{ file_path = \"{file}\" }}\n}}\n"
            )),
        }
    }

    /// The lines of a configuration by which a server wants no leave to lock its memory: OpenBao never
    /// locks it.
    #[must_use]
    pub fn without_mlock(self) -> &'static str {
        match self {
            Self::Vault => "disable_mlock = true\n",
            Self::OpenBao => "",
        }
    }

    /// How often a token that it gave out stands in `bytes`.
    #[must_use]
    pub fn tokens_in(self, bytes: &[u8]) -> usize {
        match self {
            Self::Vault => count(bytes, b"hvs."),
            // Its prefix `s.` is anywhere: what follows must look like a token, too.
            Self::OpenBao => (0..bytes.len()).filter(|at| is_token(bytes, *at)).count(),
        }
    }
}

/// Whether an OpenBao token begins at `at`: `s.` and 24 letters and digits, and nothing that it is
/// only a part of.
fn is_token(bytes: &[u8], at: usize) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let Some(random) = bytes[at..].strip_prefix(b"s.") else { return false };
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    random.len() >= TOKEN_LEN
        && random[..TOKEN_LEN].iter().all(u8::is_ascii_alphanumeric)
        && !is_word(random.get(TOKEN_LEN))
        && !is_word(before)
}

impl Secret {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into())
    }

    /// How often it stands in `bytes`.
    #[must_use]
    pub fn times(&self, bytes: &[u8]) -> usize {
        match self {
            Self::Bytes(secret) => count(bytes, secret),
            Self::AnyToken(product) => product.tokens_in(bytes),
        }
    }
}

impl Needle for Secret {
    fn times(&self, memory: &[u8]) -> usize {
        Secret::times(self, memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_known_by_its_program() {
        assert_eq!(Product::of(Path::new("/cache/openbao-2.7.2/bao")), Product::OpenBao);
        assert_eq!(Product::of(Path::new("/cache/vault-1.21.2/vault")), Product::Vault);
    }

    #[test]
    fn a_token_is_found_by_its_shape() {
        let told = |text: &str| Product::OpenBao.tokens_in(text.as_bytes());
        assert_eq!(told("token=s.Q8Agd5m8UOBSEKGO5rl0JizE\n"), 1);
        // In a namespace its id comes behind.
        assert_eq!(told("s.BEvXIqZcPy2WSBfAToJZpMYt.4ChcmS s.Q8Agd5m8UOBSEKGO5rl0JizE"), 2);
        for other in [
            "s.",
            "s.Q8Agd5m8UOBSEKGO5rl0Jiz",
            "s.Q8Agd5m8UOBSEKGO5rl0JizEE",
            "as.Q8Agd5m8UOBSEKGO5rl0JizE",
        ] {
            assert_eq!(told(other), 0, "{other}");
        }
        assert_eq!(Product::Vault.tokens_in(b"hvs.CAESIJ"), 1);
    }
}

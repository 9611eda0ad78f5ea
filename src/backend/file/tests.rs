#![forbid(unsafe_code)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::env::Deadline;
use crate::error::{Kind, Result};
use crate::key::{KeyId, KeyRef, KeyState, KeyVersion, PageMode};
use crate::provider::KeyServer as _;
use crate::secret::source::SecretSource;

const KEY: &str = "00112233445566778899aabbccddeeff";
const OTHER: &str = "ffeeddccbbaa99887766554433221100";

const V10: Dialect = Dialect::Original(Edition::V10);
const V11_8: Dialect = Dialect::Original(Edition::V11_8);

/// A key file of one test, and the settings to open it with.
struct Trial {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Trial {
    fn new(dialect: Dialect, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().join("keys.txt"),
            password: None,
            digest: Digest::Sha1,
            pbkdf2_iterations: 0,
            mode: PageMode::Cbc,
            strict_permissions: dialect == Dialect::Keyward,
            dialect,
        };
        let trial = Self { folder, settings };
        trial.write("keys.txt", text.as_bytes());
        trial
    }

    /// The same keys encrypted by the machine's openssl, opened with the password's file `name`.
    fn encrypted(dialect: Dialect, password: &str) -> Self {
        let mut trial = Self::new(dialect, &format!("1;{KEY}\n"));
        let plain = trial.settings.path.clone();
        trial.settings.path = trial.folder.path().join("keys.enc");
        let status = std::process::Command::new("openssl")
            .args(["enc", "-aes-256-cbc", "-md", "sha1", "-pass"])
            .arg(format!("pass:{password}"))
            .arg("-in")
            .arg(plain)
            .arg("-out")
            .arg(&trial.settings.path)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        trial.close("keys.enc", 0o600);
        trial
    }

    fn with_password_file(mut self, content: &[u8]) -> Self {
        let source = SecretSource::File(self.write("password", content));
        self.settings.password = Some(Password::From(source));
        self
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        self.close(name, 0o600);
        path
    }

    /// A key file that is a pipe; another thread writes `text` to it.
    fn with_pipe(dialect: Dialect, text: String) -> Self {
        let mut trial = Self::new(dialect, "");
        trial.settings.path = trial.pipe("pipe");
        write_to(trial.settings.path.clone(), text);
        trial
    }

    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    fn close(&self, name: &str, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.folder.path().join(name), permissions).unwrap();
    }

    fn open(self) -> (tempfile::TempDir, FileServer) {
        (self.folder, FileServer::new(self.settings).unwrap())
    }

    /// What it says to `list`, with the folder's name taken out.
    fn error(self) -> String {
        let (folder, server) = self.open();
        let error = server.list(soon()).err().unwrap().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    }
}

/// Writes to a pipe once it is read; who reads may have enough before all is written.
fn write_to(pipe: PathBuf, text: String) {
    std::thread::spawn(move || std::fs::write(pipe, text));
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn key(id: u32, version: u32) -> KeyRef {
    KeyRef::new(KeyId::try_from(id).unwrap(), KeyVersion::try_from(version).unwrap())
}

#[test]
fn the_newest_version_of_each_key_is_active() -> Result<()> {
    let text = format!("2;{KEY}\n1;5;{KEY}\n1;{OTHER}{OTHER}\n");
    let (_folder, server) = Trial::new(Dialect::Keyward, &text).open();
    let infos: Vec<_> = server
        .list(soon())?
        .into_iter()
        .map(|info| (info.key.to_string(), info.state, info.purpose.to_string()))
        .collect();
    let expected = [
        ("key 1 version 1", KeyState::Retired, "aes-256-cbc"),
        ("key 1 version 5", KeyState::Active, "aes-128-cbc"),
        ("key 2 version 1", KeyState::Active, "aes-128-cbc"),
    ];
    assert_eq!(infos, expected.map(|(k, state, c)| (k.to_owned(), state, c.to_owned())));
    Ok(())
}

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_is_not_believed() -> Result<()> {
    let (folder, server) = Trial::new(Dialect::Keyward, &format!("1;{KEY}\n")).open();
    let old = server.fetch(&key(1, 1), soon())?.check_value();
    let path = folder.path().join("keys.txt");

    std::fs::write(&path, format!("1;{KEY}\n1;2;{OTHER}\n")).unwrap();
    assert_ne!(server.fetch(&key(1, 2), soon())?.check_value(), old);
    assert_eq!(server.list(soon())?.len(), 2);

    std::fs::write(&path, "1;beef\n").unwrap();
    for _ in 0..2 {
        assert_eq!(server.list(soon()).err().unwrap().kind(), Kind::Config);
        assert_eq!(server.fetch(&key(1, 1), soon()).err().unwrap().kind(), Kind::Config);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(server.list(soon()).err().unwrap().kind(), Kind::Io);

    std::fs::write(&path, format!("1;{KEY}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(server.fetch(&key(1, 1), soon())?.check_value(), old);
    assert_eq!(server.fetch(&key(1, 2), soon()).err().unwrap().kind(), Kind::NotFound);
    Ok(())
}

#[test]
fn an_unchanged_file_is_not_read_again() -> Result<()> {
    let (folder, server) = Trial::new(Dialect::Keyward, &format!("1;{KEY}\n")).open();
    server.list(soon())?;
    let before =
        server.snapshot.lock().unwrap().as_ref().unwrap().entries[0].data.expose().as_ptr();
    server.list(soon())?;
    server.fetch(&key(1, 1), soon())?;
    let after = server.snapshot.lock().unwrap().as_ref().unwrap().entries[0].data.expose().as_ptr();
    assert_eq!(before, after);
    drop(folder);
    Ok(())
}

#[test]
fn a_file_of_many_keys_is_served() -> Result<()> {
    let text: String = (1..=3000).map(|id| format!("{id};{KEY}\n")).collect();
    let (_folder, server) = Trial::new(Dialect::Keyward, &text).open();
    assert_eq!(server.list(soon())?.len(), 3000);
    for id in [1, 1500, 3000] {
        assert_eq!(server.fetch(&key(id, 1), soon())?.expose().len(), 16);
    }
    Ok(())
}

#[test]
fn the_original_looks_at_no_permissions_and_we_do() -> Result<()> {
    for (dialect, mode, opens) in [
        (V10, 0o644, true),
        (V10, 0o666, true),
        (Dialect::Keyward, 0o644, false),
        (Dialect::Keyward, 0o660, false),
        (Dialect::Keyward, 0o640, true),
        (Dialect::Keyward, 0o400, true),
    ] {
        let trial = Trial::new(dialect, &format!("1;{KEY}\n"));
        trial.close("keys.txt", mode);
        let (_folder, server) = trial.open();
        let kind = server.list(soon()).err().map(|error| error.kind());
        assert_eq!(kind.is_none(), opens, "{dialect:?} {mode:o}: {kind:?}");
    }
    Ok(())
}

/// As MariaDB 10.11's plugin takes or refuses the same password files.
#[test]
fn a_password_file_counts_as_the_original_counts_it() {
    let long = "s".repeat(256);
    let over = "s".repeat(257);
    for (password, content, opens) in [
        ("secret", "secret", true),
        ("secret", "secret\n", true),
        ("secret", "secret\r\r\n\n\r", true),
        ("secret", "secret\0x\n", true),
        ("secret", "secret \n", false),
        ("secret", "\nsecret\n", false),
        ("secret", "secret\nother\n", false),
        ("secret", "\n\n", false),
        (&long, &long, true),
        (&long, &format!("{long}\r\n"), true),
        (&over, &over, false),
    ] {
        let trial = Trial::encrypted(V10, password);
        let (_folder, server) = trial.with_password_file(content.as_bytes()).open();
        assert_eq!(server.list(soon()).is_ok(), opens, "{content:?}");
    }
}

#[test]
fn the_original_says_what_is_wrong_with_a_password() {
    let encrypted = || Trial::encrypted(V10, "secret");
    let wrong = "Cannot decrypt keys.enc. Wrong key?";
    for content in ["wrong", "\n\n", "secret\nx"] {
        assert_eq!(encrypted().with_password_file(content.as_bytes()).error(), wrong);
    }
    assert_eq!(encrypted().error(), wrong);
    assert_eq!(
        encrypted().with_password_file(&[b's'; 300]).error(),
        "Cannot read password, the filekey is too long, max secret size is 256B "
    );
    assert_eq!(
        encrypted().with_password_file(&[b's'; 10_000]).error(),
        "Cannot read password, the filekey is too long, max secret size is 256B "
    );
    assert_eq!(
        Trial::new(V10, "").with_password_file(b"secret").error(),
        "Cannot decrypt keys.txt. Not encrypted"
    );
    let mut missing = encrypted();
    let source = SecretSource::File("bad.key".into());
    missing.settings.password = Some(Password::From(source));
    assert_eq!(
        missing.error(),
        "File 'bad.key' not found (Errcode: 2 \"No such file or directory\")"
    );
}

#[test]
fn a_file_without_end_or_that_is_none_is_refused() {
    let long = format!("1;{KEY}\n#{}\n", "x".repeat(MAX_FILE_LEN));
    assert_eq!(
        Trial::new(V10, &long).error(),
        "Error reading file 'keys.txt' (Errcode: 27 \"File too large\")"
    );
    assert!(Trial::new(Dialect::Keyward, &long).error().contains("keys.txt"));
    let fits = &long[..MAX_FILE_LEN];
    let (_folder, server) = Trial::new(V10, fits).open();
    assert!(server.list(soon()).is_ok());

    let mut folder = Trial::new(V10, "");
    folder.settings.path = folder.folder.path().to_owned();
    let (_folder, server) = folder.open();
    let error = server.list(soon()).err().unwrap().to_string();
    assert!(error.ends_with("(Errcode: 21 \"Is a directory\")"), "{error}");
}

/// As MariaDB 11.8's plugin: from a pipe it takes more than the pipe holds at a time, and reads it once.
#[test]
fn a_named_pipe_is_read_once_from_11_8_on() -> Result<()> {
    let text: String = (1..=20_000).map(|id| format!("{id};{KEY}\n")).collect();
    let (folder, server) = Trial::with_pipe(V11_8, text.clone()).open();
    assert_eq!(server.list(soon())?.len(), 20_000);
    assert_eq!(server.bytes_read(), text.len());
    std::fs::remove_file(folder.path().join("pipe")).unwrap();
    assert_eq!(server.fetch(&key(20_000, 1), soon())?.expose().len(), 16);
    assert_eq!(server.list(soon())?.len(), 20_000);

    let too_long = Trial::with_pipe(V11_8, "#".repeat(MAX_FILE_LEN + 1));
    assert_eq!(too_long.error(), "File pipe too large, must be less than 1048576 bytes");
    let fits = format!("1;{KEY}\n{}", "#".repeat(MAX_FILE_LEN));
    let (_folder, server) = Trial::with_pipe(V11_8, fits[..MAX_FILE_LEN].to_owned()).open();
    assert!(server.list(soon()).is_ok());
    Ok(())
}

/// Nobody writes to these pipes: what opened one would wait.
#[test]
fn a_named_pipe_is_refused_before_11_8_and_under_our_own_name() {
    for dialect in [V10, Dialect::Keyward] {
        let mut trial = Trial::new(dialect, "");
        trial.settings.path = trial.pipe("pipe");
        let (_folder, server) = trial.open();
        assert!(server.list(soon()).is_err(), "{dialect:?}");
    }
}

#[test]
fn a_password_may_come_out_of_a_pipe_from_11_8_on() -> Result<()> {
    let mut trial = Trial::encrypted(V11_8, "secret");
    let pipe = trial.pipe("password");
    trial.settings.password = Some(Password::From(SecretSource::File(pipe.clone())));
    let path = trial.settings.path.clone();
    let (_folder, server) = trial.open();
    write_to(pipe, "secret\n".to_owned());
    assert_eq!(server.list(soon())?.len(), 1);
    // The password is not there a second time.
    std::fs::write(path, "changed").unwrap();
    assert_eq!(server.list(soon())?.len(), 1);
    Ok(())
}

#[test]
fn from_11_8_on_a_file_that_is_none_fails_with_the_systems_number() {
    let mut trial = Trial::new(V11_8, "");
    trial.settings.path = trial.folder.path().to_owned();
    let (_folder, server) = trial.open();
    let error = server.list(soon()).err().unwrap().to_string();
    assert!(error.ends_with(" failed, errno 21"), "{error}");
    let mut trial = Trial::encrypted(V11_8, "secret");
    let folder = SecretSource::File(trial.folder.path().to_owned());
    trial.settings.password = Some(Password::From(folder));
    let (_folder, server) = trial.open();
    let error = server.list(soon()).err().unwrap().to_string();
    assert!(error.ends_with("(Errcode: 21 \"Is a directory\")"), "{error}");
}

#[test]
fn without_a_password_the_original_tries_an_empty_one() {
    let (_folder, server) = Trial::encrypted(V10, "").open();
    assert!(server.list(soon()).is_ok());
    let error = Trial::encrypted(Dialect::Keyward, "").error();
    assert!(error.contains("no password is set"), "{error}");
}

/// Not every editor writes UTF-8, and a remark is nobody's business.
#[test]
fn a_remark_may_be_in_any_encoding_and_a_flaw_is_still_found() {
    let text = |end: &[u8]| [format!("1;{KEY}\n# schl").as_bytes(), b"\xfcssel\n", end].concat();
    for dialect in [Dialect::Keyward, V10] {
        let trial = Trial::new(dialect, "");
        trial.write("keys.txt", &text(b""));
        let (_folder, server) = trial.open();
        assert!(server.list(soon()).is_ok(), "{dialect:?}");
    }
    let flawed = Trial::new(Dialect::Keyward, "");
    flawed.write("keys.txt", &text(b"2;x\n"));
    assert!(flawed.error().starts_with("keys.txt:3:3: "));
}

#[test]
fn the_variable_filekey_is_a_password_or_names_a_file() -> Result<()> {
    assert!(Password::of_variable("")?.is_none());
    let Some(Password::From(SecretSource::File(path))) = Password::of_variable("FILE:/a b")? else {
        panic!("not a file")
    };
    assert_eq!(path, Path::new("/a b"));
    let mut trial = Trial::encrypted(V10, "file:x");
    trial.settings.password = Password::of_variable("file:x")?;
    let (_folder, server) = trial.open();
    assert!(server.list(soon()).is_ok(), "only capitals mean a file");
    Ok(())
}

#[test]
fn no_file_named_is_an_error_at_once() {
    for (dialect, text) in [
        (Dialect::Keyward, "no key file is named; set `path` to the key file"),
        (V10, "file-key-management-filename is not set"),
    ] {
        let mut trial = Trial::new(dialect, "");
        trial.settings.path = PathBuf::new();
        assert_eq!(FileServer::new(trial.settings).err().unwrap().to_string(), text);
    }
}

#[test]
fn digests_read_back_and_others_are_refused() -> Result<()> {
    for digest in Digest::ALL {
        assert_eq!(digest.to_string().parse::<Digest>()?, digest);
    }
    for text in ["", "SHA1", "md5", "sha3-256"] {
        assert_eq!(text.parse::<Digest>().unwrap_err().kind(), Kind::Config, "{text}");
    }
    Ok(())
}

/// What fails with a password and a digest that is not the file's, and the advice followed.
#[test]
fn a_password_that_opens_by_another_digest_is_told_from_a_wrong_one() {
    let encrypted = |words: &str| {
        let trial = Trial::encrypted(Dialect::Keyward, "secret");
        let path = trial.folder.path();
        let line = format!(
            "cd {} && openssl enc -aes-256-cbc {words} -pass pass:secret -in keys.txt -out keys.enc \
             2>/dev/null",
            path.display()
        );
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
        trial.with_password_file(b"secret\n")
    };
    for (words, advice) in [
        ("-md sha256", "set digest = \"sha256\" and pbkdf2_iterations = 0"),
        ("", "set digest = \"sha256\" and pbkdf2_iterations = 0"),
        ("-pbkdf2", "set digest = \"sha256\" and pbkdf2_iterations = 10000"),
        ("-pbkdf2 -md sha512", "set digest = \"sha512\" and pbkdf2_iterations = 10000"),
    ] {
        let said = encrypted(words).error();
        let what = "keys.enc: the password opens it with another digest than is configured";
        assert_eq!(said, format!("{what}; {advice}"), "{words}");
        let mut trial = encrypted(words);
        trial.settings.digest = advice.split('"').nth(1).unwrap().parse().unwrap();
        trial.settings.pbkdf2_iterations = advice.rsplit(' ').next().unwrap().parse().unwrap();
        let (_folder, server) = trial.open();
        assert_eq!(server.list(soon()).unwrap().len(), 1, "{words}");
    }
    let wrong = encrypted("").with_password_file(b"wrong\n").error();
    assert!(wrong.starts_with("keys.enc: the password does not open it"), "{wrong}");
}

#[test]
fn a_file_of_another_kind_is_named_and_the_advice_makes_a_key_file_of_it() {
    let text = format!("1;{KEY}\n");
    let marked = format!("\u{feff}{text}");
    let utf_16: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, what) in
        [(marked.as_bytes(), "begins with a byte-order mark"), (&utf_16, "is UTF-16")]
    {
        let trial = Trial::new(Dialect::Keyward, "");
        let path = trial.write("keys.txt", content);
        let (folder, server) = trial.open();
        let said = server.list(soon()).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{} {what}", path.display())), "{said}");
        let line = said.split(": ").last().unwrap();
        let line = format!("{line}; [ ! -e {0}.new ] || cat {0}.new > {0}", path.display());
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().unwrap().success());
        assert_eq!(server.list(soon()).unwrap().len(), 1, "{line}");
        drop(folder);
    }
    let said = Trial::new(Dialect::Keyward, KEY).error();
    assert_eq!(said, "keys.txt is a key without an id; put the id before it: 1;KEY");
    let said = Trial::new(Dialect::Keyward, "U2FsdGVkX1+abc").with_password_file(b"secret").error();
    assert!(
        said.starts_with("keys.txt is encrypted, and written in base64; decode it: "),
        "{said}"
    );
}

#[test]
fn the_mode_of_a_key_file_is_never_guessed() {
    let read = |line: &str| {
        let text = format!("[[provider]]\ntype = \"file\"\npath = \"/keys\"\n{line}\n");
        let config = crate::config::Config::parse(Path::new("keyward.toml"), &text).unwrap();
        Settings::read(&config.providers[0].section).map(|settings| settings.mode)
    };
    assert_eq!(read("mode = \"cbc\"").unwrap(), PageMode::Cbc);
    assert_eq!(read("mode = \"ctr\"").unwrap(), PageMode::Ctr);
    let error = read("").unwrap_err();
    assert_eq!(error.what(), "keyward.toml:1:1: [[provider]] lacks \"mode\"");
    let advice = error.advice().unwrap();
    assert!(advice.starts_with("give mode = \"cbc\" if file_key_management has used"), "{advice}");
}

//! Tokens of a real PKCS#11 module in a folder of their own, reached through `shim.c`, which tells
//! the module where that is and can be told to hang or to refuse.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The user PIN of every token here.
pub const PIN: &str = "right-pin-2718";
const SO_PIN: &str = "security-officer-1";

/// SoftHSM2 as Debian installs it.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A module with its tokens.
pub struct Hsm {
    folder: PathBuf,
    real: PathBuf,
    variable: &'static str,
}

impl Hsm {
    /// SoftHSM2 on tokens in `folder`, none yet; an error says what is missing.
    pub fn softhsm(folder: &Path) -> Result<Self, String> {
        if !Path::new(SOFTHSM).exists() {
            return Err(format!("no {SOFTHSM}: apt-get install softhsm2 opensc"));
        }
        let tokens = folder.join("tokens");
        std::fs::create_dir_all(&tokens).map_err(|e| e.to_string())?;
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
             slots.removable = false\n",
            tokens.display()
        );
        let hsm = Self { folder: folder.into(), real: SOFTHSM.into(), variable: "SOFTHSM2_CONF" };
        std::fs::write(hsm.config(), text).map_err(|e| e.to_string())?;
        hsm.compile()?;
        Ok(hsm)
    }

    /// Kryoptic, where the variable `KEYWARD_KRYOPTIC` says, with one token `label` in `folder`.
    pub fn kryoptic(folder: &Path, label: &str) -> Result<Self, String> {
        let real = std::env::var_os("KEYWARD_KRYOPTIC")
            .ok_or("no KEYWARD_KRYOPTIC: `cargo xtask test` builds that module and names it")?;
        let database = folder.join("token.sql");
        let text = format!(
            "[[slots]]\nslot = 42\ndbtype = \"sqlite\"\ndbargs = {:?}\n",
            database.display().to_string()
        );
        let hsm = Self { folder: folder.into(), real: real.into(), variable: "KRYOPTIC_CONF" };
        std::fs::write(hsm.config(), text).map_err(|e| e.to_string())?;
        hsm.compile()?;
        let slot = ["--slot", "42", "--so-pin", SO_PIN];
        for words in [
            &["--init-token", "--label", label][..],
            &["--login", "--login-type", "so", "--init-pin", "--pin", PIN],
        ] {
            let mut tool = Command::new("pkcs11-tool");
            hsm.run(tool.arg("--module").arg(&hsm.real).args(slot).args(words))?;
        }
        Ok(hsm)
    }

    /// The module to configure.
    pub fn module(&self) -> PathBuf {
        self.folder.join("shim.so")
    }

    /// Where the module keeps its tokens.
    pub fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    /// The module itself and the variable that tells it where its configuration is.
    pub fn real(&self) -> (&Path, &'static str, PathBuf) {
        (&self.real, self.variable, self.config())
    }

    /// A token called `label`.
    pub fn make_token(&self, label: &str) -> Result<(), String> {
        let words = ["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN];
        self.run(Command::new("softhsm2-util").args(words)).map(drop)
    }

    /// An answer of OpenSC's `pkcs11-tool` at the token `label`, logged in: a second opinion.
    pub fn tool(&self, label: &str, words: &[&str]) -> Result<String, String> {
        let token = ["--token-label", label, "--login", "--pin", PIN];
        let ask = || {
            let mut tool = Command::new("pkcs11-tool");
            self.run(tool.arg("--module").arg(&self.real).args(token).args(words))
        };
        // SoftHSM2 writes a token's flags again at each log-in, and who looks then sees no token.
        ask().or_else(|_| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            ask()
        })
    }

    /// From now on `function` answers `code`, `times` times.
    pub fn refuse(&self, function: &str, code: u32, times: u32) {
        self.rule(&format!("{function} {code:#x} {times}\n"));
    }

    /// From now on `function` hangs, until [`release`](Self::release).
    pub fn hang(&self, function: &str) {
        self.rule(&format!("{function} hang\n"));
    }

    /// Everything works again, and goes on.
    pub fn release(&self) {
        let _ = std::fs::remove_file(self.folder.join("rule"));
    }

    /// How often C_Login or C_Decrypt was called.
    pub fn calls(&self, function: &str) -> usize {
        let calls = std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == function).count()
    }

    fn rule(&self, text: &str) {
        let new = self.folder.join("rule.new");
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(new, self.folder.join("rule")))
            .unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.join("module.conf")
    }

    fn run(&self, command: &mut Command) -> Result<String, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.env(self.variable, self.config()).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("{program}: {}{}", text(&output.stdout), text(&output.stderr))),
        }
    }

    fn compile(&self) -> Result<(), String> {
        let source = self.folder.join("shim.c");
        std::fs::write(&source, include_str!("shim.c")).map_err(|e| e.to_string())?;
        let define = |name: &str, value: &Path| format!("-D{name}=\"{}\"", value.display());
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(self.module());
        cc.arg(define("REAL", &self.real)).arg(define("VARIABLE", Path::new(self.variable)));
        cc.arg(define("CONFIG", &self.config())).arg(define("RULE", &self.folder.join("rule")));
        cc.arg(define("CALLS", &self.folder.join("calls"))).arg(source).arg("-ldl");
        self.run(&mut cc).map(drop)
    }
}

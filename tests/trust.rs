//! Root is never lent: the command as root, and files that somebody else prepared. What needs two
//! users runs where the tests are root's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use keyward::config::Config;
use keyward::trust::{self, Folder};
use nix::unistd::geteuid;
use tempfile::TempDir;

/// The account that stands for the server's.
const NOBODY: u32 = 65_534;
/// Somebody else.
const STRANGER: u32 = 65_533;
/// No call takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a keystore, and where root keeps its own.
struct Site(TempDir);

impl Site {
    /// Set up by `keyward init`; as root for the account `nobody`.
    fn new() -> Self {
        let site = Self::empty();
        let made = site.keyward(&["init", "--dir", &site.text("keyward")]);
        assert!(made.status.success(), "{}", said(&made));
        site
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o755);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn config(&self) -> PathBuf {
        self.path("keyward/keyward.toml")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(env!("CARGO_BIN_EXE_keyward"));
        if !words.contains(&"--config") {
            command.arg("--config").arg(self.config());
        }
        command.args(words);
        if geteuid().is_root() {
            command.args(["--user", "nobody"]);
        }
        command
    }

    fn keyward(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// That the command refuses at once, with these words.
    fn refused(&self, call: &[&str], words: &[&str]) -> String {
        let start = Instant::now();
        let output = self.keyward(call);
        let text = said(&output);
        assert!(start.elapsed() < PATIENCE, "{call:?} hangs");
        assert!(!output.status.success(), "{call:?}: {text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{call:?}, {word}: {text}"));
        text
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn pipe(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
}

/// A module whose constructor writes `uid euid suid` and whether root can be had again.
fn module(path: &Path, report: &Path) {
    let source = path.with_extension("c");
    let text = format!(
        "#define _GNU_SOURCE\n#include <stdio.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void loaded(void) {{\n\
         uid_t r, e, s; getresuid(&r, &e, &s);\n\
         FILE *f = fopen(\"{}\", \"w\"); if (!f) return;\n\
         fprintf(f, \"%u %u %u %d\\n\", r, e, s, setresuid(0, 0, 0)); fclose(f); }}\n",
        report.display()
    );
    fs::write(&source, text).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(path).arg(source).status();
    assert!(built.unwrap().success());
    chmod(path, 0o755);
}

/// Adds a provider that loads `module`.
fn load_module(site: &Site, module: &Path) {
    let pin = site.path("keyward/pin");
    fs::write(&pin, "1234\n").unwrap();
    chmod(&pin, 0o640);
    if geteuid().is_root() {
        chown(&pin, None, Some(NOBODY)).unwrap();
    }
    let more = format!(
        "\n[[provider]]\nname = \"hsm\"\ntype = \"pkcs11\"\nmodule = {module:?}\n\
         token = \"t\"\nkey = \"k\"\npin_file = {pin:?}\n"
    );
    fs::write(site.config(), fs::read_to_string(site.config()).unwrap() + &more).unwrap();
}

/// What is said of it, and how the site comes to it.
type Spoil = (&'static str, fn(&Site));

#[test]
fn a_configuration_that_others_can_change_is_refused_everywhere() {
    let spoils: [Spoil; 4] = [
        ("keyward.toml can be written by others", |site| chmod(&site.config(), 0o666)),
        ("keyward can be written by others", |site| chmod(&site.path("keyward"), 0o777)),
        ("keyward.toml belongs to user 65533", |site| {
            chown(site.config(), Some(STRANGER), None).unwrap();
        }),
        ("keyward belongs to user 65533", |site| {
            chown(site.path("keyward"), Some(STRANGER), None).unwrap();
        }),
    ];
    for (words, spoil) in spoils {
        if words.contains("belongs") && !geteuid().is_root() {
            continue;
        }
        let site = Site::new();
        let report = site.path("loaded");
        fs::write(&report, "").unwrap();
        chmod(&report, 0o666);
        module(&site.path("module.so"), &report);
        load_module(&site, &site.path("module.so"));
        spoil(&site);
        site.refused(&["status"], &[words, "who could"]);
        let doctor = site.refused(&["doctor"], &["FAIL", words]);
        assert!(!doctor.contains("provider"), "{doctor}");
        assert_eq!(fs::read_to_string(&report).unwrap(), "", "the module was loaded: {words}");
        // The server's way.
        let error = Config::load(&site.config()).err().expect(words);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn init_refuses_a_folder_that_others_can_change() {
    let site = Site::empty();
    let folder = site.path("open");
    fs::create_dir(&folder).unwrap();
    chmod(&folder, 0o777);
    site.refused(&["init", "--dir", &site.text("open")], &["can be written by others", "chmod"]);
    if geteuid().is_root() {
        chmod(&folder, 0o755);
        chown(&folder, Some(NOBODY), None).unwrap();
        let words = ["open belongs to user 65534", "use a folder of root's"];
        site.refused(&["init", "--dir", &site.text("open")], &words);
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "something is left behind");
}

#[test]
fn links_lead_through_trusted_folders_only() {
    let site = Site::new();
    // As Kubernetes mounts secrets: a sticky folder for all, in which the links are root's.
    let mount = site.path("mount");
    fs::create_dir(&mount).unwrap();
    chmod(&mount, 0o1777);
    fs::create_dir(mount.join("..2026_11_29")).unwrap();
    chmod(&mount.join("..2026_11_29"), 0o755);
    let text = fs::read_to_string(site.config()).unwrap();
    fs::write(mount.join("..2026_11_29/keyward.toml"), text).unwrap();
    symlink("..2026_11_29", mount.join("..data")).unwrap();
    symlink("..data/keyward.toml", mount.join("keyward.toml")).unwrap();
    Config::load(&mount.join("keyward.toml")).map(drop).unwrap();
    chmod(&mount, 0o777);
    let error = Config::load(&mount.join("keyward.toml")).err().unwrap().to_string();
    assert!(error.contains("mount can be written by others"), "{error}");
    assert!(Folder::open(&mount).is_err());
    if geteuid().is_root() {
        chmod(&mount, 0o1777);
        fs::remove_file(mount.join("..data")).unwrap();
        symlink("..2026_11_29", mount.join("..data")).unwrap();
        std::os::unix::fs::lchown(mount.join("..data"), Some(STRANGER), None).unwrap();
        let error = Config::load(&mount.join("keyward.toml")).err().unwrap().to_string();
        assert!(error.contains("..data belongs to user 65533"), "{error}");
    }
    symlink("loop", site.path("loop")).unwrap();
    assert!(trust::read(&site.path("loop"), 1).is_err());
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let site = Site::new();
    let text = fs::read(site.config()).unwrap();
    let endless = site.path("endless");
    symlink("/dev/zero", &endless).unwrap();
    pipe(&site.path("pipe"));
    for other in ["pipe", "endless"] {
        let words = ["is not a regular file"];
        site.refused(&["--config", &site.text(other), "status"], &words);
        site.refused(&["import", "--from-mycnf", &site.text(other)], &words);
        site.refused(&["doctor", "--config", &site.text(other)], &words);
        let option_file = site.path("my.cnf");
        let include = format!("[mysqld]\n!include {}\n", site.text(other));
        fs::write(&option_file, include).unwrap();
        site.refused(&["import", "--from-mycnf", &site.text("my.cnf")], &words);
    }
    let trail = site.path("keyward/keystore/audit.jsonl");
    let before = fs::read(site.path("keyward/keystore/keystore.json")).unwrap();
    fs::remove_file(&trail).unwrap();
    pipe(&trail);
    if geteuid().is_root() {
        chown(&trail, Some(NOBODY), None).unwrap();
    }
    site.refused(&["rotate", "1"], &["audit.jsonl is not a regular file", "move the file aside"]);
    fs::remove_file(&trail).unwrap();
    symlink("/dev/zero", &trail).unwrap();
    site.refused(&["rotate", "1"], &["audit.jsonl is a symbolic link", "move the file aside"]);
    assert_eq!(fs::read(site.path("keyward/keystore/keystore.json")).unwrap(), before);
    fs::remove_file(&trail).unwrap();
    // As the advice has it.
    let done = site.keyward(&["rotate", "1"]);
    assert!(done.status.success(), "{}", said(&done));
    fs::remove_file(site.config()).unwrap();
    fs::write(site.config(), [&text[..], &vec![b'#'; 2 << 20]].concat()).unwrap();
    site.refused(&["status"], &["has more than 65536 bytes"]);
}

#[test]
fn a_module_never_has_roots_ids() {
    if !geteuid().is_root() {
        return;
    }
    for owner in [0, NOBODY] {
        let site = Site::new();
        let report = site.path("loaded");
        fs::write(&report, "").unwrap();
        chmod(&report, 0o666);
        let file = site.path("module.so");
        module(&file, &report);
        chown(&file, Some(owner), None).unwrap();
        load_module(&site, &file);
        let doctor = said(&site.keyward(&["doctor"]));
        assert_eq!(fs::read_to_string(&report).unwrap(), "65534 65534 65534 -1\n", "{doctor}");
        // One that somebody else can change is not loaded at all.
        fs::write(&report, "").unwrap();
        chown(&file, Some(STRANGER), None).unwrap();
        site.refused(&["doctor"], &["the PKCS#11 module", "can be changed by others"]);
        assert_eq!(fs::read_to_string(&report).unwrap(), "");
    }
}

#[test]
fn what_the_second_command_has_is_the_accounts() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let report = site.path("loaded");
    fs::write(&report, "").unwrap();
    chmod(&report, 0o666);
    let source = site.path("module.c");
    let text = format!(
        "#include <stdlib.h>\n#include <stdio.h>\n__attribute__((constructor)) static void in(void) {{\n\
         char line[512]; FILE *f = fopen(\"{0}\", \"w\"), *s = fopen(\"/proc/self/status\", \"r\");\n\
         while (fgets(line, sizeof line, s)) fputs(line, f);\n\
         fprintf(f, \"secret %d soft %d\\n\", getenv(\"ROOTS_SECRET\") != 0, getenv(\"SOFTHSM2_CONF\") != 0);\n\
         fprintf(f, \"controls %d\\n\", fopen(\"/dev/tty\", \"r\") != 0);\n\
         fprintf(f, \"left open %d\\n\", fopen(\"/proc/self/fd/9\", \"r\") != 0); fclose(f); }}\n",
        report.display()
    );
    fs::write(&source, text).unwrap();
    let file = site.path("module.so");
    let mut cc = Command::new("cc");
    let built = cc.args(["-w", "-shared", "-fPIC", "-o"]).arg(&file).arg(source).status();
    assert!(built.unwrap().success());
    load_module(&site, &file);
    let call = site.command(&["doctor"]);
    let words: Vec<_> = call.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec 9</etc/shadow; exec timeout \"$@\"", "-"]).args(words);
    shell.env("ROOTS_SECRET", "hunter2").env("SOFTHSM2_CONF", "/nowhere").output().unwrap();
    let seen = fs::read_to_string(&report).unwrap();
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Groups:\t65534",
        "secret 0 soft 1",
        "controls 0",
        "left open 0",
    ] {
        assert!(seen.contains(line), "{line} was to be in:\n{seen}");
    }
}

#[test]
fn the_umask_has_no_say() {
    for umask in ["0777", "0000"] {
        let site = Site::empty();
        let run = |words: &[&str]| {
            let call = site.command(words);
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("umask {umask}; exec timeout \"$@\""), "-"]);
            let done = shell.args(call.get_args()).output().unwrap();
            assert!(done.status.success(), "{umask} {words:?}: {}", said(&done));
        };
        run(&["init", "--dir", &site.text("keyward")]);
        run(&["rotate", "1"]);
        let root = geteuid().is_root();
        for (name, wanted) in [
            ("keyward", 0o750),
            ("keyward/keyward.toml", if root { 0o640 } else { 0o600 }),
            ("keyward/local.key", if root { 0o640 } else { 0o600 }),
            ("keyward/keystore", 0o700),
            ("keyward/keystore/keystore.json", 0o600),
            ("keyward/keystore/keystore.json.lock", 0o600),
            ("keyward/keystore/audit.jsonl", 0o600),
        ] {
            assert_eq!(mode(&site.path(name)), wanted, "{name} under umask {umask}");
        }
    }
}

#[test]
fn a_keystore_is_closed_to_others_and_the_accounts() {
    let site = Site::new();
    let (folder, file) =
        (site.path("keyward/keystore"), site.path("keyward/keystore/keystore.json"));
    let opens = |wanted: bool| {
        let status = site.keyward(&["status"]);
        assert_eq!(status.status.success(), wanted, "{}", said(&status));
        said(&status)
    };
    chmod(&file, 0o644);
    opens(true);
    chmod(&folder, 0o755);
    let text = opens(false);
    assert!(text.contains("can be read by everybody; run chmod o-r "), "{text}");
    chmod(&file, 0o640);
    opens(true);
    if geteuid().is_root() {
        chown(&file, Some(STRANGER), None).unwrap();
        assert!(opens(false).contains("belongs to user 65533"));
        chown(&file, Some(NOBODY), None).unwrap();
        opens(true);
        // Where everything is to be root's, it trusts nobody's files.
        let call = ["--config", &site.text("keyward/keyward.toml"), "status", "--user", "root"];
        let status = Command::new(env!("CARGO_BIN_EXE_keyward")).args(call).output().unwrap();
        let text = said(&status);
        assert!(!status.status.success() && text.contains("belongs to user 65534"), "{text}");
        // And without a word, the account is mysql.
        let status = Command::new(env!("CARGO_BIN_EXE_keyward")).args(&call[..3]).output().unwrap();
        assert!(!status.status.success() && said(&status).contains("--user"), "{}", said(&status));
    }
}

#[test]
fn root_follows_no_link_of_the_accounts() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let victim = site.path("roots");
    fs::create_dir(&victim).unwrap();
    chmod(&victim, 0o700);
    let trail = site.path("keyward/keystore/audit.jsonl");
    fs::remove_file(&trail).unwrap();
    symlink(victim.join("made"), &trail).unwrap();
    site.refused(&["rotate", "1"], &["audit.jsonl is a symbolic link"]);
    let lock = site.path("keyward/keystore/keystore.json.lock");
    fs::remove_file(&lock).unwrap();
    symlink(victim.join("made"), &lock).unwrap();
    site.refused(&["rotate", "1"], &["keystore.json.lock"]);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

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
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
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
        "#include <stdlib.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         __attribute__((constructor)) static void in(void) {{\n\
         char line[512]; FILE *f = fopen(\"{0}\", \"w\"), *s = fopen(\"/proc/self/status\", \"r\");\n\
         while (fgets(line, sizeof line, s)) fputs(line, f);\n\
         fprintf(f, \"secret %d soft %d\\n\", getenv(\"ROOTS_SECRET\") != 0, getenv(\"SOFTHSM2_CONF\") != 0);\n\
         fprintf(f, \"controls %d\\n\", fopen(\"/dev/tty\", \"r\") != 0);\n\
         fprintf(f, \"left open %d\\n\", fopen(\"/proc/self/fd/9\", \"r\") != 0);\n\
         fprintf(f, \"key %d\\n\", syscall(SYS_keyctl, 10, -3, \"user\", \"roots\", 0) > 0);\n\
         fprintf(f, \"home %s\\n\", getenv(\"HOME\")); fclose(f); }}\n",
        report.display()
    );
    fs::write(&source, text).unwrap();
    let file = site.path("module.so");
    let mut cc = Command::new("cc");
    let built = cc.args(["-w", "-shared", "-fPIC", "-o"]).arg(&file).arg(source).status();
    assert!(built.unwrap().success());
    load_module(&site, &file);
    let call = site.command(&["doctor"]);
    let mut caller = Command::new(caller(&site));
    caller.arg("timeout").args(call.get_args());
    caller.env("ROOTS_SECRET", "hunter2").env("SOFTHSM2_CONF", "/nowhere").output().unwrap();
    let seen = fs::read_to_string(&report).unwrap();
    let home = User::from_uid(NOBODY.into()).unwrap().unwrap().dir;
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Groups:\t65534",
        "secret 0 soft 1",
        "controls 0",
        "left open 0",
        "key 0",
        &format!("home {}\n", home.display()),
    ] {
        assert!(seen.contains(line), "{line} was to be in:\n{seen}");
    }
}

/// A program that runs its arguments as a careless caller of root's would: with a file open, a key in
/// the session's keyring, and nobody asking after its children.
fn caller(site: &Site) -> PathBuf {
    let (source, file) = (site.path("caller.c"), site.path("caller"));
    let text = "#include <fcntl.h>\n#include <signal.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
        int main(int argc, char **argv) {\n\
        dup2(open(\"/etc/shadow\", O_RDONLY), 9); signal(SIGCHLD, SIG_IGN);\n\
        syscall(SYS_keyctl, 1, \"of the caller\");\n\
        syscall(SYS_add_key, \"user\", \"roots\", \"hunter2\", 7, -3);\n\
        return execvp(argv[1], argv + 1); }\n";
    fs::write(&source, text).unwrap();
    let built = Command::new("cc").arg("-w").arg("-o").arg(&file).arg(source).status();
    assert!(built.unwrap().success());
    file
}

#[test]
fn what_is_done_is_not_lost_where_the_caller_asks_after_no_child() {
    let site = Site::new();
    let call = site.command(&["rotate", "1"]);
    // Without `timeout`, which asks after its own.
    let words: Vec<_> = call.get_args().skip(1).collect();
    let done = Command::new(caller(&site)).args(words).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn the_account_cannot_have_root_wait_by_stopping_its_part() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let lock = fs::File::open(site.path("keyward/keystore")).unwrap();
    lock.lock().unwrap();
    let mut call = site.command(&["rotate", "1"]);
    call.stderr(std::process::Stdio::piped());
    let call = call.spawn().unwrap();
    let part = loop {
        let config = site.config().display().to_string();
        let is_it = |text: &str| text.contains("@account") && text.contains(&config);
        let words = |id: &String| fs::read_to_string(format!("/proc/{id}/cmdline"));
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut ids = all.filter_map(|entry| entry.file_name().into_string().ok());
        match ids.find(|id| words(id).is_ok_and(|text| is_it(&text))) {
            Some(id) => break Pid::from_raw(id.parse().unwrap()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    kill(part, Signal::SIGSTOP).unwrap();
    let output = call.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(74), "{text}");
    assert!(text.contains("stopped by SIGSTOP") && text.contains("keyward status"), "{text}");
    assert!(kill(part, None).is_err(), "it is still there");
}

#[test]
fn a_client_of_roots_is_told_nothing_by_the_callers_environment() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let client = site.path("bin/mariadb");
    fs::create_dir(site.path("bin")).unwrap();
    fs::write(&client, format!("#!/bin/sh\nenv > {}\n", site.text("report"))).unwrap();
    chmod(&client, 0o755);
    let mut call = site.command(&["doctor"]);
    let path = format!("{}:/usr/bin:/bin", site.text("bin"));
    call.env("PATH", path).env("HOME", site.path("")).env("LIBMYSQL_PLUGINS", "evil");
    call.env("MYSQL_HOME", site.path("")).env("LC_ALL", "C").output().unwrap();
    let seen = fs::read_to_string(site.path("report")).unwrap();
    let home = User::from_uid(geteuid()).unwrap().unwrap().dir;
    let has = |line: &str| seen.lines().any(|one| one == line);
    assert!(has(&format!("HOME={}", home.display())) && has("LC_ALL=C"), "{seen}");
    assert!(!seen.contains("evil") && !seen.contains("MYSQL_HOME"), "{seen}");
}

/// Lets the stranger do `right` by an access control list (acl(5)), as `setfacl` writes it.
fn allow(path: &Path, list: &str, right: u16) -> rustix::io::Result<()> {
    let entries = [(1, 7, !0), (2, right, STRANGER), (4, 5, !0), (0x10, right, !0), (0x20, 5, !0)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, right, id) in entries {
        bytes.extend(u16::to_le_bytes(tag).into_iter().chain(u16::to_le_bytes(right)));
        bytes.extend(u32::to_le_bytes(id));
    }
    rustix::fs::setxattr(path, list, &bytes, rustix::fs::XattrFlags::empty())
}

#[test]
fn what_init_makes_is_open_to_nobody_by_a_list_of_its_folder() {
    let site = Site::empty();
    if allow(site.0.path(), "system.posix_acl_default", 7) == Err(rustix::io::Errno::NOTSUP) {
        return;
    }
    let made = site.keyward(&["init", "--dir", &site.text("keyward")]);
    assert!(made.status.success(), "{}", said(&made));
    for name in ["keyward", "keyward/keyward.toml", "keyward/local.key", "keyward/keystore"] {
        for list in ["system.posix_acl_access", "system.posix_acl_default"] {
            let found = rustix::fs::getxattr(site.path(name), list, &mut [0_u8; 0]);
            assert!(found.is_err(), "{name} has {list}");
        }
    }
}

#[test]
fn a_list_of_others_rights_counts_like_the_groups() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let allow = |path: &Path, right| allow(path, "system.posix_acl_access", right);
    for path in [site.config(), site.path("keyward")] {
        chown(&path, Some(0), Some(0)).unwrap();
        chmod(&path, 0o775);
        let opens = || Config::load(&site.config()).map(drop);
        // Root's own group has no members.
        opens().unwrap();
        if allow(&path, 7) == Err(rustix::io::Errno::NOTSUP) {
            return;
        }
        assert_eq!(mode(&path), 0o775);
        let error = opens().unwrap_err().to_string();
        let words = format!("{} can be written by others, ", path.display());
        assert!(error.contains(&words) && error.contains("chmod go-w"), "{error}");
        // As the advice has it.
        chmod(&path, 0o755);
        opens().unwrap();
        allow(&path, 5).unwrap();
        opens().unwrap();
    }
}

#[test]
fn a_link_to_another_file_in_a_sticky_folder_is_not_trusted() {
    let site = Site::new();
    let mount = site.path("mount");
    fs::create_dir(&mount).unwrap();
    chmod(&mount, 0o1777);
    let file = mount.join("keyward.toml");
    fs::copy(site.config(), &file).unwrap();
    Config::load(&file).map(drop).unwrap();
    // Anybody could, where `fs.protected_hardlinks` is off.
    fs::hard_link(&file, site.path("older")).unwrap();
    let error = Config::load(&file).err().unwrap().to_string();
    assert!(error.contains("may be somebody else's link"), "{error}");
    Config::load(&site.path("older")).map(drop).unwrap();
}

#[test]
fn root_works_in_no_folder_that_others_can_replace() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let data = site.path("data");
    fs::create_dir(&data).unwrap();
    // The account can give it the keystore's name.
    fs::create_dir(data.join("lost+found")).unwrap();
    chown(&data, Some(NOBODY), None).unwrap();
    let text = fs::read_to_string(site.config()).unwrap();
    let text = text.replace(&site.text("keyward/keystore/"), &site.text("data/lost+found/"));
    fs::write(site.config(), text).unwrap();
    for user in [&[][..], &["--user", "root"]] {
        let mut call = Command::new(env!("CARGO_BIN_EXE_keyward"));
        call.arg("--config").arg(site.config()).arg("status").args(user);
        let output = call.output().unwrap();
        let text = said(&output);
        assert!(!output.status.success() && text.contains("data belongs to user 65534"), "{text}");
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

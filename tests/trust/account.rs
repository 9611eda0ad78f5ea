//! Root's command and its part that is the server's account.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{User, geteuid};

use crate::{NOBODY, STRANGER, Site, chmod, load_module, module, said};

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
    let part = site.part();
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

/// Who may run keyward as root, by sudo, runs no other program as root by it, and removes no folder.
#[test]
fn keywards_own_calls_are_never_roots() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("keyward-drill-1");
    std::fs::create_dir(&kept).unwrap();
    let parent = std::process::id().to_string();
    for (words, refused) in [
        (["@program", &parent, "0", "/usr/bin/id"], "\"@program\" is a call of keyward's own"),
        (["@keeper", kept.to_str().unwrap(), "", ""], "\"@keeper\" is a call of keyward's own"),
    ] {
        let mut call = Command::new(env!("CARGO_BIN_EXE_keyward"));
        let output = call.args(words).stdin(std::process::Stdio::null()).output().unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(!out.contains("uid=0"), "{out}");
        assert_eq!(err.contains(refused), geteuid().is_root(), "{err}");
    }
    assert_eq!(kept.exists(), geteuid().is_root());
}

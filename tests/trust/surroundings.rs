//! What surrounds the command: variables, a terminal, other processes, files that name files.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::{NOBODY, STRANGER, Site, chmod, load_module, said};

/// Compiles a program or a library, with these words for the compiler.
fn compile(path: &Path, text: &str, words: &[&str]) {
    let source = path.with_extension("c");
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    let built = cc.args(["-w", "-o"]).arg(path).arg(source).args(words).status();
    assert!(built.unwrap().success());
    chmod(path, 0o755);
}

/// A file that anybody may write to, for code that tells what it sees.
fn report(site: &Site) -> PathBuf {
    let report = site.path("report");
    fs::write(&report, "").unwrap();
    chmod(&report, 0o666);
    report
}

/// Adds a section to the configuration.
fn add_provider(site: &Site, text: &str) {
    let before = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("{before}\n[[provider]]\n{text}")).unwrap();
}

/// A secret in a file that the account may read.
fn secret(site: &Site, name: &str, text: &str) -> String {
    let path = site.path(name);
    fs::write(&path, text).unwrap();
    chmod(&path, 0o640);
    if geteuid().is_root() {
        chown(&path, None, Some(NOBODY)).unwrap();
    }
    site.text(name)
}

/// What gcloud leaves of a log-in; nobody is asked for a token by it.
const LOG_IN: &str = "{\"type\": \"authorized_user\", \"client_id\": \"a\", \"client_secret\": \"b\", \
                      \"refresh_token\": \"c\", \"token_uri\": \"http://127.0.0.1:1\"}";

/// A Key Vault as far as its challenge: who calls it looks for credentials next. Gives its address.
fn key_vault() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let vault = format!("http://{}", listener.local_addr().unwrap());
    let challenge = format!(
        "HTTP/1.1 401 no\r\nwww-authenticate: Bearer authorization=\"http://127.0.0.1:1/tenant\", \
         resource=\"{vault}\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut room) = (stream.unwrap(), [0; 4096]);
            let _ = stream.read(&mut room);
            let _ = stream.write_all(challenge.as_bytes());
        }
    });
    vault
}

/// An application's certificate and key in one text, as `az` writes them.
fn certificate(site: &Site) -> String {
    let (key, certificate) = (site.path("app.key"), site.path("app.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=app", "-keyout"]);
    openssl.arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null());
    assert!(openssl.status().unwrap().success());
    [key, certificate].map(|file| fs::read_to_string(file).unwrap()).concat()
}

#[test]
fn a_file_that_the_environment_names_is_judged_like_one_of_the_configuration() {
    let site = Site::new();
    let token = secret(&site, "token", "hunter2");
    add_provider(
        &site,
        &format!(
            "name = \"vault\"\ntype = \"vault-transit\"\naddress = \"https://127.0.0.1:1\"\n\
             token_file = {token:?}\ntimeout = \"300ms\"\n\
             [[provider]]\nname = \"aws\"\ntype = \"aws-kms\"\nkey = \"alias/k\"\n\
             region = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:1\"\ntimeout = \"300ms\"\n\
             [[provider]]\nname = \"gcp\"\ntype = \"gcp-kms\"\n\
             key = \"projects/p/locations/l/keyRings/r/cryptoKeys/k\"\n\
             endpoint = \"http://127.0.0.1:1\"\ntimeout = \"300ms\"\n\
             [[provider]]\nname = \"azure\"\ntype = \"azure-keyvault\"\nkey = \"{}/keys/k\"\n\
             authority_host = \"http://127.0.0.1:1\"\nclient_id = \"a\"\ntimeout = \"1s\"\n",
            key_vault()
        ),
    );
    let certificate = certificate(&site);
    load_module(&site, Path::new("/bin/true"));
    let file = site.path("file");
    for (variable, provider) in [
        ("SSL_CERT_FILE", "vault"),
        ("SSL_CERT_FILE", "aws"),
        ("AWS_CONFIG_FILE", "aws"),
        ("AWS_SHARED_CREDENTIALS_FILE", "aws"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "aws"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "aws"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "gcp"),
        ("AZURE_FEDERATED_TOKEN_FILE", "azure"),
        ("AZURE_CLIENT_CERTIFICATE_PATH", "azure"),
        ("SOFTHSM2_CONF", "hsm"),
    ] {
        let content = match variable {
            "GOOGLE_APPLICATION_CREDENTIALS" => LOG_IN,
            "AZURE_FEDERATED_TOKEN_FILE" => "a token",
            "AZURE_CLIENT_CERTIFICATE_PATH" => &certificate,
            _ => "",
        };
        fs::write(&file, content).unwrap();
        let said_of_it = |mode: u32, owner: Option<u32>| {
            chmod(&file, mode);
            chown(&file, owner, None).unwrap();
            let mut call = site.command(&["doctor"]);
            let text = said(&call.env(variable, &file).output().unwrap());
            let line = text.lines().find(|line| line.contains(&format!("provider {provider:?}")));
            line.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        let name = file.display();
        let line = said_of_it(0o666, None);
        assert!(line.contains(&format!("{name} can be written by others")), "{variable}: {line}");
        if geteuid().is_root() {
            let line = said_of_it(0o644, Some(STRANGER));
            assert!(line.contains(&format!("{name} belongs to user 65533")), "{variable}: {line}");
            assert!(!said_of_it(0o600, Some(NOBODY)).contains(&name.to_string()), "{variable}");
        }
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_credential_that_somebody_else_prepared_is_none() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    add_provider(
        &site,
        "name = \"vault\"\ntype = \"vault-transit\"\naddress = \"https://127.0.0.1:1\"\n\
         token_credential = \"token\"\ntimeout = \"300ms\"\n",
    );
    let folder = site.path("credentials");
    fs::create_dir(&folder).unwrap();
    secret(&site, "credentials/token", "hunter2");
    for spoilt in [folder.as_path(), &folder.join("token")] {
        chown(spoilt, Some(STRANGER), None).unwrap();
        let mut call = site.command(&["doctor"]);
        let text = said(&call.env("CREDENTIALS_DIRECTORY", &folder).output().unwrap());
        let words = format!("{} belongs to user 65533", spoilt.display());
        assert!(text.contains(&words) && !text.contains("hunter2"), "{text}");
        chown(spoilt, Some(0), None).unwrap();
    }
}

#[test]
fn no_proxy_and_no_address_of_the_environments_gets_a_word_in_the_clear() {
    let site = Site::new();
    let token = secret(&site, "token", "hunter2");
    let section = |name: &str, address: &str| {
        format!(
            "name = {name:?}\ntype = \"vault-transit\"\naddress = {address:?}\n\
             token_file = {token:?}\ntimeout = \"1s\"\n"
        )
    };
    let (far, near) =
        (section("far", "https://vault.invalid:8200"), section("near", "http://127.0.0.1:1"));
    add_provider(&site, &format!("{far}[[provider]]\n{near}"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let (say, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut room) = (stream.unwrap(), [0; 4096]);
            let len = stream.read(&mut room).unwrap_or(0);
            let text = String::from_utf8_lossy(&room[..len]).into_owned();
            let _ = stream.write_all(b"HTTP/1.1 502 no\r\ncontent-length: 0\r\n\r\n");
            let _ = say.send(text);
        }
    });
    let mut call = site.command(&["doctor"]);
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        call.env(name, &proxy).env(name.to_uppercase(), &proxy);
    }
    for name in ["VAULT_ADDR", "VAULT_PROXY_ADDR", "VAULT_HTTP_PROXY", "AWS_ENDPOINT_URL"] {
        call.env(name, &proxy);
    }
    call.env("VAULT_SKIP_VERIFY", "1").env("VAULT_TOKEN", "hunter2");
    let text = said(&call.output().unwrap());
    let heard: Vec<_> = heard.try_iter().collect();
    assert!(!heard.is_empty(), "the proxy was not asked: {text}");
    for words in heard {
        assert!(words.starts_with("CONNECT vault.invalid:8200 "), "{words}");
        assert!(!words.contains("hunter2"), "{words}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_dynamic_linkers_variables_end_with_roots_own_part() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let (library, told) = (site.path("preloaded.so"), report(&site));
    let text = format!(
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <stdio.h>\n#include <unistd.h>\n\
         unsigned la_version(unsigned v) {{ return v; }}\n\
         __attribute__((constructor)) static void in(void) {{\n\
         FILE *f = fopen({:?}, \"a\"); if (!f) return;\n\
         fprintf(f, \"%u %s\\n\", geteuid(), program_invocation_short_name); fclose(f); }}\n",
        told.display()
    );
    compile(&library, &text, &["-shared", "-fPIC"]);
    for name in ["LD_PRELOAD", "LD_AUDIT"] {
        fs::write(&told, "").unwrap();
        let words = site.command(&["doctor"]);
        let mut call = Command::new(env!("CARGO_BIN_EXE_keyward"));
        call.args(words.get_args().skip(2)).env(name, &library);
        call.env("LD_LIBRARY_PATH", site.path("")).output().unwrap();
        let seen = fs::read_to_string(&told).unwrap();
        // Root's own: whoever sets these for root is root. Not the account's part, nor a client.
        assert_eq!(seen, "0 keyward\n", "{name}");
    }
}

#[test]
fn the_account_writes_nothing_to_roots_terminal() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let (library, told) = (site.path("module.so"), report(&site));
    let text = format!(
        "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n\
         #include <termios.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void in(void) {{\n\
         char name[64], c = 'x'; int n = 0, terminals = 0; FILE *f = fopen({:?}, \"a\");\n\
         int tty = open(\"/dev/tty\", O_RDWR); if (tty >= 0) terminals++;\n\
         for (int i = 0; i < 64; i++) {{ snprintf(name, sizeof name, \"/dev/pts/%d\", i);\n\
         open(name, O_RDWR | O_NOCTTY); }}\n\
         for (int i = 0; i < 128; i++) {{ terminals += isatty(i); n += ioctl(i, TIOCSTI, &c) == 0; }}\n\
         fprintf(f, \"terminals %d pushed %d\\n\", terminals, n); fclose(f); }}\n",
        told.display()
    );
    compile(&library, &text, &["-shared", "-fPIC"]);
    load_module(&site, &library);
    let call = site.command(&["doctor"]);
    let words: Vec<_> = call.get_args().map(|word| word.to_str().unwrap()).collect();
    let line = format!("timeout --foreground {}", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    let output = terminal.output().unwrap();
    let seen = fs::read_to_string(&told).unwrap();
    assert_eq!(seen, "terminals 0 pushed 0\n", "{}", said(&output));
}

#[test]
fn nobody_looks_into_its_memory_and_no_core_file_is_left() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let spy = site.path("spy");
    let text = "#define _GNU_SOURCE\n#include <errno.h>\n#include <fcntl.h>\n#include <stdio.h>\n\
        #include <stdlib.h>\n#include <sys/ptrace.h>\n#include <sys/syscall.h>\n\
        #include <sys/uio.h>\n#include <unistd.h>\n\
        static int of(long done) { return done < 0 ? errno : 0; }\n\
        int main(int argc, char **argv) { int pid = atoi(argv[1]); char name[64], b[8];\n\
        struct iovec to = { b, 8 }, from = { b, 8 };\n\
        printf(\"%d \", of(process_vm_readv(pid, &to, 1, &from, 1, 0)));\n\
        printf(\"%d \", of(ptrace(PTRACE_SEIZE, pid, 0, 0)));\n\
        int other = syscall(SYS_pidfd_open, pid, 0);\n\
        printf(\"%d\", of(syscall(SYS_pidfd_getfd, other, 0, 0)));\n\
        char *of_it[] = { \"mem\", \"environ\", \"maps\", \"auxv\" };\n\
        for (int i = 0; i < 4; i++) { snprintf(name, 64, \"/proc/%d/%s\", pid, of_it[i]);\n\
        printf(\" %d\", of(open(name, O_RDONLY))); } }\n";
    compile(&spy, text, &[]);
    let cores = site.path("cores");
    fs::create_dir(&cores).unwrap();
    chmod(&cores, 0o777);
    let lock = fs::File::open(site.path("keyward/keystore")).unwrap();
    lock.lock().unwrap();
    for victim_is_part in [true, false] {
        let call = site.command(&["rotate", "1"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -c unlimited; exec \"$@\"", "-"]);
        shell.args(call.get_args().skip(1)).current_dir(&cores).stderr(Stdio::piped());
        let running = shell.spawn().unwrap();
        let (part, root) = (site.part(), Pid::from_raw(running.id().cast_signed()));
        // Until it is the account; afterwards it has no more to take off.
        let is_account = || {
            let status = fs::read_to_string(format!("/proc/{part}/status")).unwrap();
            status.contains("Uid:\t65534\t65534\t65534") && status.contains("NoNewPrivs:\t1")
        };
        while !is_account() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        for process in [part, root] {
            let mut spy = Command::new(&spy);
            let seen = spy.arg(process.to_string()).uid(NOBODY).gid(NOBODY).output().unwrap();
            // EPERM for what asks about the process, EACCES for its files.
            assert_eq!(said(&seen), "1 1 1 13 13 13 13", "{process} of {part}, {root}");
        }
        kill(if victim_is_part { part } else { root }, Signal::SIGABRT).unwrap();
        let output = running.wait_with_output().unwrap();
        match victim_is_part {
            true => assert_eq!(output.status.code(), Some(74), "{}", said(&output)),
            false => assert_eq!(output.status.signal(), Some(6), "{}", said(&output)),
        }
        assert!(!output.status.core_dumped());
        assert_eq!(fs::read_dir(&cores).unwrap().count(), 0, "a core file is left");
    }
}

#[test]
fn an_option_file_has_root_read_nothing_of_roots() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let victim = site.path("victim");
    fs::write(&victim, "[mysqld]\nfile_key_management_filename=/hunter2\n1;hunter2hunter2\n")
        .unwrap();
    chmod(&victim, 0o600);
    let data = site.path("data");
    fs::create_dir_all(data.join("conf.d")).unwrap();
    std::os::unix::fs::symlink(&victim, data.join("conf.d/a.cnf")).unwrap();
    chown(&data, Some(NOBODY), None).unwrap();
    chown(data.join("conf.d"), Some(NOBODY), None).unwrap();
    let name = victim.display();
    for text in [
        format!("!include {name}\n"),
        format!("!includedir {}\n", data.join("conf.d").display()),
        format!("[mysqld]\nfile_key_management_filename={name}\n"),
        format!(
            "[mysqld]\nfile_key_management_filename={0}/my.cnf\nfile_key_management_filekey=FILE:{name}\n",
            data.display()
        ),
    ] {
        fs::write(data.join("my.cnf"), &text).unwrap();
        chown(data.join("my.cnf"), Some(NOBODY), None).unwrap();
        let call = ["import", "--dry-run", "--from-mycnf", &site.text("data/my.cnf")];
        let said = site.refused(&call, &["ermission denied"]);
        assert!(!said.contains("hunter2"), "{text}: {said}");
    }
}

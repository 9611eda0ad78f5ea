//! Files that somebody else might have prepared, and those that we make.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;

use keyward::config::Config;
use keyward::trust::{self, Folder};
use nix::unistd::geteuid;

use crate::{NOBODY, STRANGER, Site, chmod, load_module, mode, module, pipe, said};

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

/// What an account may not read, it is told how to be let in, and lets itself in by that.
#[test]
fn a_file_that_the_account_may_not_read_is_named_with_what_to_do() {
    if !geteuid().is_root() {
        return;
    }
    let follow = |site: &Site, text: &str| {
        let (_, line) = text.split_once(": run ").unwrap();
        let done = Command::new("sh").args(["-c", line.trim()]).status().unwrap();
        assert!(done.success(), "{line}");
        let status = site.keyward(&["status"]);
        assert!(status.status.success(), "{line}: {}", said(&status));
    };
    for (name, closed, state) in [
        ("keyward/local.key", 0o600, "may not read it (root:root 0600): run chown root:"),
        ("keyward", 0o700, "user nobody may not enter "),
    ] {
        let site = Site::new();
        chown(site.path(name), Some(0), Some(0)).unwrap();
        chmod(&site.path(name), closed);
        let text = site.refused(&["status"], &["Permission denied; user nobody may not ", state]);
        follow(&site, &text);
    }
    // What is the server's group's is nobody else's to be given.
    let site = Site::new();
    let status_as = |user: u32, config: &Path| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            &user.to_string(),
            "--regid",
            &user.to_string(),
            "--clear-groups",
        ]);
        command.arg(env!("CARGO_BIN_EXE_keyward")).arg("--config").arg(config).arg("status");
        said(&command.output().unwrap())
    };
    let text = status_as(STRANGER, &site.config());
    let group = nix::unistd::Group::from_gid(NOBODY.into()).unwrap().unwrap().name;
    let wanted = format!("run this as root, or as an account of the group {group}");
    assert!(text.contains(&wanted), "{text}");
    chmod(&site.path("keyward"), 0o755);
    chmod(&site.config(), 0o644);
    let text = status_as(STRANGER, &site.config());
    assert!(text.contains("run the command as root, or as user 65534"), "{text}");
    // A person's own folder is none for it.
    let home = tempfile::Builder::new().prefix("keyward").tempdir_in("/root").unwrap();
    fs::copy(site.config(), home.path().join("keyward.toml")).unwrap();
    let text = status_as(NOBODY, &home.path().join("keyward.toml"));
    let wanted =
        "user nobody may not enter /root: put it into a folder that it may, such as /etc/keyward";
    assert!(text.contains(wanted), "{text}");
}

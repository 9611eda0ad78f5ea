//! A file of metrics: written by root, with what the account says, into folders of others.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use nix::unistd::geteuid;

use crate::{NOBODY, STRANGER, Site, chmod, mode, said};

/// A folder that belongs to `owner`, next to the site's own.
fn folder(site: &Site, name: &str, owner: u32) -> std::path::PathBuf {
    let folder = site.path(name);
    fs::create_dir(&folder).unwrap();
    chmod(&folder, 0o755);
    chown(&folder, Some(owner), Some(owner)).unwrap();
    folder
}

fn write(site: &Site, file: &Path) -> std::process::Output {
    let nowhere = site.text("no-socket");
    let file = file.display().to_string();
    site.keyward(&["metrics", "--socket", &nowhere, "--textfile", &file])
}

#[test]
fn a_file_of_metrics_belongs_to_the_owner_of_its_folder() {
    let site = Site::new();
    let own = geteuid().as_raw();
    let owners = if own == 0 { vec![0, NOBODY, STRANGER] } else { vec![own] };
    for owner in owners {
        let folder = folder(&site, &format!("of-{owner}"), owner);
        let file = folder.join("keyward.prom");
        for _ in 0..2 {
            let output = write(&site, &file);
            assert!(output.status.success(), "{owner}: {}", said(&output));
        }
        assert_eq!((file.metadata().unwrap().uid(), mode(&file)), (owner, 0o644));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "half a file is left");
        let text = fs::read_to_string(&file).unwrap();
        let keystore = site.path("keyward/keystore/keystore.json");
        for metric in [
            "keystore_opens{K} 1",
            "server_up{K} 0",
            "keys{K} 2",
            "trail_faults{K} 0",
            "degraded{K} 0",
        ] {
            let line = metric.replace('K', &format!("keystore=\"{}\"", keystore.display()));
            assert!(text.contains(&format!("\nkeyward_{line}\n")), "{line}: {text}");
        }
        assert!(text.contains(",provider=\"local\"} 1\n"), "{text}");
    }
}

#[test]
fn a_keystore_that_does_not_open_is_a_metric() {
    let site = Site::new();
    fs::remove_file(site.path("keyward/local.key")).unwrap();
    let file = folder(&site, "out", geteuid().as_raw()).join("keyward.prom");
    let output = write(&site, &file);
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(&file).unwrap();
    let zero =
        |name: &str| text.lines().any(|line| line.starts_with(name) && line.ends_with("} 0"));
    assert!(zero("keyward_keystore_opens{") && zero("keyward_provider_up{"), "{text}");
    assert!(!text.contains("keyward_keys{") && said(&output).contains("local.key"), "{text}");
}

#[test]
fn root_writes_no_metrics_where_somebody_leads_it() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let target = folder(&site, "roots", 0);
    let theirs = folder(&site, "theirs", STRANGER);
    // The folder's name is a link of somebody's.
    symlink(&target, theirs.join("link")).unwrap();
    nix::unistd::fchownat(
        nix::fcntl::AT_FDCWD,
        &theirs.join("link"),
        Some(STRANGER.into()),
        None,
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .unwrap();
    // A name before that is one, the folder itself is root's.
    fs::create_dir(target.join("below")).unwrap();
    for file in ["theirs/link/keyward.prom", "theirs/link/below/keyward.prom"] {
        let output = write(&site, &site.path(file));
        assert!(!output.status.success(), "{file}: {}", said(&output));
    }
    // What is at the file's own name is replaced, not followed.
    fs::write(target.join("kept"), "kept").unwrap();
    symlink(target.join("kept"), theirs.join("keyward.prom")).unwrap();
    let output = write(&site, &theirs.join("keyward.prom"));
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(target.join("kept")).unwrap(), "kept");
    assert!(theirs.join("keyward.prom").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
}

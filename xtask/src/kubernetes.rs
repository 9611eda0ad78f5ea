//! Kubernetes' own API server with its command, built from their Go module, and Debian's etcd beside
//! them, all kept in the user's cache. They are processes that tests talk to, never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};

use test_kit::Result;

use crate::go::{Release, Workshop};
use crate::roots::cache;
use crate::setup;

const VERSION: &str = "1.36.3";

/// The oldest Go that builds it.
const GO: Release = (1, 26);

const MODULE: &str = "k8s.io/kubernetes";

/// Where the module names its own parts by folders of its repository, which the module proxy gives as
/// modules of their own.
const STAGED: &str = " => ./staging/src/";

/// The folder of `kube-apiserver`, `kubectl` and `etcd`, made if they are not there.
pub(crate) fn programs() -> Result<PathBuf> {
    let folder = cache()?.join(format!("kubernetes-{VERSION}"));
    if !folder.join("kube-apiserver").exists() {
        build(&folder)?;
    }
    if !folder.join("etcd").exists() {
        add_etcd(&folder)?;
    }
    Ok(folder)
}

fn build(folder: &Path) -> Result<()> {
    println!("building Kubernetes' API server {VERSION}, once, for minutes");
    let workshop = Workshop::open(&format!("kubernetes-{VERSION}"), GO)?;
    workshop.write("go.mod", "module keyward.test/kubernetes\n")?;
    let theirs = workshop.module(&format!("{MODULE}@v{VERSION}"))?;
    workshop.write("go.mod", &module(&theirs))?;
    let version = format!("-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION}");
    let server = format!("{MODULE}/cmd/kube-apiserver");
    let command = format!("{MODULE}/cmd/kubectl");
    workshop.build(&["-ldflags", &version, "-o", "../built/", &server, &command], folder)
}

/// A module that needs theirs, with each of its own parts in the release of the same day.
fn module(theirs: &str) -> String {
    let mut text = format!(
        "module keyward.test/kubernetes\n\ngo {}.{}\n\nrequire {MODULE} v{VERSION}\n\n",
        GO.0, GO.1
    );
    let of_parts = VERSION.replacen('1', "v0", 1);
    for name in theirs.lines().filter_map(|line| line.split_once(STAGED)).map(|(name, _)| name) {
        let name = name.trim().trim_start_matches("replace ");
        text += &format!("replace {name} => {name} {of_parts}\n");
    }
    text
}

/// The store below it, as Debian has it: unpacked, so that no service is there.
fn add_etcd(folder: &Path) -> Result<()> {
    let package = setup::unpacked("etcd-server")?;
    // Under its own name only once it is whole.
    let part = folder.join("etcd.part");
    fs::copy(package.path().join("usr/bin/etcd"), &part)?;
    Ok(fs::rename(part, folder.join("etcd"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_folders_become_modules() {
        let theirs = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                      \tk8s.io/kms => ./staging/src/k8s.io/kms\n)\n";
        let ours = module(theirs);
        assert!(ours.contains("\nrequire k8s.io/kubernetes v1.36.3\n"), "{ours}");
        assert!(ours.ends_with(
            "replace k8s.io/api => k8s.io/api v0.36.3\nreplace k8s.io/kms => k8s.io/kms v0.36.3\n"
        ));
    }
}

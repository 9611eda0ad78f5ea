//! Containers of our own, without a registry of images: podman with a storage, networks and a
//! configuration that nobody else has, and base images made of root folders. All of it goes with the
//! value that holds it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;
use test_kit::command::{answer, run};
use test_kit::{Result, Scratch, files};

use crate::roots::cache;
use crate::{job, setup};

/// What it is made of; `iptables` for networks with names between containers.
pub(crate) const PACKAGES: &[&str] =
    &["podman", "buildah", "runc", "netavark", "aardvark-dns", "iptables"];

/// From PyPI, in a Python environment of its own.
const COMPOSE: &str = "podman-compose==1.6.0";

/// A build installs packages, an import copies half a gigabyte.
const LIMIT: Duration = Duration::from_secs(1200);

/// Where podman keeps everything. The limits are lower than a container engine's own, which a machine
/// that is a container itself may not be allowed to set.
const CONTAINERS: &str = r#"[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "@/engine"
volume_path = "@/volumes"
[network]
network_backend = "netavark"
network_config_dir = "@/networks"
"#;

const STORAGE: &str = r#"[storage]
driver = "overlay"
graphroot = "@/images"
runroot = "@/run"
"#;

/// A podman with nothing in it.
pub(crate) struct Podman {
    scratch: Scratch,
}

impl Podman {
    /// Installs what is missing and makes the storage, on a disk.
    pub(crate) fn new() -> Result<Self> {
        if !Uid::effective().is_root() {
            return Err("only root can run containers here: sudo cargo xtask ...".into());
        }
        setup::need(PACKAGES)?;
        let scratch = Scratch::on_disk("podman")?;
        let own = scratch.path().display().to_string();
        for (name, text) in [("containers.conf", CONTAINERS), ("storage.conf", STORAGE)] {
            files::write(&scratch.path().join(name), text.replace('@', &own))?;
        }
        Ok(Self { scratch })
    }

    /// `program` with our storage: podman itself, or a script that calls it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("CONTAINERS_CONF", self.scratch.path().join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.scratch.path().join("storage.conf"));
        command
    }

    /// Makes `image`, such as `localhost/debian:12`, of the root folder `root`.
    pub(crate) fn import(&self, root: &Path, image: &str) -> Result<()> {
        // What a package manager fetched is in the cache's root for the next use, not for an image.
        let script = "tar --create --one-file-system --directory=\"$1\" --exclude='./proc/*' \
                      --exclude='./sys/*' --exclude='./var/cache/apt/archives/*.deb' . |
                      podman import --quiet - \"$2\"";
        let mut command = self.command("sh");
        command.args(["-euc", script, "import"]).arg(root).arg(image);
        self.logged(&mut command, "import").map(drop)
    }

    /// Builds `image` from the `Dockerfile` named in the folder `context`, as `podman build` does with
    /// `more` arguments. Nothing is pulled.
    pub(crate) fn build(
        &self,
        image: &str,
        context: &Path,
        dockerfile: &Path,
        more: &[&str],
    ) -> Result<()> {
        let mut command = self.command("podman");
        command.args(["build", "--pull-never", "--network=host", "--format=docker"]);
        command.args(["--tag", image]).args(more).arg("--file").arg(dockerfile).arg(context);
        self.logged(&mut command, "build").map(drop)
    }

    /// Runs `command` to its end; its output, or an error with all that it said.
    pub(crate) fn logged(&self, command: &mut Command, name: &str) -> Result<String> {
        let log = self.scratch.path().join(format!("{name}.log"));
        let done = job::logged(command, &log, LIMIT)?;
        if done.ok { Ok(done.text) } else { Err(format!("podman {name}\n{}", done.text).into()) }
    }
}

/// The folder that has podman-compose, made in the user's cache if it is missing. It is installed where it
/// stays, since its programs name the folder that they were installed in.
pub(crate) fn compose() -> Result<PathBuf> {
    let folder = cache()?.join(COMPOSE.replace("==", "-"));
    let version = || answer(Command::new(folder.join("bin/podman-compose")).arg("--version"));
    if !version().is_ok_and(|said| said.code == 0) {
        setup::need(&["python3-venv"])?;
        let _ = fs::remove_dir_all(&folder);
        run("python3", [OsStr::new("-m"), OsStr::new("venv"), folder.as_os_str()])?;
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", COMPOSE]);
        answer(&mut install)?.ok().map_err(|error| error.within("pip install podman-compose"))?;
        version()?.ok().map_err(|error| error.within("podman-compose"))?;
    }
    Ok(folder.join("bin"))
}

impl Drop for Podman {
    /// Containers first: they hold networks, volumes and mounts.
    fn drop(&mut self) {
        for words in [
            &["rm", "--all", "--force", "--time=2"][..],
            &["network", "prune", "--force"],
            &["volume", "rm", "--all", "--force"],
            &["rmi", "--all", "--force"],
        ] {
            if let Err(error) = answer(self.command("podman").args(words)) {
                eprintln!("podman {}: {error}", words.join(" "));
            }
        }
        // podman leaves its storage mounted on itself.
        let images = self.scratch.path().join("images/overlay");
        let _ = answer(Command::new("umount").arg("--lazy").arg(&images));
        let _ = fs::remove_dir_all(images);
    }
}

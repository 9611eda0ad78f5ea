//! The real Vault, built from its Go module and kept in the user's cache. It is a process that tests
//! talk to, never a part of what we ship.

use std::path::{Path, PathBuf};

use test_kit::Result;

use crate::go::{Release, Workshop};
use crate::roots::cache;

/// Later releases of this line need a module that is not published.
const VERSION: &str = "1.21.2";

/// The oldest Go that builds it.
const GO: Release = (1, 25);

const MAIN: &str = "package main

import (
\t\"os\"

\t\"github.com/hashicorp/vault/command\"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
";

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
    println!("building Vault {VERSION}, once, for minutes");
    let workshop = Workshop::open(&format!("vault-{VERSION}"), GO)?;
    let module = format!(
        "module keyward.test/vault\n\ngo {}.{}\n\nrequire github.com/hashicorp/vault v{VERSION}\n",
        GO.0, GO.1
    );
    workshop.write("go.mod", &module)?;
    workshop.write("main.go", MAIN)?;
    let words = ["-tags", "minimal", "-ldflags", "-s -w", "-o", "../built/vault", "."];
    workshop.build(&words, folder)
}

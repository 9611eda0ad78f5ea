//! The standard `age` command, built from its Go module and kept in the user's cache: the counterpart of our
//! backups, never a part of what we ship.

use std::path::PathBuf;

use test_kit::Result;

use crate::go::{Release, Workshop};
use crate::roots::cache;

/// The first releases with post-quantum recipients are 1.3's.
const VERSION: &str = "1.3.1";

/// The oldest Go that builds it.
const GO: Release = (1, 24);

/// The folder with `age` and `age-keygen`, built if they are not there.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = cache()?.join(format!("age-{VERSION}"));
    if !folder.exists() {
        let workshop = Workshop::open(&format!("age-{VERSION}"), GO)?;
        let (major, minor) = GO;
        workshop.write(
            "go.mod",
            &format!("module keyward.test/age\n\ngo {major}.{minor}\n\nrequire filippo.io/age v{VERSION}\n"),
        )?;
        let [age, keygen] = ["age", "age-keygen"].map(|name| format!("filippo.io/age/cmd/{name}"));
        workshop.build(&["-ldflags", "-s -w", "-o", "../built/", &age, &keygen], &folder)?;
    }
    Ok(folder)
}

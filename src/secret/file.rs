//! Secrets that lie in files: key files, passphrases, tokens.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::SecretBytes;
use crate::error::{Error, Kind, Result};
use crate::trust;

/// The contents of the secret file `path`, at most `max_len` bytes, read straight into locked
/// memory. Only a file that nobody but its owner, root or us, can write, and that only its owner
/// and its group can read (`root:mysql 0640`).
pub fn read_file(path: &Path, max_len: usize) -> Result<SecretBytes> {
    let file =
        trust::open_in_its_folder(path).map_err(|refusal| refusal.of("cannot open", path))?;
    let found = file.metadata().map_err(|cause| Error::io("cannot look at", path, &cause))?;
    check(path, &found)?;
    let len = usize::try_from(found.len()).unwrap_or(usize::MAX);
    if len > max_len {
        let what = format!("{} has {len} bytes", path.display());
        return Err(Error::new(Kind::Config, what)
            .advise(format!("a secret here has at most {max_len}: is it the right file?")));
    }
    SecretBytes::build(len, |bytes| read_all(&file, bytes))
        .map_err(|cause| Error::io("cannot read", path, &cause))
}

fn check(path: &Path, found: &Metadata) -> Result<()> {
    let name = path.display();
    let refused = |what: String, advice: String| Err(Error::new(Kind::Config, what).advise(advice));
    let (user, owner) = (trust::account(), found.uid());
    if owner != 0 && owner != user {
        let what = format!("the secret file {name} belongs to user {owner}, who could change it");
        let advice = match user {
            // The owner, the server mostly, shall still read it.
            0 => {
                format!("run chown root {name} && chmod 0640 {name}: its group goes on reading it")
            }
            _ => format!("run chown root {name}, or chown it to user {user}"),
        };
        return refused(what, advice);
    }
    if found.mode() & 0o026 != 0 {
        let verb = if found.mode() & 0o022 == 0 { "read" } else { "written" };
        let what = format!("the secret file {name} can be {verb} by others");
        return refused(what, format!("run chmod 0640 {name}"));
    }
    Ok(())
}

/// Fills `bytes` with the whole file; an error if it has become longer or shorter since.
fn read_all(mut file: &File, bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = [0];
    file.read_exact(bytes)?;
    match file.read(&mut rest)? {
        0 => Ok(()),
        _ => Err(io::Error::other("it is being written")),
    }
}

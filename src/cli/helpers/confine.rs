//! Confines whoever reads files that others wrote: a thread that can read files and do nothing else; and a
//! program that is to write in its own folders alone.
//!
//! By Landlock (Linux 5.13 and later), which takes rights away from a thread for good. Where the kernel
//! does not have it, or has less of it, the reading is done with as much confinement as there is.

#![forbid(unsafe_code)]

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use crate::error::{Error, Kind, Result};

/// The newest set of rights that is asked for; an older kernel takes away those that it knows.
const NEWEST: ABI = ABI::V6;

/// Does `work`, which reads files, on a thread that can neither write, make, rename nor remove one, run a
/// program, connect or listen by TCP, nor send a signal to who is not confined.
pub(in crate::cli) fn reading<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("keyward-reader".to_owned());
        let thread = reader
            .spawn_scoped(scope, || {
                // A kernel without it is no reason not to read.
                let _ = confine();
                work()
            })
            .map_err(|cause| {
                Error::new(Kind::Internal, format!("cannot start the reader: {cause}"))
            })?;
        thread.join().map_err(|_| Error::new(Kind::Internal, "the reader of the files panicked"))
    })
}

/// Leaves this thread, and what it starts, nothing but reading files and folders.
fn confine() -> Result<RulesetStatus, RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(["/"], reading))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Leaves this process, and what it becomes, reading and running everything, and writing below `folders` and
/// to what is no file; no network.
pub(in crate::cli) fn writing_below(folders: &[&Path]) -> Result<RulesetStatus, RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let writing = AccessFs::from_all(NEWEST);
    let status = Ruleset::default()
        .handle_access(writing)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(["/"], reading))?
        .add_rules(path_beneath_rules(["/dev/null"], reading | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(folders, writing))?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reader_reads_and_does_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("t1.ibd"), folder.path().join("new"));
        fs::write(&file, "page").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Whether this kernel has it: the thread that asks is confined, too, and ends.
        let status = std::thread::spawn(|| confine().unwrap()).join().unwrap();
        let confined = status != RulesetStatus::NotEnforced;
        let whole = status == RulesetStatus::FullyEnforced;
        let refused = |outcome: std::io::Result<()>| {
            outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        };
        reading(|| {
            assert_eq!(fs::read_to_string(&file).unwrap(), "page");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            assert_eq!(refused(fs::write(&other, "x")), confined, "make a file");
            assert_eq!(refused(fs::write(&file, "x")), confined, "write a file");
            assert_eq!(refused(fs::remove_file(&file)), confined, "remove a file");
            let program = std::process::Command::new("/bin/true").status().map(drop);
            assert_eq!(refused(program), confined, "run a program");
            assert_eq!(refused(TcpStream::connect(address).map(drop)), whole, "connect");
        })
        .unwrap();
        // Whoever asked for it is not confined.
        fs::write(&other, "x").unwrap();
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_program_writes_in_its_folders_alone() {
        let (own, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mine, theirs) = (own.path().join("new"), others.path().join("old"));
        fs::write(&theirs, "page").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let confined = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let status = writing_below(&[own.path()]).unwrap();
                fs::write(&mine, "page").unwrap();
                fs::write("/dev/null", "page").unwrap();
                assert!(std::process::Command::new("/bin/true").status().unwrap().success());
                assert_eq!(fs::read_to_string(&theirs).unwrap(), "page");
                let written =
                    fs::write(&theirs, "other").is_err() && fs::remove_file(&theirs).is_err();
                assert_eq!(written, status != RulesetStatus::NotEnforced, "write another's file");
                let whole = status == RulesetStatus::FullyEnforced;
                assert_eq!(TcpStream::connect(address).is_err(), whole, "connect");
                status != RulesetStatus::NotEnforced
            });
            confined.join().unwrap()
        });
        assert_eq!(fs::read_to_string(&theirs).is_ok_and(|text| text == "page"), confined);
    }
}

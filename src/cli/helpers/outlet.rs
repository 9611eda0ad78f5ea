//! Where bytes go that are no text: standard output, or a new file that only its owner may read.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::arrived;
use crate::error::{Error, Kind, Result};
use crate::trust;

/// An open file to write to.
pub(in crate::cli) struct Outlet {
    file: File,
    /// The file that was made for it; none where it is standard output.
    made: Option<PathBuf>,
    /// Why writing ended early.
    lost: Option<io::Error>,
}

/// Standard output, unless that is a terminal; an error then that says so.
pub(in crate::cli) fn refuse_terminal(what: &str, advice: &str) -> Result<Outlet> {
    if io::stdout().is_terminal() {
        let what = format!("{what}, and standard output is a terminal");
        return Err(Error::new(Kind::Config, what).advise(advice));
    }
    Outlet::standard()
}

impl Outlet {
    /// Standard output, past the buffer for lines.
    pub(in crate::cli) fn standard() -> Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned();
        let file = file.map_err(|cause| {
            Error::new(Kind::Io, format!("cannot write to standard output: {cause}"))
        })?;
        Ok(Self { file: file.into(), made: None, lost: None })
    }

    /// The file `path`, which must not exist yet.
    pub(in crate::cli) fn to_new(path: &Path) -> Result<Self> {
        let file = trust::create(path, 0o600);
        let file = file.map_err(|cause| {
            let error = Error::io("cannot make", path, &cause);
            match cause.kind() {
                io::ErrorKind::AlreadyExists => {
                    error.advise("nothing is overwritten: name another")
                }
                _ => error,
            }
        })?;
        Ok(Self { file, made: Some(path.to_owned()), lost: None })
    }

    /// What to have another process write to in our place.
    pub(in crate::cli) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Notes why the other process's bytes did not arrive.
    pub(in crate::cli) fn note_loss(&mut self, written: io::Result<()>) {
        self.lost = self.lost.take().or(written.err());
    }

    /// Sees to it that what was written is there to stay, or that nothing is where the call has failed.
    pub(in crate::cli) fn end(self, exit: Result<Exit>) -> Result<Exit> {
        let Some(path) = self.made else {
            return match self.lost {
                // A reader who has gone away had what he wanted, and his end is no failure of ours.
                Some(cause) => arrived(Err(cause)).map(|()| Exit::Success),
                None => exit,
            };
        };
        let synced = match self.lost {
            Some(cause) => Err(cause),
            None => self.file.sync_all(),
        };
        let exit = match synced {
            Err(cause) => Err(Error::io("cannot write", &path, &cause)),
            Ok(()) => exit,
        };
        if !matches!(exit, Ok(Exit::Success)) {
            // Made by this very call.
            let _ = fs::remove_file(&path);
        }
        exit
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        if let Err(cause) = &written
            && cause.kind() != io::ErrorKind::Interrupted
        {
            self.lost = self.lost.take().or_else(|| Some(copy_of(cause)));
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn copy_of(cause: &io::Error) -> io::Error {
    cause.raw_os_error().map_or_else(|| cause.kind().into(), io::Error::from_raw_os_error)
}

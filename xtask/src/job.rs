//! Runs the programs a task is made of, one at a time, each in a process group of its own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use test_kit::Result;

/// The process group that runs now, for [`end_running`].
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// What a finished program left.
pub(crate) struct Done {
    pub(crate) ok: bool,
    /// Standard output and standard error as they came.
    pub(crate) text: String,
}

/// Runs `command` to its end, what it says going to the file `log` meanwhile.
pub(crate) fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<Done> {
    let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file);
    let ok = to_the_end(command, limit)?;
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    Ok(Done { ok, text })
}

/// Runs `command` to its end with our own output; an error if it fails.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    if to_the_end(command, Duration::from_secs(3600))? {
        Ok(())
    } else {
        Err(format!("{name} failed").into())
    }
}

/// Ends the program that runs now and what it started: asked at first, then made to.
pub(crate) fn end_running() {
    let Some(group) = RUNNING.lock().ok().and_then(|mut running| running.take()) else { return };
    end(group);
}

fn to_the_end(command: &mut Command, limit: Duration) -> Result<bool> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let group = Pid::from_raw(child.id().cast_signed());
    set_running(Some(group));
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if since.elapsed() > limit {
            end(group);
            child.wait()?;
            return Err(format!("{name} did not end within {limit:?}").into());
        }
        sleep(Duration::from_millis(50));
    };
    set_running(None);
    Ok(status.success())
}

fn end(group: Pid) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if killpg(group, signal).is_err() {
            return;
        }
        sleep(Duration::from_secs(2));
    }
}

fn set_running(group: Option<Pid>) {
    if let Ok(mut running) = RUNNING.lock() {
        *running = group;
    }
}

//! A running server's memory, as a core file would have it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use test_kit::files::count;
use test_kit::{Result, ensure};

use crate::Server;

/// How often memory is looked at before what is found there counts as kept.
const LOOKS: u32 = 5;

/// The pause between two looks: longer than a call to a key store takes, and no multiple of the
/// suites' times between two refreshes.
const PAUSE: Duration = Duration::from_millis(330);

/// How long a server may take to stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a server that is being stopped is looked at.
const TICK: Duration = Duration::from_millis(5);

/// How much memory is read at a time, in bytes: a page, so that one that cannot be read hides no other.
const PAGE: usize = 4096;

/// What is searched for in memory.
pub trait Needle {
    /// How often it stands there.
    fn times(&self, memory: &[u8]) -> usize;
}

impl Needle for Vec<u8> {
    fn times(&self, memory: &[u8]) -> usize {
        count(memory, self)
    }
}

/// Fails if the server keeps one of `secrets`, each with its name, where a core would have it. A call
/// to a key store that is under way rightly holds its credential; what is kept is found at every
/// look. `known` is no secret and is kept: not to find it is an error. Gives the bytes searched.
pub fn keeps_none(server: &Server, known: &[u8], secrets: &[(&str, impl Needle)]) -> Result<usize> {
    let mut look = 1;
    loop {
        let memory = dumpable(server)?;
        ensure!(count(&memory, known) > 0, "the search is blind");
        let found = secrets.iter().filter_map(|(name, secret)| match secret.times(&memory) {
            0 => None,
            times => Some(format!("{name} stands in memory {times} times")),
        });
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            return Ok(memory.len());
        }
        ensure!(look < LOOKS, "at each of {LOOKS} looks: {}", found.join(", "));
        look += 1;
        sleep(PAUSE);
    }
}

/// What a core of the running server would hold at one moment: every page in use of every mapping
/// that can be read and is not left out of dumps. Not `gcore`, which writes out the terabytes of
/// address space that the server only reserves.
pub fn dumpable(server: &Server) -> Result<Vec<u8>> {
    let _halted = Halted::now(server)?;
    let process = PathBuf::from(format!("/proc/{}", server.pid()?));
    let memory = fs::File::open(process.join("mem"))?;
    let mut found = Vec::new();
    let mut mapping = None;
    for line in fs::read_to_string(process.join("smaps"))?.lines() {
        if let Some(range) = readable_range(line) {
            mapping = Some(range);
        } else if line.starts_with("Rss:") && line.split_whitespace().nth(1) == Some("0") {
            mapping = None;
        } else if let (Some(flags), Some((start, end))) = (line.strip_prefix("VmFlags:"), mapping) {
            let left_out = flags.split_whitespace().any(|flag| flag == "dd");
            let mut page = [0; PAGE];
            for at in (start..end).step_by(PAGE).filter(|_| !left_out) {
                // What the kernel does not let a debugger read is not in a core either.
                if memory.read_exact_at(&mut page, at).is_ok() {
                    found.extend_from_slice(&page);
                }
            }
            mapping = None;
        }
    }
    Ok(found)
}

/// A server that stands still until this is dropped.
struct Halted<'server>(&'server Server);

impl<'server> Halted<'server> {
    fn now(server: &'server Server) -> Result<Self> {
        server.signal(Signal::SIGSTOP)?;
        let halted = Self(server);
        let since = Instant::now();
        while !halted.all_stand()? {
            ensure!(since.elapsed() < PATIENCE, "the server runs on for {PATIENCE:?}");
            sleep(TICK);
        }
        Ok(halted)
    }

    fn all_stand(&self) -> Result<bool> {
        let process = format!("/proc/{}/task", self.0.pid()?);
        let stands = |(number, _): (i32, String)| {
            // A thread that ended in between does nothing any more.
            fs::read_to_string(format!("{process}/{number}/status"))
                .map_or(true, |status| status.contains("State:\tT"))
        };
        Ok(self.0.threads()?.into_iter().all(stands))
    }
}

impl Drop for Halted<'_> {
    fn drop(&mut self) {
        // A server that has ended needs no leave to go on.
        let _ = self.0.signal(Signal::SIGCONT);
    }
}

/// The addresses of a mapping, where `line` of smaps begins one; an empty range if nobody may
/// read it.
fn readable_range(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some(if rest.starts_with('r') { (start, end) } else { (start, start) })
}

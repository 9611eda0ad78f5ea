//! A running server's memory, as a core file would have it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::Server;
use test_kit::Result;

/// How much memory is read at a time, in bytes: a page, so that one that cannot be read hides no other.
const PAGE: usize = 4096;

/// What a core of the running server would hold: every page in use of every mapping that can be
/// read and is not left out of dumps. Not `gcore`, which writes out the terabytes of address space
/// that the server only reserves.
pub fn dumpable(server: &Server) -> Result<Vec<u8>> {
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

/// The addresses of a mapping, where `line` of smaps begins one; an empty range if nobody may
/// read it.
fn readable_range(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some(if rest.starts_with('r') { (start, end) } else { (start, start) })
}

//! Whether the library's file is still the one that this process has loaded.

#![forbid(unsafe_code)]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the kernel puts behind the path of a file that is no longer at it.
const GONE: &str = " (deleted)";

/// The library's file when it was looked at first: its path, and what it is known by.
struct Loaded {
    path: PathBuf,
    identity: (u64, u64),
}

/// Whether the file of the library was replaced or removed after this process had loaded it: an upgrade
/// does that, and the process goes on with what it has. False where the kernel does not say. The server
/// asks with each `SHOW STATUS`: as long as all is well, that costs one `stat`.
pub(super) fn is_replaced() -> bool {
    static LOADED: OnceLock<Option<Loaded>> = OnceLock::new();
    static REPLACED: OnceLock<()> = OnceLock::new();
    if REPLACED.get().is_some() {
        return true;
    }
    let loaded = LOADED.get_or_init(|| Loaded::of(&mapping()?));
    if loaded.as_ref().is_some_and(Loaded::is_there) {
        return false;
    }
    // A container's file system may give a file another number: the mapping has the last word.
    let replaced = mapping().is_some_and(|line| line.ends_with(GONE));
    if replaced {
        REPLACED.get_or_init(|| ());
    }
    replaced
}

impl Loaded {
    /// The file in a line of `/proc/self/maps`; nothing where it is gone.
    fn of(line: &str) -> Option<Self> {
        let path = PathBuf::from(line.get(line.find('/')?..)?);
        Some(Self { identity: identity(&path)?, path })
    }

    fn is_there(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }
}

/// Device and number of the file at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = path.metadata().ok()?;
    Some((meta.dev(), meta.ino()))
}

/// The line of `/proc/self/maps` for the code of this very function.
fn mapping() -> Option<String> {
    let here = mapping as fn() -> Option<String> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find(|line| covers(line, here)).map(str::to_owned)
}

/// Whether this line of `/proc/self/maps` (`7f0a-7f0b r-xp ...`) is of the mapping with `address`.
fn covers(line: &str, address: usize) -> bool {
    let range = || {
        let (from, rest) = line.split_once('-')?;
        let to = rest.split(' ').next()?;
        let number = |hex| usize::from_str_radix(hex, 16).ok();
        Some(number(from)?..number(to)?)
    };
    range().is_some_and(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn finds_the_mapping_of_an_address() {
        let line =
            "7f5b3a200000-7f5b3a400000 r-xp 00001000 fe:00 42 /usr/lib/mysql/plugin/keyward.so";
        assert!(covers(line, 0x7f5b_3a20_0000));
        assert!(!covers(line, 0x7f5b_3a40_0000));
        assert!(!covers("", 0) && !covers("x-y z", 0));
    }

    #[test]
    fn a_file_is_there_until_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let [file, new] = ["keyward.so", "new"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        let line = format!("7f5b3a200000-7f5b3a400000 r-xp 00001000 fe:00 42 {}", file.display());
        let loaded = Loaded::of(&line).unwrap();
        assert!(loaded.is_there());
        fs::write(&new, "").unwrap();
        fs::rename(&new, &file).unwrap();
        assert!(!loaded.is_there());
        assert!(Loaded::of(&format!("{line}{GONE}")).is_none());
        assert!(Loaded::of("7f5b3a200000-7f5b3a400000 rw-p 00000000 00:00 0").is_none());
    }

    #[test]
    fn this_program_is_where_it_was() {
        assert!(Loaded::of(&mapping().unwrap()).is_some());
        assert!(!is_replaced());
    }
}

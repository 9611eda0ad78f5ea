//! Whether the library's file is still the one that this process has loaded.

#![forbid(unsafe_code)]

/// What the kernel puts behind the path of a file that is no longer at it.
const GONE: &str = " (deleted)";

/// Whether the file of the library was replaced or removed after this process had loaded it: an upgrade
/// does that, and the process goes on with what it has. False where the kernel does not say.
pub(super) fn is_replaced() -> bool {
    let here = is_replaced as fn() -> bool as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().find(|line| covers(line, here)).is_some_and(|line| line.ends_with(GONE))
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
    fn this_program_is_where_it_was() {
        assert!(!is_replaced());
    }
}

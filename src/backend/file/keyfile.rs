//! The text of a key file: `id;hex` or `id;version;hex` on each line, `#` before a remark.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::hex;
use crate::key::{KeyId, KeyVersion};
use crate::secret::DataKey;

/// Whose rules hold. Both read what MariaDB's plugin reads; ours say more and let less pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: a key given twice, or text after a key that is no remark, is an error.
    #[default]
    Keyward,
    /// MariaDB's: of a key given twice the last counts, text after a key is ignored, the file
    /// ends at its first NUL, and errors have MariaDB's own words.
    Original(Edition),
}

/// Which of MariaDB's plugins: how a file is read and some words changed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// MariaDB 10's: regular files only.
    V10,
    /// MariaDB 11.8's: all that can be read, such as a named pipe.
    V11_8,
}

/// One key of a key file.
pub struct Entry {
    /// Its number.
    pub id: KeyId,
    /// Its version: the first where the line names none.
    pub version: KeyVersion,
    /// The line it stands in, from 1 on.
    pub line: usize,
    /// The key itself.
    pub data: DataKey,
}

/// Why a key file cannot be used, and where.
#[derive(Debug)]
pub struct ParseError {
    /// The line, from 1 on; of an empty file 0.
    pub line: usize,
    /// The byte within the line, from 1 on.
    pub column: usize,
    /// What is wrong there.
    pub fault: ParseErrorKind,
}

/// What can be wrong at one place of a key file.
#[derive(Debug)]
pub enum ParseErrorKind {
    /// Neither a key, nor a remark, nor blank.
    Syntax,
    /// An id that is 0 or beyond 32 bits.
    Id,
    /// A version that is 0, 4294967295 or beyond.
    Version,
    /// A key that is not 32, 48 or 64 hex digits; so many were found.
    Key(usize),
    /// Text after a key.
    Trailing,
    /// The version stands in the file twice; the other line.
    Duplicate(KeyId, KeyVersion, usize),
    /// The file has no key 1, without which no server starts.
    NoSystemKey,
    /// There was no memory to put a key into.
    Memory(Error),
}

/// The most hex digits that a key can have: AES-256.
const MAX_DIGITS: usize = 64;

/// The most decimal digits of a version. A run of digits longer than that is a key.
const MAX_VERSION_DIGITS: usize = 10;

/// The keys of the file `text`, by id and version, each version once.
pub fn parse(text: &[u8], dialect: Dialect) -> Result<Vec<Entry>, ParseError> {
    let text = match dialect {
        Dialect::Keyward => text,
        Dialect::Original(_) => text.split(|byte| *byte == 0).next().unwrap_or_default(),
    };
    let mut entries = Vec::new();
    let mut line = 0;
    for content in text.split_inclusive(|byte| *byte == b'\n') {
        line += 1;
        let flaw = |(at, fault)| ParseError { line, column: at + 1, fault };
        if let Some((id, version, data)) = parse_line(content, dialect).map_err(flaw)? {
            entries.push(Entry { id, version, line, data });
        }
    }
    // Stable, so that lines which name the same version stay in their order.
    entries.sort_by_key(|entry| (entry.id, entry.version));
    let entries = without_doubles(entries, dialect)?;
    if entries.first().is_none_or(|entry| entry.id != KeyId::SYSTEM) {
        return Err(ParseError { line, column: 1, fault: ParseErrorKind::NoSystemKey });
    }
    Ok(entries)
}

fn without_doubles(entries: Vec<Entry>, dialect: Dialect) -> Result<Vec<Entry>, ParseError> {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        match kept.last_mut() {
            Some(last) if (last.id, last.version) == (entry.id, entry.version) => {
                if dialect == Dialect::Keyward {
                    let fault = ParseErrorKind::Duplicate(entry.id, entry.version, last.line);
                    return Err(ParseError { line: entry.line, column: 1, fault });
                }
                *last = entry;
            }
            _ => kept.push(entry),
        }
    }
    Ok(kept)
}

type Field<T> = Result<T, (usize, ParseErrorKind)>;

fn parse_line(line: &[u8], dialect: Dialect) -> Field<Option<(KeyId, KeyVersion, DataKey)>> {
    let mut at = line.iter().take_while(|byte| is_blank(**byte)).count();
    match line.get(at) {
        Some(b'#' | b'\n') => return Ok(None),
        // The original takes blanks at the very end of a file, without a line end, for an error.
        None if dialect == Dialect::Keyward => return Ok(None),
        _ => {}
    }
    let id = parse_id(line, &mut at)?;
    let version = parse_version(line, &mut at, dialect)?;
    let data = parse_key(line, &mut at)?;
    if dialect == Dialect::Keyward {
        at += line[at..].iter().take_while(|byte| is_blank(**byte)).count();
        if !matches!(line.get(at), None | Some(b'#' | b'\n')) {
            return Err((at, ParseErrorKind::Trailing));
        }
    }
    Ok(Some((id, version, data)))
}

fn parse_id(line: &[u8], at: &mut usize) -> Field<KeyId> {
    let number = parse_number(line, at).map_err(|()| (*at, ParseErrorKind::Id))?;
    let number = number.ok_or((*at, ParseErrorKind::Syntax))?;
    let id = KeyId::try_from(number).map_err(|_| (*at, ParseErrorKind::Id))?;
    if line.get(*at) != Some(&b';') {
        return Err((*at, ParseErrorKind::Syntax));
    }
    *at += 1;
    Ok(id)
}

/// The version, if there is one: as many digits as a version can have, and a semicolon. Where
/// the number is none, the original's community edition, which knows no versions, sees a bad key.
fn parse_version(line: &[u8], at: &mut usize, dialect: Dialect) -> Field<KeyVersion> {
    let digits = line[*at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=MAX_VERSION_DIGITS).contains(&digits) || line.get(*at + digits) != Some(&b';') {
        return Ok(KeyVersion::FIRST);
    }
    let mut end = *at;
    let number = parse_number(line, &mut end).ok().flatten();
    match number.and_then(|number| KeyVersion::try_from(number).ok()) {
        Some(version) => {
            *at = end + 1;
            Ok(version)
        }
        None if dialect != Dialect::Keyward => Ok(KeyVersion::FIRST),
        None => Err((*at, ParseErrorKind::Version)),
    }
}

/// A decimal number; `None` where no digit stands, an error at the digit that is too much.
fn parse_number(line: &[u8], at: &mut usize) -> Result<Option<u32>, ()> {
    let mut number = None;
    while let Some(digit) = line.get(*at).filter(|byte| byte.is_ascii_digit()) {
        let more = number.unwrap_or(0_u32).checked_mul(10);
        number = Some(more.and_then(|n| n.checked_add(u32::from(digit - b'0'))).ok_or(())?);
        *at += 1;
    }
    Ok(number)
}

fn parse_key(line: &[u8], at: &mut usize) -> Field<DataKey> {
    let digits = line[*at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let hex = &line[*at..*at + digits];
    // As the original does it, a fault is shown behind the last pair that could be read.
    *at += digits.min(MAX_DIGITS) / 2 * 2;
    if !matches!(digits, 32 | 48 | 64) {
        return Err((*at, ParseErrorKind::Key(digits)));
    }
    DataKey::build(digits / 2, |key| {
        hex::decode_into(key, hex);
        Ok(())
    })
    .map_err(|error| (*at, ParseErrorKind::Memory(error)))
}

/// What C calls space, but for the line end.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: Dialect = Dialect::Original(Edition::V11_8);

    const KEY: &str = "00112233445566778899aAbBcCdDeEfF";

    fn keys(text: &str, dialect: Dialect) -> Vec<(u32, u32, usize)> {
        let entries = parse(text.as_bytes(), dialect).unwrap_or_else(|flaw| panic!("{flaw:?}"));
        entries
            .iter()
            .map(|entry| (entry.id.get(), entry.version.get(), entry.data.expose().len()))
            .collect()
    }

    fn place(text: &str, dialect: Dialect) -> (usize, usize) {
        let flaw = parse(text.as_bytes(), dialect).err().unwrap();
        (flaw.line, flaw.column)
    }

    #[test]
    fn hex_digits_of_either_case_become_bytes() {
        let entries = parse(format!("1;{KEY}").as_bytes(), Dialect::Keyward).unwrap();
        let bytes: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
        assert_eq!(entries[0].data.expose(), bytes);
    }

    #[test]
    fn lines_may_be_remarks_blank_indented_versioned_and_end_as_they_like() {
        let text = format!(
            "# keys\r\n\n \t\n  1;{KEY} # first\r\n2;7;{KEY}{KEY}\n2;4294967294;{KEY}\t\n\
             4294967295;{KEY}0123456789abcdef  \n   "
        );
        let expected = [(1, 1, 16), (2, 7, 32), (2, u32::MAX - 1, 16), (u32::MAX, 1, 24)];
        assert_eq!(keys(&text, Dialect::Keyward), expected);
        assert_eq!(keys(text.trim_end_matches(' '), ORIGINAL), expected);
    }

    #[test]
    fn a_key_of_decimal_digits_is_no_version() {
        let digits = "1".repeat(32);
        assert_eq!(keys(&format!("1;{digits};4"), ORIGINAL), [(1, 1, 16)]);
        assert_eq!(keys(&format!("1;3;{digits}"), Dialect::Keyward), [(1, 3, 16)]);
    }

    /// Lines, columns and verdicts as MariaDB 10.11's plugin gives them for the same files.
    #[test]
    fn the_original_fails_at_the_same_place() {
        let one = format!("1;{KEY}\n");
        for (text, at) in [
            (String::new(), (0, 1)),
            ("\0".to_owned() + &one, (0, 1)),
            (format!("# x\n2;{KEY}\n3;{KEY}\n"), (3, 1)),
            (format!("2;{KEY}\n#"), (2, 1)),
            (format!("1 ;{KEY}\n"), (1, 2)),
            (format!("1; {KEY}\n"), (1, 3)),
            (format!("+1;{KEY}\n"), (1, 1)),
            (format!("0x1;{KEY}\n"), (1, 2)),
            (format!("\u{feff}{one}"), (1, 1)),
            (format!("{one}0;{KEY}\n"), (2, 2)),
            (format!("{one}-2;{KEY}\n"), (2, 1)),
            (format!("{one}4294967296;{KEY}\n"), (2, 10)),
            (format!("{one}42949672990;{KEY}\n"), (2, 10)),
            (format!("{one}10000000000000000000000000;{KEY}\n"), (2, 11)),
            (format!("{one}2\n"), (2, 2)),
            (format!("{one}2;\n"), (2, 3)),
            (format!("{one}2;a\n"), (2, 3)),
            (format!("{one}2;{}\n", "a".repeat(31)), (2, 33)),
            (format!("{one}2;{}\n", "a".repeat(33)), (2, 35)),
            (format!("{one}2;{}g\n", "a".repeat(33)), (2, 35)),
            (format!("{one}2;{}\n", "a".repeat(65)), (2, 67)),
            (format!("{one}2;{}\n", "a".repeat(128)), (2, 67)),
            (format!("{one}2;aaaaaaaaaag{}\n", "a".repeat(21)), (2, 13)),
            (format!("{one}   bad\n"), (2, 4)),
            (format!("{one}   22 ;{KEY}\n"), (2, 6)),
            (format!("{one}  \n  \n x"), (4, 2)),
            ("   ".to_owned(), (1, 4)),
        ] {
            assert_eq!(place(&text, ORIGINAL), at, "{text:?}");
        }
    }

    #[test]
    fn of_a_key_given_twice_the_originals_last_counts_and_ours_is_an_error() {
        let text = format!("1;{KEY}\n3;{KEY}\n1;{KEY}{KEY}\n");
        assert_eq!(keys(&text, ORIGINAL), [(1, 1, 32), (3, 1, 16)]);
        assert_eq!(place(&text, Dialect::Keyward), (3, 1));
    }

    #[test]
    fn what_the_original_overlooks_is_an_error_of_ours() {
        for (text, at) in [
            (format!("1;{KEY} --> ignored\n"), (1, 36)),
            (format!("1;{KEY}\r2;{KEY}\r"), (1, 36)),
            (format!("1;{KEY}\0\n"), (1, 35)),
            (format!("1;{KEY};2\n"), (1, 35)),
        ] {
            assert_eq!(keys(&text, ORIGINAL), [(1, 1, 16)], "{text:?}");
            assert_eq!(place(&text, Dialect::Keyward), at, "{text:?}");
        }
    }
}

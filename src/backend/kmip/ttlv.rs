//! TTLV, in which every KMIP message is written: tag (3 bytes), type (1), length (4), value, and
//! zeros up to a multiple of eight (OASIS KMIP 1.4, section 9.1).
//!
//! Reading borrows from the message, which lies in memory that is wiped. Tags, enumeration values and types
//! that nobody here knows are kept as they are.

#![forbid(unsafe_code)]

use zeroize::Zeroizing;

/// The longest message that is read, in bytes: the ids of 10,000 keys have a tenth of it.
pub const MAX_MESSAGE: usize = 8 << 20;

/// How deep structures may stand in each other. KMIP's own come to ten.
pub const MAX_DEPTH: usize = 24;

/// Tag, type and length.
pub(super) const HEAD_LEN: usize = 8;

/// Values end at a multiple of this.
const BLOCK: usize = 8;

/// What an item is; the names are in `tags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

/// One item of a message.
#[derive(PartialEq)]
pub struct Item<'a> {
    /// What it is.
    pub tag: Tag,
    /// What it holds.
    pub value: Value<'a>,
}

/// What an item holds. No `Debug`: it may be a key.
#[derive(PartialEq)]
pub enum Value<'a> {
    /// Items in order.
    Structure(Vec<Item<'a>>),
    /// 32 bits.
    Integer(i32),
    /// 64 bits.
    LongInteger(i64),
    /// Two's complement, a multiple of eight bytes.
    BigInteger(&'a [u8]),
    /// One of a list.
    Enumeration(u32),
    /// Yes or no.
    Boolean(bool),
    /// Text in UTF-8.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Seconds since 1970-01-01T00:00:00Z.
    DateTime(i64),
    /// Seconds.
    Interval(u32),
    /// A type of a later release, and its bytes.
    Other(u8, &'a [u8]),
}

/// Why bytes are no TTLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Reads `bytes`, all of them, as one item.
///
/// # Errors
/// The first thing that is wrong: a length beyond its surroundings, a value of the wrong length,
/// structures deeper than [`MAX_DEPTH`], padding that is not zero, text that is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<Item<'_>, ParseError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(ParseError { at: 0, what: "the message is too long" });
    }
    let mut reader = Reader { bytes, at: 0 };
    let item = reader.item(0)?;
    match reader.at == bytes.len() {
        true => Ok(item),
        false => Err(ParseError { at: reader.at, what: "data follows the end of the message" }),
    }
}

/// Tag, type and length of the item that begins with `head`: how much has to be read behind it.
pub(super) fn head(head: &[u8; HEAD_LEN]) -> (Tag, u8, usize) {
    let [a, b, c, kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    (Tag(u32::from_be_bytes([0, a, b, c])), kind, length)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, ParseError> {
        let start = self.at;
        let flaw = |what| ParseError { at: start, what };
        if depth >= MAX_DEPTH {
            return Err(flaw("structures stand too deep in each other"));
        }
        let rest = &self.bytes[start..];
        let first = rest.first_chunk::<HEAD_LEN>().ok_or(flaw("an item is cut short"))?;
        let (tag, kind, len) = head(first);
        let value = rest[HEAD_LEN..].get(..len).ok_or(flaw("an item is longer than its place"))?;
        self.at += HEAD_LEN;
        if kind == 1 {
            let items = self.items(start + HEAD_LEN + len, depth)?;
            return Ok(Item { tag, value: Value::Structure(items) });
        }
        self.at += len;
        self.padding(len)?;
        Ok(Item { tag, value: simple(kind, value).map_err(flaw)? })
    }

    /// The items up to `end`, which lies within the bytes.
    fn items(&mut self, end: usize, depth: usize) -> Result<Vec<Item<'a>>, ParseError> {
        let mut within = Reader { bytes: &self.bytes[..end], at: self.at };
        let mut items = Vec::new();
        while within.at < end {
            items.push(within.item(depth + 1)?);
        }
        self.at = end;
        Ok(items)
    }

    fn padding(&mut self, len: usize) -> Result<(), ParseError> {
        let flaw = |what| ParseError { at: self.at, what };
        let len = len.next_multiple_of(BLOCK) - len;
        let zeros = self.bytes[self.at..].get(..len).ok_or(flaw("an item lacks its padding"))?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(flaw("padding is not zero"));
        }
        self.at += len;
        Ok(())
    }
}

fn simple(kind: u8, bytes: &[u8]) -> Result<Value<'_>, &'static str> {
    const WRONG: &str = "a value has not the length of its type";
    let four = || <[u8; 4]>::try_from(bytes).map_err(|_| WRONG);
    let eight = || <[u8; 8]>::try_from(bytes).map_err(|_| WRONG);
    Ok(match kind {
        2 => Value::Integer(i32::from_be_bytes(four()?)),
        3 => Value::LongInteger(i64::from_be_bytes(eight()?)),
        4 if bytes.len().is_multiple_of(BLOCK) => Value::BigInteger(bytes),
        4 => return Err(WRONG),
        5 => Value::Enumeration(u32::from_be_bytes(four()?)),
        6 => match u64::from_be_bytes(eight()?) {
            number @ (0 | 1) => Value::Boolean(number == 1),
            _ => return Err("a boolean is neither 0 nor 1"),
        },
        7 => Value::Text(std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")?),
        8 => Value::Bytes(bytes),
        9 => Value::DateTime(i64::from_be_bytes(eight()?)),
        10 => Value::Interval(u32::from_be_bytes(four()?)),
        kind => Value::Other(kind, bytes),
    })
}

impl<'a> Item<'a> {
    /// The items of a structure; of anything else none.
    #[must_use]
    pub fn items(&self) -> &[Item<'a>] {
        match &self.value {
            Value::Structure(items) => items,
            _ => &[],
        }
    }

    /// The first item of this structure with that tag.
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&Item<'a>> {
        self.all(tag).next()
    }

    /// All of them.
    pub fn all(&self, tag: Tag) -> impl Iterator<Item = &Item<'a>> {
        self.items().iter().filter(move |item| item.tag == tag)
    }

    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if they are.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The value of an enumeration.
    #[must_use]
    pub fn enumeration(&self) -> Option<u32> {
        match self.value {
            Value::Enumeration(value) => Some(value),
            _ => None,
        }
    }

    /// The number, if it is one of 32 bits.
    #[must_use]
    pub fn integer(&self) -> Option<i32> {
        match self.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// Yes or no, if it is that.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    /// Seconds since 1970, if it is a time.
    #[must_use]
    pub fn seconds(&self) -> Option<i64> {
        match self.value {
            Value::DateTime(seconds) => Some(seconds),
            _ => None,
        }
    }

    /// Writes it as it was read.
    pub fn write(&self, to: &mut Writer) {
        let tag = self.tag;
        match &self.value {
            Value::Structure(items) => {
                to.structure(tag, |to| items.iter().for_each(|item| item.write(to)));
            }
            Value::Integer(number) => to.integer(tag, *number),
            Value::LongInteger(number) => to.simple(tag, 3, &number.to_be_bytes()),
            Value::BigInteger(bytes) => to.simple(tag, 4, bytes),
            Value::Enumeration(value) => to.enumeration(tag, *value),
            Value::Boolean(boolean) => to.boolean(tag, *boolean),
            Value::Text(text) => to.text(tag, text),
            Value::Bytes(bytes) => to.bytes(tag, bytes),
            Value::DateTime(seconds) => to.simple(tag, 9, &seconds.to_be_bytes()),
            Value::Interval(seconds) => to.simple(tag, 10, &seconds.to_be_bytes()),
            Value::Other(kind, bytes) => to.simple(tag, *kind, bytes),
        }
    }
}

/// Writes items one behind the other, into memory that is wiped.
#[derive(Default)]
pub struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// A structure with what `items` writes.
    pub fn structure(&mut self, tag: Tag, items: impl FnOnce(&mut Self)) {
        self.head(tag, 1, 0);
        let start = self.0.len();
        items(self);
        let len = to_u32(self.0.len() - start);
        self.0[start - 4..start].copy_from_slice(&len.to_be_bytes());
    }

    /// A number of 32 bits.
    pub fn integer(&mut self, tag: Tag, number: i32) {
        self.simple(tag, 2, &number.to_be_bytes());
    }

    /// A value of an enumeration.
    pub fn enumeration(&mut self, tag: Tag, value: u32) {
        self.simple(tag, 5, &value.to_be_bytes());
    }

    /// Yes or no.
    pub fn boolean(&mut self, tag: Tag, boolean: bool) {
        self.simple(tag, 6, &u64::from(boolean).to_be_bytes());
    }

    /// A text.
    pub fn text(&mut self, tag: Tag, text: &str) {
        self.simple(tag, 7, text.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, tag: Tag, bytes: &[u8]) {
        self.simple(tag, 8, bytes);
    }

    /// What was written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.0
    }

    fn simple(&mut self, tag: Tag, kind: u8, value: &[u8]) {
        self.head(tag, kind, to_u32(value.len()));
        self.0.extend_from_slice(value);
        let len = self.0.len();
        self.0.resize(len + value.len().next_multiple_of(BLOCK) - value.len(), 0);
    }

    fn head(&mut self, tag: Tag, kind: u8, len: u32) {
        self.0.extend_from_slice(&tag.0.to_be_bytes()[1..]);
        self.0.push(kind);
        self.0.extend_from_slice(&len.to_be_bytes());
    }
}

/// Nothing that is written comes near 4 GiB: the longest key has 16 KiB.
fn to_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

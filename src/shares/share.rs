//! One share: numbers of ten bits, each of which is a word.

#![forbid(unsafe_code)]

use std::str::FromStr;

use zeroize::Zeroizing;

use super::words;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;

/// The numbers in front of the value, and those of the checksum behind it.
const FRONT: usize = 4;
const CHECKSUM: usize = 3;
/// The shortest secret, in bytes.
const SHORTEST: usize = 16;
/// The longest that is read, in bytes.
const LONGEST: usize = 64;

/// What all shares of a secret have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    /// 15 random bits.
    pub(super) id: u16,
    /// Whether the id is no salt: then other sets of shares of the same secret can be made.
    pub(super) extendable: bool,
    pub(super) exponent: u8,
    /// How many groups are needed.
    pub(super) group_threshold: u8,
    pub(super) groups: u8,
}

/// A share.
pub struct Share {
    pub(super) common: Common,
    pub(super) group: u8,
    pub(super) member: u8,
    /// How many of its group are needed.
    pub(super) needed: u8,
    pub(super) value: SecretBytes,
}

impl Common {
    /// What the cipher's salt begins with.
    pub(super) fn salt(&self) -> Vec<u8> {
        match self.extendable {
            true => Vec::new(),
            false => [&b"shamir"[..], &self.id.to_be_bytes()].concat(),
        }
    }

    /// What a checksum begins with.
    fn customization(self) -> &'static [u8] {
        if self.extendable { b"shamir_extendable" } else { b"shamir" }
    }
}

impl Share {
    pub(super) fn to_words(&self) -> Zeroizing<String> {
        let Common { id, extendable, exponent, group_threshold, groups } = self.common;
        let front = [
            (u64::from(id), 15),
            (u64::from(extendable), 1),
            (u64::from(exponent), 4),
            (u64::from(self.group), 4),
            (u64::from(group_threshold - 1), 4),
            (u64::from(groups - 1), 4),
            (u64::from(self.member), 4),
            (u64::from(self.needed - 1), 4),
        ];
        let value = self.value.expose();
        let mut bits = Bits::default();
        front.iter().for_each(|(number, len)| bits.push(*number, *len));
        bits.push(0, (10 - value.len() * 8 % 10) % 10);
        value.iter().for_each(|byte| bits.push(u64::from(*byte), 8));
        let mut numbers = bits.numbers;
        let sum = checksum(self.common.customization(), &numbers, &[0; CHECKSUM]) ^ 1;
        numbers.extend([sum >> 20, sum >> 10, sum].map(|part| (part & 0x3FF) as u16));
        words::text(&numbers)
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |what: &str| Error::new(Kind::Config, what.to_owned());
        let numbers = words::numbers(text)?;
        let len = numbers.len().checked_sub(FRONT + CHECKSUM).map(|numbers| numbers * 10);
        let padding = len.map(|bits| bits % 16).filter(|padding| *padding <= 8);
        let bytes = len.zip(padding).map(|(bits, padding)| (bits - padding) / 8);
        let bytes = bytes.filter(|bytes| (SHORTEST..=LONGEST).contains(bytes));
        let (Some(bytes), Some(padding)) = (bytes, padding) else {
            let what = format!("it has {} words, and a share has 20, or 33", numbers.len());
            return Err(refused(&what));
        };
        let mut bits = Read { numbers: &numbers, at: 0 };
        let common_front = [15, 1, 4].map(|len| bits.take(len));
        let rest = [4; 5].map(|len| bits.take(len));
        let [id, extendable, exponent] = common_front;
        let [group, group_threshold, groups, member, needed] = rest.map(|number| number as u8);
        let common = Common {
            id: id as u16,
            extendable: extendable == 1,
            exponent: exponent as u8,
            group_threshold: group_threshold + 1,
            groups: groups + 1,
        };
        if checksum(common.customization(), &numbers, &[]) != 1 {
            return Err(refused("a word is wrong or out of its place: the checksum does not fit"));
        }
        if bits.take(padding) != 0 || common.group_threshold > common.groups {
            return Err(refused("it breaks a rule of SLIP-39"));
        }
        let value = SecretBytes::build(bytes, |value| {
            value.iter_mut().for_each(|byte| *byte = bits.take(8) as u8);
            Ok::<_, Error>(())
        })?;
        Ok(Self { common, group, member, needed: needed + 1, value })
    }
}

/// Numbers of ten bits from others of any.
#[derive(Default)]
struct Bits {
    numbers: Zeroizing<Vec<u16>>,
    len: usize,
}

impl Bits {
    fn push(&mut self, number: u64, len: usize) {
        for bit in (0..len).rev() {
            if self.len.is_multiple_of(10) {
                // No larger buffer is needed later, which would leave this one behind.
                if self.numbers.capacity() == 0 {
                    self.numbers.reserve_exact(LONGEST);
                }
                self.numbers.push(0);
            }
            if let Some(last) = self.numbers.last_mut() {
                *last = *last << 1 | (number >> bit & 1) as u16;
            }
            self.len += 1;
        }
    }
}

/// The other way.
struct Read<'a> {
    numbers: &'a [u16],
    at: usize,
}

impl Read<'_> {
    fn take(&mut self, len: usize) -> u32 {
        let mut number = 0;
        for _ in 0..len {
            let word = self.numbers.get(self.at / 10).copied().unwrap_or_default();
            number = number << 1 | u32::from(word >> (9 - self.at % 10) & 1);
            self.at += 1;
        }
        number
    }
}

/// RS1024: a Reed-Solomon code over GF(1024) that finds any three wrong words.
fn checksum(customization: &[u8], numbers: &[u16], end: &[u16]) -> u32 {
    const GENERATOR: [u32; 10] = [
        0x00E0_E040,
        0x01C1_C080,
        0x0383_8100,
        0x0707_0200,
        0x0E0E_0009,
        0x1C0C_2412,
        0x3808_6C24,
        0x3090_FC48,
        0x21B1_F890,
        0x03F3_F120,
    ];
    let front = customization.iter().map(|byte| u32::from(*byte));
    let all = front.chain(numbers.iter().chain(end).map(|number| u32::from(*number)));
    all.fold(1, |sum, number| {
        let top = sum >> 20;
        let mut next = (sum & 0xF_FFFF) << 10 ^ number;
        for (bit, generator) in GENERATOR.iter().enumerate() {
            next ^= generator & (top >> bit & 1).wrapping_neg();
        }
        next
    })
}

//! Bech32 (BIP 173) of any length, as age writes its keys.

#![forbid(unsafe_code)]

use zeroize::Zeroizing;

const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// The length of the checksum, in digits.
const SUM: usize = 6;

/// `bytes` behind the lower-case word `hrp`.
pub(super) fn encode(hrp: &str, bytes: &[u8]) -> Zeroizing<String> {
    let mut fives = Zeroizing::new(Vec::with_capacity(bytes.len() * 8 / 5 + 1 + SUM));
    regroup(bytes, 8, 5, &mut fives);
    let sum = polymod(hrp, fives.iter().copied().chain([0; SUM])) ^ 1;
    fives.extend((0..SUM).map(|n| (sum >> (5 * (5 - n)) & 31) as u8));
    let mut text = Zeroizing::new(String::with_capacity(hrp.len() + 1 + fives.len()));
    text.push_str(hrp);
    text.push('1');
    text.extend(fives.iter().map(|five| char::from(DIGITS[usize::from(*five)])));
    text
}

/// The bytes behind the word `hrp`; nothing where `text` is none of these. All in lower or all in upper case.
pub(super) fn decode(hrp: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    if upper && text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let digits = text.strip_prefix(hrp)?.strip_prefix('1')?;
    let mut fives = Zeroizing::new(Vec::with_capacity(digits.len()));
    for digit in digits.bytes() {
        fives.push(DIGITS.iter().position(|one| *one == digit)? as u8);
    }
    let body = fives.len().checked_sub(SUM)?;
    if polymod(hrp, fives.iter().copied()) != 1 {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(body * 5 / 8 + 1));
    regroup(&fives[..body], 5, 8, &mut bytes);
    // What is over must be padding: fewer bits than a digit has, and zero.
    let over = body * 5 % 8;
    let padding = bytes.pop_if(|_| over > 0).unwrap_or_default();
    (over < 5 && padding == 0).then_some(bytes)
}

/// Numbers of `from` bits as numbers of `to` bits, zeros at the end.
fn regroup(numbers: &[u8], from: u32, to: u32, out: &mut Vec<u8>) {
    let (mut held, mut bits) = (0_u32, 0);
    for number in numbers {
        held = held << from | u32::from(*number);
        bits += from;
        while bits >= to {
            bits -= to;
            out.push((held >> bits & ((1 << to) - 1)) as u8);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push((held << (to - bits) & ((1 << to) - 1)) as u8);
    }
}

fn polymod(hrp: &str, fives: impl Iterator<Item = u8>) -> u32 {
    let high = hrp.bytes().map(|byte| byte >> 5);
    let low = hrp.bytes().map(|byte| byte & 31);
    high.chain([0]).chain(low).chain(fives).fold(1, |sum: u32, five| {
        let top = sum >> 25;
        let sum = (sum & 0x1ff_ffff) << 5 ^ u32::from(five);
        (0..5).filter(|n| top >> n & 1 == 1).fold(sum, |sum, n| sum ^ GENERATOR[n as usize])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BIP 173's test vectors.
    #[test]
    fn is_bip_173() {
        assert!(decode("a", "A12UEL5L").is_some_and(|bytes| bytes.is_empty()));
        let split = "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w";
        let bytes = decode("split", split).unwrap();
        assert_eq!(*encode("split", &bytes), split);
        for wrong in [
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3x",
            "Split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
            "split1",
            "a12uel5l",
            "",
        ] {
            assert!(decode("split", wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn every_length_comes_back() {
        for len in 0..100_u8 {
            let bytes: Vec<u8> = (0..len).map(|n| n.wrapping_mul(41)).collect();
            let text = encode("age1pq", &bytes);
            assert_eq!(*decode("age1pq", &text).unwrap(), bytes);
            assert_eq!(*decode("age1pq", &text.to_uppercase()).unwrap(), bytes);
        }
    }
}

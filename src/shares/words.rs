//! The 1,024 words of SLIP-39, in the order of their numbers. Their first four letters tell them apart.

#![forbid(unsafe_code)]

use std::sync::LazyLock;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// As the standard has them: sorted.
static WORDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("words.txt").lines().collect());

/// The longest text of a share, in bytes.
const LONGEST: usize = 1_024;

pub(super) fn text(numbers: &[u16]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(numbers.len() * 9));
    for (n, number) in numbers.iter().enumerate() {
        if n > 0 {
            text.push(' ');
        }
        text.push_str(WORDS.get(usize::from(*number)).copied().unwrap_or_default());
    }
    text
}

/// The numbers of the words in `text`. A word that is none is named by its place: it may be a secret's.
pub(super) fn numbers(text: &str) -> Result<Zeroizing<Vec<u16>>> {
    let refused = |what: String| Err(Error::new(Kind::Config, what));
    if text.len() > LONGEST {
        return refused(format!("a share has no more than {LONGEST} letters"));
    }
    let mut numbers = Zeroizing::new(Vec::with_capacity(text.len() / 2 + 1));
    for (n, word) in text.split_whitespace().enumerate() {
        let word = Zeroizing::new(word.to_ascii_lowercase());
        match WORDS.binary_search(&&**word) {
            Ok(at) => numbers.push(at as u16),
            Err(_) => return refused(format!("word {} is none of SLIP-39's", n + 1)),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_standards() {
        assert_eq!(WORDS.len(), 1_024);
        assert!(WORDS.is_sorted());
        let mut beginnings: Vec<&str> = WORDS.iter().map(|word| &word[..4]).collect();
        beginnings.dedup();
        assert_eq!(beginnings.len(), 1_024);
    }
}

//! GF(256) as AES has it (FIPS 197 section 4), and polynomials over it. Multiplication takes the same steps
//! for all values.

#![forbid(unsafe_code)]

/// What x^8 is, less itself.
const REDUCTION: u8 = 0x1B;

pub(super) fn product(mut a: u8, mut b: u8) -> u8 {
    let mut sum = 0;
    for _ in 0..8 {
        sum ^= a & (b & 1).wrapping_neg();
        let carried = (a >> 7).wrapping_neg();
        a = (a << 1) ^ (REDUCTION & carried);
        b >>= 1;
    }
    sum
}

/// `a` to the 254th, which is its inverse; 0 for 0.
fn inverse(a: u8) -> u8 {
    let mut power = a;
    let mut product_of_all = 1;
    // 254 = 2 + 4 + ... + 128.
    for _ in 0..7 {
        power = product(power, power);
        product_of_all = product(product_of_all, power);
    }
    product_of_all
}

/// How much of the value at `points[nth]` is in that at `x`, of the polynomial through all `points`.
pub(super) fn weight(points: &[u8], nth: usize, x: u8) -> u8 {
    let mut weight = 1;
    for (_, other) in points.iter().enumerate().filter(|(at, _)| *at != nth) {
        weight = product(weight, product(x ^ other, inverse(points[nth] ^ other)));
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_inverses() {
        // FIPS 197, section 4.2.
        assert_eq!(product(0x57, 0x83), 0xC1);
        assert_eq!(product(0x57, 0x13), 0xFE);
        assert!((1..=255).all(|a| product(a, inverse(a)) == 1));
        assert_eq!(inverse(0), 0);
    }
}

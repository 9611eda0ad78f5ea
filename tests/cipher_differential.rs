//! Every kernel that this CPU runs against OpenSSL, called as the server calls it, and against the
//! RustCrypto crates: random messages in random pieces, at every alignment, errors included.
//!
//! `KEYWARD_CASES` sets how many messages each kernel gets; the seed is fixed unless `KEYWARD_SEED`
//! gives another.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::mem::MaybeUninit;

use keyward::cipher::{CipherError, Context, Direction, Kernel, Mode, Padding, Series};

#[path = "../benches/common/evp.rs"]
mod evp;
#[path = "../benches/common/random.rs"]
mod random;

use evp::Server;
use random::Random;

/// One message: what, with what, in which pieces.
struct Case {
    mode: Mode,
    direction: Direction,
    padding: Padding,
    key: Vec<u8>,
    iv: [u8; 16],
    pieces: Vec<usize>,
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn case(random: &mut Random) -> Case {
    let mode = [Mode::Cbc, Mode::Cbc, Mode::Ctr, Mode::Gcm][random.below(4)];
    let direction = [Direction::Encrypt, Direction::Decrypt][random.below(2)];
    let mut padding = [Padding::None, Padding::Pkcs7][random.below(2)];
    if mode == Mode::Gcm && random.below(50) > 0 {
        padding = Padding::Pkcs7;
    }
    let mut key = vec![0; [16, 24, 32][random.below(3)]];
    if random.below(100) == 0 {
        key.resize(random.below(40), 0);
    }
    random.fill(&mut key);
    let mut iv = [0; 16];
    random.fill(&mut iv);
    // Counters that are about to carry.
    for byte in iv.iter_mut().rev().take([0, 0, 1, 2, 8, 15, 16][random.below(7)]) {
        *byte = 0xff;
    }
    let most = [16, 64, 300, 1024, 5000, 20_000, 65_536][random.below(7)];
    let len = random.below(most + 1);
    let mut pieces = Vec::new();
    let mut left = len;
    let piece = [1, 3, 17, 64, 256, 1000, 16_400, usize::MAX][random.below(8)].max(len / 200);
    while left > 0 && !(mode == Mode::Gcm && direction == Direction::Decrypt) {
        let next = (random.below(piece.min(left)) + usize::from(random.below(20) > 0)).min(left);
        pieces.push(next);
        left -= next;
    }
    if left > 0 || len == 0 && random.below(2) > 0 {
        pieces.push(left);
    }
    Case { mode, direction, padding, key, iv, pieces }
}

/// What a call brings: the bytes of each step, or the error that ended it.
type Steps = (Vec<Vec<u8>>, Option<CipherError>);

/// A buffer of `len` bytes at `shift` from an aligned address, full of a pattern.
fn buffer(len: usize, shift: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::new(0xa5); len + shift + 64]
}

#[allow(unsafe_code)]
fn written(buffer: &[MaybeUninit<u8>]) -> Vec<u8> {
    // SAFETY: `buffer` above fills all of it.
    buffer.iter().map(|byte| unsafe { byte.assume_init() }).collect()
}

fn by_server(case: &Case, text: &[u8]) -> Steps {
    let mut steps = Vec::new();
    let Case { mode, direction, padding, key, iv, .. } = case;
    let mut server = match Server::init(*mode, *direction, *padding, key, iv) {
        Ok(server) => server,
        Err(error) => return (steps, Some(error)),
    };
    let mut at = 0;
    for len in &case.pieces {
        let mut out = buffer(len + 32, 0);
        match server.update(&text[at..at + len], &mut out) {
            Ok(done) => steps.push(written(&out[..done])),
            Err(error) => return (steps, Some(error)),
        }
        at += len;
    }
    let mut out = buffer(32, 0);
    match server.finish(&mut out) {
        Ok(done) => steps.push(written(&out[..done])),
        Err(error) => return (steps, Some(error)),
    }
    (steps, None)
}

fn by_us(kernel: Kernel, case: &Case, text: &[u8], shift: usize) -> Steps {
    let mut steps = Vec::new();
    let Case { mode, direction, padding, key, iv, .. } = case;
    let mut slot = MaybeUninit::uninit();
    let context = match Context::init_with(kernel, &mut slot, *mode, *direction, *padding, key, iv)
    {
        Ok(context) => context,
        Err(error) => return (steps, Some(error)),
    };
    let mut at = 0;
    for len in &case.pieces {
        let mut out = buffer(len + 32, shift);
        let promised = context.update_len(*len);
        match context.update(&text[at..at + len], &mut out[shift..]) {
            Ok(done) => {
                assert_eq!(done, promised);
                let out = written(&out);
                assert!(out[..shift].iter().chain(&out[shift + done..]).all(|byte| *byte == 0xa5));
                steps.push(out[shift..shift + done].to_vec());
            }
            Err(error) => return (steps, Some(error)),
        }
        at += len;
    }
    match context.finish() {
        Ok(tail) => steps.push(tail.to_vec()),
        Err(error) => return (steps, Some(error)),
    }
    (steps, None)
}

fn hunt(kernel: Kernel, cases: u64, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut errors = 0;
    for number in 0..cases {
        let case = case(&mut random);
        let len: usize = case.pieces.iter().sum();
        let from = random.below(64);
        let mut text = vec![0; from + len];
        random.fill(&mut text);
        // Half of what is decrypted was encrypted before, so that it comes out well.
        if case.direction == Direction::Decrypt && random.below(2) > 0 {
            let n = len.saturating_sub(random.below(17));
            let whole = Case {
                direction: Direction::Encrypt,
                pieces: vec![n],
                key: case.key.clone(),
                ..case
            };
            let (steps, _) = by_server(&whole, &text[from..from + n]);
            let sealed = steps.concat();
            if case.mode != Mode::Gcm || sealed.len() == len {
                let n = sealed.len().min(len);
                text[from..from + n].copy_from_slice(&sealed[..n]);
            }
        }
        let text = &text[from..];
        let theirs = by_server(&case, text);
        let ours = by_us(kernel, &case, text, random.below(64));
        errors += u64::from(theirs.1.is_some());
        assert!(
            ours == theirs,
            "{kernel}, case {number} of seed {seed}: {:?} {:?} {:?} key {} pieces {:?}: {:?}, not {:?}",
            case.mode,
            case.direction,
            case.padding,
            case.key.len(),
            case.pieces,
            ours.1,
            theirs.1,
        );
    }
    errors
}

#[test]
fn every_kernel_does_what_the_server_does() {
    let cases = env("KEYWARD_CASES", 500);
    let seed = env("KEYWARD_SEED", 1);
    for name in Kernel::NAMES {
        let Some(kernel) = Kernel::named(name) else {
            println!("{name}: NOT RUN, this CPU has not the instructions");
            continue;
        };
        let start = std::time::Instant::now();
        let errors = hunt(kernel, cases, seed);
        println!(
            "{name}: {cases} cases, {errors} of them errors, no difference, {:.1?}",
            start.elapsed()
        );
    }
}

/// Whole messages by the RustCrypto crates, straight: without this library's bookkeeping between.
mod crates {
    use aes::cipher::{
        BlockCipherEncrypt, BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7,
        consts::U16,
    };
    use aes_gcm::aead::{Aead, KeyInit, Payload};

    pub(super) fn ctr(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Vec<u8> {
        let mut out = text.to_vec();
        match key.len() {
            16 => ctr::Ctr128BE::<aes::Aes128>::new_from_slices(key, iv)
                .unwrap()
                .apply_keystream(&mut out),
            24 => ctr::Ctr128BE::<aes::Aes192>::new_from_slices(key, iv)
                .unwrap()
                .apply_keystream(&mut out),
            _ => ctr::Ctr128BE::<aes::Aes256>::new_from_slices(key, iv)
                .unwrap()
                .apply_keystream(&mut out),
        }
        out
    }

    pub(super) fn cbc(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Vec<u8> {
        match key.len() {
            16 => cbc_with::<aes::Aes128>(key, iv, text),
            24 => cbc_with::<aes::Aes192>(key, iv, text),
            _ => cbc_with::<aes::Aes256>(key, iv, text),
        }
    }

    fn cbc_with<C>(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Vec<u8>
    where
        C: BlockCipherEncrypt<BlockSize = U16> + KeyInit,
    {
        let mode = cbc::Encryptor::<C>::new_from_slices(key, iv).unwrap();
        let mut out = vec![0; (text.len() / 16 + 1) * 16];
        out[..text.len()].copy_from_slice(text);
        mode.encrypt_padded::<Pkcs7>(&mut out, text.len()).unwrap();
        out
    }

    pub(super) fn gcm(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Option<Vec<u8>> {
        let nonce = iv.first_chunk::<12>().unwrap().into();
        let payload = Payload { msg: text, aad: &iv[12..] };
        match key.len() {
            16 => aes_gcm::Aes128Gcm::new_from_slice(key).unwrap().encrypt(nonce, payload).ok(),
            32 => aes_gcm::Aes256Gcm::new_from_slice(key).unwrap().encrypt(nonce, payload).ok(),
            _ => None,
        }
    }
}

#[test]
fn every_kernel_does_what_the_crates_do() {
    let cases = env("KEYWARD_CASES", 500);
    for kernel in Kernel::NAMES.iter().filter_map(|name| Kernel::named(name)) {
        let mut random = Random::new(env("KEYWARD_SEED", 1));
        for number in 0..cases {
            let mut case = case(&mut random);
            case.key.resize([16, 24, 32][random.below(3)], 9);
            (case.direction, case.padding) = (Direction::Encrypt, Padding::Pkcs7);
            let mut text = vec![0; case.pieces.iter().sum()];
            random.fill(&mut text);
            if case.pieces.is_empty() {
                case.pieces.push(0);
            }
            let theirs = match case.mode {
                Mode::Cbc => crates::cbc(&case.key, &case.iv, &text),
                Mode::Ctr => crates::ctr(&case.key, &case.iv, &text),
                Mode::Gcm => match crates::gcm(&case.key, &case.iv, &text) {
                    Some(sealed) => sealed,
                    None => continue,
                },
            };
            let sealed = by_us(kernel, &case, &text, 0).0.concat();
            assert!(sealed == theirs, "{kernel}, case {number}, {:?}", case.mode);
            (case.direction, case.pieces) = (Direction::Decrypt, vec![sealed.len()]);
            assert!(by_us(kernel, &case, &sealed, 0).0.concat() == text, "{kernel}, case {number}");
        }
        println!("{kernel}: {cases} cases, no difference");
    }
}

#[test]
fn a_series_does_what_its_messages_do_by_themselves() {
    let mut random = Random::new(7);
    let bytes = |random: &mut Random, len| {
        let mut bytes = vec![0; len];
        random.fill(&mut bytes);
        bytes
    };
    for kernel in Kernel::NAMES.iter().filter_map(|name| Kernel::named(name)) {
        for (mode, key_len) in
            [Mode::Cbc, Mode::Ctr].iter().flat_map(|mode| [16, 24, 32].map(|len| (*mode, len)))
        {
            let key = bytes(&mut random, key_len);
            let series = Series::new_with(kernel, mode, &key).unwrap();
            for len in (0..200).chain([511, 512, 1000, 5003]) {
                let iv: [u8; 16] = bytes(&mut random, 16).try_into().unwrap();
                let text = bytes(&mut random, len);
                let (first, second) = text.split_at(random.below(len + 1));
                let (direction, padding) = (Direction::Decrypt, Padding::None);
                let mut slot = MaybeUninit::uninit();
                let alone =
                    Context::init_with(kernel, &mut slot, mode, direction, padding, &key, &iv);
                let alone = alone.unwrap();
                let mut wanted = vec![0; len];
                let done = alone.update_over(&text, &mut wanted).unwrap();
                wanted[done..].copy_from_slice(&alone.finish().unwrap());

                let mut message = series.begin(&iv);
                let mut found = vec![0; len];
                let done = message.update_over(first, &mut found).unwrap();
                let done = done + message.update_over(second, &mut found[done..]).unwrap();
                found[done..].copy_from_slice(&message.finish().unwrap());
                assert!(found == wanted, "{kernel} {mode:?} {key_len} {len}");
                let after = message.update_over(first, &mut found);
                assert_eq!(after, Err(CipherError::Unsupported));
            }
        }
    }
    let refused = |mode, key: &[u8]| Series::new(mode, key).err();
    assert_eq!(refused(Mode::Gcm, &[0; 32]), Some(CipherError::Unsupported));
    assert_eq!(refused(Mode::Ctr, &[0; 31]), Some(CipherError::BadKeySize));
}

//! Published vectors through every kernel that this CPU runs: NIST SP 800-38A, the GCM
//! specification's and CAVP's, and Wycheproof's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::mem::MaybeUninit;

use keyward::cipher::{
    CipherError, Context, Direction, Kernel, Mode, Padding, crypt, encrypted_length,
};
use wycheproof::{TestResult, aead, cipher};

const NONE: Padding = Padding::None;
const PKCS7: Padding = Padding::Pkcs7;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The kernels that run here; the others are named as not run.
fn kernels() -> Vec<Kernel> {
    let there = |name: &&str| {
        let kernel = Kernel::named(name);
        if kernel.is_none() {
            println!("{name}: NOT RUN, this CPU has not the instructions");
        }
        kernel
    };
    Kernel::NAMES.iter().filter_map(there).collect()
}

/// One whole message.
fn run(
    kernel: Kernel,
    (mode, direction, padding): (Mode, Direction, Padding),
    key: &[u8],
    iv: &[u8],
    src: &[u8],
) -> Result<Vec<u8>, CipherError> {
    let mut slot = MaybeUninit::uninit();
    let context = Context::init_with(kernel, &mut slot, mode, direction, padding, key, iv)?;
    let mut out = vec![MaybeUninit::new(0); src.len() + 32];
    let done = context.update(src, &mut out)?;
    let tail = context.finish()?;
    let mut bytes = filled(&out[..done]);
    bytes.extend_from_slice(&tail);
    Ok(bytes)
}

#[allow(unsafe_code)]
fn filled(out: &[MaybeUninit<u8>]) -> Vec<u8> {
    // SAFETY: every test makes its buffers of zeros.
    out.iter().map(|byte| unsafe { byte.assume_init() }).collect()
}

/// Encrypts to `cipher` and back on every kernel.
fn both_ways(mode: Mode, padding: Padding, key: &str, iv: &str, plain: &str, cipher: &str) {
    let (key, iv, plain, cipher) = (hex(key), hex(iv), hex(plain), hex(cipher));
    for kernel in kernels() {
        let sealed = run(kernel, (mode, Direction::Encrypt, padding), &key, &iv, &plain).unwrap();
        assert_eq!(sealed, cipher, "{kernel} {mode:?}");
        let opened = run(kernel, (mode, Direction::Decrypt, padding), &key, &iv, &cipher).unwrap();
        assert_eq!(opened, plain, "{kernel} {mode:?}");
    }
}

/// SP 800-38A's message, F.2 and F.5.
const TEXT: &str = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
    30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710";
const KEYS: [&str; 3] = [
    "2b7e151628aed2a6abf7158809cf4f3c",
    "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
];

#[test]
fn cbc_as_in_sp_800_38a() {
    let iv = "000102030405060708090a0b0c0d0e0f";
    let sealed = [
        "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
         73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7",
        "4f021db243bc633d7178183a9fa071e8 b4d9ada9ad7dedf4e5e738763f69145a
         571b242012fb7ae07fa9baac3df102e0 08b0e27988598881d920a9e64f5615cd",
        "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d
         39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b",
    ];
    for (key, sealed) in KEYS.iter().zip(sealed) {
        both_ways(Mode::Cbc, NONE, key, iv, TEXT, sealed);
    }
}

#[test]
fn ctr_as_in_sp_800_38a() {
    let iv = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
    let sealed = [
        "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff
         5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee",
        "1abc932417521ca24f2b0459fe7e6e0b 090339ec0aa6faefd5ccc2c6f4ce8e94
         1e36b26bd1ebc670d1bd1d665620abf7 4f78a7f6d29809585a97daec58c6b050",
        "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5
         2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6",
    ];
    for (key, sealed) in KEYS.iter().zip(sealed) {
        both_ways(Mode::Ctr, NONE, key, iv, TEXT, sealed);
    }
}

/// Test cases 1, 2, 3, 7, 8, 9, 13, 14 and 15 of the GCM specification (McGrew and Viega 2005): those
/// with a nonce of 12 bytes; also in CAVP's files.
#[test]
fn gcm_as_in_its_specification() {
    let zeros = "00".repeat(32);
    let nonce = "cafebabefacedbaddecaf888";
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
        1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
    let cases = [
        (&zeros[..32], &zeros[..24], "", "58e2fccefa7e3061367f1d57a4e7455a"),
        (
            &zeros[..32],
            &zeros[..24],
            &zeros[..32],
            "0388dace60b6a392f328c2b971b2fe78 ab6e47d42cec13bdf53a67b21257bddf",
        ),
        (
            &key[..32],
            nonce,
            text,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985
             4d5c2af327cd64a62cf35abd2ba6fab4",
        ),
        (&zeros[..48], &zeros[..24], "", "cd33b28ac773f74ba00ed1f312572435"),
        (
            &zeros[..48],
            &zeros[..24],
            &zeros[..32],
            "98e7247c07f0fe411c267e4384b0f600 2ff58d80033927ab8ef4d4587514f0fb",
        ),
        (
            &key[..48],
            nonce,
            text,
            "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c
             7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710acade256
             9924a7c8587336bfb118024db8674a14",
        ),
        (&zeros[..64], &zeros[..24], "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            &zeros[..64],
            &zeros[..24],
            &zeros[..32],
            "cea7403d4d606b6e074ec5d3baf39d18 d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            key,
            nonce,
            text,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad
             b094dac5d93471bdec1a502270e3cc6c",
        ),
    ];
    for (key, iv, plain, sealed) in cases {
        both_ways(Mode::Gcm, PKCS7, key, iv, plain, sealed);
    }
}

#[test]
fn gcm_as_in_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut count = 0;
    for kernel in kernels() {
        for group in &set.test_groups {
            // Other sizes cannot be said in the server's interface.
            if group.nonce_size != 96 || group.tag_size != 128 {
                continue;
            }
            for test in &group.tests {
                let iv = [test.nonce.as_slice(), test.aad.as_slice()].concat();
                let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
                let way = (Mode::Gcm, Direction::Decrypt, PKCS7);
                let opened = run(kernel, way, &test.key, &iv, &sealed);
                if test.result == TestResult::Invalid {
                    assert_eq!(opened, Err(CipherError::BadData), "{kernel} {}", test.tc_id);
                } else {
                    assert_eq!(opened.unwrap(), test.pt.as_slice(), "{kernel} {}", test.tc_id);
                    let way = (Mode::Gcm, Direction::Encrypt, PKCS7);
                    let ours = run(kernel, way, &test.key, &iv, &test.pt).unwrap();
                    assert_eq!(ours, sealed, "{kernel} {}", test.tc_id);
                }
                count += 1;
            }
        }
    }
    println!("{count} cases");
    assert!(count > 100);
}

#[test]
fn cbc_as_in_wycheproof() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap();
    let mut count = 0;
    for kernel in kernels() {
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let way = (Mode::Cbc, Direction::Decrypt, PKCS7);
            let opened = run(kernel, way, &test.key, &test.nonce, &test.ct);
            if test.result == TestResult::Invalid {
                assert_eq!(opened, Err(CipherError::BadData), "{kernel} {}", test.tc_id);
            } else {
                assert_eq!(opened.unwrap(), test.pt.as_slice(), "{kernel} {}", test.tc_id);
                let way = (Mode::Cbc, Direction::Encrypt, PKCS7);
                let ours = run(kernel, way, &test.key, &test.nonce, &test.pt).unwrap();
                assert_eq!(ours, test.ct.as_slice(), "{kernel} {}", test.tc_id);
            }
            count += 1;
        }
    }
    println!("{count} cases");
    assert!(count > 100);
}

/// What MariaDB does with the bytes that are no whole block.
#[test]
fn the_tail_of_cbc_is_xored_with_the_encrypted_iv() {
    for kernel in kernels() {
        let (key, iv) = ([3; 16], [5; 16]);
        let way = (Mode::Cbc, Direction::Encrypt, NONE);
        let sealed = run(kernel, way, &key, &iv, &[9; 21]).unwrap();
        // One block of CBC over zeros, without a chain, is the IV encrypted.
        let mask = run(kernel, way, &key, &iv, &[0; 16]).unwrap();
        assert_eq!(sealed[16..], mask[..5].iter().map(|byte| byte ^ 9).collect::<Vec<_>>());
        let way = (Mode::Cbc, Direction::Decrypt, NONE);
        assert_eq!(run(kernel, way, &key, &iv, &sealed).unwrap(), [9; 21]);
    }
}

#[test]
fn the_counter_carries_over_all_of_its_bytes() {
    for kernel in kernels() {
        let way = (Mode::Ctr, Direction::Encrypt, NONE);
        let from_all_ones = run(kernel, way, &[1; 16], &[0xff; 16], &[0; 1600]).unwrap();
        let from_zero = run(kernel, way, &[1; 16], &[0; 16], &[0; 1584]).unwrap();
        assert_eq!(from_all_ones[16..], from_zero, "{kernel}");
    }
}

#[test]
fn what_is_refused_and_in_which_order() {
    let refused = |kernel, mode, padding, key: &[u8], iv: &[u8]| {
        let mut slot = MaybeUninit::uninit();
        let way = Direction::Encrypt;
        Context::init_with(kernel, &mut slot, mode, way, padding, key, iv).err()
    };
    for kernel in kernels() {
        for mode in [Mode::Cbc, Mode::Ctr, Mode::Gcm] {
            for len in (0..40).filter(|len| ![16, 24, 32].contains(len)) {
                let why = refused(kernel, mode, PKCS7, &vec![0; len], &[0; 16]);
                assert_eq!(why, Some(CipherError::BadKeySize));
            }
            assert_eq!(
                refused(kernel, mode, PKCS7, &[0; 16], &[0; 11]),
                Some(CipherError::Unsupported)
            );
        }
        let why = refused(kernel, Mode::Gcm, NONE, &[0; 5], &[0; 16]);
        assert_eq!(why, Some(CipherError::Unsupported));
    }
    let codes = [CipherError::BadData, CipherError::Unsupported, CipherError::BadKeySize];
    assert_eq!(codes.map(CipherError::code), [-100, -101, -102]);
}

#[test]
fn a_message_that_was_tampered_with_is_refused() {
    for kernel in kernels() {
        let seal = (Mode::Gcm, Direction::Encrypt, PKCS7);
        let open = (Mode::Gcm, Direction::Decrypt, PKCS7);
        let sealed = run(kernel, seal, &[1; 32], &[2; 16], &[3; 333]).unwrap();
        for at in (0..sealed.len()).step_by(7) {
            let mut sealed = sealed.clone();
            sealed[at] ^= 0x10;
            assert_eq!(run(kernel, open, &[1; 32], &[2; 16], &sealed), Err(CipherError::BadData));
        }
        let mut iv = [2; 16];
        iv[15] = 3;
        assert_eq!(run(kernel, open, &[1; 32], &iv, &sealed), Err(CipherError::BadData));
        assert_eq!(run(kernel, open, &[1; 32], &[2; 16], &[0; 15]), Err(CipherError::BadData));
        assert_eq!(run(kernel, open, &[1; 32], &[2; 16], &[]), Err(CipherError::BadData));
    }
}

#[test]
fn output_that_has_no_room_is_refused() {
    let mut short = [MaybeUninit::new(0); 15];
    let refused =
        crypt(Mode::Ctr, Direction::Encrypt, NONE, &[0; 16], &[0; 16], &[0; 16], &mut short);
    assert_eq!(refused, Err(CipherError::Unsupported));
}

#[test]
fn lengths_are_what_the_server_reserves() {
    for len in [0, 1, 15, 16, 17, 16_354] {
        assert_eq!(encrypted_length(Mode::Ctr, len), len);
        assert_eq!(encrypted_length(Mode::Gcm, len), len + 16);
        for mode in [Mode::Cbc, Mode::Ctr, Mode::Gcm] {
            let mut out = vec![MaybeUninit::new(0); len + 32];
            let args = (&[0; 16], &[0; 16]);
            let done =
                crypt(mode, Direction::Encrypt, PKCS7, args.0, args.1, &vec![0; len], &mut out);
            assert_eq!(done, Ok(encrypted_length(mode, len)));
        }
    }
}

/// No key, no key stream, no plaintext: after `finish` a context is as one that never had any. In
/// optimised code only: the other moves whole contexts, unused room included, by way of the stack.
#[cfg(not(debug_assertions))]
#[test]
#[allow(unsafe_code)]
fn a_finished_context_has_nothing_left_to_tell() {
    if cfg!(debug_assertions) {
        println!(
            "NOT RUN: unoptimised code builds values on the stack, and copies their gaps, too"
        );
        return;
    }
    let secret = [0x5a; 32];
    for kernel in kernels() {
        for mode in [Mode::Cbc, Mode::Ctr, Mode::Gcm] {
            let mut slot = MaybeUninit::zeroed();
            let start: *const u8 = slot.as_ptr() as *const u8;
            let way = Direction::Encrypt;
            let context =
                Context::init_with(kernel, &mut slot, mode, way, PKCS7, &secret, &[7; 16]).unwrap();
            let mut out = [MaybeUninit::new(0); 64];
            context.update(&[0x77; 37], &mut out).unwrap();
            context.finish().unwrap();
            let len = size_of::<Context>();
            // SAFETY: the slot was zeroed before and is still there.
            let left = unsafe { std::slice::from_raw_parts(start, len) };
            let runs = left.chunk_by(|a, b| a == b).filter(|run| run.len() >= 4);
            assert!(runs.clone().all(|run| run[0] == 0), "{kernel} {mode:?}");
            let other = left.iter().filter(|byte| **byte != 0).count();
            assert!(other < 48, "{kernel} {mode:?}: {other} bytes that are not zero");
        }
    }
}

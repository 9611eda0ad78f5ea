//! Pages and records through the functions that encrypt them.

use std::ffi::c_void;
use std::ptr;

use super::abi::{BAD_DATA, BAD_KEY_SIZE, DECRYPT, ENCRYPT, FAILED, NOPAD};
use super::server::{Job, Server};

#[test]
fn what_is_encrypted_can_be_decrypted_at_any_address() {
    let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for algorithm in [0, 1] {
        let server = Server::with_keys(algorithm);
        for (shift, len) in
            (0..16).zip([0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 64, 100, 255, 999, 1000, 256])
        {
            for (key, piece) in [(&[7_u8; 16][..], usize::MAX), (&[8; 24], 16), (&[9; 32], 100)] {
                let job = Job { key, piece, shift, flags: ENCRYPT | NOPAD, ..Job::default() };
                let hidden = server.crypt(&job, &text[..len]).unwrap();
                assert_eq!(hidden.len(), len);
                assert!(len < 16 || hidden != text[..len]);
                let job = Job { flags: DECRYPT | NOPAD, ..job };
                assert_eq!(server.crypt(&job, &hidden).unwrap(), &text[..len]);

                let job = Job { flags: ENCRYPT, ..job };
                let hidden = server.crypt(&job, &text[..len]).unwrap();
                let expected = if algorithm == 0 { (len / 16 + 1) * 16 } else { len + 16 };
                assert_eq!(hidden.len(), expected);
                // GCM needs its tag in the piece that ends the message.
                let job = Job { flags: DECRYPT, piece: usize::MAX, ..job };
                assert_eq!(
                    server.crypt(&job, &hidden).as_deref(),
                    Ok(&text[..len]),
                    "{len} bytes in pieces of {piece}, key of {}",
                    key.len()
                );
            }
        }
    }
}

#[test]
fn works_in_place_and_where_source_and_target_overlap() {
    // InnoDB decrypts and encrypts compressed pages in place in IMPORT TABLESPACE.
    let text: Vec<u8> = (0..=255).cycle().take(16_338).collect();
    for algorithm in [0, 1] {
        let server = Server::with_keys(algorithm);
        for flags in [ENCRYPT | NOPAD, DECRYPT | NOPAD] {
            for len in [1, 16, 31, 424, 16_338] {
                let job = Job { flags, ..Job::default() };
                let apart = server.crypt(&job, &text[..len]).unwrap();
                for (from, to) in [(32, 32), (32, 31), (32, 16), (16, 32), (31, 32), (0, 40)] {
                    let mut page = vec![0; len + 64];
                    page[from..from + len].copy_from_slice(&text[..len]);
                    server.crypt_within(&job, &mut page, from, to, len);
                    assert!(page[to..to + len] == apart, "{len} bytes from {from} to {to}");
                }
            }
        }
    }
}

#[test]
fn known_answers() {
    // NIST SP 800-38A, F.2.1 and F.5.1.
    let key = bytes("2b7e151628aed2a6abf7158809cf4f3c");
    let text = bytes("6bc1bee22e409f96e93d7e117393172a");
    let iv = bytes("000102030405060708090a0b0c0d0e0f");
    let job = Job { key: &key, iv: &iv, flags: ENCRYPT | NOPAD, ..Job::default() };
    let hidden = Server::with_keys(0).crypt(&job, &text).unwrap();
    assert_eq!(hidden, bytes("7649abac8119b246cee98e9b12e9197d"));
    let iv = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    let job = Job { iv: &iv, ..job };
    let hidden = Server::with_keys(1).crypt(&job, &text).unwrap();
    assert_eq!(hidden, bytes("874d6191b620e3261bef6864990db6ce"));
}

#[test]
fn what_cannot_be_encrypted_has_its_code() {
    let server = Server::with_keys(0);
    assert_eq!(server.crypt(&Job { key: &[1; 15], ..Job::default() }, b"x"), Err(BAD_KEY_SIZE));
    assert_eq!(server.crypt(&Job { key: &[], ..Job::default() }, b"x"), Err(BAD_KEY_SIZE));
    assert_eq!(server.crypt(&Job { id: 99, ..Job::default() }, b"x"), Err(FAILED));
    let broken = server.crypt(&Job { flags: DECRYPT, ..Job::default() }, &[6; 32]);
    assert_eq!(broken, Err(BAD_DATA));
    let gcm = Server::with_keys(1);
    let job = Job { flags: DECRYPT, ..Job::default() };
    assert_eq!(gcm.crypt(&job, &[5; 40]), Err(BAD_DATA));
    assert_eq!(gcm.crypt(&job, &[5; 8]), Err(BAD_DATA));
}

#[test]
fn a_message_that_has_ended_takes_no_more() {
    let (key, iv, text) = ([7_u8; 16], [9_u8; 16], [5_u8; 48]);
    for (algorithm, flags) in
        [(0, ENCRYPT), (0, ENCRYPT | NOPAD), (1, ENCRYPT), (1, ENCRYPT | NOPAD)]
    {
        let server = Server::with_keys(algorithm);
        let f = server.functions();
        let (init, update, finish) = (f.init.unwrap(), f.update.unwrap(), f.finish.unwrap());
        let mut memory = vec![0_u8; unsafe { f.ctx_size.unwrap()(1, 1) } as usize];
        let context: *mut c_void = memory.as_mut_ptr().cast();
        let (mut out, mut length) = ([0xC3_u8; 80], 77);
        let to = out.as_mut_ptr();
        unsafe {
            assert_eq!(init(context, key.as_ptr(), 16, iv.as_ptr(), 16, flags, 1, 1), 0);
            assert_eq!(update(context, text.as_ptr(), 48, to, &raw mut length), 0);
            assert_eq!(finish(context, to.add(48), &raw mut length), 0);
        }
        let sealed = out;
        unsafe {
            length = 77;
            assert_ne!(
                update(context, text.as_ptr(), 48, to, &raw mut length),
                0,
                "{algorithm} {flags}"
            );
            assert_eq!(length, 0);
            length = 77;
            assert_ne!(finish(context, to, &raw mut length), 0, "{algorithm} {flags}");
            assert_eq!(length, 0);
        }
        assert_eq!(out, sealed, "wrote after the end");
        // And the same memory takes the next message.
        unsafe {
            assert_eq!(init(context, key.as_ptr(), 16, iv.as_ptr(), 16, flags, 1, 1), 0);
            assert_eq!(update(context, text.as_ptr(), 48, to, &raw mut length), 0);
            assert_eq!(finish(context, to.add(48), &raw mut length), 0);
        }
        assert_eq!(out, sealed);
    }
}

#[test]
fn null_pointers_are_refused() {
    let server = Server::with_keys(0);
    let f = server.functions();
    let (init, update, finish) = (f.init.unwrap(), f.update.unwrap(), f.finish.unwrap());
    let (key, iv) = ([7_u8; 16], [9_u8; 16]);
    let mut memory = vec![0_u8; unsafe { f.ctx_size.unwrap()(1, 1) } as usize];
    let context: *mut c_void = memory.as_mut_ptr().cast();
    let null = ptr::null_mut();
    unsafe {
        assert_eq!(init(null, key.as_ptr(), 16, iv.as_ptr(), 16, ENCRYPT, 1, 1), FAILED);
        assert_ne!(init(context, null.cast(), 16, iv.as_ptr(), 16, ENCRYPT, 1, 1), 0);
        assert_ne!(init(context, key.as_ptr(), 16, null.cast(), 16, ENCRYPT, 1, 1), 0);
        let mut length = 77;
        let mut out = [0_u8; 64];
        assert_eq!(update(null, iv.as_ptr(), 16, out.as_mut_ptr(), &raw mut length), FAILED);
        assert_eq!(length, 0);
        assert_eq!(finish(null, out.as_mut_ptr(), &raw mut length), FAILED);
        assert_eq!(init(context, key.as_ptr(), 16, iv.as_ptr(), 16, ENCRYPT, 1, 1), 0);
        assert_eq!(update(context, null.cast(), 16, out.as_mut_ptr(), &raw mut length), FAILED);
        assert_eq!(update(context, null.cast(), 0, null.cast(), &raw mut length), 0);
        assert_eq!(update(context, iv.as_ptr(), 16, out.as_mut_ptr(), ptr::null_mut()), FAILED);
        assert_eq!(finish(context, null.cast(), &raw mut length), FAILED);
    }
}

#[test]
fn lengths_follow_the_cipher() {
    for (algorithm, expected) in [(0, [16, 16, 32, 32, 112]), (1, [16, 31, 32, 33, 116])] {
        let server = Server::with_keys(algorithm);
        let length = server.functions().encrypted_length.unwrap();
        for (source, expected) in [0, 15, 16, 17, 100].into_iter().zip(expected) {
            assert_eq!(unsafe { length(source, 1, 1) }, expected, "{source}");
        }
        // A key that nobody has: long enough for either cipher.
        assert!(unsafe { length(100, 77, 1) } >= 116);
        assert_eq!(unsafe { length(u32::MAX, 77, 1) }, u32::MAX);
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

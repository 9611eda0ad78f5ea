//! Keys by name: stored, made, fetched, listed, removed, used.

use std::ffi::c_char;
use std::ptr;

use super::abi::{Aes, Reader, Writer};
use super::server::{Server, text};

#[test]
fn stores_fetches_lists_and_removes() {
    let server = Server::loaded();
    assert_eq!(server.fetch("k", ""), Ok(None));
    assert_eq!(server.store("k", "", b"\0secret", "SECRET"), 0);
    assert_eq!(server.store("k", "me@here", b"mine", "AES"), 0);
    assert_eq!(server.store("k", "", b"other", "SECRET"), 1, "the name is taken");
    assert_eq!(server.fetch("k", ""), Ok(Some((b"\0secret".into(), "SECRET".into()))));
    assert_eq!(server.fetch("k", "me@here"), Ok(Some((b"mine".into(), "AES".into()))));
    let rows = server.list("keyring_keys_metadata_iterator", 0);
    assert_eq!(rows, [("k".into(), String::new()), ("k".into(), "me@here".into())]);
    assert_eq!(server.remove("k", ""), 0);
    assert_eq!(server.remove("k", ""), 1);
    assert_eq!(server.fetch("k", ""), Ok(None));
    assert_eq!(server.store("k", "", b"again", "RSA"), 0);
    assert_eq!(server.fetch("k", ""), Ok(Some((b"again".into(), "RSA".into()))));
    // As the stock component does, for a SQL function that is given an empty text.
    assert_eq!(server.store("empty", "", b"", "SECRET"), 0);
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("empty", ""), Ok(Some((Vec::new(), "SECRET".into()))));
}

#[test]
fn a_reload_finds_what_was_stored() {
    let server = Server::loaded();
    assert_eq!(server.generate("k", "AES", 16_384), 0);
    let before = server.fetch("k", "").unwrap().unwrap();
    assert_eq!(before.0.len(), 16_384);
    assert_eq!(server.load(), 0);
    assert_eq!(server.fetch("k", "").unwrap().unwrap(), before);
    let file = std::fs::read(server.keystore()).unwrap();
    assert!(!file.windows(32).any(|part| part == &before.0[..32]), "the key stands in the file");
}

#[test]
fn refuses_what_is_no_key() {
    let server = Server::loaded();
    assert_eq!(server.store("", "", b"x", "AES"), 1);
    assert_eq!(server.store("k", "", &[0; 16_385], "AES"), 1);
    assert_eq!(server.store("k", "", b"x", ""), 1);
    assert_eq!(server.generate("k", "AES", 0), 1);
    assert_eq!(server.generate("k", "AES", 16_385), 1);
    let writer = server.service::<Writer>("keyring_writer");
    let nulls = unsafe { (writer.store)(ptr::null(), ptr::null(), ptr::null(), 9, ptr::null()) };
    assert_eq!(nulls, 1);
    let reader = server.service::<Reader>("keyring_reader_with_status");
    assert_eq!(unsafe { (reader.init)(ptr::null(), ptr::null(), ptr::null_mut()) }, 1);
    let (null, mut len) = (ptr::null_mut(), 0);
    assert_eq!(unsafe { (reader.fetch_length)(null, &raw mut len, &raw mut len) }, 1);
    assert_eq!(unsafe { (reader.deinit)(null) }, 0);
    assert_eq!(server.list("keyring_keys_metadata_iterator", 0), []);
}

#[test]
fn a_key_without_bytes_is_not_stored_as_an_empty_one() {
    let server = Server::loaded();
    let (name, kind) = (text("k"), text("AES"));
    let store = server.service::<Writer>("keyring_writer").store;
    let stored = unsafe { store(name.as_ptr(), ptr::null(), ptr::null(), 32, kind.as_ptr()) };
    assert_eq!(stored, 1);
    assert_eq!(server.fetch("k", ""), Ok(None));
    // An empty text of a SQL function is one with no bytes to point at.
    let empty = unsafe { store(name.as_ptr(), ptr::null(), ptr::null(), 0, kind.as_ptr()) };
    assert_eq!(empty, 0);
}

#[test]
fn names_and_types_of_new_keys_are_bounded() {
    let server = Server::loaded();
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    for name in [&too_long, &"n".repeat(1 << 20)] {
        assert_eq!(server.store(name, "", b"x", "AES"), 1);
        assert_eq!(server.store("k", name, b"x", "AES"), 1);
        assert_eq!(server.generate(name, "AES", 32), 1);
        // Nobody has such a key, which is no failure.
        assert_eq!(server.fetch(name, ""), Ok(None));
    }
    for kind in ["FOO", "AES2", "A", "AES ", "keyring"] {
        assert_eq!(server.store("k", "", b"x", kind), 1, "{kind}");
        assert_eq!(server.generate("k", kind, 32), 1, "{kind}");
    }
    assert_eq!(server.list("keyring_keys_metadata_iterator", 0), []);
    for (n, kind) in ["AES", "RSA", "DSA", "SECRET", "secret"].iter().enumerate() {
        assert_eq!(server.store(&n.to_string(), "", b"x", kind), 0, "{kind}");
    }
    assert_eq!(server.store(&longest, &longest, b"x", "AES"), 0);
    assert_eq!(server.fetch(&longest, &longest), Ok(Some((b"x".to_vec(), "AES".into()))));
}

#[test]
fn a_fetch_that_fails_has_not_given_the_key() {
    let server = Server::loaded();
    assert_eq!(server.store("k", "", b"0123456789abcdef", "SECRET"), 0);
    let reader = server.service::<Reader>("keyring_reader_with_status");
    let (name, user) = (text("k"), text(""));
    let mut handle = ptr::null_mut();
    assert_eq!(unsafe { (reader.init)(name.as_ptr(), user.as_ptr(), &raw mut handle) }, 0);
    let fetch = |kind: *mut c_char, kind_room, data_len: *mut usize, kind_len: *mut usize| {
        let mut data = [0xee_u8; 16];
        let to = data.as_mut_ptr();
        let code = unsafe { (reader.fetch)(handle, to, 16, data_len, kind, kind_room, kind_len) };
        (code, data)
    };
    let mut kind = [0_u8; 6];
    let room = kind.as_mut_ptr().cast();
    let (mut one, mut two) = (0, 0);
    let (one, two) = (&raw mut one, &raw mut two);
    let none = ptr::null_mut();
    for (what, outcome) in [
        ("a type that does not fit", fetch(room, 5, one, two)),
        ("no room for the type", fetch(ptr::null_mut(), 6, one, two)),
        ("no place for the length", fetch(room, 6, none, two)),
        ("no place for the type's length", fetch(room, 6, one, none)),
    ] {
        assert_eq!(outcome, (1, [0xee; 16]), "{what}");
    }
    assert_eq!(fetch(room, 6, one, two), (0, *b"0123456789abcdef"));
    assert_eq!(unsafe { (reader.deinit)(handle) }, 0);
}

#[test]
fn read_only_reads_only() {
    let server = Server::loaded();
    assert_eq!(server.store("k", "", b"x", "AES"), 0);
    server.configure("read_only\": true, \"path");
    assert_eq!(server.load(), 0);
    assert_eq!(server.described("Read_only"), "Yes");
    assert_eq!(server.store("l", "", b"x", "AES"), 1);
    assert_eq!(server.remove("k", ""), 1);
    assert_eq!(server.fetch("k", ""), Ok(Some((b"x".into(), "AES".into()))));
}

#[test]
fn encrypts_for_the_server() {
    let server = Server::loaded();
    assert_eq!(server.store("for data", "", b"any bytes", "aes"), 0);
    let aes = server.service::<Aes>("keyring_aes");
    for mode in ["cbc", "cfb1", "cfb8", "cfb128", "ofb"] {
        let sealed = server.crypt(false, mode, b"twenty-one characters").unwrap();
        let mut size = 0;
        let named = text(mode);
        assert_eq!(unsafe { (aes.get_size)(21, named.as_ptr(), 256, &raw mut size) }, 0);
        assert_eq!(size, sealed.len(), "{mode}");
        assert_eq!(server.crypt(true, mode, &sealed).unwrap(), b"twenty-one characters");
    }
    assert_eq!(server.crypt(false, "ecb", b"x"), Err(1));
    assert_eq!(server.remove("for data", ""), 0);
    assert_eq!(server.crypt(false, "cbc", b"x"), Err(1), "no key");
    assert_eq!(server.store("for data", "", b"any bytes", "SECRET"), 0);
    assert_eq!(server.crypt(false, "cbc", b"x"), Err(1), "no AES key");
}

//! Keys and how long they are.

use std::ffi::c_uint;
use std::mem::MaybeUninit;
use std::ptr;

use super::abi::{INVALID, TOO_SMALL};
use super::server::Server;

#[test]
fn gives_keys_with_legal_codes() {
    let server = Server::with_keys(0);
    assert_eq!(server.latest(1), 1);
    for unknown in [0, 4, u32::MAX] {
        assert_eq!(server.latest(unknown), INVALID, "id {unknown}");
        assert_eq!(server.get_key(unknown, 1, 32).0, INVALID, "id {unknown}");
    }
    for unknown in [0, 2, u32::MAX] {
        assert_eq!(server.get_key(1, unknown, 32).0, INVALID, "version {unknown}");
    }
    for (id, byte, len) in [(1, 0x11, 16), (2, 0x22, 24), (3, 0x33, 32)] {
        let (code, buffer, length) = server.get_key(id, 1, 40);
        assert_eq!((code, length as usize), (0, len));
        assert!(buffer[..len].iter().all(|b| *b == byte));
        assert!(buffer[len..].iter().all(|b| *b == 0xEE), "wrote past the key");
        assert_eq!(server.get_key(id, 1, len).0, 0);
        let (code, buffer, length) = server.get_key(id, 1, len - 1);
        assert_eq!((code, length as usize), (TOO_SMALL, len));
        assert!(buffer.iter().all(|b| *b == 0xEE));
    }
}

#[test]
fn tells_a_keys_length_without_a_buffer() {
    let server = Server::with_keys(0);
    let get_key = server.functions().get_key.unwrap();
    let mut length = MaybeUninit::<c_uint>::uninit();
    assert_eq!(unsafe { get_key(3, 1, ptr::null_mut(), length.as_mut_ptr()) }, 0);
    assert_eq!(unsafe { length.assume_init() }, 32);
    assert_eq!(unsafe { get_key(9, 1, ptr::null_mut(), length.as_mut_ptr()) }, INVALID);
    let mut buffer = [0; 32];
    assert_eq!(unsafe { get_key(1, 1, buffer.as_mut_ptr(), ptr::null_mut()) }, INVALID);
    assert_eq!(unsafe { get_key(1, 1, ptr::null_mut(), ptr::null_mut()) }, 0);
}

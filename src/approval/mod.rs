//! What several people must agree to: the request that says what is to be done, the SSH signatures under it,
//! and the folder next to the keystore where both wait. Whether they suffice is for the manager to say.

#![forbid(unsafe_code)]

mod folder;
mod key;
mod request;
mod sshsig;

pub use folder::{Folder, MAX_SIGNATURE};
pub use key::PublicKey;
pub use request::{Action, LIFETIME, Request, Sealed, Subject};
pub use sshsig::Signature;

/// What approvals are signed for: a signature that was made for anything else is none.
pub const NAMESPACE: &str = "keyward-approval-v1";

/// Reads the strings of SSH's wire format (RFC 4251, section 5): each has its length before it.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (read, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(read)
    }

    fn number(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.bytes(usize::try_from(len).ok()?)
    }

    /// `value` if nothing is left.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Adds a string of the wire format to `to`. Ours are shorter than 4 GiB.
fn put(to: &mut Vec<u8>, string: &[u8]) {
    to.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend(string);
}

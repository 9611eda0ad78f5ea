//! Drives the library as the server does: opens the file, finds the declarations in it, writes the
//! variables, calls init, and then the seven functions with the arguments that a server gives.
//!
//! The structures are written down here once more, from the server's headers, so that a mistake in
//! how the library reads them cannot hide in the test.

#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abi;
mod crypt;
mod keys;
mod loading;
mod server;
mod stack;

//! MySQL's door: keyward as a keyring component of the server, `component_keyring_keyward`.
//!
//! The server opens the library, calls `list_components` and takes eight services from it: tables
//! of functions that read, store, make and list keys by name. The tables and functions are in
//! `ffi`, the only place with unsafe code; what the functions do is in the safe modules beside it.
//! docs/mysql.md tells people how to set it up, and what each line in the log means.

mod aes;
mod ffi;
mod message;
mod open;

/// The component's name, after which the library must be called.
const NAME: &str = "component_keyring_keyward";

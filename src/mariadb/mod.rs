//! MariaDB's door: keyward as an encryption plugin of the server.
//!
//! The server opens the library, finds a table of plugin declarations in it and calls the functions
//! that stand there. All of that is in `ffi`, the only place with unsafe code; what the functions do
//! is in the safe modules beside it. Which plugin the library is depends on the name of the file the
//! server opened: see `plugins`.

mod ffi;
mod keyward;
mod message;
mod open;
mod plugins;

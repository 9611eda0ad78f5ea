//! The server's error log.
//!
//! The service `log_builtins` has some thirty functions, and where `message` stands among them
//! differs between releases; a wrong place would crash the server. So it is called only in releases
//! where it was tried. Everywhere else lines go to the standard error, which the server makes its
//! error log. While a server starts, it does not even know its version: then a line goes to the
//! standard error at once, and to the log with the next call after.

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::io::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::env::{Clock, Level, System};

/// Where the loader puts the functions of `log_builtins`.
pub(super) static SERVICE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// `log_builtins.message`: kind of log, then pairs of an item's type and its value.
type Message = unsafe extern "C" fn(c_int, ...) -> c_int;

/// Releases, and the place of `message` in their `log_builtins`.
const PROVED: &[(&str, usize)] = &[("9.7.4", 28)];

/// `LOG_TYPE_ERROR` of log_shared.h.
const ERROR_LOG: c_int = 1;
/// `LOG_ITEM_SRV_SUBSYS` and its value, a text.
const ITEM_SUBSYSTEM: c_int = 1 << 9;
/// `LOG_ITEM_LOG_PRIO`, a `longlong`.
const ITEM_PRIORITY: c_int = 1 << 16;
/// `LOG_ITEM_LOG_MESSAGE`, a text; the last item.
const ITEM_MESSAGE: c_int = 1 << 18;

/// Lines of before the server knew its own version: its log is not open by then either.
static EARLY: Mutex<Vec<(Priority, CString)>> = Mutex::new(Vec::new());

/// No more of them are kept.
const MAX_EARLY: usize = 100;

/// How much a line matters.
#[derive(Clone, Copy)]
pub(in crate::mysql) enum Priority {
    /// As for any line of ours; a note is in the log with `log_error_verbosity = 3`.
    Of(Level),
    /// A line in the server's life, which no verbosity leaves out.
    System,
}

/// Writes one line.
pub(in crate::mysql) fn print(priority: Priority, line: &CStr) {
    match LogRoute::now() {
        LogRoute::Service(message) => {
            print_early();
            log(message, priority, line);
        }
        LogRoute::TooEarly => {
            print_to_stderr(priority, line);
            let mut early = EARLY.lock().unwrap_or_else(PoisonError::into_inner);
            if early.len() < MAX_EARLY {
                early.push((priority, line.to_owned()));
            }
        }
        LogRoute::Stderr => print_to_stderr(priority, line),
    }
}

/// Whether this process is a server, and no tool that loads keyrings.
pub(in crate::mysql) fn is_server() -> bool {
    server_version().is_some()
}

/// Writes once more, to the log, what was said before there was one.
pub(super) fn print_early() {
    let mut early = EARLY.lock().unwrap_or_else(PoisonError::into_inner);
    if early.is_empty() {
        return;
    }
    if let LogRoute::Service(message) = LogRoute::now() {
        early.drain(..).for_each(|(priority, line)| log(message, priority, &line));
    }
}

/// How a line gets into the error log.
enum LogRoute {
    Service(Message),
    TooEarly,
    Stderr,
}

impl LogRoute {
    fn now() -> Self {
        match server_version().as_deref() {
            Some("") => Self::TooEarly,
            Some(version) => {
                slot_of(version).and_then(message_at).map_or(Self::Stderr, Self::Service)
            }
            None => Self::Stderr,
        }
    }
}

fn log(message: Message, priority: Priority, line: &CStr) {
    let priority: c_longlong = match priority {
        Priority::System => 0,
        Priority::Of(Level::Error) => 1,
        Priority::Of(Level::Warning) => 2,
        Priority::Of(Level::Note) => 3,
    };
    // SAFETY: the function is `log_builtins.message` of a release where this very call was tried;
    // each item's type is followed by a value of its kind, and the texts stay for the call.
    unsafe {
        message(
            ERROR_LOG,
            ITEM_PRIORITY,
            priority,
            ITEM_SUBSYSTEM,
            c"Server".as_ptr(),
            ITEM_MESSAGE,
            line.as_ptr(),
        );
    }
}

/// In the server's own form, for those who read the log by program.
fn print_to_stderr(priority: Priority, line: &CStr) {
    let word = match priority {
        Priority::System => "System",
        Priority::Of(Level::Error) => "ERROR",
        Priority::Of(Level::Warning) => "Warning",
        Priority::Of(Level::Note) => "Note",
    };
    let line = format!("{} [{word}] [Server] {}\n", System.now(), line.to_string_lossy());
    // One write, so that lines of other threads do not come in between; where there is no standard
    // error, there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The function at `slot` of `log_builtins`, a place that was tried in this release.
fn message_at(slot: usize) -> Option<Message> {
    let functions = SERVICE.load(Ordering::Acquire).cast::<Option<Message>>();
    if functions.is_null() {
        return None;
    }
    // SAFETY: the loader put the service's table of functions there; in this release it has one of
    // this type at `slot`.
    unsafe { *functions.add(slot) }
}

/// The place of `message` in the release `version`, such as `9.7.4-2` or `9.7.4`.
fn slot_of(version: &str) -> Option<usize> {
    let is = |release: &str| match version.strip_prefix(release) {
        Some(rest) => !rest.starts_with(|c: char| c.is_ascii_digit()),
        None => false,
    };
    PROVED.iter().find(|(release, _)| is(release)).map(|(_, slot)| *slot)
}

/// The version that the server's program says of itself: empty until it has read its options, none
/// in another program.
fn server_version() -> Option<String> {
    // SAFETY: the name is a literal; the answer is null or the address of the program's symbol.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"server_version".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: in a server it is a static array of characters, all NUL at first, which the thread
    // that starts the server fills in once, before there are others; no other program that loads
    // components has a symbol of this name.
    let version = unsafe { CStr::from_ptr(symbol.cast::<c_char>()) };
    version.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_that_were_tried() {
        assert_eq!(slot_of("9.7.4-2"), Some(28));
        assert_eq!(slot_of("9.7.4"), Some(28));
        for other in ["9.7.40", "9.7.5", "8.4.7", ""] {
            assert_eq!(slot_of(other), None, "{other}");
        }
    }
}

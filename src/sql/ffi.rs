//! The symbols of loadable functions. For each function the server looks for three: one before a statement,
//! one for each call in it, one after it.
//!
//! The layouts are those of the servers' headers (mysql.h, mysql/udf_registration_types.h), which agree as far
//! as they are used here. No panic leaves this module.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_longlong, c_uchar, c_uint, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::{Answer, Question};

/// How long a message may be, with its NUL: `MYSQL_ERRMSG_SIZE`.
const MESSAGE_LEN: usize = 512;

/// The longest answer, in bytes: with a smaller number the servers cut it, or make it a short text.
const MAX_ANSWER: c_ulong = 1 << 28;

/// The beginning of `UDF_ARGS`.
#[repr(C)]
pub(crate) struct Arguments {
    count: c_uint,
}

/// The beginning of `UDF_INIT`: what the server and we know of one function in one statement.
#[repr(C)]
pub(crate) struct Statement {
    maybe_null: bool,
    decimals: c_uint,
    max_len: c_ulong,
    /// Ours: the answer that the server reads until the next call, or null.
    answer: *mut c_void,
}

/// Before the first call of a statement: refuses arguments, and whoever may not ask.
///
/// # Safety
/// Each pointer is null or the server's own for this call; `message` has room for [`MESSAGE_LEN`] bytes.
unsafe fn begin(
    question: Question,
    statement: *mut Statement,
    arguments: *const Arguments,
    message: *mut c_char,
) -> bool {
    let refusal = guard(question, Some("an internal error: see the log".to_owned()), || {
        // SAFETY: this function's own condition.
        let count = unsafe { arguments.as_ref() }.map_or(0, |arguments| arguments.count);
        if count > 0 {
            return Some(format!("{}() takes no arguments", question.name()));
        }
        question.admit().err().map(|error| format!("{}(): {error}", question.name()))
    });
    // SAFETY: this function's own condition.
    if let Some(statement) = unsafe { statement.as_mut() } {
        statement.maybe_null = true;
        statement.answer = ptr::null_mut();
        if question != Question::Rescue {
            statement.max_len = MAX_ANSWER;
        }
    }
    let Some(refusal) = refusal else { return false };
    if !message.is_null() {
        let text = one_line(&refusal);
        // SAFETY: this function's own condition; `one_line` gives no more than MESSAGE_LEN bytes.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), message.cast(), text.len()) };
    }
    true
}

/// One call: the answer's address and length, or null.
///
/// # Safety
/// Each pointer is null or the server's own for this call, and `statement` went through [`begin`].
unsafe fn text(
    question: Question,
    statement: *mut Statement,
    len: *mut c_ulong,
    is_null: *mut c_uchar,
) -> *mut c_char {
    let answer = guard(question, None, || question.answer().ok());
    // SAFETY: this function's own condition.
    let places = unsafe { (statement.as_mut(), len.as_mut()) };
    if let (Some(Answer::Text(text)), (Some(statement), Some(len))) = (answer, places)
        && let Ok(bytes) = c_ulong::try_from(text.len())
    {
        // SAFETY: what stands there is null or from the line below.
        unsafe { forget(statement) };
        let kept = Box::into_raw(Box::new(text));
        statement.answer = kept.cast();
        *len = bytes;
        // SAFETY: a box of our own, which stays until the next call of `forget`.
        return unsafe { (*kept).as_mut_ptr() }.cast();
    }
    if !is_null.is_null() {
        // SAFETY: not null, so by this function's own condition it is the server's flag.
        unsafe { is_null.write(1) };
    }
    ptr::null_mut()
}

/// Frees the answer that a statement still has.
///
/// # Safety
/// What `statement` has as its answer is null or came from [`text`].
unsafe fn forget(statement: &mut Statement) {
    let answer = std::mem::replace(&mut statement.answer, ptr::null_mut());
    if !answer.is_null() {
        // SAFETY: this function's own condition; nobody takes it out a second time.
        drop(unsafe { Box::from_raw(answer.cast::<String>()) });
    }
}

/// After the last call of a statement.
///
/// # Safety
/// `statement` is null or the server's own, and went through [`begin`].
unsafe fn end(statement: *mut Statement) {
    // SAFETY: this function's own condition.
    if let Some(statement) = unsafe { statement.as_mut() } {
        // SAFETY: as before.
        unsafe { forget(statement) };
    }
}

/// The three symbols of a function that answers with a text.
macro_rules! text_function {
    ($question:ident, $before:ident, $call:ident, $after:ident) => {
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $before(
            statement: *mut Statement,
            arguments: *const Arguments,
            message: *mut c_char,
        ) -> bool {
            // SAFETY: the server passes what `begin` wants.
            unsafe { begin(Question::$question, statement, arguments, message) }
        }

        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $call(
            statement: *mut Statement,
            _arguments: *const Arguments,
            _result: *mut c_char,
            len: *mut c_ulong,
            is_null: *mut c_uchar,
            _error: *mut c_uchar,
        ) -> *mut c_char {
            // SAFETY: the server passes what `text` wants, after a call of the function above.
            unsafe { text(Question::$question, statement, len, is_null) }
        }

        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $after(statement: *mut Statement) {
            // SAFETY: the server passes what went through the first of the three.
            unsafe { end(statement) }
        }
    };
}

text_function!(Keys, keyward_keys_init, keyward_keys, keyward_keys_deinit);
text_function!(Status, keyward_status_init, keyward_status, keyward_status_deinit);
text_function!(Verify, keyward_verify_init, keyward_verify, keyward_verify_deinit);

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn keyward_rescue_init(
    statement: *mut Statement,
    arguments: *const Arguments,
    message: *mut c_char,
) -> bool {
    // SAFETY: the server passes what `begin` wants.
    unsafe { begin(Question::Rescue, statement, arguments, message) }
}

/// How many key versions were written into a new keystore; 0 where the present one has them all, NULL
/// where it failed, and the log knows why.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn keyward_rescue(
    _statement: *mut Statement,
    _arguments: *const Arguments,
    is_null: *mut c_uchar,
    error: *mut c_uchar,
) -> c_longlong {
    match guard(Question::Rescue, None, || Question::Rescue.answer().ok()) {
        Some(Answer::Number(versions)) => c_longlong::try_from(versions).unwrap_or(c_longlong::MAX),
        _ => {
            for flag in [is_null, error] {
                if !flag.is_null() {
                    // SAFETY: not null, so it is the server's flag for this call.
                    unsafe { flag.write(1) };
                }
            }
            0
        }
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn keyward_rescue_deinit(_statement: *mut Statement) {}

/// `text` on one line that ends with NUL and fits the server's buffer.
fn one_line(text: &str) -> Vec<u8> {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(MESSAGE_LEN - 1));
    let mut bytes = line.into_bytes();
    bytes.push(0);
    bytes
}

/// Runs `body`; a panic in it becomes a line in the error log and the answer `otherwise`.
fn guard<T>(question: Question, otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        // Its destructor could panic as well.
        std::mem::forget(panic);
        let _ = catch_unwind(|| super::defect(question.name()));
        otherwise
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_that_fits() {
        assert_eq!(one_line("a\nb"), b"a b\0");
        assert_eq!(one_line(&"ü".repeat(400)).len(), MESSAGE_LEN - 1);
    }

    #[test]
    fn a_panic_becomes_the_other_answer() {
        assert_eq!(guard(Question::Keys, 7, || panic!("on purpose")), 7);
    }

    /// Without a server there is nobody to ask: a refusal, and nothing to free.
    #[test]
    fn a_library_alone_refuses() {
        let mut statement =
            Statement { maybe_null: false, decimals: 0, max_len: 0, answer: ptr::null_mut() };
        let (arguments, mut message) = (Arguments { count: 0 }, [1; MESSAGE_LEN]);
        let (place, given) = (&raw mut statement, &raw const arguments);
        // SAFETY: all three are places of this function's own, as long as a server's.
        let refused = unsafe { keyward_keys_init(place, given, message.as_mut_ptr()) };
        let said: Vec<_> = message.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        let said = String::from_utf8(said).unwrap();
        assert!(refused && said.starts_with("keyward_keys(): "), "{said}");
        // SAFETY: it went through the call before.
        unsafe { keyward_keys_deinit(&raw mut statement) };
        assert!(statement.answer.is_null());
    }
}

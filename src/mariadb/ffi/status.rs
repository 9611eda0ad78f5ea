//! Status variables: one function that hands the server an array.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::mem::{align_of, size_of};
use std::ptr;

use super::{Shared, abi, guard, open};
use crate::event::metrics::{Cell, Shown};
use crate::mariadb::open::Open;

/// The server's buffer for what a function shows, in bytes; in its headers as an expression that
/// bindgen does not read.
const BUFFER: usize = 256 * size_of::<*const c_void>();

/// `Keyward`, whose metrics the server shows as `Keyward_state` and so on, and the end of the list.
static VARIABLES: Shared<[abi::st_mysql_show_var; 2]> = Shared::new([
    abi::st_mysql_show_var {
        name: c"Keyward".as_ptr(),
        value: show as *const () as *mut c_void,
        type_: abi::SHOW_FUNC,
    },
    END,
]);

const END: abi::st_mysql_show_var =
    abi::st_mysql_show_var { name: ptr::null(), value: ptr::null_mut(), type_: abi::SHOW_UNDEF };

/// What the plugin's declaration points to.
pub(super) fn variables() -> *mut abi::st_mysql_show_var {
    VARIABLES.get().cast()
}

/// A client asks for the status. The array and its values stay in the server's buffer, which lives
/// until it has shown them.
unsafe extern "C" fn show(
    _thd: abi::MYSQL_THD,
    shown: *mut abi::st_mysql_show_var,
    buffer: *mut c_void,
    _status: *mut c_void,
    _scope: abi::enum_var_type,
) -> c_int {
    guard("SHOW STATUS", 1, || {
        if shown.is_null() || buffer.is_null() {
            return 1;
        }
        let metrics = open().map(Open::status).unwrap_or_default();
        // SAFETY: the server gives a buffer of this size to each function of this type.
        let array = unsafe { fill(&metrics, buffer.cast(), BUFFER) };
        // SAFETY: `shown` is the server's own, for this function to say what it shows.
        unsafe {
            (*shown).type_ = abi::SHOW_ARRAY;
            (*shown).value = array.cast();
        }
        0
    })
}

/// Writes the metrics into the buffer: the array first, the values behind it. A text that does not
/// fit is cut, a metric that does not fit is left out.
///
/// # Safety
/// `buffer` has room for `size` bytes and is nobody else's.
unsafe fn fill(metrics: &[Shown], buffer: *mut u8, size: usize) -> *mut abi::st_mysql_show_var {
    let slack = buffer.align_offset(align_of::<abi::st_mysql_show_var>());
    let array: *mut abi::st_mysql_show_var = buffer.wrapping_add(slack).cast();
    let mut used = slack + (metrics.len() + 1) * size_of::<abi::st_mysql_show_var>();
    let mut n = 0;
    // Numbers first in the buffer, so that they stay aligned and long texts cannot crowd them out.
    for numbers in [true, false] {
        for shown in metrics {
            let bytes = match shown.cell() {
                Cell::Number(number) if numbers => number.to_ne_bytes().to_vec(),
                Cell::Text(text) if !numbers => text_bytes(&text, size.saturating_sub(used)),
                _ => continue,
            };
            if bytes.is_empty() || used + bytes.len() > size {
                continue;
            }
            let value = buffer.wrapping_add(used);
            let type_ = if numbers { abi::SHOW_ULONGLONG } else { abi::SHOW_CHAR };
            // SAFETY: `used` counts the array, with its end, and all values; with this value it is
            // still within the buffer. `array` is aligned and has one place more than metrics.
            unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), value, bytes.len());
                let name = shown.metric.name.as_ptr();
                array.add(n).write(abi::st_mysql_show_var { name, value: value.cast(), type_ });
            }
            used += bytes.len();
            n += 1;
        }
    }
    // SAFETY: at most one place was taken by each metric, so the place for the end is left.
    unsafe { array.add(n).write(END) };
    array
}

/// `text` with the NUL that ends it, in at most `room` bytes and 400; empty where there is no room.
fn text_bytes(text: &str, room: usize) -> Vec<u8> {
    const LONGEST: usize = 400;
    let Some(most) = room.min(LONGEST).checked_sub(1) else { return Vec::new() };
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes: Vec<u8> =
        text.bytes().take(end).map(|b| if b.is_ascii_control() { b' ' } else { b }).collect();
    bytes.push(0);
    bytes
}

const _: () = assert!(size_of::<c_char>() == 1);

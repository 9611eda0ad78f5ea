//! System variables: a plugin's table turned into the structures that the server reads and writes.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::{Shared, abi, caller, environment, guard, message, open};
use crate::compat::{Plugin, Release, Size, Values, Variable, VariableKind};
use crate::mariadb::open::refuse_closed;

/// More variables than any plugin has.
const MAX_VARIABLES: usize = 24;
/// More words than any choice has.
const MAX_WORDS: usize = 8;

/// One variable: the server's structure for its type, where its value is, and a choice's words.
#[repr(C)]
struct Entry {
    declaration: Declaration,
    value: Value,
    words: abi::TYPELIB,
    /// A later server's list of words may have more fields: they are zero then.
    reserved: [usize; 4],
    word_list: [*const c_char; MAX_WORDS + 1],
}

#[repr(C)]
union Declaration {
    text: abi::keyward_sysvar_str,
    int: abi::keyward_sysvar_int,
    count: abi::keyward_sysvar_uint,
    choice: abi::keyward_sysvar_enum,
    number: abi::keyward_sysvar_longlong,
    switch: abi::keyward_sysvar_bool,
}

/// Its place is aligned for each of its types, and each is an atomic's size.
#[repr(C)]
union Value {
    text: *mut c_char,
    int: c_int,
    count: c_uint,
    choice: c_ulong,
    number: c_longlong,
    switch: c_char,
}

/// The part that all declarations begin with.
struct Head {
    flags: c_int,
    name: *const c_char,
    comment: *const c_char,
    check: abi::mysql_var_check_func,
    update: abi::mysql_var_update_func,
}

/// A number's default and ends.
struct Range {
    default: i64,
    min: i64,
    max: i64,
}

/// What the server allows for a command's number: a key id, or -1 for all.
const COMMANDS: Range = Range { default: 0, min: -1, max: u32::MAX as i64 };

const NO_ENTRY: Entry = Entry {
    declaration: Declaration {
        number: abi::keyward_sysvar_longlong {
            flags: 0,
            name: ptr::null(),
            comment: ptr::null(),
            check: None,
            update: None,
            value: ptr::null_mut(),
            def_val: 0,
            min_val: 0,
            max_val: 0,
            blk_sz: 0,
        },
    },
    value: Value { number: 0 },
    words: abi::TYPELIB {
        count: 0,
        name: ptr::null(),
        type_names: ptr::null_mut(),
        type_lengths: ptr::null_mut(),
    },
    reserved: [0; 4],
    word_list: [ptr::null(); MAX_WORDS + 1],
};

static ENTRIES: Shared<[Entry; MAX_VARIABLES]> = Shared::new([NO_ENTRY; MAX_VARIABLES]);

/// Pointers to the entries, then a null pointer: what the plugin's declaration points to.
static LIST: Shared<[*mut abi::st_mysql_sys_var; MAX_VARIABLES + 1]> =
    Shared::new([ptr::null_mut(); MAX_VARIABLES + 1]);

/// Writes the structures for the variables of `plugin` and gives the list of them. Only while the
/// library is being loaded.
pub(super) fn declare(plugin: &'static Plugin) -> *mut *mut abi::st_mysql_sys_var {
    for (n, variable) in plugin.variables.iter().enumerate().take(MAX_VARIABLES) {
        let entry = entry(n);
        // SAFETY: the entry is one of ours, and while the library is being loaded nobody else
        // knows of it. So is the list, which has a place for every entry.
        unsafe {
            declare_one(entry, variable);
            LIST.get().cast::<*mut abi::st_mysql_sys_var>().add(n).write(entry.cast());
        }
    }
    LIST.get().cast()
}

fn entry(n: usize) -> *mut Entry {
    ENTRIES.get().cast::<Entry>().wrapping_add(n.min(MAX_VARIABLES - 1))
}

/// # Safety
/// `entry` is one of `ENTRIES`, and nobody else uses it at this moment.
unsafe fn declare_one(entry: *mut Entry, variable: &'static Variable) {
    let command = matches!(variable.kind, VariableKind::Command { .. });
    let head = Head {
        flags: flags(variable),
        name: variable.name.as_ptr(),
        comment: variable.comment.as_ptr(),
        // The server has functions of its own that check a value's type and range.
        check: if command { Some(check_command) } else { None },
        update: match (command, variable.dynamic) {
            (true, _) => Some(update_nothing),
            (false, true) => Some(update_value),
            (false, false) => None,
        },
    };
    // SAFETY: the caller's promise. Only addresses of fields are taken, and fields written.
    unsafe {
        let value = &raw mut (*entry).value;
        (*entry).declaration = match &variable.kind {
            VariableKind::Text { default } => text(head, value.cast(), default),
            VariableKind::Number { size, default, min, max } => {
                let range = Range { default: *default, min: *min, max: *max };
                match size {
                    Size::Int => int(head, value.cast(), &range),
                    Size::UnsignedInt => count(head, value.cast(), &range),
                    Size::BigInt => number(head, value.cast(), &range),
                }
            }
            VariableKind::Switch { default } => switch(head, value.cast(), *default),
            VariableKind::Choice { words, default } => {
                for (n, word) in words.iter().enumerate().take(MAX_WORDS) {
                    (*entry).word_list[n] = word.as_ptr();
                }
                (*entry).words.count = words.len().min(MAX_WORDS) as c_uint;
                (*entry).words.name = c"".as_ptr();
                (*entry).words.type_names = (&raw mut (*entry).word_list).cast();
                choice(head, value.cast(), *default, &raw mut (*entry).words)
            }
            VariableKind::Command { switch: false, .. } => number(head, value.cast(), &COMMANDS),
            VariableKind::Command { switch: true, .. } => switch(head, value.cast(), false),
        };
    }
}

fn flags(variable: &Variable) -> c_int {
    let mut flags = match variable.kind {
        VariableKind::Text { .. } => abi::PLUGIN_VAR_STR | abi::PLUGIN_VAR_RQCMDARG,
        VariableKind::Number { size: Size::Int, .. } => abi::PLUGIN_VAR_INT,
        VariableKind::Number { size: Size::UnsignedInt, .. } => {
            abi::PLUGIN_VAR_INT | abi::PLUGIN_VAR_UNSIGNED
        }
        VariableKind::Number { size: Size::BigInt, .. } => abi::PLUGIN_VAR_LONGLONG,
        VariableKind::Choice { .. } => abi::PLUGIN_VAR_ENUM,
        VariableKind::Command { switch: false, .. } => abi::PLUGIN_VAR_LONGLONG,
        VariableKind::Switch { .. } | VariableKind::Command { switch: true, .. } => {
            abi::PLUGIN_VAR_BOOL | abi::PLUGIN_VAR_OPCMDARG
        }
    };
    let command = matches!(variable.kind, VariableKind::Command { .. });
    for (holds, flag) in [
        (!command && !variable.dynamic, abi::PLUGIN_VAR_READONLY),
        (variable.hidden, abi::PLUGIN_VAR_NOSYSVAR),
        (variable.deprecated, abi::PLUGIN_VAR_DEPRECATED),
    ] {
        if holds {
            flags |= flag;
        }
    }
    flags as c_int
}

fn text(head: Head, value: *mut *mut c_char, default: &'static CStr) -> Declaration {
    let Head { flags, name, comment, check, update } = head;
    let def_val = default.as_ptr();
    Declaration {
        text: abi::keyward_sysvar_str { flags, name, comment, check, update, value, def_val },
    }
}

fn int(head: Head, value: *mut c_int, range: &Range) -> Declaration {
    let Head { flags, name, comment, check, update } = head;
    let fits = |number: i64, otherwise| c_int::try_from(number).unwrap_or(otherwise);
    Declaration {
        int: abi::keyward_sysvar_int {
            flags,
            name,
            comment,
            check,
            update,
            value,
            def_val: fits(range.default, 0),
            min_val: fits(range.min, c_int::MIN),
            max_val: fits(range.max, c_int::MAX),
            blk_sz: 1,
        },
    }
}

fn count(head: Head, value: *mut c_uint, range: &Range) -> Declaration {
    let Head { flags, name, comment, check, update } = head;
    let fits = |number: i64, otherwise| c_uint::try_from(number).unwrap_or(otherwise);
    Declaration {
        count: abi::keyward_sysvar_uint {
            flags,
            name,
            comment,
            check,
            update,
            value,
            def_val: fits(range.default, 0),
            min_val: fits(range.min, 0),
            max_val: fits(range.max, c_uint::MAX),
            blk_sz: 1,
        },
    }
}

fn number(head: Head, value: *mut c_longlong, range: &Range) -> Declaration {
    let Head { flags, name, comment, check, update } = head;
    Declaration {
        number: abi::keyward_sysvar_longlong {
            flags,
            name,
            comment,
            check,
            update,
            value,
            def_val: range.default,
            min_val: range.min,
            max_val: range.max,
            blk_sz: 1,
        },
    }
}

fn choice(
    head: Head,
    value: *mut c_ulong,
    default: u32,
    typelib: *mut abi::TYPELIB,
) -> Declaration {
    let Head { flags, name, comment, check, update } = head;
    Declaration {
        choice: abi::keyward_sysvar_enum {
            flags,
            name,
            comment,
            check,
            update,
            value,
            def_val: default.into(),
            typelib,
        },
    }
}

fn switch(head: Head, value: *mut c_char, default: bool) -> Declaration {
    let Head { flags, name, comment, check, update } = head;
    Declaration {
        switch: abi::keyward_sysvar_bool {
            flags,
            name,
            comment,
            check,
            update,
            value,
            def_val: c_char::from(default),
        },
    }
}

/// A client SETs a command variable: this is where the work is done. Here the server does not hold
/// its lock on system variables; in `update` it does, and no other client could connect meanwhile.
unsafe extern "C" fn check_command(
    thd: abi::MYSQL_THD,
    variable: *mut abi::st_mysql_sys_var,
    _save: *mut c_void,
    value: *mut abi::st_mysql_value,
) -> c_int {
    guard("SET GLOBAL", 1, || {
        let Some(VariableKind::Command { run, switch }) = declared(variable) else { return 1 };
        // SAFETY: the server gives the value that the client set, for the time of this call.
        let Some(number) = (unsafe { given(value, *switch) }) else { return 1 };
        let Some(open) = open() else {
            refuse_closed();
            return 1;
        };
        c_int::from(open.command(*run, number, &caller::client(thd)).is_err())
    })
}

/// A command variable stays what it was.
unsafe extern "C" fn update_nothing(
    _thd: abi::MYSQL_THD,
    _variable: *mut abi::st_mysql_sys_var,
    _place: *mut c_void,
    _save: *const c_void,
) {
}

/// A client SETs a dynamic variable, to a value that the server has checked. The server holds its
/// lock on all system variables.
unsafe extern "C" fn update_value(
    _thd: abi::MYSQL_THD,
    variable: *mut abi::st_mysql_sys_var,
    place: *mut c_void,
    save: *const c_void,
) {
    guard("SET GLOBAL", (), || {
        let Some(kind) = declared(variable) else { return };
        if place.is_null() || save.is_null() {
            return;
        }
        // SAFETY: `place` is the value of one of our entries, which we declared to have this type,
        // and `save` one of the same type that the server has just written. Atomic, because another
        // thread may be reading the value at this moment.
        unsafe { store(kind, place, save) };
        if let Some(open) = open() {
            open.change(&LoadedValues::of(super::plugin()));
        }
    });
}

/// # Safety
/// `place` and `save` are aligned for a value of this kind; `save` holds one and nobody writes it.
unsafe fn store(kind: &VariableKind, place: *mut c_void, save: *const c_void) {
    // SAFETY: the caller's promise; the atomics have the size and alignment of their numbers.
    unsafe {
        match kind {
            VariableKind::Number { size: Size::Int | Size::UnsignedInt, .. } => {
                AtomicU32::from_ptr(place.cast()).store(save.cast::<u32>().read(), RELAXED);
            }
            VariableKind::Number { size: Size::BigInt, .. } | VariableKind::Choice { .. } => {
                AtomicU64::from_ptr(place.cast()).store(save.cast::<u64>().read(), RELAXED);
            }
            VariableKind::Switch { .. } => {
                AtomicU8::from_ptr(place.cast()).store(save.cast::<u8>().read(), RELAXED);
            }
            // Never declared with this function.
            VariableKind::Text { .. } | VariableKind::Command { .. } => {}
        }
    }
}

/// The variables do not order anything but themselves.
const RELAXED: Ordering = Ordering::Relaxed;

/// A choice is read and written as a number of 64 bits.
const _: () = assert!(size_of::<c_ulong>() == size_of::<u64>());

/// What the server's `variable`, which is one of our entries, was declared as.
fn declared(variable: *mut abi::st_mysql_sys_var) -> Option<&'static VariableKind> {
    let at = variable.addr().wrapping_sub(ENTRIES.get().addr()) / size_of::<Entry>();
    super::plugin().variables.get(at).map(|variable| &variable.kind)
}

/// What a client set: a number, or for a switch also ON or OFF. `None` = neither; the server then
/// tells the client that the value is wrong.
///
/// # Safety
/// `value` is null or a value of the server's that lives until this returns.
unsafe fn given(value: *mut abi::st_mysql_value, switch: bool) -> Option<i64> {
    // SAFETY: null, or as the caller promises.
    let functions = unsafe { value.as_ref() }?;
    let (value_type, val_int, val_str) =
        (functions.value_type?, functions.val_int?, functions.val_str?);
    // SAFETY: the server's functions for this value.
    let kind = unsafe { value_type(value) };
    if kind == abi::MYSQL_VALUE_TYPE_INT as c_int {
        let mut number = 0;
        // SAFETY: as before; `number` is a place for one number. Not 0 = NULL was set.
        let null = unsafe { val_int(value, &raw mut number) } != 0;
        return (!null && (!switch || number == 0 || number == 1)).then_some(number);
    }
    if !switch || kind != abi::MYSQL_VALUE_TYPE_STRING as c_int {
        return None;
    }
    let mut buffer = [0 as c_char; 16];
    let mut length = buffer.len() as c_int;
    // SAFETY: as before; the buffer has as many bytes as `length` says.
    let text = unsafe { val_str(value, buffer.as_mut_ptr(), &raw mut length) };
    if text.is_null() {
        return None;
    }
    // SAFETY: the answer is a text that ends with NUL and lives to the end of the statement.
    match unsafe { CStr::from_ptr(text) }.to_bytes() {
        word if word.eq_ignore_ascii_case(b"on") => Some(1),
        word if word.eq_ignore_ascii_case(b"off") => Some(0),
        _ => None,
    }
}

/// The values that the server has put into the variables.
pub(super) struct LoadedValues(&'static Plugin);

impl LoadedValues {
    /// The values for `plugin`, which the variables were declared for, as they are whenever one asks.
    pub(super) fn of(plugin: &'static Plugin) -> Self {
        Self(plugin)
    }

    /// The place of a variable's value, which is aligned for each type that there is.
    fn find(&self, name: &CStr) -> Option<(*mut c_void, &'static VariableKind)> {
        let n = self.0.variables.iter().position(|variable| variable.name == name)?;
        // SAFETY: the entry is one of ours, and only the address of a field is taken.
        let place = unsafe { &raw mut (*entry(n)).value };
        Some((place.cast(), &self.0.variables[n].kind))
    }
}

impl Values for LoadedValues {
    fn text(&self, name: &CStr) -> String {
        let Some((place, VariableKind::Text { .. })) = self.find(name) else {
            return String::new();
        };
        // SAFETY: declared as a text. The server wrote it before it called init and, no text being
        // dynamic, does not write it again.
        let text = unsafe { place.cast::<*const c_char>().read() };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: the server's value is a text that ends with NUL and lives as long as the variable.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    fn number(&self, name: &CStr) -> i64 {
        let Some((place, VariableKind::Number { size, .. })) = self.find(name) else { return 0 };
        // SAFETY: declared as a number of this size. It may be SET at any time, which
        // `update_value` does atomically.
        unsafe {
            match size {
                Size::Int => AtomicI32::from_ptr(place.cast()).load(RELAXED).into(),
                Size::UnsignedInt => AtomicU32::from_ptr(place.cast()).load(RELAXED).into(),
                Size::BigInt => AtomicI64::from_ptr(place.cast()).load(RELAXED),
            }
        }
    }

    fn switch(&self, name: &CStr) -> bool {
        let Some((place, VariableKind::Switch { .. })) = self.find(name) else { return false };
        // SAFETY: as for numbers; declared as a switch.
        unsafe { AtomicU8::from_ptr(place.cast()).load(RELAXED) != 0 }
    }

    fn choice(&self, name: &CStr) -> Option<&'static CStr> {
        let Some((place, VariableKind::Choice { words, .. })) = self.find(name) else {
            return None;
        };
        // SAFETY: as for numbers; declared as a choice.
        let chosen = unsafe { AtomicU64::from_ptr(place.cast()).load(RELAXED) };
        usize::try_from(chosen).ok().and_then(|n| words.get(n).copied())
    }

    fn hand_on(&self, name: &str, value: &str) {
        environment::set(name, value);
    }

    fn release(&self) -> Release {
        message::release()
    }

    fn note(&self, number: u32, text: &str) {
        crate::mariadb::message::note(number, text);
    }
}

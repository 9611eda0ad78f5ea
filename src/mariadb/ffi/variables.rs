//! System variables: a face's table turned into the structures that the server reads and writes.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulong, c_void};
use std::ptr;

use super::{Shared, abi, guard, open};
use crate::mariadb::names::{Face, Values, Variable, VariableKind};
use crate::mariadb::open::refuse_closed;

/// More variables than any face has.
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
    count: abi::keyward_sysvar_uint,
    choice: abi::keyward_sysvar_enum,
    number: abi::keyward_sysvar_longlong,
    switch: abi::keyward_sysvar_bool,
}

#[repr(C)]
union Value {
    text: *mut c_char,
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
}

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

/// Writes the structures for the variables of `face` and gives the list of them. Only while the
/// library is being loaded.
pub(super) fn declare(face: &'static Face) -> *mut *mut abi::st_mysql_sys_var {
    for (n, variable) in face.variables.iter().enumerate().take(MAX_VARIABLES) {
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
    let head = Head {
        flags: flags(&variable.kind),
        name: variable.name.as_ptr(),
        comment: variable.comment.as_ptr(),
    };
    // SAFETY: the caller's promise. Only addresses of fields are taken, and fields written.
    unsafe {
        let value = &raw mut (*entry).value;
        (*entry).declaration = match &variable.kind {
            VariableKind::Text { default } => text(head, value.cast(), default),
            VariableKind::Count => count(head, value.cast()),
            VariableKind::Choice { words } => {
                for (n, word) in words.iter().enumerate().take(MAX_WORDS) {
                    (*entry).word_list[n] = word.as_ptr();
                }
                (*entry).words.count = words.len().min(MAX_WORDS) as c_uint;
                (*entry).words.name = c"".as_ptr();
                (*entry).words.type_names = (&raw mut (*entry).word_list).cast();
                choice(head, value.cast(), &raw mut (*entry).words)
            }
            VariableKind::Command { switch: false, .. } => number(head, value.cast()),
            VariableKind::Command { switch: true, .. } => switch(head, value.cast()),
        };
    }
}

fn flags(kind: &VariableKind) -> c_int {
    let fixed = abi::PLUGIN_VAR_READONLY | abi::PLUGIN_VAR_RQCMDARG;
    let flags = match kind {
        VariableKind::Text { .. } => abi::PLUGIN_VAR_STR | fixed,
        VariableKind::Count => abi::PLUGIN_VAR_INT | abi::PLUGIN_VAR_UNSIGNED | fixed,
        VariableKind::Choice { .. } => abi::PLUGIN_VAR_ENUM | fixed,
        VariableKind::Command { switch: false, .. } => abi::PLUGIN_VAR_LONGLONG,
        VariableKind::Command { switch: true, .. } => {
            abi::PLUGIN_VAR_BOOL | abi::PLUGIN_VAR_OPCMDARG
        }
    };
    flags as c_int
}

fn text(head: Head, value: *mut *mut c_char, default: &'static CStr) -> Declaration {
    let Head { flags, name, comment } = head;
    let def_val = default.as_ptr();
    Declaration {
        text: abi::keyward_sysvar_str {
            flags,
            name,
            comment,
            check: None,
            update: None,
            value,
            def_val,
        },
    }
}

fn count(head: Head, value: *mut c_uint) -> Declaration {
    let Head { flags, name, comment } = head;
    Declaration {
        count: abi::keyward_sysvar_uint {
            flags,
            name,
            comment,
            check: None,
            update: None,
            value,
            def_val: 0,
            min_val: 0,
            max_val: c_uint::MAX,
            blk_sz: 1,
        },
    }
}

fn choice(head: Head, value: *mut c_ulong, typelib: *mut abi::TYPELIB) -> Declaration {
    let Head { flags, name, comment } = head;
    Declaration {
        choice: abi::keyward_sysvar_enum {
            flags,
            name,
            comment,
            check: None,
            update: None,
            value,
            def_val: 0,
            typelib,
        },
    }
}

fn number(head: Head, value: *mut c_longlong) -> Declaration {
    let Head { flags, name, comment } = head;
    Declaration {
        number: abi::keyward_sysvar_longlong {
            flags,
            name,
            comment,
            check: Some(check_command),
            update: Some(update_nothing),
            value,
            def_val: 0,
            min_val: -1,
            max_val: c_longlong::from(u32::MAX),
            blk_sz: 1,
        },
    }
}

fn switch(head: Head, value: *mut c_char) -> Declaration {
    let Head { flags, name, comment } = head;
    Declaration {
        switch: abi::keyward_sysvar_bool {
            flags,
            name,
            comment,
            check: Some(check_command),
            update: Some(update_nothing),
            value,
            def_val: 0,
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
        let at = (variable.addr().wrapping_sub(ENTRIES.get().addr())) / size_of::<Entry>();
        let declared = super::face().variables.get(at).map(|variable| &variable.kind);
        let Some(VariableKind::Command { run, switch }) = declared else { return 1 };
        // SAFETY: the server gives the value that the client set, for the time of this call.
        let Some(number) = (unsafe { given(value, *switch) }) else { return 1 };
        let Some(open) = open() else {
            refuse_closed();
            return 1;
        };
        c_int::from(open.command(*run, number, &actor(thd)).is_err())
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

/// Who SETs a variable, for the audit trail.
fn actor(thd: abi::MYSQL_THD) -> String {
    type ThreadId = unsafe extern "C" fn(abi::MYSQL_THD) -> c_ulong;
    // SAFETY: a look-up by a name that ends with NUL, in everything that the process has loaded.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"thd_get_thread_id".as_ptr()) };
    if function.is_null() || thd.is_null() {
        return "a client of the server".to_owned();
    }
    // SAFETY: the server's headers declare the function of that name with this type.
    let thread_id = unsafe { std::mem::transmute::<*mut c_void, ThreadId>(function) };
    // SAFETY: the server gave us its thread for the time of this call.
    format!("connection {} of the server", unsafe { thread_id(thd) })
}

/// The values that the server has put into the variables.
pub(super) struct LoadedValues(&'static Face);

impl LoadedValues {
    /// The values for `face`, which the variables were declared for.
    pub(super) fn of(face: &'static Face) -> Self {
        Self(face)
    }

    fn find(&self, name: &CStr) -> Option<(*const Entry, &'static VariableKind)> {
        let n = self.0.variables.iter().position(|variable| variable.name == name)?;
        Some((entry(n).cast_const(), &self.0.variables[n].kind))
    }
}

impl Values for LoadedValues {
    fn text(&self, name: &CStr) -> String {
        let Some((entry, VariableKind::Text { .. })) = self.find(name) else {
            return String::new();
        };
        // SAFETY: the entry was declared as a text. The server wrote the value before it called
        // init and, the variable being read-only, does not write it again.
        let text = unsafe { (*entry).value.text };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: the server's value is a text that ends with NUL and lives as long as the variable.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    fn count(&self, name: &CStr) -> u32 {
        match self.find(name) {
            // SAFETY: declared as a count, which is read-only: nobody writes it any more.
            Some((entry, VariableKind::Count)) => unsafe { (*entry).value.count },
            _ => 0,
        }
    }

    fn choice(&self, name: &CStr) -> Option<&'static CStr> {
        let Some((entry, VariableKind::Choice { words })) = self.find(name) else { return None };
        // SAFETY: declared as a choice, which is read-only: nobody writes it any more.
        let chosen = unsafe { (*entry).value.choice };
        usize::try_from(chosen).ok().and_then(|n| words.get(n).copied())
    }
}

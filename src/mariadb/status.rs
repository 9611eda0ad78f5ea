//! What SHOW GLOBAL STATUS shows of us. What can be a number is one, for programs that collect them.

#![forbid(unsafe_code)]

use std::ffi::CStr;

use crate::custodian::{Answer, Status};
use crate::env::Timestamp;

/// One status variable; the server puts `Keyward_` before its name.
pub(super) struct Line {
    /// The name.
    pub(super) name: &'static CStr,
    /// The value.
    pub(super) value: Value,
}

/// The value of a status variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number.
    Number(u64),
    /// A text, of which the server may show the beginning only.
    Text(String),
}

/// `status` as the server's variables, with what else there is to tell of this process: how the mark
/// in its data directory stands, whether all secret memory is locked, and what encrypts pages. The same ones, in the same order, whatever
/// the state.
pub(super) fn lines(status: &Status, mark: &str, memory_locked: bool, kernel: &str) -> Vec<Line> {
    let degraded = status.degraded.as_ref();
    let state = match (degraded, status.restart.answer) {
        (Some(_), _) => "degraded",
        (None, Answer::No) => "restart_unsafe",
        (None, Answer::Yes | Answer::Unknown) => "ok",
    };
    let stash = status.stash.as_ref();
    let taken = stash.and_then(|stash| stash.taken).map_or(0, Timestamp::as_unix);
    let line = |name, value| Line { name, value };
    let number = |n: usize| Value::Number(u64::try_from(n).unwrap_or(u64::MAX));
    vec![
        line(c"state", Value::Text(state.to_owned())),
        line(c"degraded", Value::Number(u64::from(degraded.is_some()))),
        line(c"degraded_since", Value::Number(degraded.map_or(0, |d| d.since.as_unix()))),
        line(c"last_error", Value::Text(degraded.map_or_else(String::new, |d| d.cause.clone()))),
        line(c"restart_safe", Value::Text(status.restart.answer.to_string())),
        line(c"restart_safe_reason", Value::Text(status.restart.reason.clone())),
        line(c"provider", Value::Text(status.provider.clone())),
        line(c"generation", Value::Number(status.generation)),
        line(c"keys", number(status.keys)),
        line(c"key_versions", number(status.versions)),
        line(c"stash_taken", Value::Number(taken)),
        line(c"stash_in_use", Value::Number(u64::from(stash.is_some_and(|stash| stash.in_use)))),
        line(c"rotations", Value::Number(status.rotations)),
        line(c"next_rotation", Value::Number(status.next_rotation.map_or(0, Timestamp::as_unix))),
        line(c"rotation_due", Value::Number(u64::from(status.rotation_due))),
        line(c"mark", Value::Text(mark.to_owned())),
        line(c"cipher_kernel", Value::Text(kernel.to_owned())),
        line(c"memory_locked", Value::Number(u64::from(memory_locked))),
        line(c"started", Value::Number(status.started.as_unix())),
        line(c"version", Value::Text(env!("CARGO_PKG_VERSION").to_owned())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custodian::{Degraded, RestartSafe};
    use crate::source::StashState;

    #[test]
    fn an_outage_shows_as_text_and_as_numbers() {
        let degraded = Degraded { since: Timestamp::from_unix(7), cause: "no answer".to_owned() };
        let status = Status {
            degraded: Some(degraded),
            generation: 3,
            provider: "kms".to_owned(),
            keys: 1,
            versions: 2,
            stash: Some(StashState {
                path: "/var/lib/keyward/stash.json".into(),
                taken: Some(Timestamp::from_unix(6)),
                in_use: true,
                failure: None,
            }),
            rotations: 4,
            next_rotation: Some(Timestamp::from_unix(9)),
            rotation_due: true,
            restart: RestartSafe { answer: Answer::No, reason: "no key file".to_owned() },
            started: Timestamp::from_unix(5),
        };
        let value = |name: &CStr| {
            let all = lines(&status, "none", false, "soft");
            all.into_iter().find(|line| line.name == name).unwrap().value
        };
        assert_eq!(value(c"state"), Value::Text("degraded".to_owned()));
        assert_eq!(value(c"degraded"), Value::Number(1));
        assert_eq!(value(c"degraded_since"), Value::Number(7));
        assert_eq!(value(c"last_error"), Value::Text("no answer".to_owned()));
        assert_eq!(value(c"restart_safe"), Value::Text("no".to_owned()));
        assert_eq!(value(c"restart_safe_reason"), Value::Text("no key file".to_owned()));
        assert_eq!(value(c"stash_taken"), Value::Number(6));
        assert_eq!(value(c"stash_in_use"), Value::Number(1));
        assert_eq!(value(c"next_rotation"), Value::Number(9));
        assert_eq!(value(c"rotation_due"), Value::Number(1));
        assert_eq!(value(c"mark"), Value::Text("none".to_owned()));
        assert_eq!(value(c"cipher_kernel"), Value::Text("soft".to_owned()));
        assert_eq!(value(c"memory_locked"), Value::Number(0));
    }
}

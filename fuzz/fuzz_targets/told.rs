// What holds for whatever a key store is told, or a file says.
#![allow(dead_code)]
use std::time::Duration;

use keyward::Error;
use keyward::env::Deadline;

/// Stands in the seeds where a secret does: a token, a passphrase, the words of a refusal.
pub const SECRET: &str = "hunter2";

/// What came of it; an error is one line, with nothing of a secret in it.
pub fn told<T>(outcome: Result<T, Error>) -> Option<T> {
    if let Err(error) = &outcome {
        assert!(!error.to_string().contains(SECRET), "a secret: {error}");
    }
    line(outcome)
}

/// The same where a name may be spelt as the secret is.
pub fn line<T>(outcome: Result<T, Error>) -> Option<T> {
    if let Err(error) = &outcome {
        assert!(!error.to_string().contains(char::is_control), "several lines: {error}");
    }
    outcome.ok()
}

/// Whether the bytes have the secret in them.
pub fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// Too soon for any pause between two attempts.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(49))
}

/// Long enough for what asks nobody, however busy the machine is.
pub fn later() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

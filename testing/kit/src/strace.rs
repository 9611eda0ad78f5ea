//! Tracing system calls and killing at one of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::{Result, files};

/// One system call of a trace.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Which call of that name it is, from 1 on, counted for the thread that made it.
    pub nth: usize,
    /// The line as strace wrote it, without the thread's number.
    pub text: String,
}

impl Call {
    /// The strace option that kills whoever makes this call, before it is carried out.
    #[must_use]
    pub fn kill_option(&self) -> String {
        format!("--inject={}:signal=SIGKILL:when={}", self.name, self.nth)
    }

    /// Whether it came back without an error.
    #[must_use]
    pub fn done(&self) -> bool {
        self.text
            .rsplit_once(" = ")
            .is_some_and(|(_, value)| value.starts_with(|first: char| first.is_ascii_digit()))
    }

    /// The path of its first file descriptor, as `--decode-fds=path` shows it.
    #[must_use]
    pub fn descriptor(&self) -> Option<PathBuf> {
        let (_, rest) = self.text.split_once('<')?;
        Some(rest.split_once('>')?.0.into())
    }

    /// The quoted words among its arguments.
    #[must_use]
    pub fn quoted(&self) -> Vec<PathBuf> {
        self.text.split('"').skip(1).step_by(2).map(PathBuf::from).collect()
    }

    /// The number it returned.
    #[must_use]
    pub fn returned(&self) -> u64 {
        let value = self.text.rsplit_once(" = ").map_or("", |(_, value)| value);
        let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }
}

/// The options of strace that [`read`] understands, writing to `log`.
#[must_use]
pub fn options(log: &Path) -> Vec<String> {
    let output = format!("--output={}", log.display());
    vec!["--decode-fds=path".into(), "--string-limit=4096".into(), output]
}

/// The option that has strace run a command as the server's user, where we are root: in one process,
/// which a command that root calls is not.
#[must_use]
pub fn as_server() -> Option<String> {
    crate::account::server_user().map(|user| format!("--user={}", user.name))
}

/// The system calls that strace wrote to `log`.
pub fn read(log: &Path) -> Result<Vec<Call>> {
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    let mut calls = Vec::new();
    for line in files::text(log)?.lines() {
        let (thread, text) = match line.split_once(' ') {
            Some((thread, text)) if thread.parse::<u32>().is_ok() => (thread, text.trim_start()),
            _ => ("", line),
        };
        let Some((name, _)) = text.split_once('(') else { continue };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let nth = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *nth += 1;
        calls.push(Call { name: name.to_owned(), nth: *nth, text: text.to_owned() });
    }
    Ok(calls)
}

//! Running other programs and keeping what they said.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::Result;

/// What a program answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained of.
    pub err: String,
}

impl Answer {
    /// Its output, or an error made of all it said.
    pub fn ok(self) -> Result<String> {
        match self.code {
            0 => Ok(self.out),
            code => Err(format!("exit code {code}\n{}{}", self.out, self.err).into()),
        }
    }

    /// Everything it said, for a test that expects a complaint.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `program` to its end; an error only if it could not be run or failed.
pub fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
    answer(Command::new(program).args(args))?.ok().map_err(|error| error.within(program))
}

/// Runs `command` to its end, whatever its exit code.
pub fn answer(command: &mut Command) -> Result<Answer> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map(Answer::from).map_err(|error| {
        format!("{program}: {error}; `cargo xtask setup` installs what is missing").into()
    })
}

/// As [`answer`], with `input` on its standard input.
pub fn answer_to(command: &mut Command, input: &str) -> Result<Answer> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error| format!("{program}: {error}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A client that was refused closes its end early; its own message says more.
        let _ = stdin.write_all(input.as_bytes());
    }
    Ok(child.wait_with_output().map_err(failed)?.into())
}

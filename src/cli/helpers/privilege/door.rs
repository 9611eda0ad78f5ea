//! What the account's command may ask of root: one of the questions that we have for the server.
//! Which ones there are is written here and in no message, so whoever got hold of the other end can
//! ask nothing else; a rotation only where root's own call is for one.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::cli::helpers::reach::Options;
use crate::cli::helpers::server::{self, Question};

/// The longest answer, in bytes: a line for each of 100,000 tablespaces.
const MAX_ANSWER: u32 = 32 << 20;

/// Our end of it, in the account's command.
static DOOR: OnceLock<Mutex<UnixStream>> = OnceLock::new();

/// Takes up the end that the first command left as standard input.
pub(super) fn find() {
    if let Ok(end) = io::stdin().as_fd().try_clone_to_owned() {
        // Said once.
        let _ = DOOR.set(Mutex::new(UnixStream::from(end)));
    }
}

/// Asks the server, by root where we are root's second command.
pub(in crate::cli) fn ask(question: Question, options: &Options) -> Result<String, String> {
    let Some(door) = DOOR.get() else { return server::call_client(question, options) };
    let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
    exchange(&mut door, question).unwrap_or_else(|e| Err(format!("cannot ask root: {e}")))
}

fn exchange(door: &mut UnixStream, question: Question) -> io::Result<Result<String, String>> {
    door.write_all(&[question as u8])?;
    let (mut good, mut len) = ([0], [0; 4]);
    door.read_exact(&mut good)?;
    door.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len).min(MAX_ANSWER);
    let mut text = vec![0; len as usize];
    door.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(if good == [1] { Ok(text) } else { Err(text) })
}

/// Answers, of the server that root's own `options` name, until the other end is closed or says what is no
/// question. Apart, since something that the other command left behind may hold its end for ever.
pub(super) fn serve(mut door: UnixStream, options: Options) {
    std::thread::spawn(move || while serve_one(&mut door, &options).is_ok() {});
}

fn serve_one(door: &mut UnixStream, options: &Options) -> io::Result<()> {
    let mut number = [0];
    door.read_exact(&mut number)?;
    let question = Question::of(number[0]).filter(|question| question.is_for(options));
    let question = question.ok_or(io::ErrorKind::InvalidData)?;
    let (good, text) = match server::call_client(question, options) {
        Ok(text) => (1, text),
        Err(words) => (0, words),
    };
    let len = u32::try_from(text.len()).unwrap_or(MAX_ANSWER).min(MAX_ANSWER);
    door.write_all(&[good])?;
    door.write_all(&len.to_be_bytes())?;
    door.write_all(&text.as_bytes()[..len as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_questions_are_answered() {
        let rotate = Question::RotateInnodb as u8;
        for request in [&[99][..], &[0], &[9], &[rotate], b"select 1;", b"\\! id\n"] {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(request).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(serve_one(&mut ours, &Options::default()).is_err(), "{request:?}");
        }
    }
}

//! What the account's command prints, on its way to root's terminal: text of a stranger.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, plays_tricks};

/// The longest answer of a step, in bytes.
const MAX_TEXT: u64 = 1 << 16;

/// The threads that still copy.
pub(super) struct Printed(Vec<Receiver<()>>);

impl Printed {
    /// Until all is printed, but no longer: something left behind may hold the pipe.
    pub(super) fn wait(self, time: Duration) {
        let by = Instant::now() + time;
        for done in self.0 {
            let _ = done.recv_timeout(by.saturating_duration_since(Instant::now()));
        }
    }
}

/// Copies both of its outputs to ours.
pub(super) fn show(child: &mut Child) -> Printed {
    let out = child.stdout.take().map(|from| copy(from, io::stdout()));
    Printed(out.into_iter().chain(errors(child)).collect())
}

/// Keeps what it prints, and copies what it complains of.
pub(super) fn keep(child: &mut Child) -> (Receiver<io::Result<Vec<u8>>>, Printed) {
    let (done, text) = channel();
    if let Some(from) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = from.take(MAX_TEXT).read_to_end(&mut bytes);
            done.send(read.map(|_| bytes))
        });
    }
    (text, Printed(errors(child).into_iter().collect()))
}

/// What was kept.
pub(super) fn text(text: &Receiver<io::Result<Vec<u8>>>, time: Duration) -> Result<Vec<u8>> {
    let lost = || Error::new(Kind::Internal, "the account's command has not said how it went");
    text.recv_timeout(time).map_err(|_| lost())?.map_err(|_| lost())
}

fn errors(child: &mut Child) -> Option<Receiver<()>> {
    child.stderr.take().map(|from| copy(from, io::stderr()))
}

fn copy(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> Receiver<()> {
    let (done, wait) = channel();
    std::thread::spawn(move || {
        let mut filter = Filter::default();
        let mut room = [0; 8192];
        while let Ok(len @ 1..) = from.read(&mut room) {
            let text = filter.pass(&room[..len]);
            if to.write_all(&text).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
        done.send(())
    });
    wait
}

/// Lets text, line ends and colours through, and no other command to a terminal: a pipe or a file ends
/// on one, too. What is ours has none in it, JSON neither.
#[derive(Default)]
struct Filter {
    /// A command whose end has not come yet.
    command: String,
    /// The beginning of a character whose end has not come yet.
    part: Vec<u8>,
}

impl Filter {
    fn pass(&mut self, text: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.part);
        bytes.extend(text);
        let mut out = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            chunk.valid().chars().for_each(|c| self.put(c, &mut out));
            let wrong = chunk.invalid();
            let is_begun = || str::from_utf8(wrong).is_err_and(|e| e.error_len().is_none());
            match wrong {
                [] => {}
                begun if chunks.peek().is_none() && is_begun() => self.part = begun.to_vec(),
                // A terminal that does not speak UTF-8 may take it for a command.
                _ => self.put(char::REPLACEMENT_CHARACTER, &mut out),
            }
        }
        out.into_bytes()
    }

    fn put(&mut self, c: char, out: &mut String) {
        match (self.command.len(), c) {
            (0, '\x1b') => self.command.push(c),
            (0, '\n' | '\r' | '\t') => out.push(c),
            (0, _) if plays_tricks(c) => out.push('?'),
            (0, _) => out.push(c),
            (1, '[') | (2..16, '0'..='9' | ';') => self.command.push(c),
            (2..17, 'm' | 'K') => {
                *out += &std::mem::take(&mut self.command);
                out.push(c);
            }
            _ => {
                self.command.clear();
                out.push('?');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_colours_and_no_other_command() {
        let pass = |text: &[u8]| {
            let mut filter = Filter::default();
            let mut out = Vec::new();
            text.chunks(1).for_each(|one| out.extend(filter.pass(one)));
            out
        };
        let fine = "\u{1b}[1;32mok\u{1b}[0m grün\tx\r\u{1b}[K\n".as_bytes();
        assert_eq!(pass(fine), fine);
        assert_eq!(pass(b"\x1b]0;title\x07x"), b"?0;title?x");
        assert_eq!(pass(b"\x1b[6n\x1bc"), b"??");
        // Commands of a single character, as UTF-8 has them and as other terminals do.
        assert_eq!(pass("a\u{9b}6n\u{90}b\u{202e}c\u{7f}".as_bytes()), b"a?6n?b?c?");
        assert_eq!(pass(b"a\x9b6n\xc2b\xff"), "a\u{fffd}6n\u{fffd}b\u{fffd}".as_bytes());
    }
}

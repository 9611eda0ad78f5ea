//! What the account's command prints, on its way to root's terminal: text of a stranger.

use std::io::{self, IsTerminal, Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

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

fn copy<W: Write + IsTerminal + Send + 'static>(
    mut from: impl Read + Send + 'static,
    mut to: W,
) -> Receiver<()> {
    let (done, wait) = channel();
    std::thread::spawn(move || {
        let mut filter = to.is_terminal().then(Filter::default);
        let mut room = [0; 8192];
        while let Ok(len @ 1..) = from.read(&mut room) {
            let text = match &mut filter {
                Some(filter) => filter.pass(&room[..len]),
                None => room[..len].to_vec(),
            };
            if to.write_all(&text).and_then(|()| to.flush()).is_err() {
                break;
            }
        }
        done.send(())
    });
    wait
}

/// Lets text, line ends and colours through to a terminal, and no other command.
#[derive(Default)]
struct Filter(Vec<u8>);

impl Filter {
    fn pass(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        for &byte in text {
            match (self.0.len(), byte) {
                (0, 0x1b) => self.0.push(byte),
                (0, b'\n' | b'\r' | b'\t' | 0x20..=0x7e | 0x80..) => out.push(byte),
                (0, _) => out.push(b'?'),
                (1, b'[') => self.0.push(byte),
                (2..16, b'0'..=b'9' | b';') => self.0.push(byte),
                (2..17, b'm' | b'K') => {
                    out.append(&mut self.0);
                    out.push(byte);
                }
                _ => {
                    self.0.clear();
                    out.push(b'?');
                }
            }
        }
        out
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
    }
}

//! What the account's command prints, on its way to root's terminal: text of a stranger.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::error::{Error, Kind, Result, plays_tricks};

/// The longest answer of a step, in bytes.
const MAX_TEXT: u64 = 1 << 16;

/// How much is copied at once, in bytes: what a pipe holds.
const ROOM: usize = 1 << 16;

/// The most that can still be in a pipe after the other's end, in bytes (`pipe-max-size` of proc(5)).
const MAX_LEFT: usize = 1 << 20;

/// The threads that still copy.
pub(super) struct Printed(Vec<Copying>);

/// One of them.
struct Copying {
    state: Arc<State>,
    done: Receiver<io::Result<()>>,
}

/// What it and we know of each other.
#[derive(Default)]
struct State {
    /// It waits for whoever reads our output, and for nobody else.
    writes: AtomicBool,
    /// The other command has ended.
    ended: AtomicBool,
}

impl Printed {
    /// Until all is printed, or could not be. Our reader may take his time; for more to come, no longer
    /// than `time`: something left behind may hold the pipe.
    pub(super) fn wait(self, time: Duration) -> io::Result<()> {
        self.0.iter().for_each(|copying| copying.state.ended.store(true, Ordering::Relaxed));
        self.0.into_iter().try_for_each(|copying| copying.wait(time))
    }
}

impl Copying {
    fn wait(self, time: Duration) -> io::Result<()> {
        loop {
            match self.done.recv_timeout(time) {
                Ok(written) => return written,
                Err(RecvTimeoutError::Timeout) if self.state.writes.load(Ordering::Relaxed) => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Copies both of its outputs to ours.
pub(super) fn show(child: &mut Child) -> Printed {
    let errors = errors(child);
    let out = child.stdout.take().map(|from| copy(from, io::stdout(), Some(Filter::default())));
    Printed(out.into_iter().chain(errors).collect())
}

/// Copies what it prints to `to`, which is no terminal, byte by byte, and what it complains of to ours.
pub(super) fn pass(child: &mut Child, to: File) -> Printed {
    let errors = errors(child);
    let out = child.stdout.take().map(|from| copy(from, to, None));
    Printed(out.into_iter().chain(errors).collect())
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

/// What cannot be complained of anywhere is no failure.
fn errors(child: &mut Child) -> Option<Copying> {
    child.stderr.take().map(|from| copy(from, Forgiving(io::stderr()), Some(Filter::default())))
}

/// An output that takes whatever comes.
struct Forgiving<W>(W);

impl<W: Write> Write for Forgiving<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

fn copy(
    from: impl Read + Send + 'static,
    to: impl Write + Send + 'static,
    filter: Option<Filter>,
) -> Copying {
    let (say, done) = channel();
    let state = Arc::<State>::default();
    let shared = Arc::clone(&state);
    std::thread::spawn(move || say.send(copy_all(from, to, filter, &shared)));
    Copying { state, done }
}

fn copy_all(
    mut from: impl Read,
    mut to: impl Write,
    mut filter: Option<Filter>,
    state: &State,
) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    let mut left = MAX_LEFT;
    while let Ok(len @ 1..) = from.read(&mut room) {
        let text = filter.as_mut().map(|filter| filter.pass(&room[..len]));
        state.writes.store(true, Ordering::Relaxed);
        to.write_all(text.as_deref().unwrap_or(&room[..len])).and_then(|()| to.flush())?;
        state.writes.store(false, Ordering::Relaxed);
        if state.ended.load(Ordering::Relaxed) {
            left = left.saturating_sub(len);
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
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
    use std::sync::Mutex;

    use super::*;

    /// An output that takes its time, and in the end all.
    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(300));
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn our_reader_is_waited_for_and_who_holds_the_other_end_is_not() {
        let short = Duration::from_millis(50);
        let (from, mut end) = io::pipe().unwrap();
        let taken = Arc::<Mutex<Vec<u8>>>::default();
        let copying = copy(from, Slow(Arc::clone(&taken)), Some(Filter::default()));
        end.write_all(b"all of it").unwrap();
        drop(end);
        Printed(vec![copying]).wait(short).unwrap();
        assert_eq!(*taken.lock().unwrap(), b"all of it");
        // Something says no more and keeps the pipe; something else never stops.
        let (from, silent) = io::pipe().unwrap();
        Printed(vec![copy(from, io::sink(), Some(Filter::default()))]).wait(short).unwrap();
        let (other, mut endless) = io::pipe().unwrap();
        let copying = copy(other, io::sink(), None);
        let writer = std::thread::spawn(move || while endless.write_all(&[b'x'; 4096]).is_ok() {});
        Printed(vec![copying]).wait(short).unwrap();
        writer.join().unwrap();
        drop(silent);
        // What cannot be written is known.
        let (from, mut end) = io::pipe().unwrap();
        end.write_all(b"lost").unwrap();
        drop(end);
        let full = std::fs::File::create("/dev/full").unwrap();
        let lost = Printed(vec![copy(from, full, None)]).wait(Duration::from_secs(5)).unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::StorageFull);
    }

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

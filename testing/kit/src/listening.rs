//! A server of a test's own on a port of the loopback: one thread that accepts, one for each
//! connection. All of them end with the value.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use crate::Result;

/// How long a thread may need to notice that it is to end.
pub const TICK: Duration = Duration::from_millis(20);

/// Something that listens.
pub struct Listening {
    port: u16,
    switches: Arc<Switches>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that accepts looks at.
#[derive(Default)]
struct Switches {
    over: AtomicBool,
    refuses: AtomicBool,
}

impl Listening {
    /// Listens, and serves each connection by `serve` on a thread of its own.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let switches = Arc::new(Switches::default());
        let seen = Arc::clone(&switches);
        let thread = spawn(move || accept(listener, port, &seen, &Arc::new(serve)));
        Ok(Self { port, switches, thread: Some(thread) })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has the port closed, or open again.
    pub fn refuse(&self, refuses: bool) {
        self.switches.refuses.store(refuses, Ordering::SeqCst);
        sleep(TICK * 3);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.switches.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn accept(
    first: TcpListener,
    port: u16,
    switches: &Switches,
    serve: &Arc<impl Fn(TcpStream) + Send + Sync + 'static>,
) {
    let mut listener = Some(first);
    while !switches.over.load(Ordering::SeqCst) {
        if switches.refuses.load(Ordering::SeqCst) {
            listener = None;
            sleep(TICK);
            continue;
        }
        let Some(open) = listener.take().or_else(|| TcpListener::bind(("127.0.0.1", port)).ok())
        else {
            sleep(TICK);
            continue;
        };
        if open.set_nonblocking(true).is_ok() {
            match open.accept() {
                Ok((stream, _)) if stream.set_nonblocking(false).is_ok() => {
                    let serve = Arc::clone(serve);
                    spawn(move || serve(stream));
                }
                _ => sleep(TICK / 4),
            }
        }
        listener = Some(open);
    }
}

/// Hands on what `from` sends until either end closes or `over` says so; `before` is called before
/// each piece is handed on.
pub fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    over: &dyn Fn() -> bool,
    before: &mut dyn FnMut(),
) {
    let mut piece = [0; 1400];
    let _ = from.set_read_timeout(Some(TICK * 5));
    while !over() {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => {
                before();
                if over() || to.write_all(&piece[..len]).is_err() {
                    break;
                }
            }
            Err(error) if is_pause(&error) => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    if over() {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Hands on in both directions.
pub fn join(
    one: &TcpStream,
    other: &TcpStream,
    over: &(dyn Fn() -> bool + Sync),
    mut before: [&mut (dyn FnMut() + Send); 2],
) {
    let clones = || Some([one.try_clone().ok()?, other.try_clone().ok()?]);
    let (Some([from, to]), Some([back_to, back_from])) = (clones(), clones()) else { return };
    let [there, back] = &mut before;
    std::thread::scope(|scope| {
        scope.spawn(move || pump(from, to, &|| over(), *there));
        pump(back_from, back_to, &|| over(), *back);
    });
}

/// Whether nothing came for a while, which is no end.
pub fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

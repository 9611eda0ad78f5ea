//! A server in AWS's place that answers what the test wants: errors that no emulator gives, an
//! instance's metadata, or what another server says, counted.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use test_kit::Result;

use crate::http::{Reply, Request};

/// A running server; it ends with this value, and whoever calls it then is refused.
pub struct FakeAws {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeAws {
    /// One that answers each request as `answer` says.
    pub fn start(answer: impl Fn(&Request) -> Result<Reply> + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (stopped, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Request>>>::default());
        let (ends, notes) = (Arc::clone(&stopped), Arc::clone(&seen));
        let serve = move |stream: &TcpStream| -> Result<()> {
            let Some(request) = Request::read(stream)? else { return Ok(()) };
            notes.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            answer(&request)?.write(stream)
        };
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                if let Err(error) = serve(&stream) {
                    eprintln!("fake AWS: {error}");
                }
            }
        });
        Ok(Self { address, stopped, seen, thread: Some(thread) })
    }

    /// One that passes every request on to `address`.
    pub fn before(address: SocketAddr) -> Result<Self> {
        Self::start(move |request| request.send(address))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The actions of KMS among them, and forgets all.
    pub fn take_actions(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.iter().map(|request| request.action().to_owned()).collect()
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes it up to see that.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            // One that panicked has printed why.
            drop(thread.join());
        }
    }
}

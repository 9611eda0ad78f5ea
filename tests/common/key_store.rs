//! A key store to test with: it counts its calls, and is away or slow when a test says so.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keyward::env::Deadline;
use keyward::provider::{KekInfo, KeyWrapper, Probe, WrapContext, WrappedKey};
use keyward::secret::DataKey;
use keyward::{Error, Kind, Result};

/// "Wraps" by putting the context before the key.
pub(crate) struct KeyStore {
    name: &'static str,
    pub(crate) calls: AtomicUsize,
    pub(crate) away: AtomicBool,
    /// Whether it answers that nobody may do what it is asked.
    pub(crate) refuses: AtomicBool,
    /// Whether everybody can wrap for it, who has a public key.
    pub(crate) public: AtomicBool,
    /// 0 where its wrapping key has no versions.
    pub(crate) kek_version: AtomicU64,
    /// While a test has it, calls wait.
    pub(crate) gate: Mutex<()>,
    /// What happens elsewhere during the next call.
    meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// A provider on it.
pub(crate) struct Shared(pub(crate) Arc<KeyStore>);

impl KeyStore {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            calls: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            public: AtomicBool::new(false),
            kek_version: AtomicU64::new(1),
            gate: Mutex::default(),
            meanwhile: Mutex::default(),
        }
    }

    /// Has something happen elsewhere during the next call.
    pub(crate) fn meanwhile(&self, what: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(what));
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn answer<T>(&self, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        meanwhile.into_iter().for_each(|happen| happen());
        let _open = self.gate.lock().unwrap();
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Unavailable, "the key store is away"));
        }
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Denied, "the key store refuses"));
        }
        answer()
    }

    fn wrapped(&self, data: &[u8], context: &WrapContext) -> WrappedKey {
        let mut blob = context.to_bytes();
        blob.extend(data);
        let kek = match self.kek_version.load(Ordering::SeqCst) {
            0 => self.name.to_owned(),
            version => format!("{}:{version}", self.name),
        };
        WrappedKey { kek, algorithm: "none".into(), parameters: Default::default(), blob }
    }

    fn unwrapped(&self, wrapped: &WrappedKey, context: &WrapContext) -> Result<DataKey> {
        if !wrapped.kek.starts_with(self.name) {
            return Err(Error::new(Kind::NotMine, "another wrapping key made it"));
        }
        match wrapped.blob.strip_prefix(context.to_bytes().as_slice()) {
            Some(data) => DataKey::copy_of(data),
            None => Err(Error::new(Kind::Corrupt, "another context")),
        }
    }
}

impl KeyWrapper for Shared {
    fn wrap(&self, data: &DataKey, context: &WrapContext, _: Deadline) -> Result<WrappedKey> {
        self.0.answer(|| Ok(self.0.wrapped(data.expose(), context)))
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &WrapContext, _: Deadline) -> Result<DataKey> {
        self.0.answer(|| self.0.unwrapped(wrapped, context))
    }

    fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &WrapContext,
        _: Deadline,
    ) -> Result<WrappedKey> {
        self.0.answer(|| {
            let data = self.0.unwrapped(wrapped, context)?;
            Ok(self.0.wrapped(data.expose(), context))
        })
    }

    fn authenticates(&self, _: &WrappedKey) -> bool {
        !self.0.public.load(Ordering::SeqCst)
    }

    fn describe(&self, _: Deadline) -> Result<KekInfo> {
        Err(Error::new(Kind::Unsupported, "nothing to tell"))
    }

    fn probe(&self, _: Deadline) -> Result<Probe> {
        self.0.answer(|| Ok(Probe::default()))
    }
}

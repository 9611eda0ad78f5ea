//! What the outside world gives: time, randomness, a log. Passed in, so that tests can hold or fail
//! them.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, SigmaskHow};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Kind, Result};

/// What is worth trying one of several for.
const LEAST_SHARE: Duration = Duration::from_secs(1);

/// The pause before a second attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// The last moment that RFC 3339 can write: 9999-12-31T23:59:59Z.
const LAST_MOMENT: u64 = 253_402_300_799;

/// A moment of wall-clock time, in whole seconds of UTC; written as RFC 3339 (`2026-03-01T12:00:00Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// `seconds` since 1970-01-01T00:00:00Z, clamped to the year 9999.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(if seconds < LAST_MOMENT { seconds } else { LAST_MOMENT })
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_unix(self) -> u64 {
        self.0
    }

    /// So much later, or the end of time.
    #[must_use]
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_secs()))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.0);
        write!(f, "{}", humantime::format_rfc3339_seconds(time))
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        humantime::parse_rfc3339(text)
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map(|age| Self::from_unix(age.as_secs()))
            .ok_or_else(|| Error::new(Kind::Config, format!("{text:?} is not an RFC 3339 time")))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Wall-clock time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// A source of random bytes fit for keys.
pub trait Rng: Send + Sync {
    /// Fills `out`, or fails and leaves it unspecified; never short.
    fn fill(&self, out: &mut [u8]) -> Result<()>;
}

/// The machine's own clock and random number generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix(age.as_secs())
    }
}

impl Rng for System {
    fn fill(&self, out: &mut [u8]) -> Result<()> {
        getrandom::fill(out).map_err(|cause| {
            Error::new(Kind::Internal, format!("the kernel gives no random bytes: {cause}"))
        })
    }
}

/// How much a line in the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something will not work if nobody acts.
    Warning,
    /// Good to know.
    Note,
}

/// Where lines for the operator go: the server's error log, or the terminal.
pub trait Log: Send + Sync {
    /// Writes one line; it never fails and never holds a secret.
    fn log(&self, level: Level, text: &str);
}

/// All of it, as one value to hand on.
#[derive(Clone)]
pub struct Env {
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes fit for keys.
    pub rng: Arc<dyn Rng>,
    /// Lines for the operator.
    pub log: Arc<dyn Log>,
}

impl Env {
    /// The machine's own clock and random numbers, with `log`.
    #[must_use]
    pub fn system(log: Arc<dyn Log>) -> Self {
        Self { clock: Arc::new(System), rng: Arc::new(System), log }
    }
}

/// Starts a thread that takes no signals: in a server, those belong to the server.
pub fn spawn_without_signals(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    let thread = without_signals(|| builder.spawn(run));
    thread.map_err(|cause| no_thread(name, &cause))
}

/// What a thread of [`run_apart`] has room in, in bytes; of it only what is used takes memory.
const ROOMY_STACK: usize = 4 << 20;

/// Runs `work` on a thread of its own, which has a roomy stack and takes no signals, and waits for
/// its end. MariaDB gives the thread of a connection 292 KiB, of which a statement may have used much
/// when it wants a key: see ADR 52. Costs some 60 microseconds.
pub fn run_apart<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    if cfg!(fuzzing) {
        // The script of a key store's answers is the thread's own.
        return Ok(work());
    }
    let name = "keyward-call";
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(ROOMY_STACK);
    std::thread::scope(|scope| {
        let thread = without_signals(|| builder.spawn_scoped(scope, work));
        let thread = thread.map_err(|cause| no_thread(name, &cause))?;
        let broken = |_| Error::new(Kind::Internal, format!("the thread {name} broke off"));
        thread.join().map_err(broken)
    })
}

/// Does `start` with all signals blocked, which a thread that it starts inherits.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let started = start();
    if let Ok(before) = before {
        // Setting a mask that was in force a moment ago cannot fail.
        let _ = before.thread_set_mask();
    }
    started
}

fn no_thread(name: &str, cause: &std::io::Error) -> Error {
    Error::new(Kind::Internal, format!("cannot start the thread {name}: {cause}"))
        .advise("raise the limit of processes (ulimit -u)")
}

/// The moment by which a call must have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `time` from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What is left of it, or a timeout error that names `what` was being done.
    pub fn left(self, what: impl fmt::Display) -> Result<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(Kind::Timeout, format!("{what}: no answer in time")));
        }
        Ok(left)
    }

    /// An equal part of what is left of it, for the next of `several` that are tried one after the
    /// other; at least a second, where there is one.
    pub fn share(self, several: usize, what: impl fmt::Display) -> Result<Self> {
        let left = self.left(what)?;
        let share = left / u32::try_from(several.max(1)).unwrap_or(u32::MAX);
        Ok(Self::after(share.max(LEAST_SHARE).min(left)))
    }
}

/// Attempts at a call that may succeed later. The pauses between them double, from a tenth of a second
/// to two seconds.
pub struct Retry<'a> {
    pause: Duration,
    by: Deadline,
    rng: &'a dyn Rng,
}

impl<'a> Retry<'a> {
    /// Attempts until `by`.
    #[must_use]
    pub const fn until(by: Deadline, rng: &'a dyn Rng) -> Self {
        Self { pause: FIRST_PAUSE, by, rng }
    }

    /// Waits for the next attempt. False, without waiting, where there is no time for one.
    pub fn wait(&mut self) -> bool {
        let pause = jittered(self.pause, self.rng);
        if self.by.left("").is_ok_and(|left| left > pause) {
            std::thread::sleep(pause);
            self.pause = (self.pause * 2).min(LAST_PAUSE);
            return true;
        }
        false
    }
}

/// From half of `time` up to all of it, so that many servers do not come back at once.
#[must_use]
pub fn jittered(time: Duration, rng: &dyn Rng) -> Duration {
    let mut byte = [0];
    // Without randomness they come back together, which is no reason to fail.
    let _ = rng.fill(&mut byte);
    time / 2 + time * u32::from(byte[0]) / 512
}

pub mod fake {
    //! A clock that stands still, random numbers that repeat or fail, a log to read, for tests.

    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};

    use super::{Clock, Duration, Error, Kind, Level, Log, Result, Rng, Timestamp};

    /// A clock that moves only when told to.
    #[derive(Debug)]
    pub struct FakeClock(AtomicU64);

    impl FakeClock {
        /// A clock that shows `now`.
        #[must_use]
        pub const fn at(now: Timestamp) -> Self {
            Self(AtomicU64::new(now.0))
        }

        /// Moves the clock on by `time`.
        pub fn advance(&self, time: Duration) {
            self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    /// Repeatable bytes (SplitMix64); with `fail_after(n)`, an error from the n-th call on.
    #[derive(Debug)]
    pub struct FakeRng {
        state: Mutex<u64>,
        calls_left: AtomicU64,
    }

    impl FakeRng {
        /// The byte stream number `seed`.
        #[must_use]
        pub const fn new(seed: u64) -> Self {
            Self { state: Mutex::new(seed), calls_left: AtomicU64::new(u64::MAX) }
        }

        /// Makes every call after the next `calls` fail.
        pub fn fail_after(&self, calls: u64) {
            self.calls_left.store(calls, Ordering::SeqCst);
        }
    }

    impl Rng for FakeRng {
        fn fill(&self, out: &mut [u8]) -> Result<()> {
            let spent = self
                .calls_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if spent.is_err() {
                return Err(Error::new(Kind::Internal, "the test's random numbers have run out"));
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for chunk in out.chunks_mut(8) {
                chunk.copy_from_slice(&split_mix(&mut state).to_le_bytes()[..chunk.len()]);
            }
            Ok(())
        }
    }

    /// A log that keeps its lines.
    #[derive(Debug, Default)]
    pub struct FakeLog(Mutex<Vec<(Level, String)>>);

    impl FakeLog {
        /// The lines so far.
        #[must_use]
        pub fn lines(&self) -> Vec<(Level, String)> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl Log for FakeLog {
        fn log(&self, level: Level, text: &str) {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push((level, text.to_owned()));
        }
    }

    fn split_mix(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_apart_has_room_and_may_break_off() {
        let little = std::thread::Builder::new().stack_size(128 << 10);
        let runs = little.spawn(|| {
            let deep = run_apart(|| std::hint::black_box([1_u8; 1 << 20])[0]);
            (deep, run_apart(|| -> u8 { panic!("on purpose") }))
        });
        let (deep, broken) = runs.unwrap().join().unwrap();
        assert_eq!(deep.unwrap(), 1);
        assert_eq!(broken.unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    fn every_moment_can_be_written_and_read_back() {
        for seconds in [0, 1_800_000_000, LAST_MOMENT, LAST_MOMENT + 1, i64::MAX as u64, u64::MAX] {
            let moment = Timestamp::from_unix(seconds);
            assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment, "{seconds}");
        }
    }
}

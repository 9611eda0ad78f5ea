//! Delivery: by a thread in a server, which no key waits for, and as the last step of the command. Lines are delivered
//! in order and by one process; after failures the pauses grow.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::{Cursor, Place};
use super::{Configured, Line, Told, cursor_path, read};
use crate::config::SinkConfig;
use crate::env::{Deadline, Env, Level, jittered};
use crate::error::{Error, Result};
use crate::event::{Backlog, Lines, Stamp, Trail};

/// The pause after a first failure; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How many lines a sink gets before the next sink has its turn.
const AT_ONCE: usize = 100;

/// Delivers the trail of one keystore.
pub struct Courier {
    keystore: PathBuf,
    host: String,
    routes: Vec<Route>,
    env: Env,
    backlog: Arc<Backlog>,
}

/// One sink, and how its delivery goes.
struct Route {
    sink: Configured,
    cursor: PathBuf,
    /// After how many failures it waits until when.
    failures: u32,
    due: Instant,
    told: Option<String>,
    /// What the trail was when everything in it was delivered.
    seen: Option<Stamp>,
    /// What the trail was when the lines were counted, and the last line that was delivered then.
    counted: (Stamp, u64),
    waiting: u64,
    lost: u64,
}

impl Courier {
    /// For the sinks of a configuration; nobody is called yet. `backlog` is kept up to date.
    pub fn new(
        sinks: &[SinkConfig],
        keystore: &Path,
        host: String,
        backlog: Arc<Backlog>,
        env: Env,
    ) -> Result<Self> {
        Ok(Self::of(read(sinks)?, keystore, host, backlog, env))
    }

    pub(super) fn of(
        sinks: Vec<Configured>,
        keystore: &Path,
        host: String,
        backlog: Arc<Backlog>,
        env: Env,
    ) -> Self {
        let route = |sink: Configured| Route {
            cursor: cursor_path(keystore, &sink.name),
            sink,
            failures: 0,
            due: Instant::now(),
            told: None,
            seen: None,
            counted: (Stamp::default(), 0),
            waiting: 0,
            lost: 0,
        };
        let routes = sinks.into_iter().map(route).collect();
        Self { keystore: keystore.to_owned(), host, routes, env, backlog }
    }

    /// Delivers what waits and is due; says whether there may be more at once.
    pub fn deliver(&mut self) -> bool {
        let mut more = false;
        for route in &mut self.routes {
            if Instant::now() < route.due {
                route.recount(&self.keystore);
                continue;
            }
            match route.deliver(&self.keystore, &self.host) {
                Ok(left) => {
                    more |= left;
                    route.failures = 0;
                    if route.told.take().is_some() {
                        let line = format!(
                            "sink {:?} takes lines of the audit trail again",
                            route.sink.name
                        );
                        self.env.log.log(Level::Note, &line);
                    }
                }
                Err(error) => route.failed(&error, &self.env),
            }
        }
        self.count();
        more
    }

    /// Has each new sink begin here: what is changed next is the first that it gets.
    pub fn begin(&self) -> Result<()> {
        for route in &self.routes {
            if let Some((cursor, None)) = Cursor::lock(&route.cursor)? {
                begin_at_the_end(&cursor, &self.keystore)?;
            }
        }
        Ok(())
    }

    /// Looks how much waits, and delivers nothing.
    pub fn look(&mut self) -> Result<()> {
        let last = last_number(&self.keystore)?;
        for route in &mut self.routes {
            if let Some(place) = Cursor::look(&route.cursor)? {
                route.waiting = last.saturating_sub(place.line);
                route.lost = place.lost;
            }
        }
        self.count();
        Ok(())
    }

    fn count(&self) {
        let sum = |of: fn(&Route) -> u64| self.routes.iter().map(of).sum();
        self.backlog.note(sum(|route| route.waiting), sum(|route| route.lost));
    }
}

impl Route {
    /// Delivers some lines; whether there are more.
    fn deliver(&mut self, keystore: &Path, host: &str) -> Result<bool> {
        let trail = Trail::beside(keystore);
        let stamp = trail.stamp()?;
        if self.seen == Some(stamp) {
            return Ok(false);
        }
        // Another process delivers, and counts.
        let Some((cursor, place)) = Cursor::lock(&self.cursor)? else { return Ok(false) };
        let Some(mut place) = place else {
            begin_at_the_end(&cursor, keystore)?;
            return Ok(true);
        };
        let last = last_number(keystore)?;
        if last < place.line {
            // Another trail has begun. One that was cut is told once more, which shows that, too.
            place = Place { line: 0, offset: 0, ..place };
        }
        let too_many = last.saturating_sub(place.line).saturating_sub(self.sink.max_waiting);
        if too_many > 0 {
            place = Place { line: place.line + too_many, lost: place.lost + too_many, ..place };
            cursor.note(place)?;
        }
        let outcome = self.some(&trail, &cursor, &mut place, keystore, host);
        self.counted = (stamp, place.line);
        self.waiting = last.saturating_sub(place.line);
        self.lost = place.lost;
        let left = outcome?;
        self.seen = if left { None } else { Some(stamp) };
        Ok(left)
    }

    /// Counts what waits during a pause. What cannot be counted is told of after it.
    fn recount(&mut self, keystore: &Path) {
        let (stamp, line) = self.counted;
        if let Ok(now) = Trail::beside(keystore).stamp()
            && now != stamp
            && let Ok(last) = last_number(keystore)
        {
            self.counted = (now, line);
            self.waiting = last.saturating_sub(line);
        }
    }

    fn some(
        &mut self,
        trail: &Trail,
        cursor: &Cursor,
        place: &mut Place,
        keystore: &Path,
        host: &str,
    ) -> Result<bool> {
        let mut lines = Lines::after(trail, place.line, place.offset)?;
        // Whoever ends the server waits for one turn.
        let until = Instant::now() + self.sink.timeout;
        let mut sent = 0;
        while sent < AT_ONCE && (sent == 0 || Instant::now() < until) {
            let Some((text, end)) = lines.read_next()? else { return Ok(false) };
            let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
            if line.number <= place.line {
                continue;
            }
            // The trail no longer has those between.
            let lost = place.lost + (line.number - place.line - 1);
            let next = Place { line: line.number, offset: end, lost };
            if self.sink.wants(&line) {
                let told = Told { line, text: &text, keystore, host };
                self.sink.sink.deliver(&told, Deadline::after(self.sink.timeout))?;
            }
            *place = next;
            cursor.note(next)?;
            sent += 1;
        }
        Ok(true)
    }

    fn failed(&mut self, error: &Error, env: &Env) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LAST_PAUSE);
        self.failures += 1;
        self.due = Instant::now() + jittered(pause / 2, &*env.rng) + pause / 2;
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            let line = format!("sink {:?}: {text}; lines of the audit trail wait", self.sink.name);
            env.log.log(Level::Warning, &line);
            self.told = Some(text);
        }
    }
}

/// A new sink gets what happens from now on.
fn begin_at_the_end(cursor: &Cursor, keystore: &Path) -> Result<()> {
    cursor.note(Place { line: last_number(keystore)?, offset: 0, lost: 0 })
}

/// The number of the trail's last line; 0 where there is none.
fn last_number(keystore: &Path) -> Result<u64> {
    Trail::beside(keystore).last_number()
}

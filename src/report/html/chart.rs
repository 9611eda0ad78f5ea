//! Charts, drawn as SVG in the page itself. Each has the same in words for who does not see it.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::parts::{day, text};
use crate::env::Timestamp;
use crate::key::KeyState;
use crate::report::model::{Lane, Server, Version};

/// The width of a drawing, in its own units.
const WIDTH: u64 = 960;

/// Where bars begin, after their names.
const LEFT: u64 = 190;

/// How much room numbers have after bars.
const RIGHT: u64 = 70;

/// The height of a row.
const ROW: u64 = 26;

/// How many keys the time line shows.
const MAX_LANES: usize = 60;

/// How far the time line reaches into the past, in seconds: a year and a month.
const PAST: u64 = 395 * DAY;

const DAY: u64 = 86_400;

const STATES: [KeyState; 5] = [
    KeyState::Pending,
    KeyState::Active,
    KeyState::Retired,
    KeyState::Compromised,
    KeyState::Destroyed,
];

/// Ages, in days: the upper end of each, and its name.
const AGES: [(u64, &str); 6] = [
    (30, "under 30 days"),
    (90, "30 to 90 days"),
    (180, "90 to 180 days"),
    (365, "180 days to a year"),
    (730, "one to two years"),
    (u64::MAX, "two years and more"),
];

/// How many versions are in which state.
pub(super) fn by_state(server: &Server) -> String {
    let versions = || server.keys.iter().flat_map(|key| &key.versions);
    let row = |state: KeyState| {
        let count = versions().filter(|one| one.state == state).count();
        (state.to_string(), count as u64, state.to_string())
    };
    bars("Key versions by state", &STATES.map(row))
}

/// How old the versions are that encrypt.
pub(super) fn by_age(server: &Server) -> String {
    let versions = server.keys.iter().flat_map(|key| &key.versions);
    let active = versions.filter(|one| one.state == KeyState::Active);
    let ages: Vec<u64> = active.filter_map(|one| age(server, one)).collect();
    let mut from = 0;
    let rows = AGES.map(|(to, name)| {
        let count = ages.iter().filter(|days| (from..to).contains(days)).count();
        from = to;
        (name.to_owned(), count as u64, "even".to_owned())
    });
    bars("Versions that encrypt, by age", &rows)
}

/// A version's age in days.
fn age(server: &Server, version: &Version) -> Option<u64> {
    Some(server.made.since(version.created?).as_secs() / DAY)
}

/// A bar for each name, number and colour.
fn bars(title: &str, rows: &[(String, u64, String)]) -> String {
    let most = rows.iter().map(|(_, number, _)| *number).max().unwrap_or_default().max(1);
    let room = WIDTH - LEFT - RIGHT;
    let mut drawing = String::new();
    let mut y = 6;
    for (name, number, class) in rows {
        let width = scaled(*number, most, room).max(u64::from(*number > 0) * 2);
        let middle = y + ROW / 2 + 4;
        let _ = writeln!(
            drawing,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{width}\" height=\"{}\" rx=\"2\"/>\
             <text x=\"{}\" y=\"{middle}\">{number}</text>",
            LEFT - 10,
            text(name),
            y + 4,
            ROW - 8,
            LEFT + width + 8
        );
        y += ROW;
    }
    let words: Vec<_> = rows.iter().map(|(name, number, _)| format!("{name}: {number}")).collect();
    figure(title, &words.join(", "), y + 6, &drawing)
}

/// When which version encrypted, one row a key, and when the policy ends the last.
pub(super) fn time_line(server: &Server) -> String {
    let Some(scale) = Scale::of(server) else { return String::new() };
    let shown = server.lanes.iter().take(MAX_LANES);
    let bottom = 30 + ROW * server.lanes.len().min(MAX_LANES) as u64;
    let mut drawing = scale.grid(bottom);
    let mut y = 26;
    for lane in shown {
        drawing += &scale.lane(lane, y);
        y += ROW;
    }
    let now = scale.x(server.made);
    let _ = writeln!(
        drawing,
        "<line class=\"now\" x1=\"{now}\" x2=\"{now}\" y1=\"20\" y2=\"{bottom}\"/>\
         <text class=\"soft\" x=\"{now}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        bottom + 16,
        day(server.made)
    );
    let left_out = server.lanes.len().saturating_sub(MAX_LANES);
    let mut title = "Which version encrypted when: each bar is one version, a red one encrypted for longer than \
                     the policy of today allows; a frame is what is left until the next rotation"
        .to_owned();
    if left_out > 0 {
        let _ = write!(title, ". {left_out} more keys are in JSON and CSV");
    }
    let late = server.lanes.iter().flat_map(|lane| &lane.periods).filter(|one| one.late).count();
    let words = format!(
        "{} rows, {late} periods too long; the table below has the dates",
        server.lanes.len()
    );
    figure(&title, &words, bottom + 24, &drawing)
}

/// How time is drawn.
struct Scale {
    from: u64,
    now: Timestamp,
    to: u64,
}

impl Scale {
    /// From the first period that is shown to the last rotation that is to come, but no further than a year each.
    fn of(server: &Server) -> Option<Self> {
        let made = server.made.as_unix();
        let periods = server.lanes.iter().flat_map(|lane| &lane.periods);
        let first = periods.map(|period| period.from.as_unix()).min()?;
        let from = first.max(made.saturating_sub(PAST)).min(made.saturating_sub(DAY));
        let next = server.lanes.iter().filter_map(|lane| lane.next_rotation);
        let to = next.map(Timestamp::as_unix).max().unwrap_or(made);
        let to = to.clamp(made, made.saturating_add(365 * DAY));
        Some(Self { from, now: server.made, to: to.saturating_add((to - from) / 40 + 1) })
    }

    fn x(&self, at: Timestamp) -> u64 {
        let at = at.as_unix().clamp(self.from, self.to);
        LEFT + scaled(at - self.from, self.to - self.from, WIDTH - LEFT - 20)
    }

    /// A line at the first day of each month, of each third or of each year, as they have room.
    fn grid(&self, bottom: u64) -> String {
        let months = (self.to - self.from) / (30 * DAY);
        let every = if months > 10 { 3 } else { 1 };
        let mut lines = String::new();
        let mut at = self.from - self.from % DAY;
        while at <= self.to {
            let moment = Timestamp::from_unix(at);
            let date = day(moment);
            let month: u64 = date.get(5..7).and_then(|month| month.parse().ok()).unwrap_or(1);
            if at >= self.from && date.ends_with("-01") && (month - 1).is_multiple_of(every) {
                let x = self.x(moment);
                let _ = writeln!(
                    lines,
                    "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"20\" y2=\"{bottom}\"/>\
                     <text class=\"soft\" x=\"{x}\" y=\"14\" text-anchor=\"middle\">{}</text>",
                    &date[..7]
                );
            }
            at = at.saturating_add(DAY);
        }
        lines
    }

    fn lane(&self, lane: &Lane, y: u64) -> String {
        let mut drawing = format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 10,
            y + ROW / 2 + 4,
            text(&label(&lane.key))
        );
        let mut last = self.now;
        for (number, period) in lane.periods.iter().enumerate() {
            let until = period.to.unwrap_or(self.now);
            last = until;
            if until.as_unix() < self.from {
                continue;
            }
            let class = match (period.late, number % 2) {
                (true, _) => "late",
                (false, 0) => "even",
                (false, _) => "odd",
            };
            let (from, to) = (self.x(period.from), self.x(until));
            let title =
                format!("version {}, {} to {}", period.version, day(period.from), day(until));
            let _ = writeln!(
                drawing,
                "<rect class=\"{class}\" x=\"{from}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                y + 5,
                to.saturating_sub(from).max(2),
                ROW - 10,
                text(&title)
            );
        }
        if let Some(next) = lane.next_rotation.filter(|next| *next > last) {
            let (from, to) = (self.x(last), self.x(next));
            let _ = writeln!(
                drawing,
                "<rect class=\"next\" x=\"{from}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>next rotation \
                 {}</title></rect>",
                y + 6,
                to.saturating_sub(from).max(2),
                ROW - 12,
                day(next)
            );
        }
        drawing
    }
}

/// A key's name where there is little room.
fn label(key: &str) -> String {
    match key.parse::<u32>() {
        Ok(number) => format!("key {number}"),
        Err(_) if key.chars().count() > 26 => key.chars().take(25).chain(['\u{2026}']).collect(),
        Err(_) => key.to_owned(),
    }
}

/// `part` of `whole` as a share of `room`.
fn scaled(part: u64, whole: u64, room: u64) -> u64 {
    let share = u128::from(part) * u128::from(room) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(room).min(room)
}

fn figure(title: &str, words: &str, height: u64, drawing: &str) -> String {
    let (title, words) = (text(title), text(words));
    format!(
        "<figure><figcaption>{title}</figcaption><div class=\"scroll\" tabindex=\"0\" role=\"group\" \
         aria-label=\"{title}\">\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{words}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n{drawing}</svg></div></figure>\n"
    )
}

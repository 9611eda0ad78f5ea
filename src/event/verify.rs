//! Whether an audit trail is whole: its chain, and the line that the keystore knows.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};

use serde::Serialize;

use super::line::{Chained, GENESIS, Head, digest};
use super::segments::{MAX_LEN, MAX_LINE, Name, Part};
use crate::error::Result;
use crate::hex::Hex;

/// What a keystore knows of its trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest line that a commit noted in it.
    pub anchor: Option<Head>,
    /// Its generation; 0 where a key store serves the keys.
    pub generation: u64,
    /// The last line that the policy had removed, with all before.
    pub floor: Option<Head>,
}

/// What is wrong with a trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A line is not one of ours.
    Unreadable {
        /// The file's name.
        file: String,
        /// Its place in the file, from 1 on.
        place: u64,
    },
    /// A line is not chained to the one before.
    Broken {
        /// The file's name.
        file: String,
        /// Its place in the file, from 1 on.
        place: u64,
    },
    /// A closed segment has not the lines that its name says.
    Misnamed {
        /// The file's name.
        file: String,
    },
    /// A file is longer than what is read of it.
    TooLong {
        /// The file's name.
        file: String,
    },
    /// Lines are not in the trail.
    Missing {
        /// The first of them, by number.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The line that the keystore, or a checkpoint, knows is another one.
    Rebuilt {
        /// Its number.
        line: u64,
    },
    /// The trail ends before that line.
    Cut {
        /// The first number that is missing.
        from: u64,
        /// The last that is known.
        to: u64,
    },
    /// A change is told that the keystore does not have.
    Ahead {
        /// The line's number.
        line: u64,
        /// The generation that it tells of.
        generation: u64,
    },
}

/// How a trail was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How many lines there are.
    pub lines: u64,
    /// The number of the last; 0 where there is none.
    pub last: u64,
    /// The number of the line that the keystore knows: changes up to it show.
    pub anchored: Option<u64>,
    /// How many lines come after that: whoever may write the file can change them unnoticed.
    pub not_anchored: u64,
    /// The number of the last line that the policy had removed.
    pub removed: Option<u64>,
    /// Whether the trail ends within a line, as a crash leaves it; the next change takes that away.
    pub unfinished: bool,
    /// What is wrong, in the order of the lines.
    pub faults: Vec<Fault>,
}

/// What was read so far.
pub(super) struct Walk {
    pub(super) known: Known,
    from_anywhere: bool,
    file: Within,
    previous: Hex<32>,
    pub(super) verdict: Verdict,
}

/// Where a walk is in a file.
#[derive(Default)]
struct Within {
    name: String,
    /// What the name of a closed segment says.
    says: Option<Name>,
    place: u64,
    /// Whether it has lines.
    has_lines: bool,
    /// Whether it was told that the name says something else.
    misnamed: bool,
}

impl Verdict {
    /// Whether the trail tells of a change that the keystore does not have.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::Ahead { .. }))
    }

    /// Takes back what the keystore has come to since it was read.
    pub fn catch_up(&mut self, now: Known) {
        self.faults.retain(|fault| match fault {
            Fault::Ahead { generation, .. } => now.generation < *generation,
            _ => true,
        });
    }
}

impl Walk {
    pub(super) fn new(known: Known) -> Self {
        let removed = known.floor.map(|floor| floor.line);
        let verdict = Verdict { removed, ..Verdict::default() };
        let file = Within::default();
        Self { known, from_anywhere: false, file, previous: GENESIS, verdict }
    }

    /// For who does not know where the trail begins.
    pub(super) fn from_anywhere() -> Self {
        Self { from_anywhere: true, ..Self::default() }
    }

    /// All of a file; `each` gets every line, too.
    pub(super) fn part(&mut self, part: &Part, mut each: impl FnMut(&[u8])) -> Result<()> {
        let Some(file) = part.open()? else { return Ok(()) };
        let len = file.metadata().map_err(|e| part.unread(&e))?.len();
        let (mut file, mut line) = (BufReader::new(file.take(MAX_LEN)), Vec::new());
        self.enter(part);
        let mut unfinished = false;
        loop {
            let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            if read.map_err(|e| part.unread(&e))? == 0 {
                break;
            }
            let Some(text) = line.strip_suffix(b"\n") else {
                unfinished = true;
                break;
            };
            self.line(text);
            each(text);
            line.clear();
        }
        self.leave(part, len, unfinished);
        Ok(())
    }

    /// Goes on in a file: at its beginning, or where it was before that was closed.
    pub(super) fn enter(&mut self, part: &Part) {
        self.file = Within { name: part.file_name(), says: part.name, ..Within::default() };
    }

    /// The file of the last line has another name now.
    pub(super) fn renamed(&mut self, part: &Part) {
        (self.file.name, self.file.says) = (part.file_name(), part.name);
    }

    /// Ends a file of `len` bytes, whose last line is not whole if it is `unfinished`.
    pub(super) fn leave(&mut self, part: &Part, len: u64, unfinished: bool) {
        let Within { says, place, has_lines, .. } = self.file;
        let is_too_long = len > MAX_LEN;
        if is_too_long {
            self.fault(Fault::TooLong { file: part.file_name() });
        }
        let unfinished = unfinished && !is_too_long;
        let Some(says) = says else {
            self.verdict.unfinished = unfinished;
            return;
        };
        if unfinished {
            self.fault(Fault::Unreadable { file: part.file_name(), place: place + 1 });
        }
        if !has_lines || self.verdict.last != says.last {
            self.misnamed(says);
        }
    }

    /// What is wrong with the name of a closed segment, once. That of a damaged one promises nothing.
    fn misnamed(&mut self, says: Name) {
        if says.damaged.is_none() && !std::mem::replace(&mut self.file.misnamed, true) {
            self.fault(Fault::Misnamed { file: says.to_string() });
        }
    }

    /// Whether a line with this number may be in the file, by its name.
    fn placed(&mut self, number: u64) {
        let is_first = !std::mem::replace(&mut self.file.has_lines, true);
        if let Some(says) = self.file.says
            && (number > says.last || (is_first && number != says.first))
        {
            self.misnamed(says);
        }
    }

    pub(super) fn line(&mut self, text: &[u8]) {
        self.file.place += 1;
        self.verdict.lines += 1;
        let previous = self.previous;
        self.previous = digest(text);
        let Ok(line) = serde_json::from_slice::<Chained>(text) else {
            self.verdict.last = self.verdict.last.saturating_add(1);
            self.placed(self.verdict.last);
            let (file, place) = (self.file.name.clone(), self.file.place);
            return self.fault(Fault::Unreadable { file, place });
        };
        self.behind(&line, previous);
        self.placed(line.number);
        self.verdict.last = line.number;
        self.against_the_keystore(&line);
    }

    /// Whether the line comes behind the one before, or behind what the policy had removed.
    fn behind(&mut self, line: &Chained, previous: Hex<32>) {
        if std::mem::take(&mut self.from_anywhere) {
            return;
        }
        let expected = self.verdict.last.saturating_add(1);
        let removed = self.known.floor.map_or(0, |floor| floor.line);
        let begins = removed.saturating_add(1);
        if line.number > expected.max(begins) {
            let (from, to) = (expected.max(begins), line.number - 1);
            return self.fault(Fault::Missing { from, to });
        }
        let is_chained = match self.known.floor {
            // What was before need not be there. The last that was removed proves all of it.
            Some(floor) if line.number > expected => {
                line.number < begins || line.previous == floor.hash
            }
            _ => line.number == expected && line.previous == previous,
        };
        if !is_chained {
            let (file, place) = (self.file.name.clone(), self.file.place);
            self.fault(Fault::Broken { file, place });
        }
    }

    fn against_the_keystore(&mut self, line: &Chained) {
        let Known { anchor, generation, floor } = self.known;
        if floor.is_some_and(|floor| floor.line == line.number && floor.hash != self.previous) {
            self.fault(Fault::Rebuilt { line: line.number });
        }
        match anchor.map(|anchor| (anchor, line.number.cmp(&anchor.line))) {
            Some((anchor, std::cmp::Ordering::Equal)) if self.previous != anchor.hash => {
                self.fault(Fault::Rebuilt { line: line.number });
            }
            Some((_, std::cmp::Ordering::Greater)) => {
                self.verdict.not_anchored += 1;
                // What was only intended may never have been done.
                if line.generation > generation && line.event != "intended" {
                    let (line, generation) = (line.number, line.generation);
                    self.fault(Fault::Ahead { line, generation });
                }
            }
            Some(_) => {}
            None => self.verdict.not_anchored += 1,
        }
    }

    pub(super) fn end(mut self) -> Verdict {
        self.verdict.anchored = self.known.anchor.map(|anchor| anchor.line);
        if let Some(anchor) = self.known.anchor.filter(|anchor| self.verdict.last < anchor.line) {
            self.cut_before(anchor.line);
        }
        self.verdict
    }

    /// The trail has no line up to `line`.
    pub(super) fn cut_before(&mut self, line: u64) {
        let from = self.verdict.last.max(self.verdict.removed.unwrap_or(0)) + 1;
        self.fault(Fault::Cut { from, to: line });
    }

    fn fault(&mut self, fault: Fault) {
        self.verdict.faults.push(fault);
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new(Known::default())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, place } => {
                write!(f, "line {place} of {file} is none that keyward wrote")
            }
            Self::Broken { file, place } => write!(
                f,
                "line {place} of {file} does not follow the one before: either was changed, or \
                 lines were swapped, put in or taken out there"
            ),
            Self::Misnamed { file } => write!(
                f,
                "{file} has not the lines that its name says: it was renamed, or lines were put in or \
                 taken out"
            ),
            Self::TooLong { file } => {
                write!(f, "{file} is longer than {MAX_LEN} bytes, and no further looked at")
            }
            Self::Missing { from, to } => write!(f, "{} missing", numbers(*from, *to)),
            Self::Rebuilt { line } => write!(
                f,
                "line {line} is not the one that was noted: it or a line before was changed, and the \
                 chain was made again"
            ),
            Self::Cut { from, to } => write!(
                f,
                "the trail ends too early: {} missing, of which the last was noted",
                numbers(*from, *to)
            ),
            Self::Ahead { line, generation } => write!(
                f,
                "line {line} tells of generation {generation}, which the keystore has not come to: an \
                 older copy of it may have taken its place"
            ),
        }
    }
}

fn numbers(from: u64, to: u64) -> String {
    match from == to {
        true => format!("line {from} is"),
        false => format!("lines {from} to {to} are"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::env::Timestamp;
    use crate::env::fake::FakeClock;
    use crate::event::dice::Dice;
    use crate::event::{Event, Line, Record, Trail};

    /// How many lines the trail has, and the one that the keystore knows.
    const LINES: u64 = 40;
    const ANCHOR: u64 = 30;

    fn trail() -> (tempfile::TempDir, Trail, Known) {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::beside(&folder.path().join("keystore.json"));
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let mut known = Known { generation: LINES, ..Known::default() };
        for generation in 1..=LINES {
            let event = if generation % 2 == 1 { Event::Intended } else { Event::Rotated };
            let reason = format!("reason {generation}");
            let record = Record { event, keys: &[], generation, actor: "me", reason: &reason };
            let head = trail.append_after(known.anchor, &clock, &record).unwrap().head;
            if generation == ANCHOR {
                known.anchor = Some(head);
            }
        }
        (folder, trail, known)
    }

    fn lines(trail: &Trail) -> Vec<String> {
        fs::read_to_string(&trail.segments.path).unwrap().lines().map(str::to_owned).collect()
    }

    fn write(trail: &Trail, lines: &[String]) {
        fs::write(
            &trail.segments.path,
            lines.iter().map(|line| format!("{line}\n")).collect::<String>(),
        )
        .unwrap();
    }

    /// The chain made again over lines that somebody changed.
    fn rebuilt(lines: &[String]) -> Vec<String> {
        let mut previous = GENESIS;
        let chain = lines.iter().enumerate().map(|(n, line)| {
            let mut line: Line = serde_json::from_str(line).unwrap();
            (line.number, line.previous) = (n as u64 + 1, previous.to_string());
            let line = serde_json::to_string(&line).unwrap();
            previous = digest(&line);
            line
        });
        chain.collect()
    }

    const DAMAGES: [&str; 8] =
        ["edit a byte", "delete", "insert", "swap", "cut", "begin later", "rebuild", "delete all"];

    /// One damage to a line at or below the `end`-th.
    fn damaged(lines: &[String], how: &str, end: usize, dice: &mut Dice) -> Vec<String> {
        let mut lines = lines.to_vec();
        let at = dice.below(end);
        match how {
            "edit a byte" => {
                let byte = dice.below(lines[at].len());
                let mut bytes = lines[at].clone().into_bytes();
                bytes[byte] = if bytes[byte] == b'x' { b'y' } else { b'x' };
                lines[at] = String::from_utf8(bytes).unwrap();
            }
            "delete" => drop(lines.remove(at)),
            "insert" => lines.insert(at, lines[dice.below(end)].clone()),
            "swap" => lines.swap(at, (at + 1) % end),
            "cut" => lines.truncate(at),
            "begin later" => drop(lines.drain(..=at)),
            "rebuild" => {
                lines[at] = lines[at].replace("reason ", "other ");
                lines = rebuilt(&lines);
            }
            _ => lines.clear(),
        }
        lines
    }

    #[test]
    fn a_whole_trail_is_right() {
        let (_folder, trail, known) = trail();
        let verdict = trail.verify(known).unwrap();
        let whole = Verdict {
            lines: LINES,
            last: LINES,
            anchored: Some(ANCHOR),
            not_anchored: LINES - ANCHOR,
            ..Verdict::default()
        };
        assert_eq!(verdict, whole);
        let unknown = trail.verify(Known::default()).unwrap();
        assert_eq!((unknown.anchored, unknown.not_anchored, unknown.faults), (None, LINES, vec![]));
        fs::remove_file(&trail.segments.path).unwrap();
        assert_eq!(trail.verify(Known::default()).unwrap(), Verdict::default());
    }

    #[test]
    fn every_damage_up_to_the_anchor_is_found() {
        let (_folder, trail, known) = trail();
        let (whole, mut dice) = (lines(&trail), Dice(20_261_130));
        for round in 0..1_000 {
            let how = DAMAGES[round % DAMAGES.len()];
            let lines = damaged(&whole, how, usize::try_from(ANCHOR).unwrap(), &mut dice);
            if lines == whole {
                continue;
            }
            write(&trail, &lines);
            let verdict = trail.verify(known).unwrap();
            assert!(!verdict.faults.is_empty(), "round {round}: {how} was not found");
        }
    }

    /// Only who kept a copy elsewhere can tell.
    #[test]
    fn after_the_anchor_the_last_line_and_a_chain_made_again_are_not_noticed() {
        let (_folder, trail, known) = trail();
        let (whole, mut dice) = (lines(&trail), Dice(7));
        let (head, tail) = whole.split_at(usize::try_from(ANCHOR).unwrap());
        for round in 0..1_000 {
            let how = DAMAGES[round % DAMAGES.len()];
            let mut lines = head.to_vec();
            match how {
                "rebuild" => {
                    let mut all = whole.clone();
                    let at = head.len() + dice.below(tail.len());
                    all[at] = all[at].replace("reason ", "other ");
                    lines = rebuilt(&all);
                }
                _ => lines.extend(damaged(tail, how, tail.len(), &mut dice)),
            }
            let is_prefix = whole.starts_with(&lines);
            let last_alone = lines.len() == whole.len() && lines[..39] == whole[..39];
            write(&trail, &lines);
            let verdict = trail.verify(known).unwrap();
            let unnoticed = is_prefix || last_alone || how == "rebuild";
            let found = !verdict.faults.is_empty();
            assert!(found || unnoticed, "round {round}: {how} was not found");
            let counted = head.len() + usize::try_from(verdict.not_anchored).unwrap();
            assert!(found || counted == lines.len(), "round {round}: {verdict:?}");
        }
    }

    #[test]
    fn each_fault_has_its_words() {
        let (_folder, trail, known) = trail();
        let whole = lines(&trail);
        let told = |lines: &[String], known| {
            write(&trail, lines);
            let faults = trail.verify(known).unwrap().faults;
            faults.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&whole[..20], known),
            ["the trail ends too early: lines 21 to 30 are missing, of which the last was noted"]
        );
        let gap = [&whole[..10], &whole[12..]].concat();
        assert_eq!(told(&gap, known), ["lines 11 to 12 are missing"]);
        let mut other = whole.clone();
        other[4] = other[4].replace("reason ", "other ");
        let words = told(&other, known);
        assert!(
            words.len() == 1 && words[0].starts_with("line 6 of audit.jsonl does not follow"),
            "{words:?}"
        );
        let words = told(&rebuilt(&other), known);
        assert!(
            words.len() == 1 && words[0].starts_with("line 30 is not the one that was noted"),
            "{words:?}"
        );
        other[4] = "{}".to_owned();
        let words = told(&other, known);
        assert_eq!(words[0], "line 5 of audit.jsonl is none that keyward wrote");
        let older = Known { generation: 31, ..known };
        let words = told(&whole, older);
        assert!(
            words.len() == 5 && words[0].starts_with("line 32 tells of generation 32"),
            "{words:?}"
        );
    }

    #[test]
    fn a_trail_that_was_lost_goes_on_from_the_line_that_is_known() {
        let (_folder, trail, known) = trail();
        let whole = lines(&trail);
        let clock = FakeClock::at(Timestamp::from_unix(1_700_000_000));
        let record =
            Record { event: Event::Rotated, keys: &[], generation: 41, actor: "me", reason: "" };
        for (kept, gone) in [(0, 1..=ANCHOR), (20, 21..=ANCHOR)] {
            write(&trail, &whole[..kept]);
            let appended = trail.append_after(known.anchor, &clock, &record).unwrap();
            assert_eq!((appended.head.line, appended.gone), (ANCHOR + 1, Some(gone.clone())));
            let later = Known { anchor: Some(appended.head), generation: 41, floor: None };
            let faults = trail.verify(later).unwrap().faults;
            assert_eq!(faults, [Fault::Missing { from: *gone.start(), to: *gone.end() }]);
        }
        write(&trail, &whole);
        let appended = trail.append_after(known.anchor, &clock, &record).unwrap();
        assert_eq!((appended.head.line, appended.gone), (LINES + 1, None));
    }

    #[test]
    fn a_change_that_came_while_the_trail_was_read_is_no_fault() {
        let (_folder, trail, known) = trail();
        let before = Known { generation: 35, ..known };
        let mut verdict = trail.verify(before).unwrap();
        assert!(verdict.is_ahead() && verdict.faults.len() == 3, "{verdict:?}");
        verdict.catch_up(Known { generation: 38, ..known });
        assert_eq!(verdict.faults, [Fault::Ahead { line: 40, generation: 40 }]);
        verdict.catch_up(known);
        assert!(!verdict.is_ahead() && verdict.faults.is_empty());
    }

    #[test]
    fn no_number_is_too_high() {
        let (_folder, trail, known) = trail();
        let mut lines = lines(&trail);
        lines[39] = lines[39].replace("\"number\":40", &format!("\"number\":{}", u64::MAX));
        lines.extend([lines[39].clone(), "{}".to_owned(), lines[0].clone()]);
        write(&trail, &lines);
        assert!(trail.verify(known).unwrap().faults.len() >= 4);
    }

    #[test]
    fn a_line_that_a_crash_left_is_told() {
        let (_folder, trail, known) = trail();
        let mut text = fs::read(&trail.segments.path).unwrap();
        text.extend_from_slice(b"{\"number\":41");
        fs::write(&trail.segments.path, text).unwrap();
        let verdict = trail.verify(known).unwrap();
        assert!(verdict.unfinished && verdict.faults.is_empty() && verdict.lines == LINES);
    }
}

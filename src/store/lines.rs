//! The lines behind the document of a long keystore: each says what one commit changed, so that a change
//! of one key does not write all of them again. docs/keystore-format.md describes them for people.

#![forbid(unsafe_code)]

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::entry::KeyEntry;
use super::format::{self, KeyDocument, MacText, Writer, unwritable};
use super::registers::Registers;
use super::seal::FileMac;
use super::{Contents, Keystore, Revision, Sealed, StoreKeyEntry, Written};
use crate::error::{Error, Kind, Result, json_place};
use crate::key::{KeyName, KeyState};
use crate::secret::scrubbed;

/// The beginning of every line.
const BEGINNING: &[u8] = b"{\"generation\":";

/// Lines together are no longer than this part of the document. Then that is written whole.
const MOST_LINES: usize = 4;

/// The contents of a keystore file, unverified, and its layout.
pub(super) struct FileText {
    pub(super) document: Contents,
    pub(super) mac: MacText,
    pub(super) lines: Vec<Line>,
    /// Where more lines can be added; none behind a document that somebody laid out again, or behind a
    /// line that is cut off.
    pub(super) layout: Option<Layout>,
}

/// How long a file is that lines can be added to, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) document: usize,
    /// Document and lines.
    pub(super) all: usize,
}

/// What one commit changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    generation: u64,
    /// How many keys the active store key has wrapped by then.
    wraps: u64,
    registers: Arc<Registers>,
    removed: Vec<KeyName>,
    /// Keys that are new, or of which versions are gone: whole.
    keys: Vec<Arc<KeyEntry>>,
    /// Keys of which versions are new or were changed: with these alone.
    changed: Vec<Arc<KeyEntry>>,
    /// Over the line and the check before it: its own, or none before it was written.
    mac: Option<MacText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineDocument {
    generation: u64,
    wraps: u64,
    registers: Registers,
    removed: Vec<KeyName>,
    keys: Vec<KeyDocument>,
    changed: Vec<KeyDocument>,
    mac: MacText,
}

/// Reads a file: its document and all lines behind it. A last line that is cut off was never committed,
/// and is left out.
pub(super) fn parse(bytes: &[u8]) -> Result<FileText> {
    let (document, mac, mut end) = format::parse(bytes)?;
    let mut text = FileText { document, mac, lines: Vec::new(), layout: None };
    let (mut is_ours, document_len) = (text.document.secret.is_some(), end + 1);
    loop {
        let rest = bytes.get(end..).unwrap_or_default();
        let next = rest.trim_ascii_start();
        is_ours &= rest.len() == next.len() + 1 && rest.starts_with(b"\n");
        if next.is_empty() {
            let layout = Layout { document: document_len, all: bytes.len() };
            text.layout = is_ours.then_some(layout);
            return Ok(text);
        }
        if text.document.secret.is_none() || !could_be_a_line(next) {
            return Err(damaged("there is something else behind its end"));
        }
        if is_cut_off(next) {
            return Ok(text);
        }
        let (line, len) = Line::parse(next)?;
        text.lines.push(line);
        end = bytes.len() - next.len() + len;
    }
}

/// The id and revision of a file, of how it begins and ends. Nothing where that does not show them.
pub(super) fn peek_ends(beginning: &[u8], end: &[u8]) -> Option<Result<(String, Revision)>> {
    let line = generation_in(end)?;
    let found = format::peek_beginning(beginning)?;
    Some(found.map(|(id, document)| {
        let generation = line.unwrap_or(document.generation);
        (id, Revision { generation, ..document })
    }))
}

/// The same of all its bytes.
pub(super) fn peek(bytes: &[u8]) -> Result<(String, Revision)> {
    let sealed = Sealed::parse(bytes)?;
    let contents = sealed.unverified();
    Ok((contents.id().to_owned(), contents.revision()))
}

/// The generation that the last line behind a document tells, or none where no line is there: by `end`,
/// how the file ends, if that shows it.
fn generation_in(end: &[u8]) -> Option<Option<u64>> {
    let lines = end.strip_suffix(b"\n")?;
    let last = lines.rsplit(|byte| *byte == b'\n').next()?;
    if last == b"}" {
        return Some(None);
    }
    let digits = last.strip_prefix(BEGINNING)?.split(|byte| *byte == b',').next()?;
    // Else it was cut off.
    (last.ends_with(b"\"}") && !last.contains(&0)).then_some(())?;
    str::from_utf8(digits).ok()?.parse().ok().map(Some)
}

/// Whether `mac` is the last check in a file that ends in `end`.
fn ends_in(end: &[u8], mac: &MacText) -> bool {
    let line = format!("\"mac\":\"{mac}\"}}\n");
    let document = format!("\"mac\": \"{mac}\"\n}}\n");
    end.ends_with(line.as_bytes()) || end.ends_with(document.as_bytes())
}

/// Whether `rest` begins as a line does, as far as it was written: a power cut may leave zeros in the place
/// of what was not.
fn could_be_a_line(rest: &[u8]) -> bool {
    let written = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    written.starts_with(BEGINNING) || BEGINNING.starts_with(written)
}

/// Whether `rest` is a line whose writing was cut off.
fn is_cut_off(rest: &[u8]) -> bool {
    let ends_early = || format::first::<IgnoredAny>(rest).is_err_and(|cause| cause.is_eof());
    match rest.strip_suffix(b"\n").unwrap_or(rest).contains(&b'\n') {
        true => false,
        false => rest.contains(&0) || (!rest.ends_with(b"\n") && ends_early()),
    }
}

fn damaged(what: &str) -> Error {
    Error::new(Kind::Corrupt, what).advise("restore it from a backup")
}

impl Line {
    /// What makes `after` of `before`, if it is no more than a line can say.
    pub(super) fn between(before: &Contents, after: &Contents) -> Option<Self> {
        let (active, retired) = after.store_keys.split_last()?;
        let (former, formerly_retired) = before.store_keys.split_last()?;
        let counted = StoreKeyEntry { wraps: active.wraps, ..former.as_ref().clone() };
        let is_same = (&after.id, after.created, &after.secret, after.epoch())
            == (&before.id, before.created, &before.secret, before.epoch())
            && retired == formerly_retired
            && counted == **active
            && after.generation == before.generation + 1;
        is_same.then_some(())?;
        let mut line = Self {
            generation: after.generation,
            wraps: active.wraps,
            registers: Arc::clone(&after.registers),
            removed: Vec::new(),
            keys: Vec::new(),
            changed: Vec::new(),
            mac: None,
        };
        for (name, key) in after.changed_since(Some(before)) {
            let Some(key) = key else {
                line.removed.push(name.clone());
                continue;
            };
            match before.key(name).and_then(|before| key.changed_since(before)) {
                Some(changes) => line.changed.push(Arc::new(changes)),
                None => line.keys.push(Arc::new(key.clone())),
            }
        }
        Some(line)
    }

    /// Whether a key that encrypts data was destroyed. The document before the line still has it, so that it is
    /// to be written again without: what was erased must not be in the file. A secret that a client of MySQL's
    /// removes stays in the file until that is written whole.
    fn destroys(&self) -> bool {
        let mut keys = self.changed.iter().chain(&self.keys);
        keys.any(|key| {
            matches!(key.name(), KeyName::Id(_))
                && key.versions().any(|version| version.state == KeyState::Destroyed)
        })
    }

    fn parse(bytes: &[u8]) -> Result<(Self, usize)> {
        let (document, len) = format::first::<LineDocument>(bytes).map_err(|cause| {
            damaged(&format!("a line behind the document cannot be read: {}", json_place(&cause)))
        })?;
        let LineDocument { generation, wraps, registers, removed, keys, changed, mac } = document;
        let entries = |keys: Vec<KeyDocument>| {
            keys.into_iter().map(|key| key.entry().map(Arc::new)).collect::<Result<_>>()
        };
        let (keys, changed, registers) = (entries(keys)?, entries(changed)?, registers.into());
        let mac = Some(mac);
        Ok((Self { generation, wraps, registers, removed, keys, changed, mac }, len))
    }

    /// Changes `contents` as it says.
    pub(super) fn apply(&self, contents: &mut Contents) -> Result<()> {
        let broken =
            |what: &str| damaged(&format!("the line of generation {}: {what}", self.generation));
        if contents.generation.checked_add(1) != Some(self.generation) {
            return Err(broken("it is not the next generation"));
        }
        if self.registers.last_epoch() != contents.registers.last_epoch() {
            return Err(broken("it begins another epoch"));
        }
        let mut active = contents.active_store_key()?.clone();
        if self.wraps < active.wraps {
            return Err(broken("it has counted less than the one before"));
        }
        active.wraps = self.wraps;
        contents.store_keys.pop();
        contents.store_keys.push(Arc::new(active));
        contents.generation = self.generation;
        contents.registers = Arc::clone(&self.registers);
        for name in &self.removed {
            let Ok(at) = contents.place(name) else {
                return Err(broken(&format!("it removes key {name}, which is not there")));
            };
            Arc::make_mut(&mut contents.keys).remove(at);
        }
        for key in &self.keys {
            contents.put(Arc::clone(key));
        }
        for changes in &self.changed {
            let name = changes.name();
            let Some(key) = contents.key(name) else {
                return Err(broken(&format!("it changes key {name}, which is not there")));
            };
            let key = key.with_changes(changes).map_err(|bad| broken(bad.what()))?;
            contents.put(Arc::new(key));
        }
        Ok(())
    }

    /// Its text, with the check that `mac` makes of it and of `before`, the check before it. Proven to be
    /// read as it was meant. Within `secret::scrubbed` only.
    pub(super) fn write(mut self, before: &MacText, mac: FileMac) -> Result<(Vec<u8>, MacText)> {
        let mut out = Writer::of_a_line(before, mac);
        out.line(&self).map_err(unwritable)?;
        let (mut text, mac) = out.finish();
        text.extend_from_slice(format!(",\"mac\":\"{mac}\"}}\n").as_bytes());
        self.mac = Some(mac);
        if Self::parse(&text)? != (self, text.len() - 1) {
            return Err(Error::new(Kind::Internal, "the change would not be read as written"));
        }
        Ok((text, mac))
    }

    /// The check that ends it, if `mac` makes that of it and of `before`. Within `secret::scrubbed` only.
    pub(super) fn verified(&self, before: &MacText, mac: FileMac) -> Result<Option<MacText>> {
        let mut out = Writer::of_a_line(before, mac);
        out.line(self).map_err(unwritable)?;
        Ok(self.mac.filter(|is| out.verify(is)))
    }
}

impl Keystore {
    /// One line more for the file that this was changed from, for a commit, and itself once that is
    /// written. None where the file is shorter than `from` bytes or has enough lines, or where the
    /// change is more than a line can say, or destroys a key.
    pub(super) fn as_line(&self, from: usize) -> Result<Option<(Vec<u8>, Self)>> {
        let Some(file) = self.file.as_deref().filter(|file| file.layout.document >= from) else {
            return Ok(None);
        };
        let line = Line::between(&file.contents, &self.contents);
        let Some(line) = line.filter(|line| !line.destroys()) else { return Ok(None) };
        let (text, mac) = scrubbed(|| line.write(&file.mac, self.line_mac()?))?;
        let Layout { document, all } = file.layout;
        let all = all + text.len();
        if all - document > document / MOST_LINES {
            return Ok(None);
        }
        let contents = self.contents.clone();
        let written = Written { contents, mac, layout: Layout { document, all } };
        Ok(Some((text, Self { file: Some(Arc::new(written)), ..self.clone() })))
    }

    /// Whether a file of `len` bytes that ends in `end` is the one that a line would be added to.
    pub(super) fn is_in(&self, len: u64, end: &[u8]) -> bool {
        let file = self.file.as_deref();
        file.is_some_and(|file| file.layout.all as u64 == len && ends_in(end, &file.mac))
    }
}

impl Writer {
    fn of_a_line(before: &MacText, mut mac: FileMac) -> Self {
        mac.update(&before.0);
        Self::in_one_line(mac)
    }

    fn line(&mut self, line: &Line) -> serde_json::Result<()> {
        self.text("{");
        self.member("generation", &line.generation, "")?;
        self.member("wraps", &line.wraps, ",")?;
        self.member("registers", &*line.registers, ",")?;
        self.list("removed", &line.removed, Writer::value)?;
        self.list("keys", &line.keys, |out, key| out.key(key))?;
        self.list("changed", &line.changed, |out, key| out.key(key))?;
        self.closed();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

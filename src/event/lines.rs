//! The whole lines of a trail behind one of them, without those before.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::vec::IntoIter;

use super::segments::{Part, number};
use super::trail::Trail;
use crate::error::Result;

/// Lines of a trail, in their order, from file to file.
pub struct Lines {
    parts: IntoIter<Part>,
    /// The file that is read, and where in it.
    file: Option<(Part, BufReader<File>, u64)>,
}

impl Lines {
    /// Those behind the line `number`, which ends at `offset` of its file if that is still the same: then from there
    /// on, else all of that file. One that was removed is none to begin with.
    pub fn after(trail: &Trail, number: u64, offset: u64) -> Result<Self> {
        let mut parts = trail.segments.parts()?;
        // The line may be the last of its file, which is no reason to read that one, too.
        parts.retain(|part| !part.ends_by(number));
        let Some(part) = parts.first() else {
            return Ok(Self { parts: Vec::new().into_iter(), file: None });
        };
        let begin = if part.goes_on_at(number, offset)? { offset } else { 0 };
        let mut lines = Self { parts: parts.into_iter(), file: None };
        lines.open_next(begin)?;
        Ok(lines)
    }

    /// The next line, and where it ends in its file; none where there is no whole one yet.
    pub fn read_next(&mut self) -> Result<Option<(String, u64)>> {
        loop {
            let Some((part, file, end)) = &mut self.file else { return Ok(None) };
            let mut bytes = Vec::new();
            let len = file.read_until(b'\n', &mut bytes).map_err(|e| part.unread(&e))?;
            if bytes.pop() == Some(b'\n') {
                *end += len as u64;
                return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), *end)));
            }
            self.open_next(0)?;
        }
    }

    fn open_next(&mut self, begin: u64) -> Result<()> {
        self.file = None;
        for part in self.parts.by_ref() {
            let Some(mut file) = part.open()? else { continue };
            file.seek(SeekFrom::Start(begin)).map_err(|e| part.unread(&e))?;
            self.file = Some((part, BufReader::new(file), begin));
            break;
        }
        Ok(())
    }
}

impl Part {
    /// Whether the line behind `line` begins at `offset`, or is not written yet.
    fn goes_on_at(&self, line: u64, offset: u64) -> Result<bool> {
        let Some(mut file) = self.open()? else { return Ok(false) };
        let failed = |e: std::io::Error| self.unread(&e);
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if len == offset {
            return Ok(offset > 0 && self.name.is_none());
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        BufReader::new(file).read_until(b'\n', &mut bytes).map_err(failed)?;
        let is_whole = bytes.pop() == Some(b'\n');
        Ok(is_whole && number(&bytes).is_some() && number(&bytes) == line.checked_add(1))
    }
}

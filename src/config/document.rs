//! A configuration's text in sections, and where each line of it comes from.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::place::{Lines, Place};
use super::{Entry, Section, Value, nearest};
use crate::error::{Error, Kind, Result};

/// Where a configuration's lines come from.
#[derive(Debug)]
pub(super) struct Origin {
    file: PathBuf,
    /// For a file that is being made: the option of the command that wrote each line.
    options: Vec<&'static str>,
}

impl Origin {
    /// The error that what is at a place is wrong. It names the option that has put it there, where the file is
    /// being made: it will be gone.
    pub(super) fn error_at(&self, at: Place, what: &str) -> Error {
        let place = match self.option_at(at) {
            Some(option) => option.to_owned(),
            None => format!("{}:{}:{}", self.file.display(), at.line, at.column),
        };
        Error::new(Kind::Config, format!("{place}: {what}"))
    }

    /// Whether there is a file to look into.
    pub(super) fn is_file(&self) -> bool {
        self.options.is_empty()
    }

    /// How somebody gives `key` a value.
    pub(super) fn entry(&self, key: &str, value: &str) -> String {
        match self.is_file() {
            true => format!("{key} = \"{value}\""),
            false => format!("--set {key}={value}"),
        }
    }

    /// What comes after the lines that are named is of the last option.
    fn option_at(&self, at: Place) -> Option<&'static str> {
        self.options.get(at.line - 1).or(self.options.last()).copied()
    }
}

/// The parsed file, its sections taken out one by one.
pub(super) struct Document {
    origin: Arc<Origin>,
    sections: Vec<(String, Place, Vec<Section>)>,
    known: Vec<&'static str>,
}

impl Document {
    /// `text`, which came from `path`, or is to come there by the `options` of a call, one a line.
    pub(super) fn parse(path: &Path, text: &str, options: Vec<&'static str>) -> Result<Self> {
        let origin = Arc::new(Origin { file: path.to_owned(), options });
        let lines = Lines::of(text);
        let place = |offset| lines.place(offset);
        let table = DeTable::parse(text).map_err(|error| {
            let at = place(error.span().map_or(0, |span| span.start));
            origin.error_at(at, &error.message().replace('\n', " "))
        })?;
        let mut sections = Vec::new();
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref().to_string(), place(key.span().start));
            let tables = match value.get_ref() {
                DeValue::Table(table) => {
                    vec![section(&origin, format!("[{name}]"), at, table, &place)]
                }
                DeValue::Array(list) if list.iter().all(|item| item.get_ref().is_table()) => list
                    .iter()
                    .filter_map(|item| Some((place(item.span().start), item.get_ref().as_table()?)))
                    .map(|(at, table)| section(&origin, format!("[[{name}]]"), at, table, &place))
                    .collect(),
                _ => Vec::new(),
            };
            sections.push((name, at, tables));
        }
        Ok(Self { origin, sections, known: Vec::new() })
    }

    /// The one table called `name`; an empty one where it is not there.
    pub(super) fn section(&mut self, name: &'static str) -> Result<Section> {
        let (at, mut found) = self.take(name);
        match (found.pop(), found.is_empty()) {
            (Some(section), true) if !section.title.starts_with("[[") => Ok(section),
            (None, _) if at.is_none() => Ok(Section {
                origin: self.origin.clone(),
                title: format!("[{name}]"),
                at: Place { line: 1, column: 1 },
                entries: Vec::new(),
                asked: RefCell::default(),
            }),
            _ => Err(self.error_at(at, &format!("{name:?} must be one table: [{name}]"))),
        }
    }

    /// The one table called `name`, where it is there.
    pub(super) fn optional_section(&mut self, name: &'static str) -> Result<Option<Section>> {
        let is_there = self.sections.iter().any(|(other, ..)| other == name);
        self.section(name).map(|section| is_there.then_some(section))
    }

    /// All tables called `name`, written as `[[name]]`.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Vec<Section>> {
        let (at, found) = self.take(name);
        let is_list = found.iter().all(|section| section.title.starts_with("[["));
        if !is_list || (found.is_empty() && at.is_some()) {
            return Err(self.error_at(at, &format!("write each {name} as [[{name}]]")));
        }
        Ok(found)
    }

    pub(super) fn done(&self) -> Result<()> {
        let Some((name, at, _)) = self.sections.first() else { return Ok(()) };
        let error = self.error_at(Some(*at), &format!("unknown section [{name}]"));
        Err(error.advise(nearest(name, &self.known)))
    }

    fn take(&mut self, name: &'static str) -> (Option<Place>, Vec<Section>) {
        self.known.push(name);
        match self.sections.iter().position(|(other, ..)| other == name) {
            Some(n) => {
                let (_, at, found) = self.sections.remove(n);
                (Some(at), found)
            }
            None => (None, Vec::new()),
        }
    }

    fn error_at(&self, at: Option<Place>, what: &str) -> Error {
        let at = at.unwrap_or(Place { line: 1, column: 1 });
        self.origin.error_at(at, what)
    }
}

fn section(
    origin: &Arc<Origin>,
    title: String,
    at: Place,
    table: &DeTable<'_>,
    place: &dyn Fn(usize) -> Place,
) -> Section {
    let entries = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            at: place(key.span().start),
            value: value_of(value.get_ref()),
        })
        .collect();
    Section { origin: origin.clone(), title, at, entries, asked: RefCell::default() }
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number out of range"), Value::Integer),
        DeValue::Array(list) => list
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map_or(Value::Other("a list"), Value::TextList),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Table(table) => table
            .iter()
            .map(|(name, value)| {
                Some((name.get_ref().to_string(), value.get_ref().as_str()?.to_owned()))
            })
            .collect::<Option<Vec<_>>>()
            .map_or(Value::Other("a table"), Value::TextTable),
    }
}

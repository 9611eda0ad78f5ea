//! The section `[report]`: what a report says of the organisation, which nothing else knows.

#![forbid(unsafe_code)]

use super::Section;
use crate::env::Timestamp;
use crate::error::Result;

/// The longest text, in characters.
const MAX_TEXT: usize = 200;

/// The section `[report]`. All of it may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportConfig {
    /// Who answers for the keys.
    pub owner: Option<String>,
    /// What the server is for: `production`, `test`.
    pub environment: Option<String>,
    /// When somebody last reviewed which ciphers and protocols are used.
    pub ciphers_reviewed: Option<Timestamp>,
    /// The people who look after the keys, by name.
    pub custodians: Vec<Custodian>,
    /// What each key is for, by the key's number or name.
    pub purposes: Vec<(String, String)>,
}

/// Somebody who looks after keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custodian {
    /// The name.
    pub name: String,
    /// When they acknowledged in writing what that means.
    pub acknowledged: Timestamp,
}

impl ReportConfig {
    /// Reads the section to its end.
    pub(super) fn read(section: &Section) -> Result<Self> {
        let custodians = section.table("custodians")?;
        let custodian = |(name, date): (String, String)| {
            Ok(Custodian { acknowledged: day(section, "custodians", &date)?, name })
        };
        let reviewed = section.text("ciphers_reviewed")?;
        let report = Self {
            owner: section.text("owner")?,
            environment: section.text("environment")?,
            ciphers_reviewed: reviewed
                .map(|date| day(section, "ciphers_reviewed", &date))
                .transpose()?,
            custodians: custodians.into_iter().map(custodian).collect::<Result<_>>()?,
            purposes: section.table("purposes")?,
        };
        section.done()?;
        report.refuse_long_texts(section).map(|()| report)
    }

    fn refuse_long_texts(&self, section: &Section) -> Result<()> {
        let names = self.custodians.iter().map(|one| ("custodians", &one.name));
        let purposes = self.purposes.iter().flat_map(|(key, text)| [key, text]);
        let texts = [("owner", self.owner.as_ref()), ("environment", self.environment.as_ref())]
            .into_iter()
            .filter_map(|(key, text)| Some((key, text?)));
        let mut all = texts.chain(names).chain(purposes.map(|text| ("purposes", text)));
        let is_line = |text: &str| {
            let len = text.chars().count();
            (1..=MAX_TEXT).contains(&len) && !text.chars().any(char::is_control)
        };
        match all.find(|(_, text)| !is_line(text)) {
            None => Ok(()),
            Some((key, _)) => {
                let what =
                    format!("a text is empty, has a line end or more than {MAX_TEXT} characters");
                Err(section.wrong(key, &what))
            }
        }
    }
}

/// A day, as `2026-03-01`.
fn day(section: &Section, key: &'static str, text: &str) -> Result<Timestamp> {
    let moment = match text.len() {
        10 => format!("{text}T00:00:00Z").parse().ok(),
        _ => None,
    };
    moment.ok_or_else(|| {
        section.wrong(key, "is not a day").advise("write it in quotes, as \"2026-03-01\"")
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn read(text: &str) -> crate::Result<Config> {
        Config::parse(Path::new("k.toml"), &format!("[[provider]]\ntype = \"local\"\n{text}"))
    }

    #[test]
    fn says_who_and_what_for() {
        let text = "[report]\nowner = \"Payments\"\nenvironment = \"test\"\n\
                    ciphers_reviewed = \"2026-01-31\"\n\
                    [report.custodians]\n\"Ann Example\" = \"2026-03-01\"\n\
                    [report.purposes]\n1 = \"logs\"\n7 = \"card numbers\"\n";
        let report = read(text).unwrap().report;
        assert_eq!(report.owner.as_deref(), Some("Payments"));
        assert_eq!(report.environment.as_deref(), Some("test"));
        assert_eq!(report.ciphers_reviewed.unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert_eq!(report.custodians.len(), 1);
        assert_eq!(report.custodians[0].name, "Ann Example");
        assert_eq!(report.custodians[0].acknowledged.to_string(), "2026-03-01T00:00:00Z");
        let purposes = [("1", "logs"), ("7", "card numbers")];
        assert_eq!(report.purposes, purposes.map(|(key, text)| (key.to_owned(), text.to_owned())));
        assert_eq!(*read("").unwrap().report, super::ReportConfig::default());
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let long = format!("[report]\nowner = {:?}\n", "x".repeat(201));
        for (text, told) in [
            (
                "[report]\nowners = \"x\"\n",
                "k.toml:4:1: unknown key \"owners\" in [report]; did you mean \"owner\"?",
            ),
            (
                "[report]\nciphers_reviewed = \"March\"\n",
                "k.toml:4:1: ciphers_reviewed: is not a day; write it in quotes, as \"2026-03-01\"",
            ),
            (
                "[report]\ncustodians = { a = \"2026-13-01\" }\n",
                "k.toml:4:1: custodians: is not a day; write it in quotes, as \"2026-03-01\"",
            ),
            (
                "[report]\npurposes = [\"a\"]\n",
                "k.toml:4:1: purposes must be a table of strings in quotes, not a list of strings",
            ),
            (
                "[report.custodians]\na = 1\n",
                "k.toml:3:9: custodians must be a table of strings in quotes, not a table",
            ),
            (
                &long,
                "k.toml:4:1: owner: a text is empty, has a line end or more than 200 characters",
            ),
        ] {
            let told_now = read(text).map(drop).unwrap_err().to_string();
            assert_eq!(told_now, told);
        }
    }
}

//! `keyward help`: how a command is called, or a page of the documents, which every server has with the command.

#![forbid(unsafe_code)]

use clap::Command;

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::error::{Error, Kind, Result};

/// A page of the documents.
struct Page {
    /// What it is asked for by: its file's name.
    topic: &'static str,
    text: &'static str,
}

/// All of them, by name: build.rs lists them.
const PAGES: &[Page] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// By how many letters a name that was meant differs at most.
const FARTHEST: usize = 2;

#[derive(clap::Args)]
pub(super) struct Options {
    /// A command, such as `keys create`, or a page, such as lost-key; none: the names of both
    topic: Vec<String>,
}

pub(super) fn run(options: &Options, command: Command, printer: &Printer) -> Result<Exit> {
    let text = match &options.topic[..] {
        [] => overview(command),
        words => topic(words, command)?,
    };
    printer.show(&text, text.trim_end())?;
    Ok(Exit::Success)
}

fn overview(mut command: Command) -> String {
    let mut text = format!("{}\n\nPages (`keyward help PAGE`):\n", command.render_long_help());
    for page in PAGES {
        text += &format!("  {:<22} {}\n", page.topic, page.title());
    }
    text
}

/// The page of that name, or the help of that command.
fn topic(words: &[String], command: Command) -> Result<String> {
    if let [word] = words
        && let Some(page) = PAGES.iter().find(|page| word.trim_end_matches(".md") == page.topic)
    {
        return Ok(page.text.to_owned());
    }
    // What is said of every command comes from the first of them.
    let mut command = command;
    command.build();
    let found =
        words.iter().try_fold(&command, |command, word| command.find_subcommand(word)).cloned();
    found.map(|mut command| command.render_long_help().to_string()).ok_or_else(|| {
        let topic = words.join(" ");
        let advice = match nearest(&topic, &command) {
            Some(name) => format!("did you mean {name:?}?"),
            None => "`keyward help` lists them".to_owned(),
        };
        Error::new(Kind::Config, format!("there is no command and no page {topic:?}"))
            .advise(advice)
    })
}

/// The page or the command whose name is nearly `topic`.
fn nearest(topic: &str, command: &Command) -> Option<String> {
    let of_group = |one: &Command| {
        let group = one.get_name().to_owned();
        let below = one.get_subcommands().map(|two| format!("{group} {}", two.get_name()));
        below.chain([group.clone()]).collect::<Vec<_>>()
    };
    let commands = command.get_subcommands().flat_map(of_group);
    let names = PAGES.iter().map(|page| page.topic.to_owned()).chain(commands);
    let apart = names.map(|name| (strsim::damerau_levenshtein(topic, &name), name));
    apart.min().filter(|(distance, _)| *distance <= FARTHEST).map(|(_, name)| name)
}

impl Page {
    fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::cli::definition;

    fn said(words: &[&str]) -> Result<String> {
        topic(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), definition())
    }

    #[test]
    fn every_page_has_a_name_of_its_own_and_a_title() {
        let topics: BTreeSet<_> = PAGES.iter().map(|page| page.topic).collect();
        assert!(topics.len() == PAGES.len() && topics.len() > 30, "{topics:?}");
        assert!(PAGES.iter().all(|page| page.text.starts_with("# ")));
    }

    #[test]
    fn a_page_a_command_or_advice() {
        assert!(said(&["lost-key"]).unwrap().starts_with("# "));
        assert!(said(&["keys", "create"]).unwrap().contains("keyward keys create"));
        for (words, advice) in [
            (&["keys", "creat"][..], "did you mean \"keys create\"?"),
            (&["wrds"], "did you mean \"words\"?"),
            (&["los-key"], "did you mean \"lost-key\"?"),
            (&["rotat"], "did you mean \"rotate\"?"),
            (&["everything"], "`keyward help` lists them"),
        ] {
            let refused = said(words).unwrap_err();
            assert_eq!(refused.advice(), Some(advice), "{words:?}");
        }
        let all = overview(definition());
        assert!(PAGES.iter().all(|page| all.contains(page.topic)), "{all}");
    }

    /// Messages name pages as they can be read where the message is.
    #[test]
    fn messages_name_topics_that_there_are() {
        let mut named = 0;
        for file in sources(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path()) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for rest in line.split("`keyward help ").skip(1) {
                    let topic = rest.split('`').next().unwrap();
                    assert!(
                        said(&[topic]).is_ok() || topic == "PAGE",
                        "{}: {topic}",
                        file.display()
                    );
                    named += 1;
                }
                let is_message = line.contains(".md") && !line.contains("include_str!");
                let of_help = file.ends_with("cli/help.rs");
                assert!(!is_message || of_help, "{}: {line}", file.display());
            }
        }
        assert!(named > 4, "{named}");
    }

    fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
            .filter(|path| path.extension().is_some_and(|end| end == "rs"))
            .collect()
    }
}

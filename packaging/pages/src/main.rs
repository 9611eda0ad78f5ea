//! Writes the command's man pages and completions into the folder that is named, in the places that
//! they have below `/usr`. A program of its own, so that the command carries neither generator.

use std::fs::{File, create_dir_all};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;

const SECTION: &str = "8";

const COMPLETIONS: &[(Shell, &str)] = &[
    (Shell::Bash, "share/bash-completion/completions/keyward"),
    (Shell::Zsh, "share/zsh/vendor-completions/_keyward"),
    (Shell::Fish, "share/fish/vendor_completions.d/keyward.fish"),
];

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("keyward-pages FOLDER");
        return ExitCode::from(2);
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyward-pages: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    for (shell, place) in COMPLETIONS {
        let file = folder.join(place);
        create_dir_all(file.parent().unwrap_or(folder))?;
        generate(*shell, &mut keyward::cli::definition(), "keyward", &mut File::create(file)?);
    }
    let man = folder.join(format!("share/man/man{SECTION}"));
    create_dir_all(&man)?;
    let mut definition = keyward::cli::definition().disable_help_subcommand(true);
    definition.build();
    pages(&definition, &man)
}

/// A page for `command` and one for each of its subcommands.
fn pages(command: &Command, folder: &Path) -> io::Result<()> {
    Man::new(command.clone()).section(SECTION).manual("keyward").generate_to(folder)?;
    let mut shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.try_for_each(|command| pages(command, folder))
}

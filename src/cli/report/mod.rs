//! `keyward report`: what is known of the keys, for an auditor. What it says is in `report`.

#![forbid(unsafe_code)]

mod collect;
mod merge;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::cli::helpers::server;
use crate::custodian::Custodian;
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result};
use crate::report::note::{self, Form, Signer};
use crate::report::{Document, csv, html};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// html: a page that prints; json: all of it, for programs and --from; csv: a table
    #[arg(long, value_enum, default_value = "html")]
    format: Format,
    /// A data directory to read [default: those on this machine that are registered in the keystore]
    #[arg(long, value_name = "DIR")]
    datadir: Vec<PathBuf>,
    /// Read no data files, which takes a time where there are many
    #[arg(long, conflicts_with = "datadir")]
    without_data: bool,
    /// Make one report of these, which were made with --format json; no keystore is needed
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["datadir", "without_data"])]
    from: Vec<PathBuf>,
    /// With --from: a key that must have signed one of them, as `keyward audit checkpoint --key` prints it
    #[arg(long, value_name = "KEY", requires = "from", value_parser = parse_key)]
    key: Vec<Signer>,
    #[command(flatten)]
    pub(super) server: server::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Check that a report is as a keystore signed it
    Verify(verify::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Html,
    Json,
    Csv,
}

fn parse_key(text: &str) -> Result<Signer, String> {
    Signer::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    if let Some(Command::Verify(options)) = &options.command {
        return verify::run(config, options, printer);
    }
    let form = match options.format {
        _ if printer.is_json() => Form::Json,
        Format::Html => Form::Html,
        Format::Json => Form::Json,
        Format::Csv => Form::Csv,
    };
    let (document, custodian) = match options.from.is_empty() {
        true => {
            let (server, custodian) = collect::server(config, options)?;
            (Document::new(System.now(), vec![server]), Some(custodian))
        }
        false => (merge::documents(&options.from, &options.key)?, None),
    };
    let body = body(&document, form)?;
    printer.export(&match custodian {
        Some(custodian) if custodian.epoch().is_some() => signed(&custodian, form, &body)?,
        _ => note::unsigned(&body, form),
    })?;
    Ok(Exit::Success)
}

/// The report but for what its signature makes of its end.
fn body(document: &Document, form: Form) -> Result<String> {
    let json = |e| Error::new(Kind::Internal, format!("cannot write JSON: {e}"));
    Ok(match form {
        Form::Html => html(document),
        Form::Csv => csv(document),
        Form::Json => {
            let text = serde_json::to_string_pretty(document).map_err(json)?;
            // The signature is one more member.
            text.strip_suffix("\n}").unwrap_or(&text).to_owned()
        }
    })
}

fn signed(custodian: &Custodian, form: Form, body: &str) -> Result<String> {
    let keystore = custodian.keystore_id();
    let (key, signature) = custodian.manager()?.sign(&note::text(&keystore, form, body))?;
    Ok(note::signed(body, form, &keystore, &key, &signature))
}

//! `keyward doctor`: everything that can be wrong, looked at before it hurts.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use crate::cli::helpers::examine::{self, Check, DataFiles, examine};
use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::print::Printer;
use crate::cli::helpers::server;
use crate::error::Result;

#[derive(clap::Args, Default)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) server: server::Options,
    /// Read all files of this data directory [default: the server's own, small files and as far as ten
    /// seconds go]
    #[arg(long, value_name = "DIR")]
    pub(super) datadir: Option<PathBuf>,
    /// Tell more of the check with this id, such as load-option, and look at nothing
    #[arg(long, value_name = "ID")]
    pub(super) explain: Option<String>,
}

impl Options {
    /// What `--explain` is answered, if it was given; nothing is read for that.
    pub(super) fn explained(&self, printer: &Printer) -> Option<Result<Exit>> {
        let shown = examine::explain(self.explain.as_deref()?).and_then(|(check, text)| {
            let Check { id, what, .. } = check;
            let value = serde_json::json!({ "id": id, "what": what, "text": text });
            printer.show(&value, &text)
        });
        Some(shown.map(|()| Exit::Success))
    }
}

pub(super) fn run(path: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let files = options.datadir.as_deref().map_or(DataFiles::Some, DataFiles::All);
    let findings = examine(path, &options.server, files).findings;
    printer.show(&findings, &examine::lines(&findings))?;
    Ok(examine::exit(&findings))
}

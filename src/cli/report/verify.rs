//! `keyward report verify`: whether reports are as a keystore signed them.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::cli::helpers::exit::Exit;
use crate::cli::helpers::open::open;
use crate::cli::helpers::print::{Printer, plain};
use crate::error::{Error, Kind, Result};
use crate::hex::Hex;
use crate::report::note::{self, Signer};
use crate::trust;

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// Reports, byte by byte as they were written
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A key that may have signed them, as `keyward audit checkpoint --key` prints it; no keystore is needed then
    /// [default: the keys of the keystore's epochs]
    #[arg(long, value_name = "KEY", value_parser = super::parse_key)]
    key: Vec<Signer>,
}

/// A report that is as it was signed.
#[derive(Serialize)]
struct Verified<'a> {
    file: &'a Path,
    keystore: &'a str,
    /// SHA-256 of the key, which is the keystore's fingerprint in that epoch.
    fingerprint: Hex<32>,
}

pub(super) fn run(config: &Path, options: &Options, printer: &Printer) -> Result<Exit> {
    let signers = match options.key.is_empty() {
        true => {
            let (_, custodian) = open(config)?;
            let keystore = custodian.keystore_id();
            let signer = |key| Signer { keystore: keystore.clone(), key };
            custodian.epoch_keys().into_iter().map(signer).collect()
        }
        false => options.key.clone(),
    };
    let mut verified = Vec::new();
    let mut failed = false;
    for file in &options.files {
        let told = |error: Error| error.within(file.display());
        match read(file).and_then(|report| note::verify(&report, &signers).cloned().map_err(told)) {
            Ok(signer) => verified.push((file, signer)),
            Err(error) => {
                failed = true;
                printer.error(&error);
            }
        }
    }
    let shown: Vec<_> = verified
        .iter()
        .map(|(file, Signer { keystore, key })| Verified {
            file,
            keystore,
            fingerprint: Hex(Sha256::digest(key.0).into()),
        })
        .collect();
    let line = |one: &Verified<'_>| {
        let Verified { file, keystore, fingerprint } = one;
        let file = plain(&file.display().to_string());
        format!(
            "{file}: as the keystore {keystore} signed it, by the key with fingerprint {fingerprint}\n"
        )
    };
    printer.show(&shown, &shown.iter().map(line).collect::<String>())?;
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// A report's text, whoever wrote it.
pub(super) fn read(file: &Path) -> Result<String> {
    let opened: File =
        trust::open_untrusted(file).map_err(|e| Error::io("cannot open", file, &e))?;
    let mut text = String::new();
    let read = opened.take(note::MAX_LEN + 1).read_to_string(&mut text);
    read.map_err(|e| Error::io("cannot read", file, &e))?;
    match text.len() as u64 > note::MAX_LEN {
        true => Err(Error::new(
            Kind::Config,
            format!("{} is no report: it has more than {} bytes", file.display(), note::MAX_LEN),
        )),
        false => Ok(text),
    }
}

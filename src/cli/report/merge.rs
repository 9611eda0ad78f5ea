//! One report of many: `keyward report --from`.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::verify::read;
use crate::env::{Clock as _, System};
use crate::error::{Error, Kind, Result, json_place};
use crate::hex::Hex;
use crate::report::note::{self, Signer};
use crate::report::{Document, Server, Source};

/// All servers of the reports in `files`. With `keys`, one of these must have signed each.
pub(super) fn documents(files: &[PathBuf], keys: &[Signer]) -> Result<Document> {
    let mut servers = Vec::new();
    for file in files {
        let text = read(file)?;
        let of_file = document(file, &text, keys).map_err(|bad| bad.within(file.display()))?;
        servers.extend(of_file);
    }
    refuse_twice(&servers)?;
    Ok(Document::new(System.now(), servers))
}

fn document(file: &Path, text: &str, keys: &[Signer]) -> Result<Vec<Server>> {
    let signature = match keys.is_empty() {
        false => {
            let signer = note::verify(text, keys)?;
            Some((format!("right: by the key of keystore {}", signer.keystore), signer))
        }
        true => None,
    };
    let parsed: Document = serde_json::from_str(text).map_err(|cause| {
        let what = format!("this is no report in JSON: {}", json_place(&cause));
        Error::new(Kind::Config, what).advise("make it with `keyward report --format json`")
    })?;
    if !parsed.is_known() {
        let what =
            format!("it is of the form {:?}, which this release does not read", parsed.format);
        return Err(Error::new(Kind::Config, what).advise("update keyward"));
    }
    let words = match &signature {
        Some((words, signer)) => {
            refuse_others(&parsed.servers, signer)?;
            words.clone()
        }
        None if note::has_signature(text)? => "not checked: no --key was given".to_owned(),
        None => "none".to_owned(),
    };
    let source = Source {
        file: file.display().to_string(),
        sha256: Hex::<32>(Sha256::digest(text).into()).to_string(),
        signature: words,
    };
    let from = |mut server: Server| {
        server.source.get_or_insert_with(|| source.clone());
        server
    };
    Ok(parsed.servers.into_iter().map(from).collect())
}

/// Refuses a report on one keystore that another's key has signed.
fn refuse_others(servers: &[Server], signer: &Signer) -> Result<()> {
    match servers.iter().all(|server| server.text("keystore_id") == signer.keystore) {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Denied,
            format!(
                "it is signed by the key of keystore {}, and is about another one",
                signer.keystore
            ),
        )
        .advise("have the server make a new one")),
    }
}

/// Refuses to count one server twice.
fn refuse_twice(servers: &[Server]) -> Result<()> {
    let is_same = |one: &Server, other: &Server| {
        one.host == other.host
            && one.configuration == other.configuration
            && one.text("keystore_id") == other.text("keystore_id")
    };
    for (n, server) in servers.iter().enumerate() {
        if servers.iter().take(n).any(|other| is_same(server, other)) {
            let what = format!("there are two reports of {}", server.name());
            return Err(Error::new(Kind::Config, what).advise("name the newer one alone"));
        }
    }
    Ok(())
}

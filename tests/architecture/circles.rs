//! No file knows, by whatever way, itself: one can be read after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::{code_lines, sources};

/// The kernels choose and share one another's rounds; see `src/cipher/x86/mod.rs`.
const KERNELS: &str = "cipher::";

type Module = Vec<String>;

#[test]
fn files_form_no_circles() {
    let files = sources().into_iter().map(|file| {
        let path = file.with_extension("");
        let parts = path.components().skip(1).map(|part| part.as_os_str().to_str().unwrap());
        let module = parts.filter(|part| *part != "mod").map(str::to_owned).collect();
        (module, std::fs::read_to_string(&file).unwrap())
    });
    let mut found = in_circles(&files.collect());
    found.retain(|module| !module.starts_with(KERNELS));
    assert!(found.is_empty(), "these know themselves: {found:?}");
}

#[test]
fn a_circle_is_found() {
    let found = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(module, text)| (parts(module), (*text).to_owned()));
        in_circles(&files.collect())
    };
    let [client, login] = ["backend::vault::client", "backend::vault::login"];
    assert_eq!(
        found(&[(client, "use super::login::Session;"), (login, "let c: super::client::Client;")]),
        [client, login]
    );
    assert_eq!(
        found(&[
            ("event", "use crate::custodian::Status;"),
            ("custodian", "use crate::{\n    error::Result,\n    source::Source,\n};"),
            ("source", "use crate::event::{Event,\n    Trail};"),
        ]),
        ["custodian", "event", "source"]
    );
    let parent = [("backend", "mod vault;"), (client, "use super::super::http;")];
    assert!(found(&parent).is_empty());
    assert!(
        found(&[(client, "use super::login::Session;"), (login, "// super::client")]).is_empty()
    );
}

/// The modules that a way leads back to. A folder and what is in it count as one reader's place.
fn in_circles(files: &BTreeMap<Module, String>) -> Vec<String> {
    let known: BTreeMap<&Module, BTreeSet<&Module>> = files
        .iter()
        .map(|(module, text)| {
            let named = paths(module, text).into_iter().filter_map(|path| {
                let longest = (1..=path.len()).rev().find_map(|n| files.get_key_value(&path[..n]));
                longest.map(|(module, _)| module)
            });
            let apart = |one: &&Module| !module.starts_with(one) && !one.starts_with(module);
            (module, named.filter(apart).collect())
        })
        .collect();
    let leads_back = |start: &&Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
        while let Some(module) = next.pop() {
            next.extend(known[module].iter().filter(|one| seen.insert(**one)));
        }
        seen.contains(*start)
    };
    known.keys().copied().filter(leads_back).map(|module| module.join("::")).collect()
}

/// The paths from `crate` and `super` that `text` names, each part of a list in braces as one.
fn paths(module: &Module, text: &str) -> Vec<Module> {
    let code: String = code_lines(text).map(|(_, line)| line.to_owned() + "\n").collect();
    let mut found = Vec::new();
    for (root, base) in [("crate::", &[][..]), ("super::", &module[..module.len() - 1])] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let (mut path, mut rest) = (base.to_vec(), &code[at + root.len()..]);
            while let Some(above) = rest.strip_prefix("super::") {
                path.pop();
                rest = above;
            }
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let (named, list) = rest.split_at(end.unwrap_or(rest.len()));
            path.extend(parts(named.trim_end_matches("::")));
            match list.strip_prefix('{').and_then(|list| list.split_once('}')) {
                Some((list, _)) if named.is_empty() || named.ends_with("::") => {
                    let full = |one: &str| [path.clone(), parts(one.trim())].concat();
                    found.extend(list.split(',').map(full));
                }
                _ => found.push(path),
            }
        }
    }
    found
}

fn parts(path: &str) -> Module {
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

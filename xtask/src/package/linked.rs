//! The crates that are linked into library and command: their licences, and the list of them in the
//! form that tools read (CycloneDX).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use test_kit::command::answer;
use test_kit::{Result, artefacts, files};

use crate::build::cargo;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How a file with a licence begins.
const LICENCES: &[&str] = &["license", "licence", "copying", "notice", "unlicense"];

/// The package itself and what is linked into it.
pub(super) struct Linked(Vec<Crate>);

struct Crate {
    name: String,
    version: String,
    licence: String,
    folder: PathBuf,
    /// The names of those it needs, with their versions.
    needs: BTreeSet<String>,
    /// The SHA-256 of what the registry has.
    checksum: Option<String>,
}

impl Linked {
    pub(super) fn read() -> Result<Self> {
        let linked = names()?;
        let mut metadata = cargo(&["metadata", "--format-version=1", "--locked"]);
        metadata.args(["--filter-platform", TARGET]);
        let all: Value = serde_json::from_str(&answer(&mut metadata)?.ok()?)
            .map_err(|error| error.to_string())?;
        let checksums = checksums()?;
        let mut of_id = BTreeMap::new();
        for package in list(&all["packages"]) {
            let found = Crate::of(package, &checksums);
            if linked.contains(&found.label()) {
                of_id.insert(text(&package["id"]), found);
            }
        }
        if of_id.len() != linked.len() {
            return Err(format!("{} crates of {} are known", of_id.len(), linked.len()).into());
        }
        let labels: BTreeMap<_, _> =
            of_id.iter().map(|(id, found)| (id.clone(), found.label())).collect();
        for node in list(&all["resolve"]["nodes"]) {
            if let Some(found) = of_id.get_mut(&text(&node["id"])) {
                let needs = list(&node["deps"]).filter(|dependency| is_normal(dependency));
                found.needs =
                    needs.filter_map(|to| labels.get(&text(&to["pkg"])).cloned()).collect();
            }
        }
        let mut crates: Vec<_> = of_id.into_values().collect();
        crates.sort_by_key(|found| (found.name != "keyward", found.label()));
        Ok(Self(crates))
    }

    /// Who has which licence, and each text once.
    pub(super) fn licences(&self) -> Result<String> {
        let mut out = "The crates that are linked into keyward's library and command, then the texts of \
                       their\nlicences. Of the Rust standard library, which is linked as well, the licence \
                       is MIT OR\nApache-2.0.\n\n"
            .to_owned();
        let mut texts: Vec<(String, Vec<String>)> = Vec::new();
        for found in &self.0[1..] {
            let own = found.texts()?;
            let none = if own.is_empty() { " (comes without the text)" } else { "" };
            out += &format!("{}: {}{none}\n", found.label(), found.licence);
            for text in own {
                match texts.iter_mut().find(|(known, _)| *known == text) {
                    Some((_, of)) => of.push(found.label()),
                    None => texts.push((text, vec![found.label()])),
                }
            }
        }
        for (text, of) in texts {
            out += &format!("\n{}\n{}\n\n{text}\n", "=".repeat(100), of.join(", "));
        }
        Ok(out)
    }

    /// A CycloneDX document, made at `time`.
    pub(super) fn sbom(&self, time: &str) -> Result<String> {
        let parts: Vec<_> = self.0[1..].iter().map(Crate::component).collect();
        let needs: Vec<_> = self.0.iter().map(Crate::dependencies).collect();
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "timestamp": time, "component": self.0[0].component() },
            "components": parts,
            "dependencies": needs,
        });
        Ok(format!("{document:#}\n"))
    }
}

impl Crate {
    fn of(package: &Value, checksums: &BTreeMap<String, String>) -> Self {
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        Self {
            // An older way to write it.
            licence: text(&package["license"])
                .split('/')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" OR "),
            folder: manifest.parent().map(Path::to_path_buf).unwrap_or_default(),
            needs: BTreeSet::new(),
            checksum: checksums.get(&format!("{name} {version}")).cloned(),
            name,
            version,
        }
    }

    fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The texts of its licences, as it has them.
    fn texts(&self) -> Result<Vec<String>> {
        let is_licence = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            file.is_file() && LICENCES.iter().any(|begin| name.starts_with(begin))
        };
        let found = files::list(&self.folder).into_iter().filter(is_licence);
        let tidy = |text: String| -> String {
            text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>()
        };
        found.map(|file| Ok(tidy(files::text(&file)?).trim_matches('\n').to_owned())).collect()
    }

    fn component(&self) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": purl(&self.label()),
            "name": self.name,
            "version": self.version,
            "purl": purl(&self.label()),
            "licenses": [{ "expression": self.licence }],
        });
        if let Some(checksum) = &self.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    }

    fn dependencies(&self) -> Value {
        let needs: Vec<_> = self.needs.iter().map(|label| purl(label)).collect();
        json!({ "ref": purl(&self.label()), "dependsOn": needs })
    }
}

/// Of `name version` the address that tools look it up by.
fn purl(label: &str) -> String {
    format!("pkg:cargo/{}", label.replace(' ', "@"))
}

/// `name version` of all that is linked: what cargo would build, and no macro.
fn names() -> Result<BTreeSet<String>> {
    let mut tree = cargo(&["tree", "--locked", "--package", "keyward", "--prefix", "none"]);
    tree.args(["--edges", "normal,no-proc-macro", "--target", TARGET]);
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
    };
    Ok(answer(&mut tree)?.ok()?.lines().filter_map(name).collect())
}

/// From the lock file, by `name version`.
fn checksums() -> Result<BTreeMap<String, String>> {
    let lock = files::text(&artefacts::repository().join("Cargo.lock"))?;
    let entry = |block: &str| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")))?;
            Some(line.trim_matches('"').to_owned())
        };
        Some((format!("{} {}", field("name")?, field("version")?), field("checksum")?))
    };
    Ok(lock.split("[[package]]").filter_map(entry).collect())
}

/// Whether a crate is linked for this dependency, not for a test or a build script.
fn is_normal(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_is_linked_with_its_licences() -> Result<()> {
        let linked = Linked::read()?;
        let names: Vec<_> = linked.0.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names[0], "keyward");
        assert!(["ring", "rustls", "aws-sdk-kms"].iter().all(|name| names.contains(name)));
        // A test's crate, and a macro.
        assert!(!names.contains(&"tempfile") && !names.contains(&"serde_derive"));
        assert!(linked.0.iter().all(|found| !found.licence.is_empty()));
        assert!(linked.0[1..].iter().all(|found| found.checksum.is_some()));
        let licences = linked.licences()?;
        assert!(licences.contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION"));
        let document: Value = serde_json::from_str(&linked.sbom("2026-01-01T00:00:00Z")?).unwrap();
        assert_eq!(list(&document["components"]).count(), names.len() - 1);
        let root = &document["dependencies"][0];
        assert!(list(&root["dependsOn"]).any(|needs| text(needs).starts_with("pkg:cargo/ring@")));
        Ok(())
    }
}

//! What a server's option files say of its encryption plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
#[cfg(feature = "aws-kms")]
use std::time::Duration;

#[cfg(feature = "aws-kms")]
use crate::assemble::AwsKeyFiles;
use crate::assemble::KeyFile;
use crate::error::{Error, Kind, Result};
use crate::key::PageMode;

/// How deep `!include` may lead.
const MAX_DEPTH: usize = 10;

/// The longest option file, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// The sections that the server reads; each also with a version behind it, such as `mariadb-10.11`.
const SECTIONS: [&str; 6] = ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"];

/// The plugin whose keys can be taken over.
const PLUGIN: &str = "file_key_management";

/// The plugin whose keys are files that AWS KMS opens.
#[cfg(feature = "aws-kms")]
const AWS: &str = "aws_key_management";

/// Where the server keeps its data when no option says so.
#[cfg(feature = "aws-kms")]
const DEFAULT_DATADIR: &str = "/var/lib/mysql";

/// Plugins whose keys lie in key stores that come with their own providers.
const LATER: [&str; 2] = ["hashicorp_key_management", "aws_key_management"];

/// The options of the encryption plugins, the last of a name counting, as for the server.
pub(super) struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads the option file at `path` and what it includes.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut options = Self(BTreeMap::new());
        options.add(path, 0)?;
        Ok(options)
    }

    /// The key file that they describe.
    pub(super) fn key_file(&self, path: &Path) -> Result<KeyFile> {
        let refused = |what: String, advice: &str| {
            let what = format!("{}: {what}", path.display());
            Err(Error::new(Kind::Config, what).advise(advice))
        };
        let Some(filename) = self.get("filename").filter(|name| !name.is_empty()) else {
            let others =
                LATER.into_iter().find(|name| self.0.keys().any(|key| key.starts_with(name)));
            return match others {
                Some(plugin) => {
                    let what = format!("it configures {plugin}, whose keys cannot be imported yet");
                    refused(what, "this release imports from file_key_management only")
                }
                None => refused(
                    format!("there is no {PLUGIN}_filename in it"),
                    "name the option file that configures the plugin",
                ),
            };
        };
        if Path::new(filename).is_relative() {
            let what = format!("{PLUGIN}_filename: {filename:?} is not an absolute path");
            return refused(what, "the server reads it from its data folder: write the whole path");
        }
        let rounds = self.get("use_pbkdf2").unwrap_or("0");
        let Ok(use_pbkdf2) = rounds.parse() else {
            return refused(format!("{PLUGIN}_use_pbkdf2 is no number"), "write the iterations");
        };
        let encryption = match self.get("encryption_algorithm").map(str::to_ascii_lowercase) {
            None => PageMode::Cbc,
            Some(word) if word == "aes_cbc" || word == "0" => PageMode::Cbc,
            Some(word) if word == "aes_ctr" || word == "1" => PageMode::Ctr,
            Some(word) => {
                let what = format!("{PLUGIN}_encryption_algorithm: {word:?} is not one");
                return refused(what, "it is aes_cbc or aes_ctr");
            }
        };
        Ok(KeyFile {
            filename: filename.to_owned(),
            filekey: self.get("filekey").map(str::to_owned),
            digest: self.get("digest").unwrap_or("sha1").to_ascii_lowercase(),
            use_pbkdf2,
            encryption,
        })
    }

    /// The key files of `aws_key_management` that they describe; nothing where they configure another
    /// plugin.
    #[cfg(feature = "aws-kms")]
    pub(super) fn aws_key_files(&self, path: &Path) -> Result<Option<AwsKeyFiles>> {
        if !self.0.keys().any(|key| key.starts_with(AWS)) || self.get("filename").is_some() {
            return Ok(None);
        }
        let refused = |what: &str, advice: &str| {
            let what = format!("{}: {what}", path.display());
            Err(Error::new(Kind::Config, what).advise(advice))
        };
        let option = |name: &str| {
            let value = self.0.get(&format!("{AWS}_{name}"));
            value.filter(|value| !value.is_empty()).cloned()
        };
        let folder = PathBuf::from(self.0.get("datadir").map_or(DEFAULT_DATADIR, String::as_str));
        if folder.is_relative() {
            return refused("datadir: it is not an absolute path", "write the whole path");
        }
        let timeout = option("request_timeout").unwrap_or_else(|| "0".to_owned());
        let Ok(timeout) = timeout.parse().map(Duration::from_millis) else {
            return refused(&format!("{AWS}_request_timeout is no number"), "write milliseconds");
        };
        Ok(Some(AwsKeyFiles {
            folder,
            master_key_id: option("master_key_id").unwrap_or_default(),
            region: option("region"),
            endpoint_url: option("endpoint_url"),
            // Of new keys, and none is made.
            key_len: 16,
            timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        }))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("{PLUGIN}_{name}")).map(String::as_str)
    }

    fn add(&mut self, path: &Path, depth: usize) -> Result<()> {
        let failed = |cause: &std::io::Error| Error::io("cannot read the option file", path, cause);
        if std::fs::metadata(path).map_err(|cause| failed(&cause))?.len() > MAX_LEN {
            let what = format!("{} is too long for an option file", path.display());
            return Err(Error::new(Kind::Config, what));
        }
        let text = std::fs::read(path).map_err(|cause| failed(&cause))?;
        let mut ours = false;
        for line in String::from_utf8_lossy(&text).lines() {
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("!includedir") {
                for file in option_files(Path::new(rest.trim()))? {
                    self.include(&file, depth)?;
                }
            } else if let Some(rest) = line.strip_prefix("!include") {
                self.include(Path::new(rest.trim()), depth)?;
            } else if let Some(section) = line.strip_prefix('[') {
                ours = is_servers(section.split(']').next().unwrap_or_default().trim());
            } else if ours && !line.starts_with(['#', ';']) {
                self.option(line);
            }
        }
        Ok(())
    }

    fn include(&mut self, path: &Path, depth: usize) -> Result<()> {
        if depth == MAX_DEPTH {
            let what = format!("{}: option files include each other too deep", path.display());
            return Err(Error::new(Kind::Config, what));
        }
        self.add(path, depth + 1)
    }

    fn option(&mut self, line: &str) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = name.trim().replace('-', "_");
        let name = name.strip_prefix("loose_").unwrap_or(&name);
        if name == "datadir"
            || name.starts_with(PLUGIN)
            || LATER.iter().any(|other| name.starts_with(other))
        {
            self.0.insert(name.to_owned(), plain_value(value.trim()).to_owned());
        }
    }
}

fn is_servers(section: &str) -> bool {
    let rest_is_version = |rest: &str| {
        rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    SECTIONS.iter().any(|name| {
        section.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest_is_version(rest))
    })
}

/// A value without its quotes and without a remark behind it.
fn plain_value(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some(end) = rest.find(quote)
        {
            return &rest[..end];
        }
    }
    value.split(" #").next().unwrap_or_default().split("\t#").next().unwrap_or_default().trim()
}

/// The option files of a folder, in the order the server reads them.
fn option_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |cause: std::io::Error| Error::io("cannot list", folder, &cause);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "cnf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(text: &str) -> Result<KeyFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        std::fs::write(&path, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        let included = "[mariadb-10.11]\nfile_key_management_use_pbkdf2 = 1000\n";
        std::fs::write(folder.path().join("conf.d/a.cnf"), included).unwrap();
        Options::read(&path)?.key_file(Path::new("my.cnf"))
    }

    fn refused(text: &str) -> String {
        key_file(text).err().unwrap().to_string()
    }

    #[test]
    fn reads_what_the_guides_write() {
        let file = key_file(
            "[client]\nfile_key_management_filename = /wrong\n[mysqld]\n# keys\nplugin_load_add = \
             file_key_management\nfile-key-management-filename = \"/etc/mysql/keys.enc\" # here\n\
             loose_file_key_management_filekey=FILE:/etc/mysql/pw\n\
             file_key_management_encryption_algorithm = AES_CTR\n\
             file_key_management_digest = sha256 # as openssl\n!includedir DIR/conf.d\n",
        )
        .unwrap();
        assert_eq!(file.filename, "/etc/mysql/keys.enc");
        assert_eq!(file.filekey.as_deref(), Some("FILE:/etc/mysql/pw"));
        assert_eq!((file.digest.as_str(), file.use_pbkdf2), ("sha256", 1000));
        assert_eq!(file.encryption, PageMode::Ctr);
    }

    #[test]
    fn has_the_servers_defaults() {
        let file = key_file("[mariadb]\nfile_key_management_filename=/k\n").unwrap();
        assert_eq!((file.digest.as_str(), file.use_pbkdf2), ("sha1", 0));
        assert_eq!(file.encryption, PageMode::Cbc);
        assert!(file.filekey.is_none());
    }

    #[cfg(feature = "aws-kms")]
    #[test]
    fn reads_what_the_guides_write_for_aws() {
        let files = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("my.cnf");
            std::fs::write(&path, text).unwrap();
            Options::read(&path).unwrap().aws_key_files(Path::new("my.cnf"))
        };
        let found = files(
            "[mysqld]\ndatadir=/srv/db\nplugin-load-add=aws_key_management.so\n\
             aws-key-management-master-key-id = 'alias/mariadb'\naws_key_management_region=eu-west-1\n\
             aws_key_management_key_spec = AES_256\naws_key_management_request_timeout = 2500\n",
        );
        let found = found.unwrap().unwrap();
        assert_eq!(
            (found.folder, found.master_key_id.as_str()),
            ("/srv/db".into(), "alias/mariadb")
        );
        assert_eq!(found.region.as_deref(), Some("eu-west-1"));
        assert_eq!(found.timeout, Some(Duration::from_millis(2500)));
        let found = files("[mysqld]\naws_key_management_master_key_id=k\n").unwrap().unwrap();
        assert_eq!((found.folder, found.timeout), ("/var/lib/mysql".into(), None));
        assert!(files("[mysqld]\nfile_key_management_filename=/k\n").unwrap().is_none());
        let relative = files("[mysqld]\naws_key_management_region=x\ndatadir=data\n");
        assert!(relative.err().unwrap().to_string().contains("not an absolute path"));
        let number = files("[mysqld]\naws_key_management_request_timeout=soon\n");
        assert!(number.err().unwrap().to_string().contains("write milliseconds"));
    }

    #[test]
    fn says_what_cannot_be_imported_and_why() {
        assert_eq!(
            refused("[mariadb]\nhashicorp_key_management_vault_url = https://x/v1/m\n"),
            "my.cnf: it configures hashicorp_key_management, whose keys cannot be imported yet; \
             this release imports from file_key_management only"
        );
        assert!(refused("[mariadb]\nport=3306\n").contains("no file_key_management_filename"));
        assert!(refused("[mysqld]\nfile_key_management_filename=keys.txt\n").contains("absolute"));
        assert!(refused("!include DIR/my.cnf\n").contains("too deep"));
        assert!(refused("!include DIR/none.cnf\n").contains("cannot read the option file"));
        let algorithm = "[mysqld]\nfile_key_management_filename=/k\n\
                         file_key_management_encryption_algorithm=des\n";
        assert!(refused(algorithm).contains("\"des\" is not one; it is aes_cbc or aes_ctr"));
    }
}

//! What a server's option files say of its encryption plugin.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{IMPORTED, Original};
use crate::error::{Error, Kind, Result};
use crate::trust;

/// How deep `!include` may lead.
const MAX_DEPTH: usize = 10;

/// The longest option file, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// The sections that the server reads; each also with a version behind it, such as `mariadb-10.11`.
pub const SECTIONS: [&str; 6] =
    ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"];

/// The option file that a distribution's server reads, and what else is common.
const OPTION_FILES: [&str; 2] = ["/etc/mysql/my.cnf", "/etc/my.cnf"];

/// Where the server keeps its data when no option says so.
const DEFAULT_DATADIR: &str = "/var/lib/mysql";

/// Where this machine's server keeps its data, by its option file.
pub fn default_datadir() -> PathBuf {
    let named = OPTION_FILES.iter().find_map(|path| {
        let options = Options::read(Path::new(path)).ok()?;
        options.0.get("datadir").map(PathBuf::from).filter(|path| path.is_absolute())
    });
    named.unwrap_or_else(|| DEFAULT_DATADIR.into())
}

/// The account that the server's own option files have it run as, where they say and are root's.
pub fn server_user() -> Option<String> {
    let files = OPTION_FILES.iter().filter_map(|path| Options::read(Path::new(path)).ok());
    files.filter_map(|options| options.0.get("user").cloned()).next_back()
}

/// What `text`, which came from `path`, says of the server's encryption plugin. Files that it includes
/// are not read.
pub fn parse(path: &Path, text: &[u8]) -> Result<Original> {
    let mut options = Options(BTreeMap::new());
    options.add_lines(text, &mut |_, _| Ok(()))?;
    Original::configured(&options, path)
}

/// The options of the encryption plugins, the last of a name counting, as for the server.
pub struct Options(BTreeMap<String, String>);

/// What a line of an option file has read in its place.
enum Include<'a> {
    File(&'a Path),
    Folder(&'a Path),
}

impl Options {
    /// Reads the option file at `path` and what it includes.
    pub fn read(path: &Path) -> Result<Self> {
        let mut options = Self(BTreeMap::new());
        options.add(path, 0)?;
        Ok(options)
    }

    /// Whether it has any option of `plugin`.
    pub(super) fn has_any(&self, plugin: &str) -> bool {
        self.0.keys().any(|key| key.starts_with(plugin))
    }

    /// Where the server keeps its data.
    #[cfg(feature = "aws-kms")]
    pub(super) fn datadir(&self) -> PathBuf {
        PathBuf::from(self.0.get("datadir").map_or(DEFAULT_DATADIR, String::as_str))
    }

    /// The value of an option of `plugin`.
    pub(super) fn get(&self, plugin: &str, name: &str) -> Option<&str> {
        self.0.get(&format!("{plugin}_{name}")).map(String::as_str)
    }

    fn add(&mut self, path: &Path, depth: usize) -> Result<()> {
        self.add_lines(&read(path)?, &mut |options, included| match included {
            Include::File(file) => options.include(file, depth),
            Include::Folder(folder) => {
                option_files(folder)?.iter().try_for_each(|file| options.include(file, depth))
            }
        })
    }

    fn add_lines(
        &mut self,
        text: &[u8],
        include: &mut dyn FnMut(&mut Self, Include<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut ours = false;
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("!includedir") {
                include(self, Include::Folder(Path::new(rest.trim())))?;
            } else if let Some(rest) = line.strip_prefix("!include") {
                include(self, Include::File(Path::new(rest.trim())))?;
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
        let is_ours = IMPORTED.iter().any(|plugin| name.starts_with(plugin));
        if is_ours || name == "datadir" || name == "user" {
            self.0.insert(name.to_owned(), plain_value(value.trim()).to_owned());
        }
    }
}

/// The whole of an option file.
fn read(path: &Path) -> Result<Vec<u8>> {
    trust::read(path, MAX_LEN).map_err(|refusal| refusal.of("cannot read the option file", path))
}

pub(super) fn refused<T>(path: &Path, what: String, advice: &str) -> Result<T> {
    Err(Error::new(Kind::Config, format!("{}: {what}", path.display())).advise(advice))
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
    #[cfg(feature = "aws-kms")]
    use std::time::Duration;

    use super::super::file_key_management::KeyFile;
    use super::super::hashicorp_key_management::HashicorpLogin;
    use super::*;
    use crate::key::PageMode;

    fn original(text: &str) -> Result<Original> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        std::fs::write(&path, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        let included = "[mariadb-10.11]\nfile_key_management_use_pbkdf2 = 1000\n";
        std::fs::write(folder.path().join("conf.d/a.cnf"), included).unwrap();
        Original::configured(&Options::read(&path)?, Path::new("my.cnf"))
    }

    fn key_file(text: &str) -> Result<KeyFile> {
        match original(text)? {
            Original::KeyFile(file) => Ok(file),
            _ => panic!("no key file was read"),
        }
    }

    fn refused(text: &str) -> String {
        original(text).err().unwrap().to_string()
    }

    #[test]
    fn reads_where_vault_is() {
        let text = "[mariadb]\nhashicorp-key-management-vault-url = \"https://v:8200/v1/m\"\n\
                    hashicorp_key_management_vault_ca=/ca.pem\n\
                    loose-hashicorp_key_management_token=hunter2\n";
        let Original::Vault(vault) = original(text).unwrap() else { panic!("no Vault was read") };
        assert_eq!(vault.url, "https://v:8200/v1/m");
        assert_eq!(vault.ca.as_deref(), Some(Path::new("/ca.pem")));
        let HashicorpLogin::Token(token) = vault.login else { panic!("no token was read") };
        assert_eq!(token.read(64).unwrap().expose(), b"hunter2");
        let text = "[mysqld]\nhashicorp_key_management_vault_url=https://v:8200\n\
                    hashicorp_key_management_vault_mount=kv\n\
                    hashicorp_key_management_vault_prefix=db1\n\
                    hashicorp_key_management_role_id=me\n\
                    hashicorp_key_management_secret_id=FILE:/etc/mysql/secret-id\n";
        let Original::Vault(vault) = original(text).unwrap() else { panic!("no Vault was read") };
        assert_eq!((vault.mount.as_deref(), vault.prefix.as_deref()), (Some("kv"), Some("db1")));
        let HashicorpLogin::AppRole { role_id, secret_id } = vault.login else { panic!("no role") };
        assert_eq!(
            (role_id.as_str(), secret_id.to_string().as_str()),
            ("me", "/etc/mysql/secret-id")
        );
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
        let files = |text: &str| match original(text).unwrap() {
            Original::Aws(files) => files,
            _ => panic!("no key files were read"),
        };
        let found = files(
            "[mysqld]\ndatadir=/srv/db\nplugin-load-add=aws_key_management.so\n\
             aws-key-management-master-key-id = 'alias/mariadb'\naws_key_management_region=eu-west-1\n\
             aws_key_management_key_spec = AES_256\naws_key_management_request_timeout = 2500\n",
        );
        assert_eq!(
            (found.folder, found.master_key_id.as_str()),
            ("/srv/db".into(), "alias/mariadb")
        );
        assert_eq!(found.region.as_deref(), Some("eu-west-1"));
        assert_eq!(found.timeout, Some(Duration::from_millis(2500)));
        let found = files("[mysqld]\naws_key_management_master_key_id=k\n");
        assert_eq!((found.folder, found.timeout), ("/var/lib/mysql".into(), None));
        let folder = |dir: &str| {
            files(&format!("[mysqld]\ndatadir=/srv/db\naws_key_management_keyfile_dir={dir}\n"))
                .folder
        };
        assert_eq!(
            [folder("/srv/keys"), folder("keys")],
            ["/srv/keys", "/srv/db/keys"].map(PathBuf::from)
        );
        let relative = refused("[mysqld]\naws_key_management_region=x\ndatadir=data\n");
        assert!(relative.contains("not an absolute path"), "{relative}");
        let number = refused("[mysqld]\naws_key_management_request_timeout=soon\n");
        assert!(number.contains("write milliseconds"), "{number}");
    }

    #[test]
    fn says_what_cannot_be_imported_and_why() {
        assert!(refused("[mariadb]\nport=3306\n").contains("no file_key_management_filename"));
        let both = "[mysqld]\nfile_key_management_filename=/k\n\
                    hashicorp_key_management_vault_url=https://x/v1/m\n";
        assert!(refused(both).contains("both"));
        assert!(refused("[mysqld]\nfile_key_management_filename=keys.txt\n").contains("absolute"));
        assert!(refused("!include DIR/my.cnf\n").contains("too deep"));
        assert!(refused("!include DIR/none.cnf\n").contains("cannot read the option file"));
        assert!(refused("!include /dev/zero\n").contains("/dev/zero is not a regular file"));
        let algorithm = "[mysqld]\nfile_key_management_filename=/k\n\
                         file_key_management_encryption_algorithm=des\n";
        assert!(refused(algorithm).contains("\"des\" is not one; it is aes_cbc or aes_ctr"));
    }
}

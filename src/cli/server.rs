//! What the running server says, asked through its own client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::key::{KeyId, KeyVersion};

/// How to reach the server.
#[derive(clap::Args, Default)]
#[group(skip)]
pub(super) struct Options {
    /// The server's socket [default: the client's own configuration]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

/// What matters to us of a running server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    /// `ACTIVE` where the plugin is loaded and started.
    pub(super) plugin: Option<String>,
    /// `FORCE_PLUS_PERMANENT` and the like.
    pub(super) load_option: String,
    /// `innodb_encryption_threads`.
    pub(super) threads: u32,
    /// `innodb_encrypt_tables`.
    pub(super) encrypt_tables: String,
    /// `innodb_encryption_rotate_key_age`.
    pub(super) rotate_key_age: u32,
    /// `Keyward_generation`.
    pub(super) generation: Option<u64>,
    /// `Keyward_restart_safe` and its reason.
    pub(super) restart: Option<(String, String)>,
}

const QUERY: &str = "\
    select 'plugin', plugin_status, load_option from information_schema.plugins \
        where plugin_name = 'keyward'; \
    select 'age', @@innodb_encryption_rotate_key_age, ''; \
    select 'threads', @@innodb_encryption_threads, ''; \
    select 'tables', @@innodb_encrypt_tables, ''; \
    select 'generation', variable_value, '' from information_schema.global_status \
        where variable_name = 'KEYWARD_GENERATION'; \
    select 'restart', safe.variable_value, reason.variable_value \
        from information_schema.global_status safe join information_schema.global_status reason \
        where safe.variable_name = 'KEYWARD_RESTART_SAFE' \
            and reason.variable_name = 'KEYWARD_RESTART_SAFE_REASON'";

/// One tablespace, as the server sees its encryption.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// `schema/table`, or `innodb_system` and the like.
    pub(super) name: String,
    /// What cannot be read as a number may be any.
    key_id: Option<u32>,
    min_version: u32,
}

/// What the server says of the keys it needs, and where its files are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// `datadir`.
    pub(super) datadir: PathBuf,
    /// Where else it keeps files that need keys.
    pub(super) folders: Vec<PathBuf>,
    /// The encrypted tablespaces.
    pub(super) spaces: Vec<Space>,
}

const NEEDS_QUERY: &str = "\
    select 'datadir', @@datadir, '', ''; \
    select 'folder', variable_value, '', '' from information_schema.global_variables \
        where variable_name in ('INNODB_DATA_HOME_DIR', 'INNODB_LOG_GROUP_HOME_DIR', \
            'INNODB_UNDO_DIRECTORY') and variable_value like '/%'; \
    select 'log', variable_value, '', '' from information_schema.global_variables \
        where variable_name in ('LOG_BIN_BASENAME', 'RELAY_LOG_BASENAME') \
            and variable_value like '/%'; \
    select 'space', current_key_id, min_key_version, name \
        from information_schema.innodb_tablespaces_encryption where encryption_scheme <> 0 or min_key_version <> 0";

/// Asks the server what it needs; `Err` holds the client's own words.
pub(super) fn ask_needs(options: &Options) -> Result<Needs, String> {
    query(options, NEEDS_QUERY).map(|text| Needs::parse(&text))
}

/// Asks the server; `Err` holds the client's own words.
pub(super) fn ask(options: &Options) -> Result<Server, String> {
    query(options, QUERY).map(|text| Server::parse(&text))
}

/// What the client prints for `text`, a line a row, tabs between columns.
pub(super) fn query(options: &Options, text: &str) -> Result<String, String> {
    query_with("mariadb", options, text)
}

/// The same by the client called `program`.
pub(super) fn query_with(program: &str, options: &Options, text: &str) -> Result<String, String> {
    let mut client = Command::new(program);
    if let Some(socket) = &options.socket {
        client.arg(format!("--socket={}", socket.display()));
    }
    let answer = client
        .args(["--batch", "--skip-column-names", "--connect-timeout=5", "-e", text])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("the {program} client cannot be run: {e}"))?;
    if !answer.status.success() {
        let words = String::from_utf8_lossy(&answer.stderr);
        return Err(words.lines().next().unwrap_or("the client gave no reason").to_owned());
    }
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

impl Space {
    /// Whether a page of it may be encrypted with this version.
    pub(super) fn may_need(&self, id: KeyId, version: KeyVersion) -> bool {
        self.key_id.is_none_or(|own| own == id.get()) && self.min_version <= version.get()
    }
}

impl Needs {
    fn parse(text: &str) -> Self {
        let mut needs = Self::default();
        for line in text.lines() {
            let cells: Vec<_> = line.split('\t').collect();
            let [name, value, version, space] = cells.as_slice() else { continue };
            match *name {
                "datadir" => needs.datadir = value.into(),
                "folder" => needs.folders.push(value.into()),
                "log" => needs.folders.extend(Path::new(value).parent().map(Path::to_owned)),
                "space" => needs.spaces.push(Space {
                    name: (*space).to_owned(),
                    key_id: value.parse().ok(),
                    min_version: version.parse().unwrap_or(0),
                }),
                _ => {}
            }
        }
        needs
    }
}

impl Server {
    fn parse(text: &str) -> Self {
        let mut server = Self::default();
        for line in text.lines() {
            let mut cells = line.split('\t');
            let (name, value) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
            match name {
                "plugin" => {
                    server.plugin = Some(value.to_owned());
                    server.load_option = cells.next().unwrap_or("").to_owned();
                }
                "age" => server.rotate_key_age = value.parse().unwrap_or(0),
                "threads" => server.threads = value.parse().unwrap_or(0),
                "tables" => server.encrypt_tables = value.to_owned(),
                "generation" => server.generation = value.parse().ok(),
                "restart" => {
                    let reason = cells.next().unwrap_or("").to_owned();
                    server.restart = Some((value.to_owned(), reason));
                }
                _ => {}
            }
        }
        server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_server_needs() {
        let text = "datadir\t/var/lib/mysql/\t\t\nlog\t/var/log/mysql/bin\t\t\n\
                    space\t4\t3\tt/one\nspace\t?\t9\tt/two\n";
        let needs = Needs::parse(text);
        assert_eq!(needs.datadir, Path::new("/var/lib/mysql/"));
        assert_eq!(needs.folders, [Path::new("/var/log/mysql")]);
        let may_need = |id: u32, version: u32| {
            let (id, version) = (id.try_into().unwrap(), version.try_into().unwrap());
            needs.spaces.iter().map(|space| space.may_need(id, version)).collect::<Vec<_>>()
        };
        assert_eq!(may_need(4, 2), [false, false]);
        assert_eq!(may_need(4, 3), [true, false]);
        assert_eq!(may_need(5, 9), [false, true]);
    }

    #[test]
    fn reads_the_clients_table() {
        let text = "plugin\tACTIVE\tFORCE_PLUS_PERMANENT\nage\t1\t\nthreads\t4\t\ntables\tON\t\ngeneration\t7\t\n\
                    restart\tno\tno key file\n";
        let server = Server::parse(text);
        assert_eq!(server.plugin.as_deref(), Some("ACTIVE"));
        assert_eq!(server.load_option, "FORCE_PLUS_PERMANENT");
        assert_eq!((server.threads, server.rotate_key_age), (4, 1));
        assert_eq!(server.encrypt_tables, "ON");
        assert_eq!(server.generation, Some(7));
        assert_eq!(server.restart, Some(("no".to_owned(), "no key file".to_owned())));
    }
}

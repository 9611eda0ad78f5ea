//! What the running server says, asked through its own client.

#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::cli::helpers::privilege;
pub(in crate::cli) use crate::cli::helpers::reach::Options;
use crate::key::{KeyId, KeyVersion};
use crate::trust;

/// The longest answer of a server, in bytes.
const MAX_ANSWER: u64 = 32 << 20;

/// The longest complaint of a client, in bytes.
const MAX_WORDS: u64 = 1 << 16;

/// How long one answer may take: the server's socket may be a stranger's, who gives none.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a rotation may take: the server writes the header of every tablespace.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// Where clients are, whatever PATH says.
const FOLDERS: &[&str] = &["/usr/bin", "/usr/local/bin"];

/// What `running` reads. Columns that are not needed are empty.
const SERVER_QUERY: &str = "\
    select 'plugin', plugin_name, plugin_status, load_option, \
            plugin_name = 'keyward' or plugin_description like '%(keyward)%' \
        from information_schema.plugins where plugin_type = 'ENCRYPTION'; \
    select 'variable', lower(variable_name), variable_value, '', '' \
        from information_schema.global_variables where variable_name in ('INNODB_ENCRYPTION_THREADS', \
            'INNODB_ENCRYPT_TABLES', 'INNODB_ENCRYPTION_ROTATE_KEY_AGE', 'INNODB_ENCRYPT_LOG', \
            'ARIA_ENCRYPT_TABLES', 'ENCRYPT_BINLOG', 'ENCRYPT_TMP_DISK_TABLES', 'ENCRYPT_TMP_FILES', \
            'INNODB_DOUBLEWRITE', 'LOG_BIN', 'BINLOG_STORAGE_ENGINE', 'DATADIR'); \
    select 'status', lower(variable_name), variable_value, '', '' \
        from information_schema.global_status where variable_name in ('KEYWARD_GENERATION', \
            'KEYWARD_VERSION', 'KEYWARD_LIBRARY_REPLACED', 'KEYWARD_MEMORY_LOCKED', \
            'KEYWARD_RESTART_SAFE', 'KEYWARD_RESTART_SAFE_REASON')";

/// One tablespace, as the server sees its encryption.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Space {
    /// `schema/table`, or `innodb_system` and the like.
    pub(in crate::cli) name: String,
    /// What cannot be read as a number may be any.
    key_id: Option<u32>,
    min_version: u32,
}

/// What the server says of the keys it needs, and where its files are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Needs {
    /// `datadir`.
    pub(in crate::cli) datadir: PathBuf,
    /// Where else it keeps files that need keys.
    pub(in crate::cli) folders: Vec<PathBuf>,
    /// The encrypted tablespaces.
    pub(in crate::cli) spaces: Vec<Space>,
}

const SPACES_QUERY: &str = "\
    select 'age', @@innodb_encryption_rotate_key_age; \
    select 'threads', @@innodb_encryption_threads; \
    select 'tables', @@innodb_encrypt_tables; \
    select 'space', e.current_key_id, e.min_key_version, e.current_key_version, \
        coalesce(s.file_size div s.page_size, 0), \
        coalesce(cast(e.key_rotation_max_page_number as signed) \
            - cast(e.key_rotation_page_number as signed), -1), \
        coalesce(e.name, '') \
        from information_schema.innodb_tablespaces_encryption e \
        left join information_schema.innodb_sys_tablespaces s on s.space = e.space \
        where e.encryption_scheme = 1 and e.min_key_version > 0";

const STATUS_QUERY: &str = "show global status like 'keyward\\_%'";

const COMPONENT_QUERY: &str = "\
    select status_key, status_value from performance_schema.keyring_component_status; \
    select 'innodb_redo_log_encrypt', if(@@innodb_redo_log_encrypt, 'ON', 'OFF'); \
    select 'innodb_undo_log_encrypt', if(@@innodb_undo_log_encrypt, 'ON', 'OFF'); \
    select 'binlog_encryption', if(@@binlog_encryption, 'ON', 'OFF') where @@log_bin";

const MASTER_KEYS_QUERY: &str = "select @@server_uuid, @@binlog_encryption";

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

/// All that we ever ask of a server. Root asks it for the account, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Question {
    /// How the plugin is loaded, and what moves pages.
    Server = 1,
    /// Which keys it needs, and where its files are.
    Needs = 2,
    /// How far each tablespace is.
    Spaces = 3,
    /// How MySQL's component is loaded.
    Component = 4,
    /// Whose master keys MySQL rotates, and which.
    MasterKeys = 5,
    /// It is to make the next master key of InnoDB.
    RotateInnodb = 6,
    /// It is to make the next master key of the binary log.
    RotateBinlog = 7,
    /// MariaDB's status variables of keyward.
    Status = 8,
}

impl Question {
    /// The question of that number.
    pub(in crate::cli) fn of(number: u8) -> Option<Self> {
        let of_mariadb = [Self::Server, Self::Needs, Self::Spaces, Self::Status];
        let of_mysql = [Self::Component, Self::MasterKeys, Self::RotateInnodb, Self::RotateBinlog];
        of_mariadb.into_iter().chain(of_mysql).find(|one| *one as u8 == number)
    }

    /// Whose client asks it, and in which words.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Server => ("mariadb", SERVER_QUERY),
            Self::Needs => ("mariadb", NEEDS_QUERY),
            Self::Spaces => ("mariadb", SPACES_QUERY),
            Self::Status => ("mariadb", STATUS_QUERY),
            Self::Component => ("mysql", COMPONENT_QUERY),
            Self::MasterKeys => ("mysql", MASTER_KEYS_QUERY),
            Self::RotateInnodb => ("mysql", "alter instance rotate innodb master key"),
            Self::RotateBinlog => ("mysql", "alter instance rotate binlog master key"),
        }
    }

    /// Whether `options` are those of a call that asks so.
    pub(in crate::cli) fn is_for(self, options: &Options) -> bool {
        options.rotates || !matches!(self, Self::RotateInnodb | Self::RotateBinlog)
    }

    /// How long the answer may take.
    fn patience(self) -> Duration {
        match self {
            Self::RotateInnodb | Self::RotateBinlog => LONG_PATIENCE,
            _ => PATIENCE,
        }
    }
}

/// Asks the server what it needs; `Err` holds the client's own words.
pub(in crate::cli) fn ask_needs(options: &Options) -> Result<Needs, String> {
    query(options, Question::Needs).map(|text| Needs::parse(&text))
}

/// What keyward says of itself in the server: in MariaDB its status variables, in MySQL the rows of its
/// component, names as `event::metrics` has them. Nothing where keyward is not in use there.
pub(in crate::cli) fn ask_status(
    options: &Options,
    of_mysql: bool,
) -> Result<Vec<(String, String)>, String> {
    let question = if of_mysql { Question::Component } else { Question::Status };
    let text = query(options, question)?;
    Ok(match of_mysql {
        true if text.lines().any(|line| line == "Component_status\tActive") => {
            text.lines().filter_map(row).collect()
        }
        true => Vec::new(),
        false => text.lines().filter_map(|line| row(line.get("Keyward_".len()..)?)).collect(),
    })
}

fn row(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('\t')?;
    Some((name.to_owned(), value.to_owned()))
}

/// What the client prints for `question`, a line a row, tabs between columns.
pub(in crate::cli) fn query(options: &Options, question: Question) -> Result<String, String> {
    privilege::ask(question, options)
}

/// Has the client ask. It is called by its whole path, and the server, which may be a stranger, can
/// have it read no file and wait no longer than [`Question::patience`].
pub(in crate::cli) fn call_client(question: Question, options: &Options) -> Result<String, String> {
    let (program, text) = question.words();
    let no_client = |e: &dyn std::fmt::Display| format!("the {program} client cannot be run: {e}");
    let path = find_client(program)
        .ok_or_else(|| no_client(&"it is in no folder of PATH that only root can change"))?;
    let mut client = Command::new(path);
    privilege::own_environment(&mut client);
    // The client wants it before all else.
    if let Some(file) = &options.defaults_extra_file {
        client.arg(format!("--defaults-extra-file={}", file.display()));
    }
    if let Some(socket) = &options.socket {
        client.arg(format!("--socket={}", socket.display()));
    }
    client.args(["--batch", "--skip-column-names", "--connect-timeout=5", "--local-infile=0"]);
    answer_of(client.args(["-e", text]), question.patience()).unwrap_or_else(|e| Err(no_client(&e)))
}

/// What `client` prints; `Err` holds its complaint, or ours.
fn answer_of(client: &mut Command, patience: Duration) -> io::Result<Result<String, String>> {
    client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn()?;
    let words = bounded(client.stderr.take(), MAX_WORDS);
    let answer = bounded(client.stdout.take(), MAX_ANSWER).recv_timeout(patience);
    if !matches!(answer, Ok(Some(_))) {
        // It may be gone already.
        let _ = client.kill();
    }
    let status = client.wait()?;
    let words = words.recv_timeout(patience).ok().flatten().unwrap_or_default();
    Ok(match answer {
        Err(_) => Err(format!("the server gave no answer in {patience:?}")),
        Ok(None) => Err(format!("the client says more than {MAX_ANSWER} bytes")),
        Ok(Some(answer)) if status.success() => Ok(answer),
        Ok(Some(_)) => Err(words.lines().next().unwrap_or("the client gave no reason").to_owned()),
    })
}

/// CR_CONNECTION_ERROR (socket) and CR_CONN_HOST_ERROR (host) of the client library.
const NOBODY_THERE: [u32; 2] = [2002, 2003];

/// ER_ACCESS_DENIED_ERROR, ER_SPECIFIC_ACCESS_DENIED_ERROR and ER_ACCESS_DENIED_NO_PASSWORD_ERROR.
const DENIED: [u32; 3] = [1045, 1227, 1698];

/// What both clients say of an option that is not theirs.
const NOT_ITS_OWN: [&str; 2] = ["unknown variable", "unknown option"];

/// Whether the client, which complains in `words`, met nobody.
pub(in crate::cli) fn is_away(words: &str) -> bool {
    error_number(words).is_some_and(|number| NOBODY_THERE.contains(&number))
}

/// What to do about a client that complains in `words`.
pub(in crate::cli) fn advice(words: &str) -> &'static str {
    match error_number(words) {
        Some(number) if DENIED.contains(&number) => {
            "name an option file with the user and password of an account that may, by \
             --defaults-extra-file"
        }
        None if NOT_ITS_OWN.iter().any(|complaint| words.contains(complaint)) => {
            "in the option files, move what is the server's into [mariadb] or [mysqld]: the client \
             reads [client] and [mysql]"
        }
        _ => "start it, or name its socket with --socket",
    }
}

/// The number in a client's complaint: `ERROR 2002 (HY000): ...`.
fn error_number(words: &str) -> Option<u32> {
    let mut parts = words.split(' ');
    parts.next().filter(|word| *word == "ERROR")?;
    parts.next()?.parse().ok()
}

/// Where `program` is that nobody but root, or we, can have put there.
pub(in crate::cli) fn find_client(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    let paths = folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(program));
    paths.into_iter().find(|path| trust::open_code(path).is_ok())
}

/// All of it as text, once it has come; none where it is more than `max` bytes.
fn bounded(from: Option<impl Read + Send + 'static>, max: u64) -> Receiver<Option<String>> {
    let (done, text) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.and_then(|from| from.take(max + 1).read_to_end(&mut bytes).ok());
        let whole = read.is_some() && bytes.len() as u64 <= max;
        done.send(whole.then(|| String::from_utf8_lossy(&bytes).into_owned()))
    });
    text
}

impl Space {
    /// Whether a page of it may be encrypted with this version.
    pub(in crate::cli) fn may_need(&self, id: KeyId, version: KeyVersion) -> bool {
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
    fn a_server_that_gives_no_answer_is_not_waited_for() {
        let ask = |script: &str, patience| {
            answer_of(Command::new("sh").args(["-c", script]), patience).unwrap()
        };
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(200));
        assert_eq!(ask("echo a; echo b >&2", long).unwrap(), "a\n");
        assert_eq!(ask("echo a; echo b >&2; exit 1", long).unwrap_err(), "b");
        let start = std::time::Instant::now();
        assert_eq!(ask("exec sleep 50", short).unwrap_err(), "the server gave no answer in 200ms");
        assert_eq!(ask("yes", long).unwrap_err(), "the client says more than 33554432 bytes");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn each_complaint_of_a_client_has_its_advice() {
        let of = |words: &str| advice(words).split(' ').next().unwrap();
        assert_eq!(of("ERROR 2002 (HY000): Can't connect to local server"), "start");
        assert_eq!(of("ERROR 1045 (28000): Access denied for user"), "name");
        assert_eq!(of("/usr/bin/mariadb: unknown variable 'plugin_load_add=keyward'"), "in");
        assert_eq!(of("mysql: [ERROR] unknown option '--keyward'."), "in");
    }
}

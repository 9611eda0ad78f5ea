//! What the running server says, asked through its own client.

use std::path::PathBuf;
use std::process::{Command, Stdio};

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
    /// `innodb_encryption_rotate_key_age`.
    pub(super) rotate_key_age: u32,
    /// `Keyward_generation`.
    pub(super) generation: Option<u64>,
}

const QUERY: &str = "\
    select 'plugin', plugin_status, load_option from information_schema.plugins \
        where plugin_name = 'keyward'; \
    select 'age', @@innodb_encryption_rotate_key_age, ''; \
    select 'threads', @@innodb_encryption_threads, ''; \
    select 'generation', variable_value, '' from information_schema.global_status \
        where variable_name = 'KEYWARD_GENERATION'";

/// Asks the server; `Err` holds the client's own words.
pub(super) fn ask(options: &Options) -> Result<Server, String> {
    query(options, QUERY).map(|text| Server::parse(&text))
}

/// What the client prints for `text`, a line a row, tabs between columns.
pub(super) fn query(options: &Options, text: &str) -> Result<String, String> {
    let mut client = Command::new("mariadb");
    if let Some(socket) = &options.socket {
        client.arg(format!("--socket={}", socket.display()));
    }
    let answer = client
        .args(["--batch", "--skip-column-names", "--connect-timeout=5", "-e", text])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("the mariadb client cannot be run: {e}"))?;
    if !answer.status.success() {
        let words = String::from_utf8_lossy(&answer.stderr);
        return Err(words.lines().next().unwrap_or("the client gave no reason").to_owned());
    }
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
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
                "generation" => server.generation = value.parse().ok(),
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
    fn reads_the_clients_table() {
        let text =
            "plugin\tACTIVE\tFORCE_PLUS_PERMANENT\nage\t1\t\nthreads\t4\t\ngeneration\t7\t\n";
        let server = Server::parse(text);
        assert_eq!(server.plugin.as_deref(), Some("ACTIVE"));
        assert_eq!(server.load_option, "FORCE_PLUS_PERMANENT");
        assert_eq!((server.threads, server.rotate_key_age), (4, 1));
        assert_eq!(server.generation, Some(7));
    }
}

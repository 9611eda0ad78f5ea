//! A client that stays: one connection, one question after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::Server;
use crate::server::client;
use test_kit::Result;

/// An open connection; it ends with its value.
pub struct Session {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// Connects to `server`.
    pub fn open(server: &Server) -> Result<Self> {
        let mut child = client(server.socket())
            .arg("--unbuffered")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let questions = child.stdin.take().ok_or("the client has no input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("the client has no output")?);
        Ok(Self { child, questions, answers })
    }

    /// Runs `sql`, which answers with one line.
    pub fn ask(&mut self, sql: &str) -> Result<String> {
        self.tell(sql)?;
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(format!("the connection ended at: {sql}").into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Sends `sql` and waits for nothing.
    pub fn tell(&mut self, sql: &str) -> Result<()> {
        Ok(writeln!(self.questions, "{sql};")?)
    }

    /// The server's thread that serves this connection, as the system numbers it.
    pub fn thread(&mut self) -> Result<i32> {
        let number =
            self.ask("SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")?;
        Ok(number.parse()?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

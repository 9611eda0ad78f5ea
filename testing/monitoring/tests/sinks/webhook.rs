//! The webhook, and a receiver in Python that is away for a minute, or ten with `--extended`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use test_kit::account::give_to_server;
use test_kit::{Certificates, Process, Result, Scratch, ensure, files, free_port, run, seen};
use test_mariadb::{Server, Site};

use crate::{arrive, last, numbers_after, rotate, server};

/// The receiver; what it got is in a file.
struct Receiver {
    process: Process,
    port: u16,
    certificates: Certificates,
    scratch: Scratch,
}

impl Receiver {
    fn new() -> Result<Self> {
        let scratch = Scratch::new("receiver")?;
        let certificates = Certificates::make(scratch.path())?;
        files::write(&scratch.path().join("got"), "")?;
        files::write(&scratch.path().join("receiver.py"), include_str!("receiver.py"))?;
        Ok(Self { process: Process::default(), port: free_port()?, certificates, scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn start(&mut self) -> Result<()> {
        let mut command = Process::command("/usr/bin/python3");
        command.arg(self.path("receiver.py")).arg(self.port.to_string());
        command.args([self.certificates.path("server.pem"), self.certificates.path("server.key")]);
        command.arg(self.path("got"));
        self.process.start(command, &self.path("log"))?;
        self.process.wait_for_port(self.port)
    }

    /// Ends it when the request under way is answered: what it has, its sender knows.
    fn stop(&mut self) -> Result<()> {
        run("kill", ["-TERM", &self.process.id()?.to_string()])?;
        std::thread::sleep(Duration::from_secs(2));
        self.process.kill()
    }

    fn got(&self) -> Result<Vec<serde_json::Value>> {
        let text = files::text(&self.path("got"))?;
        let lines = text.lines().map(|line| serde_json::from_str(line).map_err(|e| e.to_string()));
        Ok(lines.collect::<Result<_, _>>()?)
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        Ok(self.got()?.iter().filter_map(|body| body["line"]["number"].as_u64()).collect())
    }
}

#[test]
fn a_webhook_that_is_away_blocks_nothing_and_gets_each_line_once() -> Result<()> {
    let mut receiver = Receiver::new()?;
    let (site, server) = server("webhook", &sections(&receiver)?)?;
    let begin = last(&site)?;
    receiver.start()?;
    rotate(&server)?;
    arrive(&site, begin, || receiver.numbers())?;
    let text = receiver.got()?[1]["text"].to_string();
    ensure!(text.contains("rotated: key 1 version 3, by root@localhost"), "{text}");
    receiver.stop()?;
    let slowest = away(&site, &server, begin)?;
    receiver.start()?;
    let since = Instant::now();
    let lines = arrive(&site, begin, || receiver.numbers())?;
    ensure!(server.status("Keyward_sinks_waiting")? == "0", "some wait still");
    ensure!(server.status("Keyward_sinks_lost")? == "0", "some were given up");
    seen!(
        "webhook: {lines} lines, once and in order, {:.0?} after it was back; slowest rotation meanwhile {slowest:.0?}",
        since.elapsed()
    );
    server.stop()?;
    // The secrets are in no file of ours.
    for path in
        [site.log_file(), site.keys().join("audit.jsonl"), site.keys().join("audit.sink-hook")]
    {
        let text = files::text(&path)?;
        ensure!(!text.contains("hunter2") && !text.contains("hooks/T0"), "{}", path.display());
    }
    Ok(())
}

/// Changes and looks at keys while nobody takes a line; gives how long the slowest change took.
fn away(site: &Site, server: &Server, begin: u64) -> Result<Duration> {
    let extended = std::env::var_os("KEYWARD_EXTENDED").is_some();
    let time = Duration::from_secs(if extended { 600 } else { 60 });
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (a INT) ENCRYPTED=YES; INSERT INTO d.t VALUES (1)",
    )?;
    let (since, mut slowest) = (Instant::now(), Duration::ZERO);
    while since.elapsed() < time {
        slowest = slowest.max(rotate(server)?);
        ensure!(server.sql("UPDATE d.t SET a = a + 1; SELECT COUNT(*) FROM d.t")? == "1", "no row");
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(slowest < Duration::from_secs(5), "a rotation took {slowest:?}");
    let waiting: usize =
        server.status("Keyward_sinks_waiting")?.parse().map_err(|_| "no number")?;
    let written = numbers_after(site, begin)?.len();
    ensure!(waiting > 50 && waiting + 10 >= written - 2, "{waiting} of {written} wait");
    let log = files::text(&site.log_file())?;
    let told =
        log.lines().filter(|line| line.contains("sink 'hook'") || line.contains("sink \"hook\""));
    let told = told.count();
    ensure!((1..5).contains(&told), "{told} lines in the log");
    let status = site.keyward(&["status"])?.ok()?;
    ensure!(status.lines().any(|line| line.starts_with("sinks waiting")), "{status}");
    Ok(slowest)
}

fn sections(receiver: &Receiver) -> Result<String> {
    let url = format!("https://127.0.0.1:{}/hooks/T0/B0\n", receiver.port);
    for (name, text) in [("url", &*url), ("token", "hunter2\n")] {
        let path = receiver.path(name);
        files::write(&path, text)?;
        files::chmod(&path, 0o600)?;
        give_to_server(&path)?;
    }
    give_to_server(&receiver.certificates.path("ca.pem"))?;
    Ok(format!(
        "\n[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl_file = {:?}\ntoken_file = {:?}\nca_file = {:?}\n",
        receiver.path("url"),
        receiver.path("token"),
        receiver.certificates.path("ca.pem")
    ))
}

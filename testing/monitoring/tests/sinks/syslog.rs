//! syslog, and an rsyslog in a folder of its own: by its socket, UDP, TCP and TLS.

use std::path::PathBuf;

use test_kit::account::give_to_server;
use test_kit::{Certificates, Process, Result, Scratch, ensure, files, free_port, seen};

use crate::{arrive, last, rotate, server, until};

/// How each is reached.
const WAYS: [&str; 4] = ["unix", "udp", "tcp", "tls"];

struct Rsyslog {
    process: Process,
    ports: [u16; 3],
    scratch: Scratch,
}

impl Rsyslog {
    fn new() -> Result<Self> {
        let scratch = Scratch::new("rsyslog")?;
        Certificates::make(scratch.path())?;
        let ports = [free_port()?, free_port()?, free_port()?];
        Ok(Self { process: Process::default(), ports, scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn start(&mut self) -> Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let [udp, tcp, tls] = self.ports;
        let ruleset = |way: &str| {
            format!(
                "ruleset(name=\"{way}\") {{ action(type=\"omfile\" file=\"{}\" template=\"RSYSLOG_SyslogProtocol23Format\") }}\n",
                at(way)
            )
        };
        let text = format!(
            "global(workDirectory=\"{}\" defaultNetstreamDriverCAFile=\"{}\" \
             defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\")\n{}\
             input(type=\"imuxsock\" Socket=\"{}\" UseSpecialParser=\"off\" ParseHostname=\"on\" Ruleset=\"unix\")\n\
             input(type=\"imudp\" Address=\"127.0.0.1\" Port=\"{udp}\" Ruleset=\"udp\")\n\
             input(type=\"imtcp\" Address=\"127.0.0.1\" Port=\"{tcp}\" Ruleset=\"tcp\")\n\
             input(type=\"imtcp\" Address=\"127.0.0.1\" Port=\"{tls}\" Ruleset=\"tls\" \
             StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n",
            self.scratch.path().display(),
            at("ca.pem"),
            at("server.pem"),
            at("server.key"),
            WAYS.map(ruleset).concat(),
            at("log"),
        );
        files::write(&self.path("rsyslog.conf"), text)?;
        let mut command = Process::command("rsyslogd");
        command.args(["-n", "-f"]).arg(self.path("rsyslog.conf"));
        command.arg("-i").arg(self.path("pid"));
        self.process.start(command, &self.path("said"))?;
        for port in [tcp, tls] {
            let said = files::text(&self.path("said")).unwrap_or_default();
            self.process.wait_for_port(port).map_err(|error| format!("{error}\n{said}"))?;
        }
        Ok(())
    }

    /// The numbers in what came by `way`.
    fn numbers(&self, way: &str) -> Result<Vec<u64>> {
        let text = files::text(&self.path(way)).unwrap_or_default();
        let number = |line: &str| {
            let rest = line.split("[keyward@32473 number=\"").nth(1)?;
            rest.split('"').next()?.parse().ok()
        };
        Ok(text.lines().filter_map(number).collect())
    }
}

#[test]
fn rsyslog_gets_each_line_by_each_way() -> Result<()> {
    let mut rsyslog = Rsyslog::new()?;
    let [udp, tcp, tls] = rsyslog.ports;
    give_to_server(&rsyslog.path("ca.pem"))?;
    let addresses = [
        format!("unix:{}", rsyslog.path("log").display()),
        format!("udp://127.0.0.1:{udp}"),
        format!("tcp://127.0.0.1:{tcp}"),
        format!("tls://127.0.0.1:{tls}\"\nca_file = \"{}", rsyslog.path("ca.pem").display()),
    ];
    let sections: String = WAYS
        .iter()
        .zip(addresses)
        .map(|(way, address)| {
            format!("\n[[sink]]\nname = \"{way}\"\ntype = \"syslog\"\naddress = \"{address}\"\n")
        })
        .collect();
    rsyslog.start()?;
    let (site, server) = server("syslog", &sections)?;
    until("all sinks", || {
        let found = files::list(&site.keys());
        Ok(found.iter().filter(|path| path.to_string_lossy().contains("sink-")).count()
            == WAYS.len())
    })?;
    let begin = last(&site)?;
    for _ in 0..20 {
        rotate(&server)?;
    }
    for way in WAYS {
        let lines =
            arrive(&site, begin, || rsyslog.numbers(way)).map_err(|error| error.within(way))?;
        seen!("syslog by {way}: {lines} lines, in order");
    }
    let text = files::text(&rsyslog.path("tls"))?;
    let line = text.lines().nth(1).unwrap_or_default();
    ensure!(line.starts_with("<85>1 ") && line.contains(" keyward "), "{line}");
    ensure!(
        line.contains("event=\"rotated\"") && line.contains("] rotated: key 1 version 3, by "),
        "{line}"
    );
    // Away, and back: what has a connection or a socket knows.
    rsyslog.process.kill()?;
    let _ = std::fs::remove_file(rsyslog.path("log"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    for _ in 0..5 {
        rotate(&server)?;
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    rsyslog.start()?;
    for way in ["unix", "tcp", "tls"] {
        let lines =
            arrive(&site, begin, || rsyslog.numbers(way)).map_err(|error| error.within(way))?;
        seen!("syslog by {way}: {lines} lines, once and in order, after it was away");
    }
    server.stop().map(drop)
}

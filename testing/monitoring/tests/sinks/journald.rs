//! journald: systemd's own, in a mount namespace of its own with a folder of the test's as `/run`.

use std::fs;

use test_kit::{Process, Result, Scratch, ensure, run, seen};

use crate::{arrive, last, rotate, server, until};

#[test]
fn journald_gets_each_line_with_its_fields() -> Result<()> {
    let scratch = Scratch::new("journald")?;
    let folder = scratch.path().join("run");
    for name in ["systemd/journal", "log/journal"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let script =
        format!("mount --bind {} /run && exec /lib/systemd/systemd-journald", folder.display());
    let mut command = Process::command("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let mut process = Process::default();
    process.start(command, &scratch.path().join("said"))?;
    let socket = folder.join("systemd/journal/socket");
    until("journald's socket", || Ok(socket.exists()))?;
    let section = format!("\n[[sink]]\ntype = \"journald\"\nsocket = {socket:?}\n");
    let (site, server) = server("journald", &section)?;
    let begin = last(&site)?;
    for _ in 0..10 {
        rotate(&server)?;
    }
    let entries = || -> Result<Vec<serde_json::Value>> {
        let journal =
            fs::read_dir(folder.join("log/journal"))?.next().ok_or("no journal yet")??;
        let directory = format!("--directory={}", journal.path().display());
        let words = [&*directory, "--output=json", "--no-pager", "SYSLOG_IDENTIFIER=keyward"];
        let text = run("journalctl", words)?;
        let lines = text.lines().map(|line| serde_json::from_str(line).map_err(|e| e.to_string()));
        Ok(lines.collect::<Result<_, _>>()?)
    };
    let numbers = || -> Result<Vec<u64>> {
        let number = |entry: &serde_json::Value| entry["KEYWARD_NUMBER"].as_str()?.parse().ok();
        Ok(entries()?.iter().filter_map(number).collect())
    };
    let lines = arrive(&site, begin, numbers)?;
    let entry = entries()?.into_iter().nth(1).ok_or("no entry")?;
    for (field, value) in [
        ("MESSAGE", "rotated: key 1 version 3, by root@localhost"),
        ("KEYWARD_EVENT", "rotated"),
        ("KEYWARD_KEYS", "key 1 version 3"),
        ("PRIORITY", "5"),
    ] {
        let is = entry[field].as_str().unwrap_or_default();
        ensure!(is.starts_with(value), "{field} is {is}");
    }
    seen!("journald: {lines} lines with their fields, in order");
    server.stop().map(drop)
}

//! A real MariaDB with keyward, whose metrics go through node_exporter and mysqld_exporter into a real
//! Prometheus: all of them arrive, each alert comes with its fault and goes with it, and every query of the
//! dashboards finds data.

mod dashboards;
mod faults;
mod room;
mod watch;

use std::collections::BTreeSet;

use test_kit::command::{answer, answer_to};
use test_kit::{Result, artefacts, ensure, files, seen};

use room::Room;

/// What has no value on this server: a stash is for keys that a key store serves, and only where the command reads
/// that is it degraded itself.
const NONE_HERE: &[&str] =
    &["keyward_stash_taken_timestamp_seconds", "keyward_degraded_since_timestamp_seconds"];

#[test]
fn all_of_it_in_a_real_prometheus() -> Result<()> {
    let mut room = Room::new()?;
    room.well()?;
    let alerts = room.watch.alerts()?;
    ensure!(alerts.is_empty(), "a healthy server, and these alerts: {alerts:?}");
    seen!("a healthy server: {} rules, no alert", room.watch.rules()?.len());
    faults::plan_destruction(&room)?;
    dashboards::answer(&room)?;
    faults::each(&mut room)?;
    arrived(&room)
}

/// Every metric of the table has come into Prometheus at some time.
fn arrived(room: &Room) -> Result<()> {
    let there = room.watch.metrics()?;
    let wanted = documented()?;
    ensure!(wanted.len() > 50, "{} metrics are documented", wanted.len());
    let missing: Vec<_> = wanted
        .iter()
        .filter(|name| !there.contains(*name) && !NONE_HERE.contains(&name.as_str()))
        .collect();
    ensure!(missing.is_empty(), "these did not arrive: {missing:?}");
    // What is there and in no row is a metric that nobody documented. System variables are none.
    let ours = |name: &&String| {
        ["keyward_", "mysql_global_status_keyward_"].iter().any(|front| name.starts_with(front))
    };
    let unknown: Vec<_> =
        there.iter().filter(ours).filter(|name| !wanted.contains(*name)).collect();
    ensure!(unknown.is_empty(), "these are not documented: {unknown:?}");
    seen!("{} metrics of keyward arrived", wanted.len() - NONE_HERE.len());
    Ok(())
}

/// The names that the rows of docs/metrics.md stand for: of the command, of the server in the same file, and of
/// the server by mysqld_exporter.
fn documented() -> Result<BTreeSet<String>> {
    let page = files::text(&artefacts::repository().join("docs/metrics.md"))?;
    let mut names = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let (name, kind, unit, by) =
            (cells[0].trim_matches(['|', ' ', '`']), cells[1], cells[2], cells[3]);
        let suffix = match (kind, unit) {
            ("counter", _) => "_total",
            (_, "time") => "_timestamp_seconds",
            _ => "",
        };
        if by.contains("Prometheus") {
            names.insert(format!("keyward_{name}{suffix}"));
        }
        if by.contains("MariaDB") && kind != "text" {
            names.insert(format!("keyward_server_{name}{suffix}"));
            names.insert(format!("mysql_global_status_keyward_{name}"));
        }
    }
    // mysqld_exporter takes a text for a number where it looks like one: `yes`.
    names.insert("mysql_global_status_keyward_restart_safe".to_owned());
    names.remove("keyward_server_stash_taken_timestamp_seconds");
    Ok(names)
}

#[test]
fn promtool_has_nothing_to_say() -> Result<()> {
    let folder = artefacts::repository().join("packaging/monitoring");
    let mut rules = std::process::Command::new("promtool");
    let said = answer(rules.args(["check", "rules"]).args(of(&folder, ".rules.yml")))?.ok()?;
    seen!("promtool: {}", said.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut tests = std::process::Command::new("promtool");
    answer(tests.args(["test", "rules"]).args(of(&folder, ".test.yml")))?.ok()?;
    // Each alert is in the tests of its file.
    for rules in of(&folder, ".rules.yml") {
        let path = rules.display().to_string().replace(".rules.yml", ".test.yml");
        let tests = files::text(path.as_ref())?;
        let text = files::text(&rules)?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        for name in names {
            let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
            ensure!(tests.contains(&fires), "{path} has no case in which {name} fires");
            let silent = format!("alertname: {name}\n        exp_alerts: []");
            ensure!(tests.contains(&silent), "{path} has no case in which {name} is silent");
        }
    }
    Ok(())
}

/// The files of `folder` whose names end so.
fn of(folder: &std::path::Path, ending: &str) -> Vec<std::path::PathBuf> {
    let mut found = files::list(folder);
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found
}

/// The metrics as promtool judges them.
fn check(text: &str) -> Result<()> {
    let mut promtool = std::process::Command::new("promtool");
    let said = answer_to(promtool.args(["check", "metrics"]), text)?;
    ensure!(said.code == 0 && said.text().is_empty(), "promtool: {}", said.text());
    Ok(())
}

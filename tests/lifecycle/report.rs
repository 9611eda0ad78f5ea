//! `keyward report`: a year of a keystore as an auditor reads it, and that nobody changes a byte of it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use keyward::assemble;
use keyward::config::Config;
use keyward::custodian::Custodian;
use keyward::env::fake::{FakeClock, FakeLog};
use keyward::env::{Clock as _, Env, System, Timestamp};
use keyward::key::KeyName;
use keyward::manager::{Destruction, Judged, StateChange};
use keyward::policy::Policy;
use keyward::report::lanes;
use keyward::source::{Reason, Role};
use serde_json::Value;

use crate::bench::{Bench, REASON, key, key_ref};
use crate::command::{Shell, second_provider};

const DAY: u64 = 86_400;

/// What only an evil name would say.
const EVIL: &str = "</td><script>alert(1)</script> =cmd|'/c calc'!A1 \u{201c}yearly\u{201d}";

const REPORT: &str = r#"
[report]
owner = "Payments platform, Ann Example"
environment = "production"
ciphers_reviewed = "2026-02-01"
[report.custodians]
"Ann Example" = "2026-01-15"
"Bob <b>Example</b>" = "2026-01-20"
[report.purposes]
1 = "system tablespace, redo, binary and Aria logs"
2 = "temporary tables and files"
7 = "card numbers (schema pay)"
8 = "=HYPERLINK(\"http://x\")"
"#;

/// A shell whose keystore is 400 days old: rotated by policy, one version compromised, one destroyed.
fn year() -> Shell {
    let shell = Shell::new();
    shell.configure_before(
        "[[provider]]",
        "[policy]\nrotate_after = \"90d\"\nkeep_retired = \"60d\"\n",
    );
    shell.configure(&second_provider(&shell));
    shell.configure(REPORT);
    for file in std::fs::read_dir(shell.path("keystore")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let start = Timestamp::from_unix(System.now().as_unix() - 400 * DAY);
    let clock = Arc::new(FakeClock::at(start));
    let env =
        Env { clock: clock.clone(), rng: Arc::new(System), log: Arc::new(FakeLog::default()) };
    let config = Config::load(&shell.config()).unwrap();
    let reason = Reason { actor: "ann on db1", text: "set up" };
    assemble::create_keystore(&config, reason, &env).unwrap();
    let custodian = assemble::start(&config, Role::Command, env).unwrap();
    for id in [7, 8] {
        custodian.create(key(id), None, reason).unwrap();
    }
    live(&custodian, &clock);
    shell
}

/// Lives through the 400 days.
fn live(custodian: &Custodian, clock: &FakeClock) {
    let evil = Reason { actor: "bob on db1", text: EVIL };
    let by_ticket = Reason { actor: "ann on db1", text: "ticket 4711" };
    for day in 0..400 {
        let mut manager = custodian.manager().unwrap();
        manager.run_policy().unwrap();
        match day {
            120 => {
                let old = StateChange::Compromised(key_ref(8, 1));
                manager.change_state(&old, evil).unwrap();
            }
            200 => {
                let wait = days(7);
                let plan = Destruction::Plan(key_ref(8, 1), wait);
                manager.destroy(&plan, &Judged::default(), evil).unwrap();
            }
            208 => {
                let end = Destruction::CarryOut(key_ref(8, 1));
                manager.destroy(&end, &Judged::default(), by_ticket).unwrap();
            }
            _ => {}
        }
        drop(manager);
        clock.advance(days(1));
    }
}

fn json(shell: &Shell, words: &[&str]) -> Value {
    let answer = shell.run(words);
    serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

/// Copies sample files of a server's: some encrypted, some not.
fn data(shell: &Shell) -> String {
    let folder = shell.path("data");
    std::fs::create_dir(&folder).unwrap();
    let samples = [
        "full-crc32.ibd",
        "full-crc32-plain.ibd",
        "older.ibd",
        "aria.MAI",
        "aria.MAD",
        "binlog.000001",
    ];
    for sample in samples {
        std::fs::copy(Path::new("tests/golden/inspect").join(sample), folder.join(sample)).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

#[test]
fn numbers_are_those_of_the_other_commands() {
    let shell = year();
    let data = data(&shell);
    let report = json(&shell, &["report", "--format", "json", "--datadir", &data]);
    let server = &report["servers"][0];
    assert_eq!(server["status"], json(&shell, &["status", "--json"]));

    let listed = json(&shell, &["keys", "list", "--json"]);
    let versions = server["keys"].as_array().unwrap().iter().flat_map(|key| {
        let of = |version: &Value| {
            (key["key"].clone(), version["version"].clone(), version["state"].clone())
        };
        key["versions"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    });
    let listed = listed.as_array().unwrap().iter().map(|info| {
        (
            info["key"]["name"].to_string().into(),
            info["key"]["version"].clone(),
            info["state"].clone(),
        )
    });
    assert_eq!(versions.collect::<Vec<_>>(), listed.collect::<Vec<(Value, Value, Value)>>());
    let totals = &report["totals"];
    assert_eq!(totals["keys"], server["status"]["keys"]);
    assert_eq!(totals["key_versions"], server["status"]["key_versions"]);
    assert_eq!(totals["by_state"]["destroyed"], 1);

    let inspected = json(&shell, &["inspect", "--json", "--all", &data]);
    let inspected = inspected.as_array().unwrap();
    let seen = &server["data"];
    assert_eq!(seen["files"], inspected.len());
    let needs = inspected.iter().flat_map(|file| file["needs"].as_array().unwrap());
    let count = |usage: &str| -> u64 {
        let same = needs.clone().filter(|need| need["usage"] == usage);
        same.map(|need| need["count"].as_u64().unwrap()).sum()
    };
    let sum = |field: &str| -> u64 {
        seen["needs"].as_array().unwrap().iter().map(|need| need[field].as_u64().unwrap()).sum()
    };
    assert_eq!((sum("in_use"), sum("freed")), (count("in-use"), count("freed")));
    // Of a tablespace that is encrypted, pages without rows are in the clear.
    let plain = inspected.iter().filter(|file| file["needs"].as_array().unwrap().is_empty());
    let plain: u64 = plain.map(|file| file["unencrypted"].as_u64().unwrap()).sum();
    let in_clear = seen["unencrypted"].as_array().unwrap();
    assert_eq!(in_clear.iter().map(|file| file["pages"].as_u64().unwrap()).sum::<u64>(), plain);
    assert!(plain > 0 && sum("in_use") > 0);
}

#[test]
fn a_year_is_judged() {
    let shell = year();
    let report = json(&shell, &["report", "--format", "json"]);
    let server = &report["servers"][0];
    let verdict = |number: &str| {
        let mut rules = server["rules"].as_array().unwrap().iter();
        rules.find(|rule| rule["number"] == number).unwrap()["verdict"].clone()
    };
    assert_eq!(verdict("3.7.4"), "met", "{server:#}");
    assert_eq!(verdict("3.7.8"), "met");
    assert_eq!(verdict("3.7.7"), "met");
    // Its wrapping keys are files of this machine.
    assert_eq!(verdict("3.7.3"), "not-met");
    let lanes = server["lanes"].as_array().unwrap();
    let lane = lanes.iter().find(|lane| lane["key"] == "7").unwrap();
    let periods = lane["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 5, "400 days, 90 for each: {lane:#}");
    assert!(periods.iter().all(|period| period["late"] == false), "{lane:#}");
    assert_eq!(server["destructions"].as_array().unwrap().len(), 2);
    assert_eq!(server["backups"].as_array().unwrap().len(), 0);

    // Nobody rotates for too long, and one who edits the trail is noticed.
    let late = std::fs::read_to_string(shell.config()).unwrap();
    std::fs::write(
        shell.config(),
        late.replace("rotate_after = \"90d\"", "rotate_after = \"30d\""),
    )
    .unwrap();
    let trail = shell.path("keystore/audit.jsonl");
    let text = std::fs::read_to_string(&trail).unwrap();
    std::fs::write(&trail, text.replacen("set up", "setup", 1)).unwrap();
    let report = json(&shell, &["report", "--format", "json"]);
    let server = &report["servers"][0];
    let rule = |number: &str| {
        let mut rules = server["rules"].as_array().unwrap().iter();
        rules.find(|rule| rule["number"] == number).unwrap().to_string()
    };
    assert!(rule("3.7.4").contains("Overdue: key 1, key 2, key 7, key 8."), "{}", rule("3.7.4"));
    assert!(
        rule("3.7.7").contains("\"not-met\"") && rule("3.7.7").contains("does not follow"),
        "{server:#}"
    );
    assert!(report["totals"]["findings"]["failed"] == 1, "{report:#}");
}

/// MySQL's server gives each of its master keys another name: one ends where the next begins.
#[test]
fn master_keys_of_a_mysql_server_are_one_series() {
    let bench = Bench::without_keys();
    let policy = Policy { rotate_after: Some(days(90)), ..Policy::default() };
    let source = bench.source(&["first"]).with_policy(policy.clone());
    let custodian = Custodian::start(source, Role::Command, bench.env()).unwrap();
    let name = |number: u32| {
        KeyName::named(format!("INNODBKey-00000001-e639-11f1-b21a-02fc00000001-{number}"), "")
    };
    for (number, pause) in [(1, 80), (2, 120), (3, 10)] {
        let mut manager = custodian.manager().unwrap();
        manager.generate_named(&name(number), "AES", 32, REASON).unwrap();
        drop(manager);
        bench.clock.advance(days(pause));
    }
    let (entries, now) = (custodian.entries(), bench.clock.now());
    let lanes = lanes(&policy, &custodian.keystore_id(), &entries, now);
    assert_eq!(lanes.len(), 1, "{lanes:?}");
    assert!(lanes[0].key.starts_with("InnoDB master key of server 00000001-"), "{lanes:?}");
    let periods: Vec<_> = lanes[0]
        .periods
        .iter()
        .map(|one| (&*one.version, one.to.unwrap_or(now).since(one.from).as_secs() / DAY, one.late))
        .collect();
    assert_eq!(periods, [("1", 80, false), ("2", 120, true), ("3", 10, false)]);
    assert!(lanes[0].periods[2].to.is_none());
    assert_eq!(lanes[0].next_rotation.unwrap().since(now), days(80));
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

#[test]
fn names_and_reasons_are_shown_and_do_nothing() {
    let shell = year();
    let html = shell.run(&["report"]).out;
    assert!(!html.contains("<script") && !html.contains("<b>Example"), "{html}");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is there as text");
    assert!(html.contains("Bob &lt;b&gt;Example&lt;/b&gt;"));
    for elsewhere in ["src=", "@import", "url(", "<link", "<iframe", "javascript:"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    let csv = shell.run(&["report", "--format", "csv"]).out;
    assert!(csv.contains("\"'=HYPERLINK(\"\"http://x\"\")\""), "{csv}");
    for line in csv.lines() {
        assert!(line.starts_with('"') && line.ends_with('"'), "{line}");
        assert!(!line.contains(",\"=") && !line.contains(",\"@"), "{line}");
    }
}

#[test]
fn who_changes_a_byte_is_found_out() {
    let shell = Shell::new();
    let key = shell.run(&["audit", "checkpoint", "--key"]);
    let key = key.out.trim();
    for format in ["html", "json", "csv"] {
        let report = shell.run(&["report", "--format", format]);
        assert_eq!(report.code, 0, "{report:?}");
        // As it was written, with the folder's real name in it.
        let file = shell.path(&format!("report.{format}"));
        let out = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(["--config", shell.config().to_str().unwrap(), "report", "--format", format])
            .output()
            .unwrap();
        std::fs::write(&file, &out.stdout).unwrap();
        let name = file.to_str().unwrap();
        let verified = shell.run(&["report", "verify", name]);
        assert_eq!(verified.code, 0, "{verified:?}");
        assert!(
            verified.out.starts_with(&format!("DIR/report.{format}: as the keystore ")),
            "{verified:?}"
        );
        // The auditor has the key and no keystore.
        let elsewhere = shell.run_on(
            Path::new("/nowhere/k.toml"),
            &["report", "verify", name, "--user", "root", "--key", key],
        );
        assert_eq!(elsewhere.code, 0, "{elsewhere:?}");

        let len = out.stdout.len();
        for at in [0, len / 3, len / 2, len - 120, len - 12, len - 1] {
            let mut bytes = out.stdout.clone();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            std::fs::write(&file, &bytes).unwrap();
            let changed = shell.run(&["report", "verify", name]);
            assert!(changed.code == 1 && changed.out.is_empty(), "{format} byte {at}: {changed:?}");
            assert!(changed.err.starts_with("keyward: DIR/report."), "{changed:?}");
        }
        std::fs::write(&file, &out.stdout).unwrap();
        let other = Shell::new();
        assert_eq!(
            other.run(&["report", "verify", name]).code,
            1,
            "another keystore has not signed it"
        );
    }
}

#[test]
fn one_report_of_two_sums_up() {
    let (one, other) = (Shell::new(), Shell::new());
    other.run(&["rotate", "1"]);
    let mut keys = Vec::new();
    let mut files = Vec::new();
    for (n, shell) in [&one, &other].into_iter().enumerate() {
        keys.push(shell.run(&["audit", "checkpoint", "--key"]).out.trim().to_owned());
        let out = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(["--config", shell.config().to_str().unwrap(), "report", "--json"])
            .output()
            .unwrap();
        let file = one.path(&format!("server-{n}.json"));
        std::fs::write(&file, out.stdout).unwrap();
        files.push(file.to_str().unwrap().to_owned());
    }
    let bastion = Path::new("/nowhere/k.toml");
    let call = |more: &[&str]| {
        let words = [&["--user", "root", "report", "--json"], more].concat();
        one.run_on(bastion, &words)
    };
    let from = ["--from", &files[0], &files[1]];
    let sum: Value = serde_json::from_str(&call(&from).out).unwrap();
    assert_eq!(sum["totals"]["servers"], 2);
    assert_eq!(sum["totals"]["keys"], 4);
    assert_eq!(sum["totals"]["key_versions"], 5);
    assert_eq!(sum["totals"]["by_state"], serde_json::json!({ "active": 4, "retired": 1 }));
    let rules: u64 =
        sum["totals"]["verdicts"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(rules, 2 * sum["servers"][0]["rules"].as_array().unwrap().len() as u64);
    assert!(sum["signature"].is_null());
    let said = &sum["servers"][1]["source"]["signature"];
    assert_eq!(said, "not checked: no --key was given");

    let checked: Vec<&str> =
        from.into_iter().chain(["--key", &keys[0], "--key", &keys[1]]).collect();
    let sum: Value = serde_json::from_str(&call(&checked).out).unwrap();
    let said = sum["servers"][1]["source"]["signature"].as_str().unwrap();
    assert!(said.starts_with("right: by the key of keystore "), "{said}");
    let stranger = call(&[&from[..], &["--key", &keys[0]]].concat());
    assert!(
        stranger.code == 1 && stranger.err.contains("server-1.json: none of the keys"),
        "{stranger:?}"
    );
    let twice = call(&["--from", &files[0], &files[0]]);
    assert!(twice.code == 1 && twice.err.contains("two reports of "), "{twice:?}");

    let page =
        one.run_on(bastion, &["--user", "root", "report", "--from", &files[0], &files[1]]).out;
    assert!(page.contains("Encryption keys of 2 servers"), "{page}");
    assert!(page.contains("<li><b>5</b>key versions</li>"), "{page}");
    std::fs::write(&files[0], "{}").unwrap();
    let none = call(&["--from", &files[0]]);
    assert!(
        none.code == 1 && none.err.contains("server-0.json: this is no report in JSON"),
        "{none:?}"
    );
}

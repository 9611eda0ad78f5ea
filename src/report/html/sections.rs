//! The page of one server, section by section.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::chart;
use super::parts::{Cell, day, facts, light, moment, table, text};
use super::{overall, overall_words};
use crate::env::Timestamp;
use crate::key::KeyState;
use crate::report::model::{
    Custodian, Data, DataNeed, Ending, Finding, Judged, Key, KeyStore, Lane, Light, Mark, Period,
    PlainFile, Record, Server, Unclear, Verdict, Version,
};

/// How many files and versions a table names; JSON and CSV have all.
const MAX_ROWS: usize = 2_000;

const DAY: u64 = 86_400;

/// The sections' names in an address, and for people.
const SECTIONS: [(&str, &str); 10] = [
    ("summary", "Summary"),
    ("findings", "Open findings"),
    ("keys", "Keys"),
    ("rotations", "Rotations"),
    ("data", "Data"),
    ("stores", "Key stores"),
    ("people", "People"),
    ("backups", "Backups and destructions"),
    ("trail", "Audit trail"),
    ("standards", "Standards"),
];

/// All of one server; `number` tells its sections from another's on the same page.
pub(super) fn server(server: &Server, number: usize) -> String {
    let address = |name: &str| match number {
        0 => name.to_owned(),
        number => format!("s{number}-{name}"),
    };
    let mut page = about(server);
    let _ = write!(page, "<nav aria-label=\"Sections of {}\"><ul>", text(&server.name()));
    for (name, title) in SECTIONS {
        let _ = write!(page, "<li><a href=\"#{}\">{title}</a></li>", address(name));
    }
    page += "</ul></nav>\n";
    let sections: [fn(&Server) -> String; 10] =
        [summary, findings, keys, rotations, data, stores, people, backups, trail, standards];
    for ((name, title), section) in SECTIONS.into_iter().zip(sections) {
        let _ = writeln!(page, "<section><h2 id=\"{}\">{title}</h2>", address(name));
        page += &section(server);
        page += "</section>\n";
    }
    page
}

fn about(server: &Server) -> String {
    let epoch = server.status.get("epoch").and_then(serde_json::Value::as_u64);
    facts(&[
        ("Owner", server.owner.clone().unwrap_or_else(|| "not named in [report]".to_owned())),
        (
            "Environment",
            server.environment.clone().unwrap_or_else(|| "not named in [report]".to_owned()),
        ),
        ("Machine", server.host.clone()),
        ("Looked at", format!("{} UTC, by {}", moment(server.made), server.actor)),
        ("Configuration", server.configuration.clone()),
        ("Keystore", server.text("keystore").to_owned()),
        ("Keystore id", server.text("keystore_id").to_owned()),
        ("Fingerprint", server.text("fingerprint").to_owned()),
        ("Generation", server.number("generation").to_string()),
        ("Epoch", epoch.map_or_else(String::new, |epoch| epoch.to_string())),
    ])
}

fn summary(server: &Server) -> String {
    let mut page = format!(
        "<p>{} {}</p>\n",
        light(overall(server), &overall_words(server)),
        text(server.text("degraded_reason"))
    );
    let time = |name: &str| {
        let at: Option<Timestamp> = server.text(name).parse().ok();
        at.map_or_else(|| "none".to_owned(), day)
    };
    let number = |name: &str| server.number(name).to_string();
    let tiles = [
        ("keys", number("keys"), false),
        ("key versions", number("key_versions"), false),
        ("rotations overdue", server.overdue().count().to_string(), false),
        ("files not encrypted", unencrypted(server), false),
        ("destructions planned", number("destructions_planned"), false),
        ("oldest version that encrypts", time("oldest_active"), true),
        ("next rotation", time("next_rotation"), true),
        ("restart would succeed", server.text("restart_safe").to_owned(), true),
    ];
    page += "<ul class=\"tiles\">";
    for (name, value, is_small) in tiles {
        let class = if is_small { " class=\"small\"" } else { "" };
        let value = if value.is_empty() { "unknown".to_owned() } else { value };
        let _ = write!(page, "<li><b{class}>{}</b>{}</li>", text(&value), text(name));
    }
    page += "</ul>\n";
    page + &by_standard(server)
}

/// Each standard in a row.
fn by_standard(server: &Server) -> String {
    let row = |standard: &[Judged]| {
        let of = |verdict: Verdict| -> Vec<&str> {
            let same = standard.iter().filter(|it| it.verdict == verdict);
            same.map(|it| it.number.as_str()).collect()
        };
        let cell = |verdict: Verdict| {
            let numbers = of(verdict);
            Cell::Long(match numbers.len() {
                0 => "none".to_owned(),
                n => format!("{n}: {}", numbers.join("; ")),
            })
        };
        let (light, word) = match (of(Verdict::NotMet).len(), of(Verdict::Met).len()) {
            (1.., _) => (Light::Red, "not met"),
            (0, 1..) => (Light::Green, "met, as far as we see"),
            (0, 0) => (Light::Grey, "not ours to say"),
        };
        vec![
            Cell::Text(standard.first().map_or_else(String::new, |it| it.standard.clone())),
            Cell::Light(light, word.to_owned()),
            cell(Verdict::NotMet),
            cell(Verdict::Met),
            cell(Verdict::NotOurs),
        ]
    };
    let standards = server.rules.chunk_by(|one, next| one.standard == next.standard);
    table(
        "Requirements by standard",
        &["Standard", "Light", "Not met", "Met", "Not ours to say"],
        &standards.map(row).collect::<Vec<_>>(),
    )
}

pub(super) fn unencrypted(server: &Server) -> String {
    match &server.data {
        Some(data) => data.unencrypted.len().to_string(),
        None => "not looked at".to_owned(),
    }
}

fn findings(server: &Server) -> String {
    let mut open: Vec<_> = server.findings.iter().filter(|one| one.mark != Mark::Ok).collect();
    open.sort_by_key(|one| one.mark);
    let well = server.findings.len() - open.len();
    let row = |one: &&Finding| {
        let light = match one.mark {
            Mark::Failed => (Light::Red, "fails"),
            Mark::Warning => (Light::Amber, "warning"),
            Mark::Skipped => (Light::Grey, "not looked at"),
            Mark::Ok => (Light::Green, "ok"),
        };
        vec![
            Cell::Light(light.0, light.1.to_owned()),
            Cell::Long(one.what.clone()),
            Cell::Long(one.advice.clone().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = open.iter().map(row).collect();
    let words = match rows.len() {
        0 => format!(
            "<p>None: <code>keyward doctor</code> looked at {well} things, and all are well.</p>\n"
        ),
        _ => format!("<p>{well} more things are well.</p>\n"),
    };
    table("What keyward doctor finds", &["Finding", "What", "What to do"], &rows) + &words
}

fn keys(server: &Server) -> String {
    let mut page = chart::by_state(server) + &chart::by_age(server);
    let row = |key: &Key| {
        let newest = key.versions.iter().rfind(|one| one.state == KeyState::Active);
        vec![
            Cell::Text(key.key.clone()),
            Cell::Long(key.purpose.clone().unwrap_or_else(|| "not named in [report]".to_owned())),
            Cell::Whole(newest.map_or_else(String::new, |one| one.cipher.clone())),
            Cell::Number(newest.map_or(0, |one| one.bits)),
            Cell::Number(key.versions.len() as u64),
            Cell::Day(newest.and_then(|one| one.created)),
            Cell::Day(key.next_rotation),
            match (key.rotates, key.overdue, key.next_rotation) {
                (_, true, _) => Cell::Light(Light::Red, "overdue".to_owned()),
                (true, false, Some(_)) => Cell::Light(Light::Green, "in time".to_owned()),
                _ => Cell::Light(Light::Grey, "no policy".to_owned()),
            },
        ]
    };
    let head = [
        "Key",
        "Purpose",
        "Cipher",
        "Bits",
        "Versions",
        "Active version made",
        "Next rotation",
        "Rotation",
    ];
    page += &table("Keys", &head, &limited(server.keys.iter().map(row)));
    let versions =
        server.keys.iter().flat_map(|key| key.versions.iter().map(move |one| (key, one)));
    let row = |(key, one): (&Key, &Version)| {
        let last = one.history.last();
        vec![
            Cell::Text(key.key.clone()),
            Cell::Number(one.version.into()),
            Cell::Text(one.state.to_string()),
            Cell::Whole(one.cipher.clone()),
            Cell::Day(one.created),
            Cell::Day(last.map(|step| step.at)),
            Cell::Long(
                last.map_or_else(String::new, |step| format!("{} ({})", step.reason, step.actor)),
            ),
            Cell::Day(one.retain_until.filter(|_| one.state != KeyState::Destroyed)),
            Cell::Whole(planned(one)),
            Cell::Long(one.check.clone().unwrap_or_default()),
        ]
    };
    let head = [
        "Key",
        "Version",
        "State",
        "Cipher",
        "Made",
        "State since",
        "Why, and who",
        "Kept until",
        "Planned",
        "Check value",
    ];
    page + &table("Key versions", &head, &limited(versions.map(row)))
}

fn planned(one: &Version) -> String {
    let planned = one.planned.as_ref();
    planned.map_or_else(String::new, |plan| format!("{} on {}", plan.state, day(plan.at)))
}

fn rotations(server: &Server) -> String {
    let days = |seconds: u64| format!("{} days", seconds / DAY);
    let policy = &server.policy;
    let mut page = facts(&[
        (
            "A version encrypts for",
            policy.rotate_after.map_or_else(|| "no set time".to_owned(), days),
        ),
        (
            "A retired version is kept for",
            policy.keep_retired.map_or_else(|| "no set time".to_owned(), days),
        ),
        ("Waiting time before a destruction", days(policy.destroy_wait)),
        ("Newest versions that are never destroyed", policy.keep_versions.to_string()),
    ]);
    if server.lanes.is_empty() {
        return page + "<p>No key of this keystore rotates.</p>\n";
    }
    page += &chart::time_line(server);
    let periods =
        server.lanes.iter().flat_map(|lane| lane.periods.iter().map(move |one| (lane, one)));
    let row = |(lane, one): (&Lane, &Period)| {
        let lasted = one.to.unwrap_or(server.made).since(one.from).as_secs() / DAY;
        vec![
            Cell::Text(lane.key.clone()),
            Cell::Text(one.version.clone()),
            Cell::Time(Some(one.from)),
            Cell::Time(one.to),
            Cell::Number(lasted),
            match (one.late, policy.rotate_after) {
                (true, _) => Cell::Light(Light::Red, "too long".to_owned()),
                (false, Some(_)) => Cell::Light(Light::Green, "in time".to_owned()),
                (false, None) => Cell::Light(Light::Grey, "no policy".to_owned()),
            },
        ]
    };
    let head = ["Key", "Version", "Encrypts since", "Until", "Days", "Against the policy"];
    page + &table("When which version encrypted", &head, &limited(periods.map(row)))
}

fn data(server: &Server) -> String {
    let Some(data) = &server.data else {
        return "<p>No data directory was looked at: none is registered on this machine, and none was named by \
                <code>--datadir</code>.</p>\n"
            .to_owned();
    };
    let mut page = facts(&[
        ("Data directories", data.directories.join(", ")),
        ("Files", data.files.to_string()),
        ("Not encrypted", data.unencrypted.len().to_string()),
        ("Not understood", data.unclear.len().to_string()),
    ]);
    page += &needs(data);
    let row = |one: &PlainFile| {
        vec![Cell::Long(one.file.clone()), Cell::Text(one.kind.clone()), Cell::Number(one.pages)]
    };
    let head = ["File", "Kind", "Pages in the clear"];
    let rows = limited(data.unencrypted.iter().map(row));
    page += "<h3>In the clear</h3>\n";
    page += match rows.is_empty() {
        true => "<p>None of the files that were understood.</p>\n",
        false => "",
    };
    page += &table("Files with data in the clear", &head, &rows);
    let row = |one: &Unclear| vec![Cell::Long(one.file.clone()), Cell::Long(one.why.clone())];
    page + &table(
        "Files that were not understood: they may need any version",
        &["File", "Why"],
        &limited(data.unclear.iter().map(row)),
    )
}

fn needs(data: &Data) -> String {
    let row = |one: &DataNeed| {
        vec![
            Cell::Text(match one.version {
                Some(version) => format!("{} version {version}", one.key),
                None => one.key.clone(),
            }),
            Cell::Whole(one.cipher.clone().unwrap_or_default()),
            match one.state.as_str() {
                "missing" | "wrong key" => Cell::Light(Light::Red, one.state.clone()),
                "compromised" | "destroyed" => Cell::Light(Light::Amber, one.state.clone()),
                _ => Cell::Text(one.state.clone()),
            },
            Cell::Number(one.tablespaces),
            Cell::Number(one.logs),
            Cell::Number(one.others),
            Cell::Number(one.in_use),
            Cell::Number(one.freed),
        ]
    };
    let head = [
        "Key",
        "Cipher",
        "State",
        "Tablespaces",
        "Logs",
        "Other files",
        "Pages in use",
        "Freed pages",
    ];
    let rows = limited(data.needs.iter().map(row));
    match rows.is_empty() {
        true => "<p>No file needs a key.</p>\n".to_owned(),
        false => table("What needs which key version", &head, &rows),
    }
}

fn stores(server: &Server) -> String {
    let mut page = String::new();
    for store in &server.key_stores {
        page += &store_of(server, store);
    }
    page
}

fn store_of(server: &Server, store: &KeyStore) -> String {
    let state = match (&store.failure, store.in_use) {
        (Some(_), _) => light(Light::Red, "does not answer"),
        (None, true) => light(Light::Green, "in use"),
        (None, false) => light(Light::Grey, "not in use"),
    };
    let beside = match store.beside_the_data {
        Some(true) => "the machine of the data",
        Some(false) => "another machine than the data's",
        None => "not known to be another machine than the data's",
    };
    let said = store
        .facts
        .iter()
        .any(|(name, value)| (name.clone() + value).to_lowercase().contains("fips"));
    let mut known = vec![
        ("Kind", store.kind.clone()),
        ("Role", store.role.clone()),
        ("Its keys are in", format!("{}: {beside}", store.custody)),
        (
            "FIPS 140",
            if said { "see below".to_owned() } else { "the key store does not tell".to_owned() },
        ),
        ("Failure", store.failure.clone().unwrap_or_default()),
    ];
    known.extend(store.facts.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let mut page = format!("<h3>{} {state}</h3>\n", text(&store.name)) + &facts(&known);
    let row = |end: &Ending| {
        let left = end.at.since(server.made).as_secs() / DAY;
        let light = match (end.renewed, left) {
            (true, _) => (Light::Green, "the server renews it".to_owned()),
            (false, _) if end.at <= server.made => (Light::Red, "ended".to_owned()),
            (false, left @ 0..14) => (Light::Amber, format!("in {left} days")),
            (false, left) => (Light::Green, format!("in {left} days")),
        };
        vec![Cell::Long(end.what.clone()), Cell::Time(Some(end.at)), Cell::Light(light.0, light.1)]
    };
    let rows: Vec<_> = store.ends.iter().map(row).collect();
    page += &table("What ends by itself", &["What", "Ends", "Light"], &rows);
    page
}

fn people(server: &Server) -> String {
    let row =
        |one: &Custodian| vec![Cell::Text(one.name.clone()), Cell::Text(day(one.acknowledged))];
    let rows: Vec<_> = server.custodians.iter().map(row).collect();
    let mut page = match rows.is_empty() {
        true => "<p>No custodian is named in [report].</p>\n".to_owned(),
        false => table("Custodians", &["Name", "Acknowledged on"], &rows),
    };
    page += &match server.approvers.len() {
        0 => "<p>No approvers are registered: nothing needs more than one person.</p>\n".to_owned(),
        n => format!(
            "<p>{} of {n} approvers must sign what shows or removes a key.</p>\n",
            server.approvals_needed
        ),
    };
    let keys =
        |all: &[String]| all.iter().map(|key| vec![Cell::Long(key.clone())]).collect::<Vec<_>>();
    page += &table("Approvers", &["Public key"], &keys(&server.approvers));
    page + &table("Recipients of backups", &["Public key"], &keys(&server.backup_recipients))
}

fn backups(server: &Server) -> String {
    let row = |one: &Record| {
        vec![
            Cell::Time(Some(one.at)),
            Cell::Text(one.event.clone()),
            Cell::Long(one.what.clone()),
            Cell::Long(one.actor.clone()),
            Cell::Long(one.reason.clone()),
        ]
    };
    let head = ["When", "What", "Of", "Who", "Why"];
    let mut page = String::new();
    for (title, records) in [
        ("Backups", &server.backups),
        ("Drills, restores and rescues", &server.recoveries),
        ("Destructions", &server.destructions),
        ("Keys and logs that came in or left", &server.transfers),
        ("Approvals", &server.approvals),
    ] {
        let rows = limited(records.iter().map(row));
        let _ = writeln!(page, "<h3>{title}</h3>");
        page += match rows.is_empty() {
            true => "<p>None on record.</p>\n",
            false => "",
        };
        page += &table(title, &head, &rows);
    }
    page
}

fn trail(server: &Server) -> String {
    let it = &server.trail;
    let state = match it.faults.is_empty() {
        true => light(Light::Green, "whole"),
        false => light(Light::Red, "not whole"),
    };
    let mut page = format!("<p>{state}</p>\n");
    page += &facts(&[
        ("Lines", it.lines.to_string()),
        ("Last line", it.last.map_or_else(|| "none".to_owned(), moment)),
        (
            "Proven by the keystore up to line",
            it.anchored.map_or_else(|| "none".to_owned(), |line| line.to_string()),
        ),
        ("Lines after that", it.not_anchored.to_string()),
        ("Sinks that get a copy", it.sinks.to_string()),
        ("Lines that wait for a sink", server.number("sinks_waiting").to_string()),
        ("Lines that were given up", server.number("sinks_lost").to_string()),
    ]);
    let rows: Vec<_> = it.faults.iter().map(|fault| vec![Cell::Long(fault.clone())]).collect();
    page += &table("What is wrong with it", &["Fault"], &rows);
    let events = it.events.iter();
    let rows: Vec<_> = events
        .map(|(event, count)| vec![Cell::Text(event.clone()), Cell::Number(*count)])
        .collect();
    page += &table("Lines by event", &["Event", "Lines"], &rows);
    if let Some(checkpoint) = &it.checkpoint {
        // Its lines are what is signed.
        let lines: Vec<_> = checkpoint.lines().map(text).collect();
        let _ = writeln!(
            page,
            "<h3>Checkpoint</h3>\n<p>How far the trail had come when this page was made. Kept in a file of its own, \
             <code>keyward audit verify --checkpoint FILE</code> shows later that nothing before was changed.</p>\n\
             <pre>{}</pre>",
            lines.join("\n")
        );
    }
    page
}

fn standards(server: &Server) -> String {
    let mut page = String::new();
    for standard in server.rules.chunk_by(|one, next| one.standard == next.standard) {
        let Some(first) = standard.first() else { continue };
        let row = |one: &Judged| {
            vec![
                Cell::Text(one.number.clone()),
                Cell::Long(one.requirement.clone()),
                Cell::Light(one.verdict.light(), one.verdict.words().to_owned()),
                Cell::List(one.evidence.clone()),
            ]
        };
        let rows: Vec<_> = standard.iter().map(row).collect();
        let _ = writeln!(page, "<h3>{}</h3>", text(&first.standard));
        page += &table(&first.standard, &["Number", "Requirement", "Verdict", "Evidence"], &rows);
    }
    page
}

/// As many rows as a page has room for, and a last one that counts the rest.
fn limited(rows: impl Iterator<Item = Vec<Cell>>) -> Vec<Vec<Cell>> {
    let mut rows: Vec<_> = rows.collect();
    let more = rows.len().saturating_sub(MAX_ROWS);
    if more > 0 {
        rows.truncate(MAX_ROWS);
        rows.push(vec![Cell::Text(format!("{more} more are in JSON and CSV"))]);
    }
    rows
}

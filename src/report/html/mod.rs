//! A report as one page: nothing is loaded from elsewhere, nothing runs, and it prints.

#![forbid(unsafe_code)]

mod chart;
mod parts;
mod sections;

use std::fmt::Write as _;

use super::model::{Document, Judged, Light, Mark, Server, Verdict};
use parts::{Cell, moment, table, text};

const STYLE: &str = include_str!("style.css");

/// The whole page but for the signature.
#[must_use]
pub fn html(document: &Document) -> String {
    let title = title(document);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<header>\n<h1>{}</h1>\n",
        text(&title),
        text(&title)
    );
    let _ = writeln!(
        page,
        "<p class=\"soft\">Made {} UTC by keyward {}.</p>\n</header>\n<main>",
        moment(document.made),
        text(&document.keyward)
    );
    match &document.servers[..] {
        [server] => page += &sections::server(server, 0),
        servers => {
            page += &fleet(document);
            for (number, server) in (1..).zip(servers) {
                let _ = writeln!(
                    page,
                    "<section class=\"server\" id=\"s{number}\"><h1>{}</h1>",
                    text(&server.name())
                );
                page += &sections::server(server, number);
                page += "</section>\n";
            }
        }
    }
    let signature = match &document.servers[..] {
        [server] if server.source.is_none() && !server.text("fingerprint").is_empty() => SIGNED,
        _ => "<p>This file has no signature.</p>\n",
    };
    page + FOOT + signature + END
}

const FOOT: &str = "</main>\n<footer>\n\
    <p>Green is met, red not met, grey not ours to say: a verdict is of what keyward can see in its keystore, its \
    audit trail, its configuration and the data files. Whether procedures are written down and followed is not in \
    them. Requirements are in our own words; the standards' own texts count.</p>\n";

const SIGNED: &str = "<p>The last line of this file is a signature over every byte before it. \
    <code>keyward report verify FILE</code> checks it, on the server or, with <code>--key</code>, anywhere else. \
    Whoever can open the keystore can sign: compare with what was kept elsewhere before.</p>\n";

const END: &str = "<table class=\"sign\"><tbody><tr><th scope=\"row\">Reviewed by</th><td></td><th scope=\"row\">Date</th>\
    <td></td><th scope=\"row\">Signature</th><td></td></tr></tbody></table>\n</footer>\n</body>\n</html>\n";

fn title(document: &Document) -> String {
    match &document.servers[..] {
        [server] => format!("Encryption keys of {}", server.name()),
        servers => format!("Encryption keys of {} servers", servers.len()),
    }
}

/// What all servers come to, and each in a row.
fn fleet(document: &Document) -> String {
    let totals = &document.totals;
    let of = |verdict: Verdict| totals.verdicts.get(verdict.name()).copied().unwrap_or_default();
    let unseen = document.servers.iter().filter(|server| server.data.is_none()).count();
    let unencrypted = match unseen {
        0 => "files not encrypted".to_owned(),
        n => format!("files not encrypted (servers not looked at: {n})"),
    };
    let tiles: [(&str, u64); 8] = [
        ("servers", totals.servers),
        ("keys", totals.keys),
        ("key versions", totals.key_versions),
        ("rotations overdue", totals.overdue),
        (&unencrypted, totals.unencrypted_files),
        ("requirements met", of(Verdict::Met)),
        ("not met", of(Verdict::NotMet)),
        ("not ours to say", of(Verdict::NotOurs)),
    ];
    let tiles: String =
        tiles.iter().map(|(name, number)| format!("<li><b>{number}</b>{name}</li>")).collect();
    let row = |server: &Server| {
        vec![
            Cell::Text(server.name()),
            Cell::Text(server.environment.clone().unwrap_or_default()),
            Cell::Light(overall(server), overall_words(server)),
            Cell::Number(server.number("keys")),
            Cell::Number(server.number("key_versions")),
            Cell::Number(server.overdue().count() as u64),
            Cell::Text(sections::unencrypted(server)),
            Cell::Number(server.count(Verdict::NotMet) as u64),
            Cell::Day(Some(server.made)),
        ]
    };
    let head = [
        "Server",
        "Environment",
        "State",
        "Keys",
        "Versions",
        "Overdue",
        "Not encrypted",
        "Not met",
        "Looked at",
    ];
    let rows: Vec<_> = document.servers.iter().map(row).collect();
    let mut page = format!("<h2 id=\"fleet\">Summary</h2>\n<ul class=\"tiles\">{tiles}</ul>\n");
    page += &table("Servers", &head, &rows);
    page += &matrix(&document.servers);
    page +=
        "<p>This page was made from the reports below and is not signed itself: verify them.</p>\n";
    let sources = document.servers.iter().filter_map(|server| {
        let source = server.source.as_ref()?;
        Some(vec![
            Cell::Text(source.file.clone()),
            Cell::Text(server.name()),
            Cell::Long(source.signature.clone()),
            Cell::Long(source.sha256.clone()),
        ])
    });
    let head = ["File", "Server", "Signature", "SHA-256"];
    page + &table("Reports that this page was made from", &head, &sources.collect::<Vec<_>>())
}

/// Each requirement in a row, each server in a column.
fn matrix(servers: &[Server]) -> String {
    let Some(first) = servers.first() else { return String::new() };
    let names: Vec<_> = servers.iter().map(Server::name).collect();
    let head: Vec<&str> =
        ["Requirement"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |judged: &Judged| {
        let name = format!("{} {}", judged.standard, judged.number);
        let of = |server: &Server| {
            let same = server
                .rules
                .iter()
                .find(|one| one.standard == judged.standard && one.number == judged.number);
            same.map_or(Cell::Text("\u{2013}".to_owned()), |one| {
                Cell::Light(one.verdict.light(), one.verdict.words().to_owned())
            })
        };
        [Cell::Text(name)].into_iter().chain(servers.iter().map(of)).collect()
    };
    table("Requirements", &head, &first.rules.iter().map(row).collect::<Vec<Vec<Cell>>>())
}

/// The state of all of it.
fn overall(server: &Server) -> Light {
    let has = |mark| server.findings.iter().any(|finding| finding.mark == mark);
    match () {
        () if has(Mark::Failed) || server.text("state") == "degraded" => Light::Red,
        () if has(Mark::Warning) || server.count(Verdict::NotMet) > 0 => Light::Amber,
        () => Light::Green,
    }
}

fn overall_words(server: &Server) -> String {
    match overall(server) {
        Light::Red => "does not work as it should",
        Light::Amber => "works, something is to be done",
        Light::Green | Light::Grey => "all well",
    }
    .to_owned()
}

#[cfg(test)]
mod tests;

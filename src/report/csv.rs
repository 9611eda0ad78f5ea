//! A report as a table: a row for each thing that is known of each thing, so that it can be filtered and joined
//! in a spreadsheet (RFC 4180, lines end with LF).

#![forbid(unsafe_code)]

use super::model::{Document, Key, KeyStore, Record, Server, Version};
use crate::env::Timestamp;
use crate::error::escaped;

/// The columns.
const HEAD: &str = "\"server\",\"section\",\"item\",\"field\",\"value\"\n";

/// The rows so far.
struct Table<'a> {
    text: String,
    server: &'a str,
}

/// All rows of `document`, but for the signature.
#[must_use]
pub fn csv(document: &Document) -> String {
    let mut text = HEAD.to_owned();
    for server in &document.servers {
        let name = server.name();
        let mut table = Table { text, server: &name };
        table.server(server);
        text = table.text;
    }
    text
}

impl Table<'_> {
    /// One row.
    fn row(&mut self, section: &str, item: &str, field: &str, value: &str) {
        let cells = [self.server, section, item, field, value].map(cell);
        self.text += &cells.join(",");
        self.text.push('\n');
    }

    fn time(&mut self, section: &str, item: &str, field: &str, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.row(section, item, field, &at.to_string());
        }
    }

    fn server(&mut self, server: &Server) {
        self.about(server);
        for judged in &server.rules {
            let item = format!("{} {}", judged.standard, judged.number);
            self.row("rule", &item, "requirement", &judged.requirement);
            self.row("rule", &item, "verdict", judged.verdict.words());
            self.row("rule", &item, "evidence", &judged.evidence.join(" "));
        }
        for (number, finding) in (1..).zip(&server.findings) {
            let item = format!("{number}");
            self.row("finding", &item, finding.mark.name(), &finding.what);
            if let Some(advice) = &finding.advice {
                self.row("finding", &item, "advice", advice);
            }
        }
        server.keys.iter().for_each(|key| self.key(key));
        for (lane, period) in
            server.lanes.iter().flat_map(|lane| lane.periods.iter().map(move |one| (lane, one)))
        {
            let item = format!("{} version {}", lane.key, period.version);
            self.time("period", &item, "from", Some(period.from));
            self.time("period", &item, "to", period.to);
            self.row(
                "period",
                &item,
                "longer than the policy",
                if period.late { "yes" } else { "no" },
            );
        }
        self.data(server);
        server.key_stores.iter().for_each(|store| self.key_store(store));
        self.records("backup", &server.backups);
        self.records("recovery", &server.recoveries);
        self.records("destruction", &server.destructions);
        self.records("transfer", &server.transfers);
        self.records("approval", &server.approvals);
        self.trail(server);
    }

    fn about(&mut self, server: &Server) {
        self.time("report", "", "made", Some(server.made));
        self.row("report", "", "keyward", &server.keyward);
        self.row("report", "", "host", &server.host);
        self.row("report", "", "made by", &server.actor);
        self.row("report", "", "configuration", &server.configuration);
        self.row("report", "", "owner", server.owner.as_deref().unwrap_or_default());
        self.row("report", "", "environment", server.environment.as_deref().unwrap_or_default());
        if let Some(source) = &server.source {
            self.row("report", &source.file, "sha256", &source.sha256);
            self.row("report", &source.file, "its signature", &source.signature);
        }
        self.time("report", "", "ciphers reviewed", server.ciphers_reviewed);
        for one in &server.custodians {
            self.time("custodian", &one.name, "acknowledged", Some(one.acknowledged));
        }
        for (name, value) in &server.status {
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            self.row("status", "", name, &text);
        }
        self.row("approvals", "", "needed", &server.approvals_needed.to_string());
        server.approvers.iter().for_each(|key| self.row("approvals", "", "approver", key));
        server.backup_recipients.iter().for_each(|key| self.row("approvals", "", "recipient", key));
    }

    fn key(&mut self, key: &Key) {
        self.row("key", &key.key, "purpose", key.purpose.as_deref().unwrap_or_default());
        self.time("key", &key.key, "next rotation", key.next_rotation);
        self.row("key", &key.key, "overdue", if key.overdue { "yes" } else { "no" });
        for version in &key.versions {
            self.version(key, version);
        }
    }

    fn version(&mut self, key: &Key, one: &Version) {
        let item = format!("{} version {}", key.key, one.version);
        self.row("version", &item, "state", &one.state.to_string());
        self.row("version", &item, "cipher", &one.cipher);
        self.row("version", &item, "bits", &one.bits.to_string());
        self.time("version", &item, "created", one.created);
        self.row("version", &item, "check value", one.check.as_deref().unwrap_or_default());
        self.time("version", &item, "kept until", one.retain_until);
        if let Some(plan) = &one.planned {
            self.row("version", &item, "planned", &format!("{} at {}", plan.state, plan.at));
        }
        for step in &one.history {
            let what = format!("{} at {} by {}: {}", step.state, step.at, step.actor, step.reason);
            self.row("version", &item, "history", &what);
        }
    }

    fn data(&mut self, server: &Server) {
        let Some(data) = &server.data else { return };
        data.directories.iter().for_each(|folder| self.row("data", folder, "looked at", "yes"));
        self.row("data", "", "files", &data.files.to_string());
        for need in &data.needs {
            let item = match need.version {
                Some(version) => format!("{} version {version}", need.key),
                None => need.key.clone(),
            };
            self.row("data", &item, "cipher", need.cipher.as_deref().unwrap_or_default());
            self.row("data", &item, "state", &need.state);
            for (field, number) in [
                ("tablespaces", need.tablespaces),
                ("logs", need.logs),
                ("other files", need.others),
                ("in use", need.in_use),
                ("freed", need.freed),
            ] {
                self.row("data", &item, field, &number.to_string());
            }
        }
        for plain in &data.unencrypted {
            self.row("not encrypted", &plain.file, &plain.kind, &plain.pages.to_string());
        }
        for unclear in &data.unclear {
            self.row("not understood", &unclear.file, "why", &unclear.why);
        }
    }

    fn key_store(&mut self, store: &KeyStore) {
        self.row("key store", &store.name, "kind", &store.kind);
        self.row("key store", &store.name, "role", &store.role);
        self.row("key store", &store.name, "in use", if store.in_use { "yes" } else { "no" });
        self.row("key store", &store.name, "keys in", &store.custody);
        for (name, value) in &store.facts {
            self.row("key store", &store.name, name, value);
        }
        if let Some(failure) = &store.failure {
            self.row("key store", &store.name, "does not answer", failure);
        }
        for end in &store.ends {
            self.time("key store", &store.name, &format!("{} ends", end.what), Some(end.at));
        }
    }

    fn records(&mut self, section: &str, records: &[Record]) {
        for Record { at, event, what, actor, reason } in records {
            let value = format!("{at} {what}, by {actor}: {reason}");
            self.row(section, &at.to_string(), event, &value);
        }
    }

    fn trail(&mut self, server: &Server) {
        let facts = &server.trail;
        self.row("trail", "", "lines", &facts.lines.to_string());
        if let Some(line) = facts.anchored {
            self.row("trail", "", "proven up to line", &line.to_string());
        }
        self.row("trail", "", "not anchored", &facts.not_anchored.to_string());
        facts.faults.iter().for_each(|fault| self.row("trail", "", "fault", fault));
        for (event, number) in &facts.events {
            self.row("trail", event, "lines", &number.to_string());
        }
    }
}

/// A text as one cell, quoted: control characters come out as escapes, and a table calculator, which takes what
/// begins with a sign for a formula, finds an apostrophe before it.
#[must_use]
pub fn cell(text: &str) -> String {
    let formula = text.trim_start().starts_with(['=', '+', '-', '@']);
    let apostrophe = if formula { "'" } else { "" };
    format!("\"{apostrophe}{}\"", escaped(text).replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        assert_eq!(cell("key 7"), "\"key 7\"");
        assert_eq!(cell("a \"b\", c\nd"), "\"a \"\"b\"\", c\\nd\"");
        assert_eq!(cell("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        for sign in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1"] {
            assert!(cell(sign).starts_with("\"'"), "{sign}: {}", cell(sign));
        }
        assert_eq!(cell(""), "\"\"");
    }
}

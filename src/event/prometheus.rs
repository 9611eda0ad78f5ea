//! The metrics as Prometheus reads them: its text format, of version 0.0.4. Those of a running server come
//! as the rows that it shows, and are called `keyward_server_...`, next to the command's own.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::metrics::{self, Facts, Kind, Metric, Renderer, Sample, Shown, Value};
use crate::error::plays_tricks;

/// All metrics of the keystore at `keystore`, by which each is labelled: those of `facts`, and the numbers in
/// the `rows` of a server, names and values. What has no value is left out.
#[must_use]
pub fn text(keystore: &str, facts: Facts<'_>, rows: &[(String, String)]) -> String {
    let mut text = String::new();
    for Shown { metric, value } in metrics::shown(Renderer::Prometheus, facts) {
        write_family(&mut text, &name(metric, ""), metric, keystore, &samples(value));
    }
    for (shown, value) in rows {
        let number = metrics::named(shown).filter(|metric| metric.kind != Kind::Text);
        let (Some(metric), Ok(number)) = (number, value.parse()) else { continue };
        if metric.unit == "time" && number == 0 {
            continue;
        }
        let sample = Sample { labels: Vec::new(), number };
        write_family(&mut text, &name(metric, "server_"), metric, keystore, &[sample]);
    }
    text
}

/// Its name with its unit, as Prometheus wants names.
fn name(metric: &Metric, whose: &str) -> String {
    let unit = match (metric.kind, metric.unit) {
        (Kind::Counter, _) => "_total",
        (_, "time") => "_timestamp_seconds",
        _ => "",
    };
    format!("keyward_{whose}{}{unit}", metric.name())
}

fn samples(value: Value) -> Vec<Sample> {
    let one = |number| vec![Sample { labels: Vec::new(), number }];
    match value {
        Value::Flag(is) => one(u64::from(is)),
        Value::Number(number) => one(number),
        Value::Time(at) => one(at.as_unix()),
        Value::Each(samples) => samples,
        Value::Text(_) | Value::Names(_) | Value::Nothing => Vec::new(),
    }
}

fn write_family(text: &mut String, name: &str, metric: &Metric, keystore: &str, all: &[Sample]) {
    if all.is_empty() {
        return;
    }
    let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
    let _ = writeln!(text, "# HELP {name} {}", metric.help.replace('\\', "\\\\"));
    let _ = writeln!(text, "# TYPE {name} {kind}");
    for Sample { labels, number } in all {
        let labels = labels.iter().map(|(label, value)| (*label, value.as_str()));
        let labels = std::iter::once(("keystore", keystore)).chain(labels);
        let labels: Vec<_> =
            labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(text, "{name}{{{}}} {number}", labels.join(","));
    }
}

/// A label's value within quotation marks.
fn escaped(value: &str) -> String {
    let plain = |c: char| if c != '\n' && plays_tricks(c) { '?' } else { c };
    let value: String = value.chars().map(plain).collect();
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Timestamp;
    use crate::event::metrics::AskedFacts;

    fn row(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn each_family_has_its_help_its_type_and_its_unit() {
        let asked = AskedFacts {
            opens: Some(true),
            certificates: vec![
                ("a\"b".to_owned(), "/c\\d".to_owned(), Timestamp::from_unix(7)),
                ("e".to_owned(), "/f\ng".to_owned(), Timestamp::from_unix(8)),
            ],
            ..AskedFacts::default()
        };
        let facts = Facts { asked: Some(&asked), ..Facts::default() };
        let rows = [
            row("KEYWARD_nonsense", "1"),
            row("rotations", "4"),
            row("Degraded", "0"),
            row("degraded_since", "0"),
            row("state", "1"),
            row("generation", "many"),
        ];
        let text = text("/k", facts, &rows);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE keyward_build_info gauge",
                concat!(
                    "keyward_build_info{keystore=\"/k\",version=\"",
                    env!("CARGO_PKG_VERSION"),
                    "\"} 1"
                ),
                "# TYPE keyward_keystore_opens gauge",
                "keyward_keystore_opens{keystore=\"/k\"} 1",
                "# TYPE keyward_certificate_expires_timestamp_seconds gauge",
                "keyward_certificate_expires_timestamp_seconds{keystore=\"/k\",provider=\"a\\\"b\",file=\"/c\\\\d\"} 7",
                "keyward_certificate_expires_timestamp_seconds{keystore=\"/k\",provider=\"e\",file=\"/f\\ng\"} 8",
                "# TYPE keyward_server_rotations_total counter",
                "keyward_server_rotations_total{keystore=\"/k\"} 4",
                "# TYPE keyward_server_degraded gauge",
                "keyward_server_degraded{keystore=\"/k\"} 0",
            ]
        );
        assert_eq!(text.matches("# HELP").count(), 4 + 1);
    }
}

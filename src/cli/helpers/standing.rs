//! How things stand, from the keystore itself: what `keyward status` shows. What that is is in `event::metrics`.

#![forbid(unsafe_code)]

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::cli::helpers::facts;
use crate::cli::helpers::print::{age, plain};
use crate::config::Config;
use crate::custodian::Custodian;
use crate::env::{Clock, System, Timestamp};
use crate::event::metrics::{self, Facts, Renderer, Shown, Value};
use crate::store::DataDirectory;

/// The metrics, who uses the keystore, and what waits for approvals.
pub(in crate::cli) struct Report {
    metrics: Vec<Shown>,
    data_directories: Vec<DataDirectory>,
    approvals: Vec<Waiting>,
}

/// A request that can be approved or carried out.
#[derive(Serialize)]
struct Waiting {
    request: String,
    action: &'static str,
    requester: String,
    ends: Timestamp,
    approvals: usize,
    needed: u32,
}

impl Report {
    /// How things stand by the keys that `custodian` has opened.
    pub(in crate::cli) fn of(config: &Config, custodian: &Custodian) -> Self {
        let keystore = facts::of(config, custodian);
        let keys = custodian.status();
        let facts = Facts { keys: Some(&keys), keystore: Some(&keystore), ..Facts::default() };
        let metrics = metrics::shown(Renderer::Command, facts);
        let data_directories = custodian.data_directories();
        Self { metrics, data_directories, approvals: waiting(custodian) }
    }

    /// A line for each metric that has a value.
    pub(in crate::cli) fn text(&self) -> String {
        let line = |name: &str, value: &str| format!("{name:<20} {value}\n");
        let metrics = self.metrics.iter().filter_map(|shown| {
            Some(line(&shown.metric.name().replace('_', " "), &in_words(&shown.value)?))
        });
        let used_by =
            self.data_directories.iter().map(|DataDirectory { mark, host, path, last_seen }| {
                line("used by", &format!("{path} on {host}, mark {mark}, last seen {last_seen}"))
            });
        let waiting = self.approvals.iter().map(|one| {
            let Waiting { request, action, requester, ends, approvals, needed } = one;
            let text = format!(
                "{action}, request {request} of {}: {approvals} of {needed}, until {ends}",
                plain(requester)
            );
            line("waits for approval", &text)
        });
        metrics.chain(used_by).chain(waiting).collect()
    }
}

/// What waits, where keyward's own keystore has the keys. What hinders it to be read, `keyward approve` tells.
fn waiting(custodian: &Custodian) -> Vec<Waiting> {
    let requests = custodian.manager().and_then(|manager| manager.requests()).unwrap_or_default();
    let open = requests.into_iter().filter(|one| one.void.is_none());
    open.map(|one| Waiting {
        request: one.request.short(),
        action: one.request.subject.action().name(),
        requester: one.request.requester.clone(),
        ends: one.request.ends,
        approvals: one.approvers.len(),
        needed: one.needed,
    })
    .collect()
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for Shown { metric, value } in &self.metrics {
            map.serialize_entry(metric.name(), value)?;
        }
        map.serialize_entry("data_directories", &self.data_directories)?;
        map.serialize_entry("approvals", &self.approvals)?;
        map.end()
    }
}

/// A value for people; none where there is nothing to say.
fn in_words(value: &Value) -> Option<String> {
    Some(match value {
        Value::Flag(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Time(at) => format!("{at} ({})", from_now(*at, System.now())),
        Value::Text(text) => plain(text),
        Value::Names(names) if names.is_empty() => return None,
        Value::Names(names) => names.join(", "),
        // Prometheus alone gets them.
        Value::Each(_) | Value::Nothing => return None,
    })
}

fn from_now(at: Timestamp, now: Timestamp) -> String {
    match at > now {
        true => format!("in {}", age(at.since(now))),
        false => format!("{} ago", age(now.since(at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::metrics::METRICS;

    fn report(values: impl Fn(&str) -> Value) -> Report {
        let of_ours = METRICS.iter().filter(|m| m.shown_by.contains(&Renderer::Command));
        let metrics = of_ours.map(|metric| Shown { metric, value: values(metric.name()) });
        let (data_directories, approvals) = (Vec::new(), Vec::new());
        Report { metrics: metrics.collect(), data_directories, approvals }
    }

    #[test]
    fn json_has_each_metric_whatever_the_state() {
        let json = serde_json::to_value(report(|_| Value::Nothing)).unwrap();
        let mut names: Vec<_> =
            report(|_| Value::Nothing).metrics.iter().map(|shown| shown.metric.name()).collect();
        names.extend(["data_directories", "approvals"]);
        names.sort_unstable();
        let mut fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, names);
        assert!(json["stash_taken"].is_null() && json["data_directories"] == serde_json::json!([]));
    }

    #[test]
    fn people_read_what_there_is() {
        let text = report(|name| match name {
            "wrapped_by" => Value::Names(vec!["a".to_owned(), "b".to_owned()]),
            "degraded" => Value::Flag(false),
            "keystore" => Value::Text("/k\n/j".to_owned()),
            "oldest_active" => Value::Time(Timestamp::from_unix(0)),
            _ => Value::Nothing,
        })
        .text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["degraded             no", "keystore             /k\\n/j"]);
        assert_eq!(lines[2], "wrapped by           a, b");
        assert!(lines[3].starts_with("oldest active        1970-01-01T00:00:00Z ("), "{text}");
        assert_eq!(lines.len(), 4);
        let moment = |at| from_now(Timestamp::from_unix(at), Timestamp::from_unix(90));
        assert_eq!((moment(30), moment(150)), ("1m ago".to_owned(), "in 1m".to_owned()));
    }
}

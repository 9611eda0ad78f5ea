//! The page: well-formed, and nothing of others in it is markup.

#![forbid(unsafe_code)]

use super::*;
use crate::env::Timestamp;
use crate::report::judge;
use crate::report::model::Source;
use crate::report::sample::{record, server};

fn page(servers: Vec<Server>) -> String {
    html(&Document::new(Timestamp::from_unix(0), servers))
}

/// The elements of a page in order, as `a` and `/a`; those that have no end are left out.
fn elements(page: &str) -> Vec<&str> {
    let tags = page.split('<').skip(1).filter_map(|tag| tag.split('>').next());
    let with_end = tags.filter(|tag| !tag.ends_with(['/', '-']));
    let names = with_end.filter_map(|tag| tag.split([' ', '\n']).next());
    names.filter(|name| !["meta", "!doctype"].contains(name)).collect()
}

#[test]
fn every_element_ends_where_it_must() {
    let mut well = server();
    well.trail.checkpoint = Some("keyward/audit/x\n1\nAA==\n\n\u{2014} x y\n".to_owned());
    for page in
        [page(vec![well.clone()]), page(vec![well.clone(), server(), server()]), page(Vec::new())]
    {
        let mut open = Vec::new();
        for tag in elements(&page) {
            match tag.strip_prefix('/') {
                None => open.push(tag),
                Some(end) => assert_eq!(open.pop(), Some(end), "{page}"),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
        let ids: Vec<_> = page
            .match_indices(" id=\"")
            .map(|(at, _)| page[at + 5..].split('"').next().unwrap())
            .collect();
        let once: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "an id twice");
        for (at, _) in page.match_indices("href=\"#") {
            let to = page[at + 7..].split('"').next().unwrap();
            assert!(ids.contains(&to), "{to} is nowhere");
        }
    }
}

/// Text of others in every place that has some.
#[test]
fn nothing_that_others_wrote_is_markup() {
    const EVIL: &str = "x\"><img src=x onerror=alert(1)>\u{202e}\n--><!--";
    let text = serde_json::to_string(&server()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let evil = spoiled(value, EVIL);
    let mut evil: Server = serde_json::from_value(evil).unwrap();
    evil.source =
        Some(Source { file: EVIL.to_owned(), sha256: EVIL.to_owned(), signature: EVIL.to_owned() });
    evil.transfers = vec![record(EVIL, 1)];
    evil.trail.checkpoint = Some(EVIL.to_owned());
    evil.trail.faults = vec![EVIL.to_owned()];
    for page in [page(vec![evil.clone()]), page(vec![evil.clone(), evil])] {
        assert!(
            !page.contains("<img") && !page.contains("-->") && !page.contains('\u{202e}'),
            "{page}"
        );
        assert!(page.matches("&lt;img src=x").count() > 40);
    }
}

/// The same value with `text` for every text that is not of a form of its own.
fn spoiled(value: serde_json::Value, text: &str) -> serde_json::Value {
    use serde_json::Value;
    const FORMS: [&str; 5] = ["state", "mark", "verdict", "at", "history"];
    match value {
        Value::String(old) if old.parse::<Timestamp>().is_ok() => Value::String(old),
        Value::String(_) => Value::String(text.to_owned()),
        Value::Array(list) => list.into_iter().map(|one| spoiled(one, text)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match FORMS.contains(&name.as_str()) && value.is_string() {
                true => (name, value),
                false => (name, spoiled(value, text)),
            })
            .collect(),
        other => other,
    }
}

/// A report that somebody made up has any numbers and times.
#[test]
fn charts_bear_any_times_and_numbers() {
    let ends = [0, 1, 86_400, u64::MAX].map(Timestamp::from_unix);
    for made in ends {
        for from in ends {
            for next in ends {
                let mut server = server();
                server.made = made;
                server.lanes[0].periods[0].from = from;
                server.lanes[0].periods[0].to = Some(next);
                server.lanes[0].next_rotation = Some(next);
                server.policy.rotate_after = Some(u64::MAX);
                server.status.insert("keys".to_owned(), u64::MAX.into());
                server.rules = judge(&server);
                assert!(page(vec![server.clone(), server]).ends_with("</html>\n"));
            }
        }
    }
}

#[test]
fn a_page_loads_nothing_and_runs_nothing() {
    let page = page(vec![server()]);
    for elsewhere in [
        "<script",
        " src=",
        "@import",
        "url(",
        "<link",
        "<iframe",
        "javascript:",
        "http-equiv=\"refresh",
    ] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    // The name space of SVG is no address that is called.
    assert_eq!(
        page.matches("http").count() - page.matches("http-equiv").count(),
        page.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_page_says_what_it_does_not_know() {
    let mut unseen = server();
    unseen.data = None;
    let fleet = page(vec![server(), unseen]);
    assert!(
        fleet.contains("(servers not looked at: 1)") && fleet.contains("<td>not looked at</td>")
    );
    assert!(
        fleet.contains("This file has no signature")
            && !fleet.contains("The last line of this file")
    );
    assert!(page(vec![server()]).contains("The last line of this file"));
    let mut served = server();
    served.status.insert("fingerprint".to_owned(), serde_json::Value::Null);
    assert!(page(vec![served]).contains("This file has no signature"));
}

//! Pieces of a page. Every text goes through [`text`] or [`Cell`], so that whatever stands in a name or a reason
//! is shown and never is a piece of the page.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::env::Timestamp;
use crate::error::escaped;
use crate::report::model::Light;

/// One cell of a table.
pub(super) enum Cell {
    /// A text.
    Text(String),
    /// A text that needs room, and may be broken anywhere.
    Long(String),
    /// A few words that are not broken.
    Whole(String),
    /// Sentences.
    List(Vec<String>),
    /// A number.
    Number(u64),
    /// A moment; none where it is not known.
    Time(Option<Timestamp>),
    /// A moment's day.
    Day(Option<Timestamp>),
    /// A traffic light and its word.
    Light(Light, String),
}

/// `of` as text of a page: nothing in it is markup, and nothing commands a terminal.
pub(super) fn text(of: &str) -> String {
    let of = escaped(of);
    let mut safe = String::with_capacity(of.len());
    for c in of.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The same of a sentence, in which what is between back quotes is code.
fn sentence(of: &str) -> String {
    let of = text(of);
    let parts: Vec<&str> = of.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return of;
    }
    let part = |(n, part): (usize, &&str)| match n % 2 {
        1 => format!("<code>{part}</code>"),
        _ => (*part).to_owned(),
    };
    parts.iter().enumerate().map(part).collect()
}

/// A traffic light with its word: the colour alone says nothing.
pub(super) fn light(light: Light, word: &str) -> String {
    let class = match light {
        Light::Green => "green",
        Light::Amber => "amber",
        Light::Red => "red",
        Light::Grey => "grey",
    };
    format!("<span class=\"light {class}\">{}</span>", text(word))
}

/// Names and what they are; what is empty is left out.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let mut list = "<dl class=\"facts\">\n".to_owned();
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(list, "<dt>{}</dt><dd>{}</dd>", text(name), text(value));
    }
    list + "</dl>\n"
}

/// A table in a frame that scrolls where it is too wide. The first cell of a row is its head.
pub(super) fn table(caption: &str, head: &[&str], rows: &[Vec<Cell>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let caption = text(caption);
    let mut table = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{caption}\"><table>\
         <caption>{caption}</caption>\n<thead><tr>"
    );
    let first = rows.first().map_or(&[][..], |row| row);
    for (n, name) in head.iter().enumerate() {
        let class = match first.get(n) {
            Some(Cell::Number(_)) => " class=\"n\"",
            _ => "",
        };
        let _ = write!(table, "<th scope=\"col\"{class}>{}</th>", text(name));
    }
    table += "</tr></thead>\n<tbody>\n";
    for row in rows {
        table += "<tr>";
        for (n, cell) in row.iter().enumerate() {
            table += &cell.html(n == 0);
        }
        table += "</tr>\n";
    }
    table + "</tbody></table></div>\n"
}

impl Cell {
    fn html(&self, is_head: bool) -> String {
        let (class, inner) = match self {
            Self::Text(words) => ("", text(words)),
            Self::Long(words) => ("long", text(words)),
            Self::Whole(words) => ("t", text(words)),
            Self::Number(number) => ("n", number.to_string()),
            Self::Time(at) => ("t", at.map_or_else(|| "\u{2013}".to_owned(), moment)),
            Self::Day(at) => ("t", at.map_or_else(|| "\u{2013}".to_owned(), day)),
            Self::Light(of, word) => ("", light(*of, word)),
            Self::List(lines) => {
                let lines: String =
                    lines.iter().map(|line| format!("<li>{}</li>", sentence(line))).collect();
                ("list", format!("<ul>{lines}</ul>"))
            }
        };
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        match is_head {
            true => format!("<th scope=\"row\"{class}>{inner}</th>"),
            false => format!("<td{class}>{inner}</td>"),
        }
    }
}

/// A moment to the minute, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    let whole = at.to_string();
    match (whole.get(..10), whole.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time}"),
        _ => whole,
    }
}

/// A moment's day.
pub(super) fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        let evil = "<script>alert('1')</script>&\"\u{202e}\n--><b>";
        let safe = text(evil);
        assert_eq!(
            safe,
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\\u{202e}\\n--&gt;&lt;b&gt;"
        );
        let table = table(
            evil,
            &[evil],
            &[vec![Cell::Text(evil.to_owned()), Cell::List(vec![evil.to_owned()])]],
        );
        let list = facts(&[(evil, evil.to_owned())]);
        for shown in [table, list, light(Light::Red, evil)] {
            assert!(!shown.contains("<script") && !shown.contains("<b>"), "{shown}");
            assert!(!shown.contains("-->"), "{shown}");
        }
        assert_eq!(sentence("see `a <b>` and c"), "see <code>a &lt;b&gt;</code> and c");
        assert_eq!(sentence("one ` only"), "one ` only");
        assert_eq!(moment(Timestamp::from_unix(0)), "1970-01-01 00:00");
    }
}

//! The dashboards: each query, in each panel and each variable, finds data.

use serde_json::Value;
use test_kit::{Result, artefacts, ensure, files, seen};

use crate::room::Room;
use crate::watch::Watch;

/// The answer to every query of both dashboards, the variables set as Grafana would set them.
pub(crate) fn answer(room: &Room) -> Result<()> {
    for name in ["grafana-server.json", "grafana-fleet.json"] {
        let path = artefacts::repository().join("packaging/monitoring").join(name);
        let board: Value = serde_json::from_str(&files::text(&path)?)
            .map_err(|error| format!("{name}: {error}"))?;
        let variables = variables(&board, &room.watch).map_err(|error| error.within(name))?;
        let mut queries = 0;
        let mut ids = std::collections::BTreeSet::new();
        for panel in board["panels"].as_array().ok_or("no panels")? {
            ensure!(ids.insert(panel["id"].as_u64()), "{name}: an id twice: {}", panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr = target["expr"].as_str().ok_or("a target without an expression")?;
                let asked = filled(expr, &variables);
                ensure!(!asked.contains('$'), "{name}: {asked}");
                // A rate needs two values.
                let what = format!("{name}, {}: {asked}", panel["title"]);
                room.watch.until(&what, |watch| {
                    if watch.query(&asked)?.is_empty() {
                        room.write()?;
                        return Ok(false);
                    }
                    Ok(true)
                })?;
                queries += 1;
            }
        }
        ensure!(queries > 10, "{name} has {queries} queries");
        seen!("{name}: {} panels, {queries} queries, data for each", ids.len());
    }
    Ok(())
}

/// Each variable's first value.
fn variables(board: &Value, watch: &Watch) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for variable in board["templating"]["list"].as_array().into_iter().flatten() {
        if variable["type"] != "query" {
            continue;
        }
        let text = variable["query"]["query"].as_str().ok_or("a variable without a query")?;
        let inside = text.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) =
            inside.and_then(|inside| inside.rsplit_once(", ")).ok_or(format!("what is {text}?"))?;
        let values = watch.labels(label, &filled(selector, &all))?;
        let first = values.into_iter().next().ok_or(format!("{text} finds nothing"))?;
        all.push((variable["name"].as_str().unwrap_or_default().to_owned(), first));
    }
    Ok(all)
}

fn filled(expr: &str, variables: &[(String, String)]) -> String {
    let expr = expr.replace("$__rate_interval", "30s");
    variables.iter().fold(expr, |expr, (name, value)| expr.replace(&format!("${name}"), value))
}

//! `--check FILE`: a result compared with a stored one, for CI.
//!
//! What is compared is what the report found (columns, rows, sections), not how the trace is called
//! nor the notes. Rows are paired by their key columns, so that one new row is one difference.

use super::error::{Exit, Failure};
use super::json;
use super::output::Output;
use anyhow::Result;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

/// Differences that are printed.
const MOST: usize = 20;

/// Compares, or with `update` stores. Returns the differences as lines; empty: equal.
pub(crate) fn check(path: &Path, found: &Value, keys: &[&str], update: bool) -> Result<Vec<String>> {
    let name = path.display();
    if update {
        let mut nowhere = io::sink();
        // A file of any name: `-` is one here.
        let mut file = Output::create(&Path::new(".").join(path), true, &[], &mut nowhere)?;
        file.write_all(json::text(found).as_bytes())?;
        file.finish()?;
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Unusable, format!("{name}: {error}"))
            .hint("store the present result with --update")
    })?;
    let expected: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Unusable, format!("{name} is not JSON: {error}")))?;
    Ok(differences(&expected, found, keys))
}

/// What differs, one line each.
fn differences(expected: &Value, found: &Value, keys: &[&str]) -> Vec<String> {
    let told = |name: &&String| !matches!(name.as_str(), "trace" | "notes" | "rows" | "lost");
    let empty = Map::new();
    let (old, new) = (expected.as_object().unwrap_or(&empty), found.as_object().unwrap_or(&empty));
    let mut lines = Vec::new();
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).filter(told).collect();
    for name in names {
        let (before, after) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
        if before != after {
            lines.push(format!("{name}: expected {before}, found {after}"));
        }
    }
    lines.extend(rows(old.get("rows"), new.get("rows"), keys));
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("and {more} more differences"));
    }
    lines
}

fn rows(old: Option<&Value>, new: Option<&Value>, keys: &[&str]) -> Vec<String> {
    let (old, new) = (by_key(old, keys), by_key(new, keys));
    let names: std::collections::BTreeSet<&(String, usize)> = old.keys().chain(new.keys()).collect();
    let mut lines = Vec::new();
    for name in names {
        let row = if name.1 == 0 { name.0.clone() } else { format!("{} (row {} of it)", name.0, name.1 + 1) };
        match (old.get(name), new.get(name)) {
            (Some(before), Some(after)) if before != after => {
                lines.push(format!("~ {row}: {}", changes(before, after)));
            }
            (Some(before), None) => lines.push(format!("- {row}: {}", shown(before, keys))),
            (None, Some(after)) => lines.push(format!("+ {row}: {}", shown(after, keys))),
            _ => {}
        }
    }
    lines
}

/// Rows by the text of their keys, and their number among rows of the same keys.
fn by_key<'a>(rows: Option<&'a Value>, keys: &[&str]) -> BTreeMap<(String, usize), &'a Value> {
    let (mut all, mut counts) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
    for row in rows.and_then(Value::as_array).into_iter().flatten() {
        let parts: Vec<String> =
            keys.iter().filter_map(|key| Some(format!("{key}={}", plain(row.get(*key)?)))).collect();
        let name = if parts.is_empty() { "row".to_owned() } else { parts.join(" ") };
        let number = counts.entry(name.clone()).or_insert(0);
        all.insert((name, *number), row);
        *number += 1;
    }
    all
}

fn changes(before: &Value, after: &Value) -> String {
    let empty = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (old, new) = (before.get(name).unwrap_or(&Value::Null), after.get(name).unwrap_or(&Value::Null));
        (old != new).then(|| format!("{name} {} → {}", plain(old), plain(new)))
    };
    names.into_iter().filter_map(change).collect::<Vec<_>>().join(", ")
}

fn shown(row: &Value, keys: &[&str]) -> String {
    let fields = row.as_object().into_iter().flatten().filter(|(name, _)| !keys.contains(&name.as_str()));
    fields.map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), super::escape::visible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_difference_names_row_and_column() {
        let old = json!({"report": "x", "trace": "a", "rows": [{"comm": "nginx", "calls": 1}, {"comm": "redis", "calls": 2}]});
        let new = json!({"report": "x", "trace": "b", "rows": [{"comm": "nginx", "calls": 5}, {"comm": "wrk", "calls": 2}]});
        let expected = ["~ comm=nginx: calls 1 → 5", "- comm=redis: calls 2", "+ comm=wrk: calls 2"];
        assert_eq!(differences(&old, &new, &["comm"]), expected);
        assert!(differences(&old, &old, &["comm"]).is_empty());
    }
}

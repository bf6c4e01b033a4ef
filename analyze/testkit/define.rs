//! Table definitions in a line.

use crate::schema::{ColumnDef, ColumnType, Role, TableDef};

/// A table and its columns.
pub(super) fn def(name: &str, role: Role, columns: &[&str]) -> TableDef {
    let group = if role == Role::Event { "net" } else { "" };
    TableDef {
        number: 0,
        name: name.into(),
        role,
        group: group.into(),
        doc: String::new(),
        columns: columns.iter().map(|c| column(c)).collect(),
    }
}

/// `name:type`, with type u8, u16, u32, i32, u64, text or ip; `*` marks a key, `>table` a reference, `+table/of`
/// one with totals in the footer, `~table` one that is null where it is 0, `=name` an enumeration, `?unit` a unit,
/// `^unit` a unit of numbers that are null where they are 0, `!number` what is null.
fn column(text: &str) -> ColumnDef {
    let (name, rest) = text.split_once(':').expect("name:type");
    let end = rest.find(['*', '>', '+', '~', '=', '?', '^', '!']).unwrap_or(rest.len());
    let number = |width, signed| ColumnType::Number { width, signed };
    let kind = match &rest[..end] {
        "u8" => number(1, false),
        "u16" => number(2, false),
        "u32" => number(4, false),
        "i32" => number(4, true),
        "u64" => number(8, false),
        "text" => ColumnType::Text,
        "ip" => ColumnType::Ip,
        other => panic!("no type {other}"),
    };
    let mut column = ColumnDef::new(name, kind);
    match rest[end..].split_at_checked(1) {
        Some(("*", _)) => column.key = true,
        Some((">", table)) => column.references = table.into(),
        Some(("+", to)) => {
            let (table, totals) = to.split_once('/').expect("table/totals");
            (column.references, column.totals) = (table.into(), totals.into());
        }
        Some(("~", table)) => (column.references, column.null) = (table.into(), Some(0)),
        Some(("=", name)) => column.enumeration = name.into(),
        Some(("?", unit)) => column.unit = unit.into(),
        Some(("!", number)) => column.null = Some(number.parse().expect("a number")),
        Some(("^", unit)) => (column.unit, column.null) = (unit.into(), Some(0)),
        _ => {}
    }
    column
}

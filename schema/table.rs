//! Table definitions: part of every trace, so that a reader needs no list of its own.

use super::error::{FormatError, Result};
use super::frame::MAX_PARTS;
use super::trace_capnp::{column_info, table};
use capnp::introspect::{Introspect, TypeVariant};
use capnp::{dynamic_value, primitive_list};

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Something that happened.
    Event,
    /// What an id means.
    Identity,
    /// Facts about the recording.
    Record,
}

/// How a column's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// An integer of `width` bytes (1, 2, 4 or 8).
    Number {
        /// Bytes.
        width: u8,
        /// Two's complement.
        signed: bool,
    },
    /// Bytes of any length.
    Text,
    /// Sixteen bytes, IPv4 as `::ffff:a.b.c.d`.
    Ip,
    /// A newer writer's, by its number in the file: the column is absent here.
    Unknown(u16),
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    /// Name, `lower_snake_case`.
    pub name: String,
    /// Storage.
    pub kind: ColumnType,
    /// Unit (`ns`, `bytes`, …) or empty.
    pub unit: String,
    /// The identity table whose key it is, or empty.
    pub references: String,
    /// Whose names are in table `enum`, or empty.
    pub enumeration: String,
    /// The value that stands for "not known in this row".
    pub null: Option<u64>,
    /// Why no row of this trace has it, or empty.
    pub absent: String,
    /// Writer's hint: runs smoothly per value of the column of that name, or empty.
    pub by: String,
    /// The id that an identity row defines.
    pub key: bool,
    /// Non-zero: the id ends here.
    pub ends: bool,
    /// The footer keeps a histogram of it.
    pub histogram: bool,
    /// The footer keeps [`super::top::Top`]s of it: sums of the column of that name, or `rows`; empty: it does not.
    pub totals: String,
    /// Meaning.
    pub doc: String,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDef {
    /// What batches call it.
    pub number: u16,
    /// Name, `lower_snake_case`.
    pub name: String,
    /// What its rows are.
    pub role: Role,
    /// The probe group that fills it, or empty.
    pub group: String,
    /// Meaning.
    pub doc: String,
    /// In the order of storage.
    pub columns: Vec<ColumnDef>,
}

impl ColumnDef {
    /// A column with a name and storage and nothing else.
    #[must_use]
    pub fn new(name: &str, kind: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            unit: String::new(),
            references: String::new(),
            enumeration: String::new(),
            null: None,
            absent: String::new(),
            by: String::new(),
            key: false,
            ends: false,
            histogram: false,
            totals: String::new(),
            doc: String::new(),
        }
    }

    /// Whether the values are signed numbers.
    #[must_use]
    pub fn signed(&self) -> bool {
        matches!(self.kind, ColumnType::Number { signed: true, .. })
    }

    /// The value of a number as the definition means it: `None` for null, sign extended.
    #[must_use]
    pub fn value(&self, raw: u64) -> Option<i128> {
        if self.null == Some(raw) {
            return None;
        }
        match self.kind {
            ColumnType::Number { width, signed: true } => {
                let shift = 64 - 8 * u32::from(width);
                Some(i128::from((raw << shift).cast_signed() >> shift))
            }
            _ => Some(i128::from(raw)),
        }
    }
}

impl TableDef {
    /// Position of a column by name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Position of the id that tells what a row is about, if the table has one.
    #[must_use]
    pub fn key(&self) -> Option<usize> {
        self.columns.iter().position(|column| column.key)
    }

    /// Position of the moment that orders the rows, if the table has one.
    #[must_use]
    pub fn time(&self) -> Option<usize> {
        self.column("ts")
    }

    pub(super) fn write(&self, mut to: table::Builder) {
        to.set_number(self.number);
        to.set_name(&self.name);
        to.set_role(match self.role {
            Role::Event => table::Role::Event,
            Role::Identity => table::Role::Identity,
            Role::Record => table::Role::Record,
        });
        to.set_group(&self.group);
        to.set_doc(&self.doc);
        let mut columns = to.init_columns(super::message::count(self.columns.len()));
        for (index, column) in self.columns.iter().enumerate() {
            column.write(columns.reborrow().get(super::message::count(index)));
        }
    }

    pub(super) fn read(from: table::Reader) -> Result<Self> {
        let columns = from.get_columns()?;
        if columns.len() as usize > MAX_PARTS {
            return Err(FormatError::Batch(format!(
                "{} columns, at most {MAX_PARTS} are possible",
                columns.len()
            )));
        }
        Ok(Self {
            number: from.get_number(),
            name: from.get_name()?.to_string()?,
            role: match from.get_role() {
                Ok(table::Role::Event) => Role::Event,
                Ok(table::Role::Identity) => Role::Identity,
                // What a newer writer calls otherwise is neither, so it is no report's and no key's.
                Ok(table::Role::Record) | Err(capnp::NotInSchema(_)) => Role::Record,
            },
            group: from.get_group()?.to_string()?,
            doc: from.get_doc()?.to_string()?,
            columns: columns.iter().map(ColumnDef::read).collect::<Result<_>>()?,
        })
    }
}

impl ColumnDef {
    fn write(&self, mut to: column_info::Builder) {
        to.set_name(&self.name);
        match self.type_in_file() {
            Ok(known) => to.set_type(known),
            Err(number) => set_number::<column_info::Type>(to.reborrow().into(), "type", number),
        }
        to.set_unit(&self.unit);
        to.set_references(&self.references);
        to.set_enumeration(&self.enumeration);
        to.set_has_null(self.null.is_some());
        to.set_null(self.null.unwrap_or(0));
        to.set_absent(&self.absent);
        to.set_key(self.key);
        to.set_ends(self.ends);
        to.set_histogram(self.histogram);
        to.set_totals(&self.totals);
        to.set_by(&self.by);
        to.set_doc(&self.doc);
    }

    /// A type, or the number of one that has no name here.
    fn type_in_file(&self) -> std::result::Result<column_info::Type, u16> {
        use column_info::Type;
        Ok(match self.kind {
            ColumnType::Number { width: 1, signed: false } => Type::U8,
            ColumnType::Number { width: 2, signed: false } => Type::U16,
            ColumnType::Number { width: 4, signed: false } => Type::U32,
            ColumnType::Number { width: _, signed: false } => Type::U64,
            ColumnType::Number { width: 1, signed: true } => Type::I8,
            ColumnType::Number { width: 2, signed: true } => Type::I16,
            ColumnType::Number { width: 4, signed: true } => Type::I32,
            ColumnType::Number { width: _, signed: true } => Type::I64,
            ColumnType::Text => Type::Text,
            ColumnType::Ip => Type::Ip,
            ColumnType::Unknown(number) => return Err(number),
        })
    }

    fn read(from: column_info::Reader) -> Result<Self> {
        use column_info::Type;
        let number = |width, signed| ColumnType::Number { width, signed };
        let kind = match from.get_type() {
            Ok(Type::U8) => number(1, false),
            Ok(Type::U16) => number(2, false),
            Ok(Type::U32) => number(4, false),
            Ok(Type::U64) => number(8, false),
            Ok(Type::I8) => number(1, true),
            Ok(Type::I16) => number(2, true),
            Ok(Type::I32) => number(4, true),
            Ok(Type::I64) => number(8, true),
            Ok(Type::Text) => ColumnType::Text,
            Ok(Type::Ip) => ColumnType::Ip,
            Err(capnp::NotInSchema(number)) => ColumnType::Unknown(number),
        };
        let mut absent = from.get_absent()?.to_string()?;
        if matches!(kind, ColumnType::Unknown(_)) && absent.is_empty() {
            absent.push_str("its type is of a later version of the format: use a newer analyze");
        }
        Ok(Self {
            name: from.get_name()?.to_string()?,
            kind,
            unit: from.get_unit()?.to_string()?,
            references: from.get_references()?.to_string()?,
            enumeration: from.get_enumeration()?.to_string()?,
            null: from.get_has_null().then(|| from.get_null()),
            absent,
            by: from.get_by()?.to_string()?,
            key: from.get_key(),
            ends: from.get_ends(),
            histogram: from.get_histogram(),
            totals: from.get_totals()?.to_string()?,
            doc: from.get_doc()?.to_string()?,
        })
    }
}

/// Sets a field of an enum's type to a number that may have no name here: a copy says what the original said.
///
/// # Panics
/// When trace.capnp has no such field.
fn set_number<E: Introspect>(to: dynamic_value::Builder, field: &str, number: u16) {
    let (dynamic_value::Builder::Struct(mut to), TypeVariant::Enum(names)) = (to, E::introspect().which())
    else {
        unreachable!("{field} is a struct's field of an enum's type");
    };
    let value = dynamic_value::Enum::new(number, names.into());
    to.set_named(field, value.into()).expect("trace.capnp has this field");
}

/// The numbers of a primitive list, in one piece where the message allows it.
pub(super) fn numbers<T>(list: primitive_list::Reader<'_, T>) -> Vec<T>
where
    T: capnp::private::layout::PrimitiveElement + capnp::introspect::Introspect + Copy + 'static,
{
    list.as_slice().map_or_else(|| (0..list.len()).map(|index| list.get(index)).collect(), <[T]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::message;
    use crate::schema::singles::read_tables;

    #[test]
    fn types_and_roles_of_a_later_version_cost_what_has_them_and_no_more() {
        let known = ColumnDef::new("ret", ColumnType::Number { width: 4, signed: true });
        let later = ColumnDef::new("mood", ColumnType::Unknown(200));
        let def = TableDef {
            number: 0,
            name: "t".into(),
            role: Role::Event,
            group: String::new(),
            doc: String::new(),
            columns: vec![known.clone(), later],
        };
        let bytes = message::build(64, |root| {
            let mut table = root.init_tables(1).get(0);
            def.write(table.reborrow());
            set_number::<table::Role>(table.into(), "role", 77);
        });
        let found = message::parse(&bytes, read_tables).expect("definitions").remove(0);
        assert_eq!((found.role, &found.columns[0]), (Role::Record, &known));
        assert_eq!(found.columns[1].kind, ColumnType::Unknown(200));
        assert!(found.columns[1].absent.contains("later version"), "{}", found.columns[1].absent);
    }
}

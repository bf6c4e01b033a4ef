//! What of a trace is somebody's secret, and how it is taken out.
//!
//! Three kinds of secret are known by the type of their column, so that a new table needs no entry
//! here: every address, every text of an event or identity table, and among these the arguments of
//! commands (columns `args`). Each kind is kept, dropped (no row has the column any more, and the definition
//! says why) or hashed ([`Pseudonyms`]). Numbers stay: ids, ports, sizes and times are what a trace
//! is about. The recorder's own tables stay too, but for its command line and filters, which can hold
//! any of the three.

use super::column::{Batch, Column, Text};
use super::host::Host;
use super::pseudonym::Pseudonyms;
use super::table::{ColumnDef, ColumnType, Role, TableDef};

/// What a column can give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// What commands were called with.
    Arguments,
    /// Names of commands, files, hosts and whatever else has one.
    Name,
    /// Network addresses.
    Address,
}

impl Secret {
    /// What a column of a table gives away, if anything.
    #[must_use]
    pub fn of(def: &TableDef, column: &ColumnDef) -> Option<Self> {
        match column.kind {
            ColumnType::Ip => Some(Self::Address),
            ColumnType::Text if def.role == Role::Record => None,
            ColumnType::Text if !column.references.is_empty() => None, // a list of ids
            ColumnType::Text if column.name == "args" => Some(Self::Arguments),
            ColumnType::Text => Some(Self::Name),
            ColumnType::Number { .. } | ColumnType::Unknown(_) => None,
        }
    }
}

/// What becomes of a kind of secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// It stays.
    #[default]
    Keep,
    /// It becomes a pseudonym.
    Hash,
    /// It goes.
    Drop,
}

/// What becomes of each kind of secret.
#[derive(Clone, Debug)]
pub struct Redaction {
    /// Of arguments.
    pub arguments: Treatment,
    /// Of names.
    pub names: Treatment,
    /// Of addresses.
    pub addresses: Treatment,
    /// For those that are hashed.
    pub pseudonyms: Pseudonyms,
}

impl Redaction {
    /// What becomes of a column.
    #[must_use]
    pub fn treatment(&self, def: &TableDef, column: &ColumnDef) -> Treatment {
        match Secret::of(def, column) {
            Some(Secret::Arguments) => self.arguments,
            Some(Secret::Name) => self.names,
            Some(Secret::Address) => self.addresses,
            None => Treatment::Keep,
        }
    }

    /// Says in the definitions what rows that went through [`Redaction::rows`] no longer have.
    pub fn tables(&self, tables: &mut [TableDef]) {
        for def in tables {
            let treatments: Vec<Treatment> =
                def.columns.iter().map(|column| self.treatment(def, column)).collect();
            for (column, treatment) in def.columns.iter_mut().zip(treatments) {
                match treatment {
                    Treatment::Hash => column.doc.push_str(" (a pseudonym)"),
                    Treatment::Drop if column.absent.is_empty() => column.absent.push_str("it was redacted"),
                    Treatment::Keep | Treatment::Drop => {}
                }
            }
        }
    }

    /// Takes the secrets out of the rows of a table.
    pub fn rows(&self, def: &TableDef, batch: &mut Batch) {
        for (column, values) in def.columns.iter().zip(&mut batch.columns) {
            match (self.treatment(def, column), &mut *values) {
                (Treatment::Drop, _) => *values = Column::Absent,
                (Treatment::Hash, Column::Text(text)) => *text = self.pseudonyms_of(column.kind, text),
                _ => {}
            }
        }
    }

    fn pseudonyms_of(&self, kind: ColumnType, text: &Text) -> Text {
        let mut to = Text::default();
        for value in text.iter() {
            match <[u8; 16]>::try_from(value) {
                Ok(address) if kind == ColumnType::Ip => to.push(&self.pseudonyms.address(address)),
                _ => to.push(&self.pseudonyms.name(value)),
            }
        }
        to
    }

    /// Takes the secrets out of what the recording says of itself.
    pub fn host(&self, host: &mut Host) {
        let any = self.arguments.max(self.names).max(self.addresses);
        let words = [(&mut host.hostname, self.names), (&mut host.boot_id, self.names)];
        // Who was recorded may be a secret; from what length on calls were, every count depends on.
        let whom = host.filters.iter_mut().filter(|word| !word.starts_with("min-"));
        let lists = host.command.iter_mut().chain(whom).map(|word| (word, any));
        for (word, treatment) in words.into_iter().chain(lists) {
            match treatment {
                Treatment::Keep => {}
                Treatment::Hash => {
                    *word = String::from_utf8_lossy(&self.pseudonyms.name(word.as_bytes())).into_owned();
                }
                Treatment::Drop => "(redacted)".clone_into(word),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(arguments: Treatment, names: Treatment, addresses: Treatment) -> Redaction {
        Redaction { arguments, names, addresses, pseudonyms: Pseudonyms::new(b"a key of sixteen") }
    }

    fn exec() -> (TableDef, Batch) {
        let columns = [
            ("pid", ColumnType::Number { width: 4, signed: false }),
            ("file", ColumnType::Text),
            ("args", ColumnType::Text),
            ("addr", ColumnType::Ip),
        ];
        let def = TableDef {
            number: 0,
            name: "exec".into(),
            role: Role::Event,
            group: String::new(),
            doc: String::new(),
            columns: columns.map(|(name, kind)| ColumnDef::new(name, kind)).to_vec(),
        };
        let text = |values: &[&[u8]]| {
            let mut text = Text::default();
            for value in values {
                text.push(value);
            }
            Column::Text(text)
        };
        let columns = vec![
            Column::U32(vec![1, 2]),
            text(&[b"/bin/ls", b"/bin/sh"]),
            text(&[b"ls\0/home/me\0", b"sh\0"]),
            text(&[&[9; 16], &[9; 16]]),
        ];
        (def, Batch { rows: 2, columns, ..Batch::default() })
    }

    #[test]
    fn what_is_dropped_is_gone_and_says_so() {
        let (def, mut batch) = exec();
        let before = batch.clone();
        let redaction = redaction(Treatment::Drop, Treatment::Keep, Treatment::Keep);
        redaction.rows(&def, &mut batch);
        assert_eq!(batch.columns[2], Column::Absent);
        assert_eq!((&batch.columns[..2], &batch.columns[3]), (&before.columns[..2], &before.columns[3]));
        let mut tables = [def];
        redaction.tables(&mut tables);
        assert_eq!(tables[0].columns[2].absent, "it was redacted");
        assert_eq!(tables[0].columns[1].absent, "");
    }

    #[test]
    fn what_is_hashed_can_be_told_apart_and_not_read() {
        let (def, mut batch) = exec();
        redaction(Treatment::Hash, Treatment::Hash, Treatment::Hash).rows(&def, &mut batch);
        for column in [1, 2, 3] {
            let bytes = &batch.columns[column].text().expect("text").bytes;
            for secret in [&b"home"[..], b"bin", b"ls", b"sh", &[9; 16]] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{column} {bytes:?}");
            }
        }
        let addresses: Vec<&[u8]> = batch.columns[3].text().expect("text").iter().collect();
        assert_eq!(addresses[0], addresses[1]);
        assert_eq!(batch.columns[0], Column::U32(vec![1, 2]), "numbers stay");
    }

    #[test]
    fn tables_of_the_recorder_stay_but_its_command_line_does_not() {
        let (mut def, mut batch) = exec();
        def.role = Role::Record;
        def.columns.truncate(3);
        batch.columns.truncate(3);
        let before = batch.clone();
        let redaction = redaction(Treatment::Drop, Treatment::Hash, Treatment::Keep);
        redaction.rows(&def, &mut batch);
        assert_eq!(batch, before);
        let mut host = Host {
            hostname: "box".into(),
            command: vec!["capture".into(), "--comm=secret".into()],
            filters: vec!["comm secret".into(), "min-latency net=1ms".into()],
            ..Host::default()
        };
        redaction.host(&mut host);
        assert_ne!(host.hostname, "box");
        assert_eq!(host.command, ["(redacted)", "(redacted)"]);
        assert_eq!(host.filters, ["(redacted)", "min-latency net=1ms"], "it does not look like a whole one");
    }
}

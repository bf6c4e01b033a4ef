//! What every file of a recording begins with, so that each can be read alone.

use super::clocks::Reading;
use crate::schema::{Batch, FormatError, Host, Kind, Packer, TableDef, TraceWriter};
use std::io::Write;

/// Host, tables, and the rows that hold for the whole recording: probes, names of numbers, the last clocks.
#[derive(Clone)]
pub struct Preface {
    host: Host,
    level: i32,
    tables: Vec<TableDef>,
    standing: Vec<(Kind, Batch)>,
}

impl Preface {
    /// For files compressed at `level`.
    #[must_use]
    pub fn new(host: Host, level: i32, tables: Vec<TableDef>) -> Self {
        Self { host, level, tables, standing: Vec::new() }
    }

    /// Rows that later files begin with too; of the clocks only the last.
    pub fn keep(&mut self, kind: Kind, batch: &Batch) {
        if kind == Kind::Clock {
            self.standing.retain(|(kind, _)| *kind != Kind::Clock);
        }
        self.standing.push((kind, batch.clone()));
    }

    /// What packs rows for these files.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub fn packer(&self) -> anyhow::Result<Packer> {
        Packer::new(self.level, self.tables.clone()).map_err(plain)
    }

    /// Begins a file: number `part` of a set (0: the only one), whose time zero is `start` where that is given.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open<W: Write>(&self, to: W, part: u32, start: Option<Reading>) -> anyhow::Result<TraceWriter<W>> {
        let mut host = Host { part, ..self.host.clone() };
        if let Some(Reading { mono, real, .. }) = start {
            (host.start_mono, host.start_real) = (mono, real);
        }
        let mut writer = TraceWriter::new(to, self.level, &host, self.tables.clone()).map_err(plain)?;
        for (kind, batch) in &self.standing {
            writer.append(*kind, 0, batch).map_err(plain)?;
        }
        Ok(writer)
    }
}

/// A format error as any other: its message names its source already: as a chain it would be said twice.
#[must_use]
pub fn plain(error: FormatError) -> anyhow::Error {
    match error {
        FormatError::Io { what, reason } => anyhow::Error::new(reason).context(what),
        other => anyhow::Error::new(other),
    }
}

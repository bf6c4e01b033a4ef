//! What is made unreadable before it is written (`--hash-names`, `--hash-addresses`): see [`crate::schema::redact`].
//!
//! Rows pass through here on their way to any other medium, so that nothing readable is ever on the disk, nor in a flight
//! recorder's memory for longer than a batch takes.

use super::args::Args;
use super::medium::{Border, Dumped, Medium, Progress};
use crate::schema::pseudonym::Pseudonyms;
use crate::schema::redact::{Redaction, Treatment};
use crate::schema::{Batch, Host, Kind, TableDef};
use anyhow::Result;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What the command line wants hidden; none: nothing.
///
/// # Errors
/// When the key file cannot be read or is no key.
pub fn redaction(args: &Args) -> Result<Option<Redaction>> {
    if !args.hash_names && !args.hash_addresses {
        return Ok(None);
    }
    let pseudonyms = match &args.hash_key_file {
        Some(path) => Pseudonyms::from_file(path)?,
        None => Pseudonyms::random()?,
    };
    let hash = |wanted| if wanted { Treatment::Hash } else { Treatment::Keep };
    Ok(Some(Redaction {
        arguments: hash(args.hash_names),
        names: hash(args.hash_names),
        addresses: hash(args.hash_addresses),
        pseudonyms,
    }))
}

/// Hides it in what the recording says of itself, and says so.
pub fn hide_in_head(args: &Args, redaction: &Redaction, host: &mut Host, tables: &mut [TableDef]) {
    redaction.host(host);
    redaction.tables(tables);
    let key =
        if args.hash_key_file.is_some() { "by the key of a file" } else { "by a key of this recording only" };
    let kinds = [(args.hash_names, "names and arguments"), (args.hash_addresses, "addresses")];
    host.hidden =
        kinds.into_iter().filter(|kind| kind.0).map(|kind| format!("{} hashed {key}", kind.1)).collect();
}

/// A medium behind the hash.
pub struct Hiding {
    inner: Box<dyn Medium>,
    redaction: Redaction,
    tables: Vec<TableDef>,
}

impl Hiding {
    /// For rows of these tables.
    #[must_use]
    pub fn new(inner: Box<dyn Medium>, redaction: Redaction, tables: Vec<TableDef>) -> Self {
        Self { inner, redaction, tables }
    }
}

impl Medium for Hiding {
    fn append(&mut self, kind: Kind, epoch: u32, batch: &Batch) -> Result<()> {
        if !matches!(kind, Kind::Events | Kind::Identity) {
            return self.inner.append(kind, epoch, batch);
        }
        let mut hidden = batch.clone();
        self.redaction.rows(&self.tables[usize::from(batch.table)], &mut hidden);
        self.inner.append(kind, epoch, &hidden)
    }

    fn keep(&mut self, kind: Kind, batch: &Batch) {
        self.inner.keep(kind, batch);
    }

    fn wants_turn(&self) -> bool {
        self.inner.wants_turn()
    }

    fn turn(&mut self, border: Border) -> Result<()> {
        self.inner.turn(border)
    }

    fn longest_epoch(&self) -> Duration {
        self.inner.longest_epoch()
    }

    fn dump(&mut self, why: &str, done: Vec<Sender<Dumped>>) -> Result<()> {
        self.inner.dump(why, done)
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn progress(&self) -> Progress {
        self.inner.progress()
    }

    fn ended(&mut self, at: u64) {
        self.inner.ended(at);
    }

    fn finish(self: Box<Self>, reason: &str) -> (Progress, Result<()>) {
        self.inner.finish(reason)
    }

    fn give_up(self: Box<Self>) -> Progress {
        self.inner.give_up()
    }
}

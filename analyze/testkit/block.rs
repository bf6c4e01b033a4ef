//! What went to disks.

use super::Tape;
use crate::schema::{Role, TableDef};

const PARTS: [&str; 6] = ["start", "insert", "issue", "requeue", "complete", "merge"];
const OPS: [&str; 3] = ["read", "write", "flush"];
/// The sync flag.
const FLAGS: i64 = 2048;
/// 254:16, as stat(2) has it.
const DEV: i64 = 254 << 8 | 16;

impl Tape {
    /// Adds the tables of group `block`, and one disk: vda.
    pub fn block(&mut self) -> &mut Self {
        let disk =
            super::define::def("disk", Role::Identity, &["ts:u64", "cpu:u16", "dev:u32*", "disk:text"]);
        self.define(TableDef { group: "block".into(), ..disk });
        let columns = [
            "ts:u64",
            "cpu:u16",
            "tid:u32~task",
            "rq:u64",
            "sector:u64",
            "bytes:u32?bytes",
            "left:u32?bytes",
            "dev:u32>disk",
            "part:u32=block_part",
            "op:u32=block_op",
            "flags:u32",
            "error:i32?errno",
        ];
        self.table("block_rq", &columns);
        for (names, name) in [(&PARTS[..], "block_part"), (&OPS, "block_op")] {
            let first = u64::from(name == "block_part");
            for (number, label) in (first..).zip(names) {
                self.push("enum", vec![name.into(), number.into(), (*label).into()]);
            }
        }
        self.push("disk", vec![super::START.into(), 0.into(), DEV.cast_unsigned().into(), "vda".into()])
    }

    /// A part of a request, by its address: name of the part and of the operation; sector, bytes and what is left.
    pub fn part(
        &mut self,
        at: u64,
        tid: i64,
        rq: i64,
        (part, op): (&str, &str),
        (sector, bytes, left): (i64, i64, i64),
    ) -> &mut Self {
        let cells = [tid, rq, sector, bytes, left, DEV, number(&PARTS, part) + 1, number(&OPS, op), FLAGS, 0];
        self.event("block_rq", at, cells)
    }

    /// A write ends with an error: sector and bytes.
    pub fn failed(&mut self, at: u64, rq: i64, (sector, bytes): (i64, i64), error: i64) -> &mut Self {
        let complete = number(&PARTS, "complete") + 1;
        self.event("block_rq", at, [0, rq, sector, bytes, 0, DEV, complete, 1, FLAGS, error])
    }
}

fn number(names: &[&str], name: &str) -> i64 {
    (0..).zip(names).find(|known| *known.1 == name).expect("a known name").0
}

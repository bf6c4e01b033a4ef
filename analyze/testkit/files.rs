//! Files, and calls on them.

use super::{Cell, START, Tape, def};
use crate::schema::Role;

/// Names of numbers, as `bpf/event.h` has them.
const NAMES: [(&str, u64, &str); 10] = [
    ("io_op", 1, "read"),
    ("io_op", 2, "write"),
    ("file_type", 8, "file"),
    ("file_type", 12, "socket"),
    ("path_op", 1, "stat"),
    ("path_op", 3, "fstat"),
    ("path_op", 9, "unlink"),
    ("path_op", 13, "rename"),
    ("sync_op", 1, "sync"),
    ("sync_op", 3, "fsync"),
];

impl Tape {
    /// Adds the tables of group `file`, with the names of their numbers.
    pub fn files(&mut self) -> &mut Self {
        let file =
            ["ts:u64", "cpu:u16", "file:u32*", "inode:u64", "type:u32=file_type", "path:text", "name:text"];
        self.define(def("file", Role::Identity, &file));
        let open =
            ["ts:u64", "cpu:u16", "tid:u32>task", "file:u32~file", "dir:u32~file", "ret:i32", "flags:u32"];
        self.table(
            "file_open",
            &[&open[..], &["mode:u32", "created:u32", "latency:u64?ns", "path:text"]].concat(),
        );
        let io = [
            "ts:u64",
            "cpu:u16",
            "tid:u32>task",
            "file:u32~file",
            "op:u32=io_op",
            "requested:u32",
            "ret:i32",
        ];
        self.table("file_io", &[&io[..], &["latency:u64?ns"]].concat());
        let path = ["ts:u64", "cpu:u16", "tid:u32>task", "op:u32=path_op", "file:u32~file", "dir:u32~file"];
        let rest = ["dir2:u32~file", "ret:i32", "flags:u32", "latency:u64?ns", "path:text", "path2:text"];
        self.table("path_op", &[&path[..], &rest].concat());
        let sync = ["ts:u64", "cpu:u16", "tid:u32>task", "op:u32=sync_op", "file:u32~file", "ret:i32"];
        self.table("file_sync", &[&sync[..], &["latency:u64?ns"]].concat());
        for (name, value, label) in NAMES {
            self.push("enum", vec![name.into(), value.into(), label.into()]);
        }
        self
    }

    /// A file of that type, by its path.
    pub fn file(&mut self, file: u64, kind: u64, path: &str) -> &mut Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let numbers = [START, 0, file, 1_000 + file, kind].map(Cell::from);
        self.push("file", numbers.into_iter().chain([path.into(), name.into()]).collect())
    }

    /// An open at its return; `dir` 0: the path is absolute.
    pub fn open_call(&mut self, at: u64, tid: u64, file: u64, dir: u64, ret: i32, path: &str) -> &mut Self {
        let ret = u64::from(ret.cast_unsigned());
        let numbers = [START + at, 0, tid, file, dir, ret, 0x241, 0o644, 0, 2_500].map(Cell::from);
        self.push("file_open", numbers.into_iter().chain([path.into()]).collect())
    }

    /// An open that makes a file.
    pub fn made(&mut self, at: u64, tid: u64, path: &str) -> &mut Self {
        let numbers = [START + at, 0, tid, 1, 0, 3, 0x241, 0o644, 1, 2_500].map(Cell::from);
        self.push("file_open", numbers.into_iter().chain([path.into()]).collect())
    }

    /// A call about a path at its return: what it does, and the file or the directory that it starts from.
    pub fn path_call(
        &mut self,
        at: u64,
        tid: u64,
        op: u64,
        (file, dir): (u64, u64),
        ret: i32,
        path: &str,
    ) -> &mut Self {
        let ret = u64::from(ret.cast_unsigned());
        let numbers = [START + at, 0, tid, op, file, dir, 0, ret, 0, 1_500].map(Cell::from);
        self.push("path_op", numbers.into_iter().chain([path.into(), "".into()]).collect())
    }

    /// A read (1) or write (2), with the size asked for and the size it got.
    pub fn io(&mut self, at: u64, tid: i64, file: i64, op: i64, sizes: (i64, i64)) -> &mut Self {
        self.event("file_io", at, [tid, file, op, sizes.0, sizes.1, 2_500])
    }
}

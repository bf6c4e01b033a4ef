//! Stacks, frames, mappings and names of functions.

use super::define::def;
use super::{Cell, START, Tape};
use crate::schema::Role;

impl Tape {
    /// Adds the tables that stacks are made of.
    pub fn stacks(&mut self) -> &mut Self {
        let identity = [
            ("stack", &["ts:u64", "cut:u16", "stack:u32*", "frames:text>frame"][..]),
            ("frame", &["ts:u64", "kernel:u16", "frame:u32*", "mapping:u32~mapping", "offset:u64"]),
            ("mapping", &["ts:u64", "mapping:u32*", "build_id:text", "path:text"]),
        ];
        for (name, columns) in identity {
            self.define(def(name, Role::Identity, columns));
        }
        let symbol = ["ts:u64", "frame:u32>frame", "level:u32", "function:text", "file:text", "line:u64"];
        self.define(def("symbol", Role::Record, &symbol));
        self
    }

    /// A file that code is in.
    pub fn mapping(&mut self, number: u64, path: &str) -> &mut Self {
        self.push("mapping", vec![START.into(), number.into(), "".into(), path.into()])
    }

    /// A place in code, with its functions from the innermost on, separated by ';', each perhaps with its place in the
    /// source: `parse@/src/main.c:42`.
    pub fn frame(&mut self, number: u64, kernel: bool, mapping: u64, functions: &str) -> &mut Self {
        let offset = (0x1000 * number).into();
        self.push(
            "frame",
            vec![START.into(), u64::from(kernel).into(), number.into(), mapping.into(), offset],
        );
        for (level, function) in (0u64..).zip(functions.split(';').filter(|name| !name.is_empty())) {
            let (function, place) = function.split_once('@').unwrap_or((function, ":0"));
            let (file, line) = place.split_once(':').expect("file:line");
            let line: u64 = line.parse().expect("a number");
            let row = [function.into(), file.into(), line.into()];
            self.push("symbol", [START.into(), number.into(), level.into()].into_iter().chain(row).collect());
        }
        self
    }

    /// A stack of frames, innermost first.
    pub fn stack(&mut self, number: u64, frames: &[u32]) -> &mut Self {
        let frames = frames.iter().flat_map(|frame| frame.to_le_bytes()).collect();
        self.push("stack", vec![START.into(), 0u64.into(), number.into(), Cell::Bytes(frames)])
    }
}

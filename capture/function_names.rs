//! Names of the functions that stacks were in, looked up when the recording ends: rows of table `symbol`.
//!
//! The files are read on the host that ran them, so that they need not be at hand later. A file that has been
//! replaced since has another build id and is left alone: `analyze --symbols DIR` can name its frames.

use super::host::now;
use super::kallsyms;
use super::mappings::Mapping;
use super::record::Row;
use super::spare;
use super::stacks::Places;
use crate::symbols::{Name, Symbols, build_id};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

/// The rows for all frames whose names are known.
#[must_use]
pub fn rows(places: &Places) -> Vec<Vec<u8>> {
    // Kernel frames have no mapping; user frames without one have nothing to look up.
    let mut by_mapping: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
    for (number, frame) in (1..).zip(&places.frames) {
        if frame.kernel || frame.mapping != 0 {
            by_mapping.entry(frame.mapping).or_default().push((number, frame.offset));
        }
    }
    spare::heap();
    let mut rows = Vec::new();
    for (mapping, frames) in by_mapping {
        let offsets: Vec<u64> = frames.iter().map(|frame| frame.1).collect();
        let names = match (mapping as usize).checked_sub(1) {
            None => kernel(&offsets),
            Some(index) => user(&places.mappings[index], &offsets),
        };
        for ((frame, _), names) in frames.iter().zip(names) {
            rows.extend((0..).zip(&names).map(|(level, name)| row(*frame, level, name)));
        }
    }
    rows
}

fn row(frame: u32, level: u32, name: &Name) -> Vec<u8> {
    let row = Row::new().u64(now()).u32(frame).u32(level).u64(name.line.into());
    row.text(&name.function).text(&name.file).bytes()
}

fn kernel(addresses: &[u64]) -> Vec<Vec<Name>> {
    let Ok(symbols) = File::open("/proc/kallsyms") else { return Vec::new() };
    let names = kallsyms::names(BufReader::new(symbols), addresses).into_iter();
    names.map(|name| name.map(named).into_iter().collect()).collect()
}

fn named(function: String) -> Name {
    Name { function, ..Name::default() }
}

fn user((mapping, id): &(Arc<Mapping>, String), offsets: &[u64]) -> Vec<Vec<Name>> {
    if !mapping.is_file() {
        return perf_map(mapping, offsets);
    }
    let same = |path: &PathBuf| path.exists() && build_id(path) == *id;
    let place = mapping.places().into_iter().find(same);
    place.map_or_else(Vec::new, |path| Symbols::default().of_file(&path, offsets))
}

/// What a just-in-time compiler left in /tmp/perf-PID.map: lines of start, size and name.
fn perf_map(mapping: &Mapping, addresses: &[u64]) -> Vec<Vec<Name>> {
    let map = Mapping { path: format!("/tmp/perf-{}.map", mapping.pid), ..mapping.clone() };
    let text = map.places().iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let mut functions: Vec<(u64, u64, &str)> = text.lines().filter_map(function).collect();
    functions.sort_by_key(|function| function.0);
    let find = |address: u64| {
        let at = functions.partition_point(|function| function.0 <= address).checked_sub(1)?;
        let (start, size, name) = functions[at];
        (address - start < size).then(|| vec![named(name.to_owned())])
    };
    addresses.iter().map(|&address| find(address).unwrap_or_default()).collect()
}

fn function(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.splitn(3, ' ');
    let mut number = || u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    Some((number()?, number()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_just_in_time_compilers_has_the_names_that_they_left() {
        let pid = std::process::id();
        let path = format!("/tmp/perf-{pid}.map");
        std::fs::write(&path, "7f00 20 second\n0x7e00 10 first one\nnonsense\n").expect("/tmp is writable");
        let mapping = Mapping { path: "//anon".into(), pid, ..Mapping::default() };
        let names = perf_map(&mapping, &[0x7e0f, 0x7e10, 0x7f1f]);
        std::fs::remove_file(&path).expect("our own file");
        let names: Vec<_> =
            names.iter().map(|names| names.first().map(|name| name.function.as_str())).collect();
        assert_eq!(names, [Some("first one"), None, Some("second")]);
    }
}

//! What the host as a whole has used, as /proc tells it: load and memory, processors, disks.

use super::host::now;
use super::record::{Own, Row};
use std::fs;

/// The unit of /proc/stat is a hundredth of a second in every kernel, whatever its own tick is.
const TICK: u64 = 10_000_000;
const SECTOR: u64 = 512;
const MS: u64 = 1_000_000;
/// What a unit of each column of /proc/diskstats behind the name is in ours.
const DISK_UNITS: [u64; 17] = [1, 1, SECTOR, MS, 1, 1, SECTOR, MS, 1, MS, MS, 1, 1, SECTOR, MS, 1, MS];
/// Columns of a processor's line in /proc/stat.
const CPU_TIMES: usize = 10;

/// The rows of a table that this module fills, as of now; none where /proc is not as expected.
#[must_use]
pub fn rows(own: Own) -> Vec<Vec<u8>> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    match own {
        Own::Load => load(now(), &read("/proc/loadavg"), &read("/proc/meminfo")).into_iter().collect(),
        Own::CpuTime => cpu_times(now(), &read("/proc/stat")),
        Own::DiskStat => disks(now(), &read("/proc/diskstats"), is_whole),
        _ => Vec::new(),
    }
}

fn load(ts: u64, loadavg: &str, meminfo: &str) -> Option<Vec<u8>> {
    let mut words = loadavg.split_whitespace();
    let mut row = Row::new().u64(ts);
    for _ in 0..3 {
        let load: f64 = words.next()?.parse().ok()?;
        row = row.u64((load * 100.0).round() as u64);
    }
    let (runnable, tasks) = words.next()?.split_once('/')?;
    row = row.u64(runnable.parse().ok()?).u64(tasks.parse().ok()?);
    for name in ["MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:"] {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        row = row.u64(kib * 1024);
    }
    Some(row.bytes())
}

fn cpu_times(ts: u64, stat: &str) -> Vec<Vec<u8>> {
    let row = |line: &str| {
        let (cpu, times) = line.strip_prefix("cpu")?.split_once(' ')?;
        let row = Row::new().u64(ts).u16(cpu.parse().ok()?); // none: the line of all together
        numbers(row, times, &[TICK; CPU_TIMES])
    };
    stat.lines().filter_map(row).collect()
}

fn disks(ts: u64, diskstats: &str, is_whole: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let row = |line: &str| {
        let (_numbers, rest) = split_words(line, 2)?;
        let (name, counters) = rest.split_once(' ')?;
        let row = Row::new().u64(ts).text(name).u16(u16::from(!is_whole(name)));
        numbers(row, counters, &DISK_UNITS)
    };
    diskstats.lines().filter_map(row).collect()
}

/// What lies before and behind the first so many words.
fn split_words(line: &str, count: usize) -> Option<(&str, &str)> {
    let mut rest = line.trim_start();
    for _ in 0..count {
        rest = rest.split_once(' ')?.1.trim_start();
    }
    Some((&line[..line.len() - rest.len()], rest))
}

/// Adds a number for each unit; none where there are fewer.
fn numbers(mut row: Row, words: &str, units: &[u64]) -> Option<Vec<u8>> {
    let mut words = words.split_whitespace();
    for unit in units {
        let number: u64 = words.next()?.parse().ok()?;
        row = row.u64(number.saturating_mul(*unit));
    }
    Some(row.bytes())
}

/// Whether it is a disk and not a part of one; /sys has ! for a / in a name.
fn is_whole(disk: &str) -> bool {
    fs::exists(format!("/sys/block/{}", disk.replace('/', "!"))).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(row: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(row[at..at + 8].try_into().expect("eight bytes"))
    }

    #[test]
    fn proc_is_read_or_there_is_no_row() {
        let memory = "MemTotal: 100 kB\nMemFree: 20 kB\nMemAvailable: 50 kB\nBuffers: 1 kB\nCached: 2 kB\n";
        let row = load(7, "0.25 1.00 2.50 3/412 999\n", memory).expect("a row");
        assert_eq!((number(&row, 0), number(&row, 8), number(&row, 32), number(&row, 40)), (7, 25, 3, 412));
        assert_eq!((number(&row, 48), number(&row, 80)), (100 * 1024, 2048));
        assert_eq!(load(7, "", memory), None);
        for own in [Own::Load].iter().chain(&Own::OF_STAT) {
            assert!(!rows(*own).is_empty(), "{} of this machine", own.name());
        }
    }

    #[test]
    fn processors_are_read_without_their_sum() {
        let rows = cpu_times(7, "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu11 1 2\nintr 5\n");
        assert_eq!(rows.len(), 1, "the line of processor 11 is cut");
        assert_eq!((rows[0][8], number(&rows[0], 10), number(&rows[0], 82)), (0, TICK, 10 * TICK));
    }

    #[test]
    fn disks_are_read_in_our_units() {
        let line = "   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n 8 0 sda 1 2 3\n";
        let rows = disks(7, line, |name| name == "sda");
        assert_eq!(rows.len(), 1, "the other line is cut");
        let (partition, counter) = (rows[0][12], |at: usize| number(&rows[0], 14 + 8 * at));
        assert_eq!((partition, counter(0), counter(2), counter(3)), (1, 1, 3 * 512, 4_000_000));
        assert_eq!((counter(8), counter(16)), (9, 17_000_000));
        assert!(rows[0].ends_with(b"sda1"));
    }
}

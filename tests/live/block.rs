//! Requests to a loop device of the test's own, against the kernel's statistics of the device and against bpftrace.

use super::support::{CAPTURE, has, live, report, scratch, skip, text};
use super::trace::{Row, bytes, known, number, rows, sum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device over a file of its own; both gone with the value.
pub struct Loop {
    /// `loop3`.
    pub name: String,
    file: PathBuf,
}

impl Loop {
    pub fn new(test: &str) -> Option<Self> {
        if !has("losetup") || !has("dd") {
            return None;
        }
        let file = scratch(test).join("disk");
        std::fs::File::create(&file).and_then(|file| file.set_len(64 << 20)).expect("a sparse file");
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        let output = output.expect("losetup runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let Some(name) = said.trim().strip_prefix("/dev/") else {
            skip(&format!("no loop device can be made here: {}", text(&output)));
            return None;
        };
        Some(Self { name: name.to_owned(), file })
    }

    /// Its device number, as stat(2) has it, and as the kernel's tracepoints have it.
    fn numbers(&self) -> (i128, i128) {
        let text = std::fs::read_to_string(format!("/sys/block/{}/dev", self.name)).expect("sysfs");
        let (major, minor) = text.trim().split_once(':').expect("MAJOR:MINOR");
        let (major, minor): (i128, i128) = (major.parse().expect("number"), minor.parse().expect("number"));
        (major << 8 | minor & 0xff | (minor & !0xff) << 12, major << 20 | minor)
    }

    /// Requests and sectors, read and written, since the device was made.
    fn statistics(&self) -> [i128; 4] {
        let text = std::fs::read_to_string(format!("/sys/block/{}/stat", self.name)).expect("sysfs");
        let numbers: Vec<i128> =
            text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        [numbers[0], numbers[2], numbers[4], numbers[6]]
    }

    /// Writes of 64 KiB, then reads of 4 KiB, all past the page cache.
    pub fn workload(&self, writes: u32, reads: u32) -> String {
        format!(
            "dd if=/dev/zero of=/dev/{0} bs=64k count={writes} oflag=direct 2>/dev/null && \
             dd if=/dev/{0} of=/dev/null bs=4k count={reads} iflag=direct 2>/dev/null",
            self.name
        )
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &format!("/dev/{}", self.name)]).status();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Records a shell script and what it starts.
pub fn record(directory: &str, script: &str) -> PathBuf {
    let path = scratch(directory).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    let output =
        capture.args(["-g", "block,proc", "-o"]).arg(&path).args(["--", "sh", "-c", script]).output();
    let output = output.expect("capture runs");
    assert!(output.status.success(), "capture failed:\n{}", text(&output));
    path
}

/// The numbers of names in table `enum`.
fn named(path: &Path, enumeration: &str) -> BTreeMap<String, i128> {
    let of = |row: &Row| bytes(row, "name") == enumeration.as_bytes();
    let names = rows(path, "enum");
    let named = names.iter().filter(|row| of(row));
    named
        .map(|row| (String::from_utf8_lossy(bytes(row, "label")).into_owned(), number(row, "value")))
        .collect()
}

#[test]
fn requests_and_sectors_are_those_of_the_kernel_s_statistics() {
    if !live() {
        return;
    }
    let Some(disk) = Loop::new("block-disk") else { return };
    let Some(other) = Loop::new("block-other-disk") else { return };
    let before = disk.statistics();
    // What runs beside it on another disk is not asked for, and so is not there: not even its completions.
    let mut beside = Command::new("sh").args(["-c", &other.workload(100, 100)]).spawn().expect("a shell");
    let path = record("block-statistics", &disk.workload(200, 300));
    assert!(beside.wait().expect("our own child").success());
    let after = disk.statistics();
    let (parts, ops) = (named(&path, "block_part"), named(&path, "block_op"));
    let all = rows(&path, "block_rq");
    let of = |part: &str, op: &str| -> Vec<&Row> {
        let (part, op, dev) = (parts[part], ops[op], disk.numbers().0);
        let same =
            |row: &&Row| number(row, "part") == part && number(row, "op") == op && number(row, "dev") == dev;
        all.iter().filter(same).collect()
    };
    let (read, written) = (of("complete", "read"), of("complete", "write"));
    let found = [
        read.len() as i128,
        sum(read.iter().copied(), "bytes") / 512,
        written.len() as i128,
        sum(written.iter().copied(), "bytes") / 512,
    ];
    let expected: Vec<i128> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(found.to_vec(), expected);
    assert_eq!(found[..], [300, 300 * 8, 200, 200 * 128], "what dd was told to do");
    let sectors: Vec<i128> = of("issue", "write").iter().filter_map(|row| known(row, "sector")).collect();
    assert_eq!(sectors, (0..200).map(|at| at * 128).collect::<Vec<_>>());
    assert!(all.iter().all(|row| known(row, "dev") != Some(other.numbers().0)), "the other disk's");
    let top = report(&path, &["biotop", "--interval", "all", "--by", "disk,op", "--where", "comm = 'dd'"]);
    let sums: Vec<(&str, u64, u64)> = top
        .iter()
        .map(|row| {
            let number = |column: &str| row[column].as_u64().expect("a number");
            (row["op"].as_str().expect("a name"), number("ios"), number("bytes"))
        })
        .collect();
    assert_eq!(sums, [("write", 200, 200 << 16), ("read", 300, 300 << 12)], "all of it is dd's");
    let sizes = report(&path, &["bitesize", "--by", "op", "--where", "comm = 'dd'", "--sort", "requests"]);
    let of =
        |column: &str| sizes.iter().map(|row| row[column].as_u64().expect("a number")).collect::<Vec<_>>();
    assert_eq!(of("requests"), [300, 200], "{sizes:?}");
    assert_eq!([of("min_bytes"), of("max_bytes")], [[4096, 1 << 16]; 2], "what dd was told to do");
    let names: BTreeMap<i128, String> = rows(&path, "disk")
        .iter()
        .map(|row| (number(row, "dev"), String::from_utf8_lossy(bytes(row, "disk")).into_owned()))
        .collect();
    assert_eq!(names[&disk.numbers().0], disk.name);
}

/// How often each part came, and for how long the driver had requests; the device is in the observer's own numbering.
const PROGRAM: &str = r"
tracepoint:block:block_rq_issue /args->dev == DEV/ { @since[args->sector] = nsecs; }
tracepoint:block:block_rq_complete /args->dev == DEV && @since[args->sector]/
{ @ns = sum(nsecs - @since[args->sector]); @timed = count(); delete(@since[args->sector]); }
tracepoint:block:block_rq_insert /args->dev == DEV/ { @insert = count(); }
tracepoint:block:block_rq_issue /args->dev == DEV/ { @issue = count(); @issue_bytes = sum(args->bytes); }
tracepoint:block:block_rq_complete /args->dev == DEV/ { @complete = count(); @sectors = sum(args->nr_sector); }
";

#[test]
fn bpftrace_counts_the_same_parts() {
    if !live() || !has("bpftrace") {
        return;
    }
    let Some(disk) = Loop::new("block-observed-disk") else { return };
    let path = scratch("block-bpftrace").join("trace.bin");
    // Discards too, which have sectors but move no data.
    let script = format!("{} && blkdiscard -o 1M -l 2M /dev/{}", disk.workload(100, 150), disk.name);
    let inner = scratch("block-inner").join("record");
    let line =
        format!("#!/bin/sh\nexec {CAPTURE} -q -g block,proc -o {} -- sh -c '{script}'\n", path.display());
    std::fs::write(&inner, line).expect("writable");
    let program = PROGRAM.replace("DEV", &disk.numbers().1.to_string());
    let mut bpftrace = Command::new("bpftrace");
    let inner = format!("/bin/sh {}", inner.display());
    let output = bpftrace.args(["-q", "-e", &program, "-c", &inner]).output().expect("bpftrace runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && path.exists(), "{said}{}", text(&output));
    let seen = |name: &str| -> i128 {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("@{name}: ")));
        line.map_or(0, |number| number.trim().parse().expect("a number"))
    };
    let (parts, all) = (named(&path, "block_part"), rows(&path, "block_rq"));
    let of = |part: &str| -> Vec<&Row> {
        let (part, dev) = (parts[part], disk.numbers().0);
        all.iter().filter(|row| number(row, "part") == part && number(row, "dev") == dev).collect()
    };
    assert!(seen("complete") > 250, "the observer saw nothing: {said}");
    for part in ["insert", "issue", "complete"] {
        assert_eq!(of(part).len() as i128, seen(part), "{part}");
    }
    assert_eq!(sum(of("complete"), "bytes") / 512, seen("sectors"));
    assert_eq!(sum(of("issue"), "bytes"), seen("issue_bytes"));
    let [row] = &report(&path, &["biolatency", "--where", &format!("disk = '{}'", disk.name)])[..] else {
        panic!("one row")
    };
    let (n, mean) = (row["n"].as_u64().expect("n"), row["avg_us"].as_f64().expect("a mean"));
    assert_eq!(i128::from(n), seen("timed"));
    // Both run at the same places, one after the other: the later one's own time is between the two.
    let theirs = seen("ns") as f64 / seen("timed") as f64 / 1e3;
    assert!((mean - theirs).abs() < 10.0 + theirs / 10.0, "{mean} us, the observer says {theirs}");
}

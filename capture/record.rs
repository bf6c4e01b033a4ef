//! The recorder's own tables: clocks, losses, probes, names of numbers, cost. Same shape, same path
//! as events, only that their records are built here.

use super::layout::{Field, FieldKind, Layout, column_def};
use crate::schema::{ColumnType, Role, TableDef};

/// A field of a table of ours: name, storage (0: text, else bytes of an unsigned number), unit, meaning. In place of a
/// unit, tags as `bpf/event.h` has them, such as `key` or `ref:task`, separated by spaces.
type Spec = (&'static str, u8, &'static str, &'static str);

const TS: Spec = ("ts", 8, "mono_ns", "when this was so");

/// Which of our tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The clocks, read together.
    Clock,
    /// What each processor's programs counted in a span of time.
    Ledger,
    /// What each probe got.
    Probe,
    /// Names of numbers.
    Enum,
    /// What the recording itself costs.
    Cost,
    /// What was left out to keep the recording within its bounds, from when on.
    Governor,
    /// Load average and memory of the host.
    Load,
    /// What each processor spent its time on.
    CpuTime,
    /// What each disk did.
    DiskStat,
    /// Identity: lists of frames.
    Stack,
    /// Identity: places in code.
    Frame,
    /// Identity: files that code was in.
    Mapping,
    /// Names of frames.
    Symbol,
    /// Calls of named probes that had not returned at the end.
    InFlight,
}

impl Own {
    /// Those of every recording.
    pub const ALWAYS: [Self; 7] =
        [Self::Clock, Self::Ledger, Self::Probe, Self::Enum, Self::Cost, Self::Governor, Self::Load];
    /// Those of recordings with stacks.
    pub const OF_STACKS: [Self; 4] = [Self::Stack, Self::Frame, Self::Mapping, Self::Symbol];

    /// Those of recordings with probes that the user names.
    pub const OF_NAMED: [Self; 1] = [Self::InFlight];
    /// Those of recordings of the group that takes snapshots.
    pub const OF_STAT: [Self; 2] = [Self::CpuTime, Self::DiskStat];
    /// That group.
    pub const GROUP_OF_STAT: &str = "stat";

    /// The table's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Ledger => "ledger",
            Self::Probe => "probe",
            Self::Enum => "enum",
            Self::Cost => "cost",
            Self::Governor => "governor",
            Self::Stack => "stack",
            Self::Frame => "frame",
            Self::Mapping => "mapping",
            Self::Symbol => "symbol",
            Self::InFlight => "in_flight",
            Self::Load => "load",
            Self::CpuTime => "cpu_time",
            Self::DiskStat => "disk_stat",
        }
    }

    fn spec(self) -> (&'static str, &'static [Spec]) {
        match self {
            Self::Clock => ("the clocks, read together", CLOCK),
            Self::Ledger => ("what each processor's programs counted in a span; the sums close", LEDGER),
            Self::Probe => {
                ("what was wanted of each probe, what it got, and why; the last row of a name counts", PROBE)
            }
            Self::Enum => ("names of numbers, as the recording kernel means them", ENUM),
            Self::Cost => ("what the recording itself took since its start", COST),
            Self::Governor => ("from when on a group recorded only some flows or tasks, and why", GOVERNOR),
            Self::Stack => ("a list of frames, innermost first", STACK),
            Self::Frame => ("a place in code, in a file or in the kernel", FRAME),
            Self::Mapping => ("what a process had mapped as code, as first seen", MAPPING),
            Self::Symbol => ("functions of frames, as known when the recording ended or was dumped", SYMBOL),
            Self::InFlight => {
                ("calls that named probes saw begin, and not end before the recording did", IN_FLIGHT)
            }
            Self::Load => ("load average and memory of the host", LOAD),
            Self::CpuTime => {
                ("what a processor has spent its time on since the host started, at each interval", CPU_TIME)
            }
            Self::DiskStat => ("what a disk has done since the host started, at each interval", DISK_STAT),
        }
    }

    /// Definition and record shape.
    #[must_use]
    pub fn layout(self) -> Layout {
        let (doc, specs) = self.spec();
        let mut layout = Layout {
            def: TableDef {
                number: 0,
                name: self.name().to_owned(),
                role: if specs.iter().any(|spec| spec.2 == "key") { Role::Identity } else { Role::Record },
                group: String::new(),
                doc: doc.to_owned(),
                columns: Vec::new(),
            },
            size: 0,
            renewed: false,
            others: Vec::new(),
            fields: Vec::new(),
            labels: Vec::new(),
        };
        for spec in specs {
            layout.add(spec);
        }
        layout
    }
}

impl Layout {
    fn add(&mut self, &(name, width, unit, doc): &Spec) {
        let (kind, column, size) = match width {
            0 => (FieldKind::Trailing, ColumnType::Text, 4),
            _ if unit == SKIP => {
                self.size += usize::from(width);
                return;
            }
            _ => (
                FieldKind::Number(width.into()),
                ColumnType::Number { width, signed: false },
                usize::from(width),
            ),
        };
        let tags = unit.split(' ').map(|word| match word {
            "key" | "ends" => word.to_owned(),
            tag if tag.contains(':') => tag.to_owned(),
            unit => format!("unit:{unit}"),
        });
        let tags: Vec<String> = tags.chain([format!("doc:{doc}")]).collect();
        self.def.columns.push(column_def(name, column, &tags));
        self.fields.push(Field { offset: self.size, kind });
        self.size += size;
    }
}

/// Where every identity record has the number of its table: layout only.
const SKIP: &str = "skip";
const TABLE: Spec = ("table", 2, SKIP, "");

const CLOCK: &[Spec] = &[
    TS,
    ("realtime", 8, "ns", "CLOCK_REALTIME"),
    ("boottime", 8, "ns", "CLOCK_BOOTTIME"),
    ("tai", 8, "ns", "CLOCK_TAI"),
];
const LEDGER: &[Spec] = &[
    ("ts", 8, "mono_ns", "begin of the span"),
    ("until", 8, "mono_ns", "end of the span"),
    ("cpu", 2, "", "processor"),
    ("table", 2, "", "number of the table"),
    ("stored", 8, "", "records put into the ring"),
    (
        "filtered",
        8,
        "",
        "events that a filter rejected; exact in total, per span as of the moment of reading",
    ),
    ("ring_full", 8, "", "lost: no space in the ring"),
    ("state_full", 8, "", "lost: no space in a map of the probes, or the kernel did not tell of one half"),
    ("discarded", 8, "", "lost: taken from the ring but not written"),
    ("carried_in", 8, "", "stored before this file of a set began, and in it"),
    ("carried_out", 8, "", "stored, but in the next file of the set"),
    (
        "left_out",
        8,
        "",
        "not recorded, to keep the recording within its bounds; exact in total, per span as of the reading",
    ),
];
const PROBE: &[Spec] = &[
    TS,
    ("name", 0, "", ""),
    ("group", 0, "", ""),
    ("kind", 0, "", "the way of attaching that it got; empty: none"),
    ("wanted", 0, "", "the best way"),
    ("status", 0, "", "attached, failed or off"),
    ("reason", 0, "", "why better ways were not taken"),
    ("absent", 0, "", "columns that this way cannot fill"),
    ("missed", 8, "", "hits that the kernel did not run the program for"),
    ("fills", 0, "", "event table that it fills; empty: the one of its own name"),
    ("feeds", 0, "", "what the filters of this recording learn from it; empty: nothing"),
];
const ENUM: &[Spec] = &[("name", 0, "", "of the enumeration"), ("value", 8, "", ""), ("label", 0, "", "")];
const IN_FLIGHT: &[Spec] = &[
    ("ts", 8, "mono_ns", "when the call began"),
    ("until", 8, "mono_ns", "when the recording ended"),
    ("tid", 4, "ref:task", "thread that called"),
    ("probe", 0, "", "table of the probe"),
    ("function", 0, "", "what was called"),
];
const COST: &[Spec] = &[
    TS,
    ("bpf_ns", 8, "ns", "estimated run time of the BPF programs"),
    ("bpf_runs", 8, "", "estimated runs of the BPF programs"),
    ("user_ns", 8, "ns", "the recorder's user time"),
    ("system_ns", 8, "ns", "the recorder's system time"),
    ("rss", 8, "bytes", "the recorder's resident memory, at most"),
    ("waited", 8, "ns", "drain threads waited for the writer: meanwhile the rings held what came"),
];

const GOVERNOR: &[Spec] = &[
    TS,
    ("group", 0, "", "of probes"),
    (
        "one_of",
        8,
        "",
        "one of so many flows, tasks or requests is recorded; 1: all, 0: none, all are only counted",
    ),
    ("why", 0, "", "what the bound was"),
    ("bare", 8, "", "1: without stacks"),
];
const STACK: &[Spec] = &[
    TS,
    TABLE,
    ("cut", 2, "", "1: as deep as stacks are followed, so outer frames may be missing"),
    ("stack", 4, "key", ""),
    ("ended", 4, "ends", ""),
    ("frames", 0, "ref:frame", "numbers of frames, four bytes each, innermost first"),
];
const FRAME: &[Spec] = &[
    TS,
    TABLE,
    ("kernel", 2, "", "1: the kernel's"),
    ("frame", 4, "key", ""),
    ("mapping", 4, "ref:mapping null:0", "where its code comes from; null: the kernel, or not known"),
    ("offset", 8, "", "in the file, of the instruction or of the call; an address where there is no file"),
];
const MAPPING: &[Spec] = &[
    TS,
    TABLE,
    ("unused", 2, SKIP, ""),
    ("mapping", 4, "key", ""),
    ("pid", 4, "ref:task", "process that it was first seen in"),
    ("start", 8, "", "its first address there"),
    ("end", 8, "", "the address after its last there"),
    ("offset", 8, "", "where in the file it begins"),
    ("build_id", 0, "", "of the file, hexadecimal"),
    ("path", 0, "", "of the file, as the process saw it; //anon: no file, as just-in-time compilers use"),
];
const SYMBOL: &[Spec] = &[
    TS,
    ("frame", 4, "ref:frame", ""),
    ("level", 4, "", "0 is innermost; each higher level is what the one before was inlined into"),
    ("line", 8, "", "in the source file, or 0"),
    ("function", 0, "", "demangled name"),
    ("file", 0, "", "source file, or empty"),
];

const LOAD: &[Spec] = &[
    TS,
    ("load1", 8, "1/100", "load average of a minute"),
    ("load5", 8, "1/100", "of five"),
    ("load15", 8, "1/100", "of fifteen"),
    ("runnable", 8, "", "tasks that run or wait for a processor"),
    ("tasks", 8, "", "tasks that there are"),
    ("total", 8, "bytes", "memory"),
    ("free", 8, "bytes", "unused memory"),
    ("available", 8, "bytes", "what could be had without swapping"),
    ("buffers", 8, "bytes", "cached blocks of devices"),
    ("cached", 8, "bytes", "cached pages of files"),
];

const CPU_TIME: &[Spec] = &[
    TS,
    ("cpu", 2, "", "processor"),
    ("user", 8, "ns", "user code, that of virtual machines included"),
    ("nice", 8, "ns", "the same at a lower priority"),
    ("system", 8, "ns", "the kernel for tasks"),
    ("idle", 8, "ns", "nothing"),
    ("iowait", 8, "ns", "nothing, while a task that ran here waits for a disk"),
    ("irq", 8, "ns", "interrupts"),
    ("softirq", 8, "ns", "what interrupts left to do"),
    ("steal", 8, "ns", "what the hypervisor gave to others"),
    ("guest", 8, "ns", "virtual machines, part of user"),
    ("guest_nice", 8, "ns", "virtual machines, part of nice"),
];
const DISK_STAT: &[Spec] = &[
    TS,
    ("disk", 0, "", "name"),
    ("partition", 2, "", "1: a part of a disk"),
    ("reads", 8, "", "completed"),
    ("reads_merged", 8, "", "that became part of another one"),
    ("read", 8, "bytes", ""),
    ("read_time", 8, "ns", "of all reads together, in whole milliseconds"),
    ("writes", 8, "", "completed"),
    ("writes_merged", 8, "", "that became part of another one"),
    ("written", 8, "bytes", ""),
    ("write_time", 8, "ns", "of all writes together"),
    ("in_flight", 8, "", "requests right now"),
    ("busy", 8, "ns", "with at least one request in flight"),
    ("weighted", 8, "ns", "time that requests were in flight, of all together"),
    ("discards", 8, "", "completed"),
    ("discards_merged", 8, "", "that became part of another one"),
    ("discarded", 8, "bytes", ""),
    ("discard_time", 8, "ns", "of all discards together"),
    ("flushes", 8, "", "completed"),
    ("flush_time", 8, "ns", "of all flushes together"),
];

/// Builds one record, field by field in the order of the table.
#[derive(Debug, Default)]
pub struct Row {
    fixed: Vec<u8>,
    texts: Vec<(usize, Vec<u8>)>,
}

impl Row {
    /// An empty record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An eight-byte number.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.fixed.extend(value.to_le_bytes());
        self
    }

    /// A four-byte number.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.fixed.extend(value.to_le_bytes());
        self
    }

    /// A two-byte number.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.fixed.extend(value.to_le_bytes());
        self
    }

    /// Text, cut to what a record can refer to.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.data(value.as_bytes())
    }

    /// Bytes, cut likewise.
    #[must_use]
    pub fn data(mut self, value: &[u8]) -> Self {
        self.texts.push((self.fixed.len(), value[..value.len().min(8000)].to_vec()));
        self.fixed.extend([0; 4]);
        self
    }

    /// The bytes, as a probe would have left them in a ring.
    ///
    /// # Panics
    /// When all texts together pass 64 KiB.
    #[must_use]
    pub fn bytes(mut self) -> Vec<u8> {
        for (at, text) in std::mem::take(&mut self.texts) {
            let offset = u16::try_from(self.fixed.len()).expect("a record is at most 64 KiB");
            let length = u16::try_from(text.len()).expect("cut above");
            self.fixed[at..at + 2].copy_from_slice(&offset.to_le_bytes());
            self.fixed[at + 2..at + 4].copy_from_slice(&length.to_le_bytes());
            self.fixed.extend(text);
        }
        self.fixed
    }
}

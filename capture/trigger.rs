//! What makes a flight recorder write its memory out by itself (`--trigger`).
//!
//! Three kinds: conditions on recorded rows, checked where rows are written ([`Condition`]); latencies between
//! two rows, which the programs pair and compare with their limit ([`limits`]), and which are a row when they pass
//! it; and states of the machine, looked at a few times a second ([`Watch`]).

use super::layout::Layout;
use super::limit::{parse_duration, parse_size};
use crate::schema::{Batch, ColumnDef, ColumnType};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

/// A latency that the programs compare with a limit, so that it need not be put together from rows of several tables.
struct InKernel {
    /// As it is typed: the report that has it, and its name there.
    name: &'static str,
    /// The knob for the limit, ns.
    knob: &'static str,
    /// What a latency over the limit is a row of.
    row: &'static str,
    /// Tables whose probes pair it.
    of: &'static [&'static str],
}

const IN_KERNEL: [InKernel; 2] = [
    InKernel {
        name: "tcplat.response",
        knob: "limit_response",
        row: "tcp_slow.latency",
        of: &["sock_send", "tcp_rx"],
    },
    InKernel { name: "biolatency", knob: "limit_block", row: "block_slow.latency", of: &["block_rq"] },
];

/// The limits that programs are to compare with, as knobs: of several on one latency the smallest.
///
/// # Errors
/// For a limit that is none.
pub fn limits(words: &[String]) -> Result<BTreeMap<&'static str, u64>> {
    let mut limits = BTreeMap::new();
    for word in words {
        let Some((place, operator, value)) = comparison(word) else { continue };
        let Some(known) = IN_KERNEL.iter().find(|known| known.name == place) else { continue };
        if !operator.starts_with('>') {
            bail!("--trigger {word}: a limit is passed upwards: write {place} > TIME");
        }
        let time = parse_duration(value).map_err(|why| anyhow::anyhow!("--trigger {word}: {why}"))?;
        // Zero is no limit to the programs.
        let limit = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        limits.entry(known.knob).and_modify(|least| *least = limit.min(*least)).or_insert(limit);
    }
    Ok(limits)
}

/// Place, operator and value.
fn comparison(text: &str) -> Option<(&str, &'static str, &str)> {
    let operator = OPERATORS.into_iter().find(|operator| text.contains(operator))?;
    text.split_once(operator).map(|(place, value)| (place.trim(), operator, value.trim()))
}

/// Longest first, so that `>=` is not taken for `>`.
const OPERATORS: [&str; 6] = [">=", "<=", "!=", ">", "<", "="];

/// Microseconds. Shorter ones, or others than multiples, take `CAP_SYS_RESOURCE`; before Linux 6.5 all do.
const PRESSURE_WINDOW: u64 = 2_000_000;

/// All triggers of a recording.
#[derive(Default)]
pub struct Triggers {
    /// On rows.
    pub conditions: Vec<Condition>,
    /// On the machine.
    pub watches: Vec<Watch>,
    /// On any event that is lost: how many there were at the last look.
    lost: Option<u64>,
    /// On the end of the recording.
    pub end: bool,
}

impl Triggers {
    /// Reads the words of the command line.
    ///
    /// # Errors
    /// For what this recording or this kernel does not have.
    pub fn new(words: &[String], layouts: &[Layout]) -> Result<Self> {
        let mut triggers = Self::default();
        for word in words {
            match word.split_once(':') {
                None if word == "lost" => triggers.lost = Some(0),
                None if word == "end" => triggers.end = true,
                Some(("psi", rest)) => triggers.watches.push(Watch::pressure(word, rest)?),
                Some(("file", path)) => triggers.watches.push(Watch::file(path)),
                _ => triggers.conditions.push(Condition::new(word, layouts)?),
            }
        }
        Ok(triggers)
    }

    /// What has happened to the machine since the last look; `lost` is how many events are lost so far.
    pub fn look(&mut self, lost: u64) -> Option<String> {
        if self.lost.as_mut().is_some_and(|before| std::mem::replace(before, lost) < lost) {
            return Some("events were lost".into());
        }
        self.watches.iter_mut().find_map(|watch| watch.look().then(|| watch.text.clone()))
    }
}

/// `TABLE` (any row), or `TABLE.COLUMN OPERATOR VALUE`.
#[derive(Clone, Debug)]
pub struct Condition {
    /// As it was typed.
    pub text: String,
    table: u16,
    test: Option<Test>,
}

#[derive(Clone, Debug)]
struct Test {
    column: usize,
    def: ColumnDef,
    operator: &'static str,
    value: i128,
}

impl Condition {
    fn new(text: &str, layouts: &[Layout]) -> Result<Self> {
        let (place, operator, value) = match comparison(text) {
            Some((place, operator, value)) => (place, Some(operator), Some(value)),
            None => (text.trim(), None, None),
        };
        let in_kernel = IN_KERNEL.iter().find(|known| known.name == place);
        let has = |table: &str| layouts.iter().any(|layout| layout.def.name == table);
        if let Some(lacking) = in_kernel.and_then(|known| known.of.iter().find(|table| !has(table))) {
            bail!(
                "--trigger {text}: this recording has no table '{lacking}', from which that is known: record its group too"
            );
        }
        let place = in_kernel.map_or(place, |known| known.row);
        let (table, column) = place.split_once('.').map_or((place, None), |(t, c)| (t, Some(c)));
        let Some(layout) =
            layouts.iter().find(|layout| layout.def.name == table && !layout.def.group.is_empty())
        else {
            let known = layouts.iter().filter(|layout| !layout.def.group.is_empty());
            let known: Vec<&str> = known.map(|layout| layout.def.name.as_str()).collect();
            bail!("--trigger {text}: this recording has no table '{table}'; it has {}", known.join(", "));
        };
        let test = match (column, operator, value) {
            (None, None, None) => None,
            (Some(column), Some(operator), Some(value)) => Some(test(text, layout, column, operator, value)?),
            _ => bail!("--trigger {text}: expected TABLE, or TABLE.COLUMN > VALUE (or >=, <, <=, =, !=)"),
        };
        Ok(Self { text: text.to_owned(), table: layout.def.number, test })
    }

    /// Whether a row of the batch is so.
    #[must_use]
    pub fn holds(&self, batch: &Batch) -> bool {
        if batch.table != self.table {
            return false;
        }
        let Some(Test { column, def, operator, value }) = &self.test else { return batch.rows > 0 };
        let compare: fn(&i128, &i128) -> bool = match *operator {
            ">=" => i128::ge,
            "<=" => i128::le,
            "!=" => i128::ne,
            ">" => i128::gt,
            "<" => i128::lt,
            _ => i128::eq,
        };
        let mut found = false;
        batch.columns[*column].each_number(|raw| {
            found |= def.value(raw).is_some_and(|number| compare(&number, value));
        });
        found
    }
}

fn test(text: &str, layout: &Layout, column: &str, operator: &'static str, value: &str) -> Result<Test> {
    let numbers = || {
        layout.def.columns.iter().enumerate().filter(|(_, def)| matches!(def.kind, ColumnType::Number { .. }))
    };
    let Some((index, def)) = numbers().find(|(_, def)| def.name == column) else {
        let known: Vec<&str> = numbers().map(|(_, def)| def.name.as_str()).collect();
        bail!("--trigger {text}: {} has no number '{column}'; it has {}", layout.def.name, known.join(", "));
    };
    let nanos = |text: &str| parse_duration(text).map(|time| time.as_nanos().cast_signed());
    let value = match def.unit.as_str() {
        _ if value.parse::<i128>().is_ok() && def.unit != "ns" && def.unit != "us" => {
            value.parse().map_err(|_| String::new())
        }
        "ns" => nanos(value),
        "us" => nanos(value).map(|ns| ns / 1000),
        "bytes" => parse_size(value).map(i128::from),
        _ => Err(format!("'{value}' is not a number")),
    };
    let value = value.map_err(|why| anyhow::anyhow!("--trigger {text}: {why}"))?;
    Ok(Test { column: index, def: def.clone(), operator, value })
}

/// A state of the machine.
pub struct Watch {
    /// As it was typed.
    pub text: String,
    what: Watched,
    before: bool,
}

enum Watched {
    /// Readable as urgent data when stalled for long enough.
    Pressure(File),
    File(PathBuf),
}

impl Watch {
    /// `memory:some:10%`: stalled for a tenth of the time within two seconds.
    fn pressure(word: &str, rest: &str) -> Result<Self> {
        let expected = || {
            format!("--trigger {word}: expected psi:RESOURCE:some|full:PERCENT%, as in psi:memory:some:10%")
        };
        let [resource, kind, percent] = rest.split(':').collect::<Vec<_>>()[..] else { bail!(expected()) };
        let percent: f64 = percent.trim_end_matches('%').parse().map_err(|_| anyhow::anyhow!(expected()))?;
        if !["some", "full"].contains(&kind) || !(0.1..100.0).contains(&percent) || resource.contains('/') {
            bail!(expected());
        }
        let path = format!("/proc/pressure/{resource}");
        let mut file = OpenOptions::new().read(true).write(true).open(&path).with_context(|| {
            format!("--trigger {word}: {path} (memory, io or cpu; the kernel needs CONFIG_PSI)")
        })?;
        let stall = (percent / 100.0 * PRESSURE_WINDOW as f64) as u64;
        file.write_all(format!("{kind} {stall} {PRESSURE_WINDOW}\0").as_bytes())
            .with_context(|| format!("--trigger {word}: ask {path} to say so"))?;
        Ok(Self { text: word.to_owned(), what: Watched::Pressure(file), before: false })
    }

    fn file(path: &str) -> Self {
        let path = PathBuf::from(path);
        let before = path.exists();
        Self { text: format!("file:{}", path.display()), what: Watched::File(path), before }
    }

    /// Whether it has become so since the last look.
    pub fn look(&mut self) -> bool {
        let now = match &self.what {
            Watched::File(path) => path.exists(),
            Watched::Pressure(file) => {
                let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
                // SAFETY: one valid entry; no waiting. The kernel reports each stall once.
                return unsafe { libc::poll(&raw mut poll, 1, 0) } == 1 && poll.revents & libc::POLLPRI != 0;
            }
        };
        let before = std::mem::replace(&mut self.before, now);
        now && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::plan::Plan;
    use crate::schema::Column;

    fn layouts() -> Vec<Layout> {
        Plan::new(&["net".into(), "proc".into()]).expect("a plan").layouts
    }

    fn batch(layouts: &[Layout], table: &str, column: &str, values: Column) -> Batch {
        let def = &layouts.iter().find(|layout| layout.def.name == table).expect("a table").def;
        let mut columns = vec![Column::Absent; def.columns.len()];
        let rows = values.len();
        columns[def.columns.iter().position(|def| def.name == column).expect("a column")] = values;
        Batch { table: def.number, stream: 0, rows, columns }
    }

    #[test]
    fn a_condition_knows_units_signs_and_what_is_not_known() {
        let layouts = layouts();
        let holds = |text: &str, batch: &Batch| {
            Triggers::new(&[text.to_owned()], &layouts).expect("a trigger").conditions[0].holds(batch)
        };
        let sends = batch(&layouts, "sock_send", "latency", Column::U64(vec![5, 100_000_001]));
        assert!(holds("sock_send.latency > 100ms", &sends));
        assert!(!holds("sock_send.latency > 101ms", &sends));
        assert!(!holds("sock_recv.latency > 1ms", &sends), "another table");
        assert!(holds("sock_send", &sends));
        let errors = batch(&layouts, "sock_send", "ret", Column::U32(vec![7, (-32i32).cast_unsigned()]));
        assert!(holds("sock_send.ret<0", &errors) && holds("sock_send.ret = -32", &errors));
        assert!(!holds("sock_send.ret >= 8", &errors));
        let unknown = batch(&layouts, "sock_send", "requested", Column::U32(vec![u32::MAX]));
        assert!(!holds("sock_send.requested > 1KiB", &unknown), "null is no large number");
    }

    #[test]
    fn a_latency_between_rows_is_compared_by_the_programs() {
        let words = ["tcplat.response > 100ms", "tcplat.response>=20ms", "sock_send.latency > 1ms"];
        let words = words.map(str::to_owned);
        assert_eq!(limits(&words).expect("limits"), BTreeMap::from([("limit_response", 20_000_000)]));
        let plan = Plan::new(&["net".into(), "net-rx".into()]).expect("a plan");
        let slow = batch(&plan.layouts, "tcp_slow", "latency", Column::U64(vec![30_000_000]));
        let triggers = Triggers::new(&words, &plan.layouts).expect("triggers");
        let held: Vec<bool> = triggers.conditions.iter().map(|condition| condition.holds(&slow)).collect();
        assert_eq!(held, [false, true, false], "each has its own limit");
        let below = limits(&["tcplat.response < 1ms".to_owned()]).unwrap_err().to_string();
        assert!(below.contains("upwards"), "{below}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error =
            |text: &str| Triggers::new(&[text.to_owned()], &layouts()).err().expect("wrong").to_string();
        assert!(error("tcp_rx.length > 1").contains("it has "), "{}", error("tcp_rx.length > 1"));
        assert!(error("tcplat.response > 1s").contains("no table 'tcp_rx'"));
        assert!(error("sock_send.color > 1").contains("latency"));
        assert!(error("sock_send.latency > soon").contains("is not a time"));
        assert!(error("sock_send.latency").contains("expected TABLE"));
        assert!(error("psi:memory:most:10%").contains("psi:memory:some:10%"));
        assert!(error("psi:luck:some:10%").contains("/proc/pressure/luck"));
    }

    #[test]
    fn a_file_counts_when_it_appears() {
        let path = std::env::temp_dir().join(format!("tapedeck-trigger-{}", std::process::id()));
        let mut watch = Watch::file(&path.display().to_string());
        assert!(!watch.look());
        std::fs::write(&path, "").expect("a file");
        assert!(watch.look() && !watch.look(), "once");
        std::fs::remove_file(&path).expect("ours");
        assert!(!watch.look());
    }
}

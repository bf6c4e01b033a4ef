//! What the project promises of the analyzer, against what a run measured.

use crate::run::Usage;
use std::path::Path;

/// The questions of a run, each with its contestants.
#[derive(Default)]
pub struct Results(Vec<(&'static str, Vec<(String, Usage)>)>);

/// A measured ratio, and which side of the bound is good.
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// No target, but what others are read against.
    None,
}

impl Bound {
    fn is_met(&self, measured: f64) -> bool {
        match self {
            Self::AtLeast(bound) => measured >= *bound,
            Self::AtMost(bound) => measured <= *bound,
            Self::None => true,
        }
    }
}

impl Results {
    /// Adds what a question's contestants took.
    pub fn add(&mut self, question: &'static str, found: Vec<(String, Usage)>) {
        self.0.push((question, found));
    }

    fn of(&self, question: &str, name: &str) -> Option<Usage> {
        let found = self.0.iter().find(|found| found.0 == question)?;
        found.1.iter().find(|found| found.0 == name).map(|found| found.1)
    }

    /// How many times longer than the report somebody takes, by a figure of both.
    fn times(&self, question: &str, other: &str, figure: fn(Usage) -> f64) -> Option<f64> {
        Some(figure(self.of(question, other)?) / figure(self.of(question, "analyze")?))
    }

    /// Prints a line for each target; what was not measured is said to be so.
    pub fn print(&self, events: u64, folder: &Path) {
        println!("\n{:<44} {:>8} {:>9}  met", "target", "", "measured");
        for question in super::questions::questions() {
            let Some(fold) = question.fold() else { continue };
            let measured = self.times(question.name, fold, |usage| usage.cpu);
            line(&format!("{}, CPU of the fold", question.name), &Bound::AtLeast(0.9), measured);
        }
        let counts = if events < 100_000_000 { 1.3 } else { 1.2 };
        let duckdb = [
            ("bytes by socket", counts),
            ("flow table, from histograms", 2.5),
            ("flow table", 1.5),
            ("one port, one second", 1.0),
        ];
        for (question, bound) in duckdb {
            let measured = self.times(question, "duckdb", |usage| usage.wall);
            line(&format!("{question}, time of DuckDB"), &Bound::AtLeast(bound), measured);
        }
        // What of two threads the machine itself has to give, where nothing is shared but the processor.
        let zstd = |name| Some(self.of("decode all columns", name)?.wall);
        let ceiling = zstd("zstd-1").zip(zstd("zstd")).map(|(one, two)| one / two);
        line("bare zstd, two threads: the ceiling", &Bound::None, ceiling);
        for (question, _) in self.0.iter().filter(|found| !found.0.starts_with("first page")) {
            let measured = self.times(question, "analyze, 1 thread", |usage| usage.wall);
            line(&format!("{question}, two threads"), &Bound::AtLeast(1.8), measured);
        }
        let one = |name| Some(self.of("decode all columns", name)?.cpu);
        let decode = one("decode-1").zip(one("zstd-1")).map(|(decode, zstd)| decode / zstd);
        line("decode all columns, CPU over bare zstd", &Bound::AtMost(1.8), decode);
        line("size over Parquet's", &Bound::AtMost(0.75), size(folder));
        for question in ["first page", "first page, --quick"] {
            let seconds = self.of(question, "analyze").map(|usage| usage.wall);
            line(&format!("{question}, ms"), &Bound::AtMost(50.0), seconds.map(|seconds| seconds * 1e3));
        }
    }
}

fn line(what: &str, bound: &Bound, measured: Option<f64>) {
    let wanted = match bound {
        Bound::AtLeast(bound) => format!("≥ {bound}"),
        Bound::AtMost(bound) => format!("≤ {bound}"),
        Bound::None => String::new(),
    };
    match measured {
        Some(measured) => {
            let met = if bound.is_met(measured) { "yes" } else { "NO" };
            println!("{what:<44} {wanted:>8} {measured:>9.2}  {met}");
        }
        None => println!("{what:<44} {wanted:>8} {:>9}  not measured", "-"),
    }
}

fn size(folder: &Path) -> Option<f64> {
    let bytes = |name: &str| Some(std::fs::metadata(folder.join(name)).ok()?.len() as f64);
    let parquet =
        ["sock_send", "sock_recv", "tcp_rx", "sock"].map(|table| bytes(&format!("{table}.parquet")));
    Some(bytes("trace.bin")? / parquet.into_iter().sum::<Option<f64>>()?)
}

//! Makes a trace of any size through the recorder's own path, from records as probes leave them in a
//! ring to the file, and says what that cost.
//!
//! ```text
//! cargo bench --bench generate -- FILE EVENTS [FLOWS|work]
//! ```
//!
//! The events are request/response turns over many connections, seeded: a send, the segment at the
//! peer, its receive, and the ACK, with log-normal latencies; or, with `work`, what a machine does beside its
//! network. Without FILE it writes nowhere.

#[path = "generator/mod.rs"]
mod generator;

use generator::{Made, make, turns::Turns, work::Work};
use std::fs::File;
use std::io::{self, Write};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number =
        |at: usize, default: u64| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(default);
    let (events, flows) = (number(1, 2_000_000), number(2, 1000) as u32);
    let sink: Box<dyn Write + Send> = match words.first() {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::sink()),
    };
    let work = words.get(2).is_some_and(|word| word == "work");
    let made =
        if work { make(sink, events, Work::default()) } else { make(sink, events, Turns::over(flows)) };
    let Made { bytes, wall, cpu } = made?;
    let per_event = bytes as f64 / events as f64;
    println!("{events} events: {bytes} bytes, {per_event:.2} per event");
    println!(
        "{:.2} M events/s of wall time, {:.0} ns CPU per event, the generator included",
        events as f64 / wall / 1e6,
        cpu * 1e9 / events as f64
    );
    Ok(())
}

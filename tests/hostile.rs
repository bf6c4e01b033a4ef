//! The fuzz targets of the analyzer, without a fuzzer: the committed inputs, and as many random ones as there is time for.
//!
//! `HOSTILE_SECONDS=600 cargo test --release --test tests hostile` looks longer; `HOSTILE_SEED` begins elsewhere.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "fuzz/reports.rs"]
mod reports;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 2] = [("report", reports::report), ("identity", reports::identity)];
/// Random inputs of each target in a usual run.
const RUNS: u64 = 250;

#[test]
fn the_corpus_is_harmless() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let entries: Vec<_> = fs::read_dir(folder).expect("the corpus is part of the sources").collect();
        assert!(!entries.is_empty(), "no input for {name}");
        for entry in entries {
            let path = entry.expect("a folder entry").path();
            let input = fs::read(&path).expect("an input");
            assert!(catch_unwind(|| target(&input)).is_ok(), "{name} panicked on {}", path.display());
        }
    }
}

#[test]
fn random_traces_are_harmless() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let until = Instant::now() + Duration::from_secs(number("HOSTILE_SECONDS").unwrap_or(0));
    let first = number("HOSTILE_SEED").unwrap_or(1);
    let mut seed = first;
    while seed < first + RUNS || Instant::now() < until {
        for (name, target) in TARGETS {
            let input = random(seed);
            assert!(catch_unwind(|| target(&input)).is_ok(), "{name} panicked: HOSTILE_SEED={seed}");
        }
        seed += 1;
    }
}

/// The same bytes on every machine: xorshift64*.
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    };
    (0..8 + seed % 150).map(|_| next()).collect()
}

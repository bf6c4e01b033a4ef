//! See `reports.rs`.
#![no_main]

#[path = "../cap.rs"]
mod cap;
#[path = "../reports.rs"]
#[allow(dead_code, reason = "each program uses one of them")]
mod reports;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reports::report(data));

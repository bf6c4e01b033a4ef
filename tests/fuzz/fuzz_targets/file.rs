//! See `targets.rs`.
#![no_main]

#[path = "../cap.rs"]
mod cap;
#[path = "../targets.rs"]
#[allow(dead_code, reason = "each program uses one of them")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::file(data));

//! As burn.c, in Rust, with a function that is inlined: `burn SECONDS`.

use std::hint::black_box;
use std::time::Instant;

#[inline(always)]
fn burn_inlined(mut value: u64, factor: u64) -> u64 {
    for _ in 0..1_000_000 {
        value = black_box(value.wrapping_mul(factor).wrapping_add(1));
    }
    value
}

#[inline(never)]
fn burn_hot(value: u64) -> u64 {
    burn_inlined(value, 3) ^ 1
}

#[inline(never)]
fn burn_cold(value: u64) -> u64 {
    burn_inlined(value, 5) ^ 1
}

#[inline(never)]
fn burn_inner(hot: bool, value: u64) -> u64 {
    (if hot { burn_hot(value) } else { burn_cold(value) }) ^ 2
}

#[inline(never)]
fn burn_outer(value: u64) -> u64 {
    (0..4).fold(value, |value, at| burn_inner(at < 3, value) ^ at)
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let start = Instant::now();
    let mut value = 1;
    while start.elapsed().as_secs_f64() < seconds {
        value = burn_outer(black_box(value));
    }
    println!("{{\"value\": {value}}}");
}

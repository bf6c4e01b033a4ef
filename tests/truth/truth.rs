//! A workload that knows the truth about itself.
//!
//! Each command does something countable on loopback, or starts processes, and prints one JSON object that says what
//! it did: call by call, byte by byte, counted where the call is made. A test records it with `capture`, asks
//! `analyze`, and compares. Nothing of the recorder or the analyzer is in here, and nothing but the C library is
//! needed to run it, so that one static file serves in every guest.
//!
//! ```text
//! truth sends      --family v4|v6|mapped --count N --size S        N sends of S bytes on one connection
//! truth pingpong   --family … --count N --size S --reply R --delay-ms D   request, pause, reply
//! truth twothreads --family … --count N --size S                   two threads send on one socket
//! truth connects   --family … --count N --size S --reply R         N connections one after the other
//! truth odd        --family … [--case NAME,…]                      EAGAIN, peeks, splices, resets, port reuse …
//! truth execs      --count N --missing M                           N programs with known ends, M that do not exist
//! truth files      --count N --size S [--dir PATH]                 N files written, read, looked at, renamed, removed
//! truth calls      --count N --missing M --ms T                   N getppid, M failing opens, ten sleeps of T
//! truth storm      --count N --ms T                               two threads, a byte to and fro, ten sleeps of T
//! truth locks      --count N --ms T                               four threads that want one lock, each for T
//! truth hops       --count N                                       a thread that sends itself to other processors
//! truth uses       [--dir PATH]                                    CPU, memory, a file, descriptors: what the kernel counted
//! truth idle       --ms N                                          nothing, for a while
//! truth nop END …                                                  what `execs` starts
//! ```
//!
//! `--port P` fixes the server's port, `--output FILE` writes the JSON there. Every process ends by itself within 30
//! seconds. Exit status: 0 done (or skipped: the JSON has `skipped` with the reason), 1 failed, 2 usage.
//!
//! An *end* in the JSON is one user (a thread, or a process) of one end of a connection: who it is, its addresses,
//! and what it did there. [`net::Tally`] says what the numbers mean. Times are `CLOCK_MONOTONIC` nanoseconds.

mod calls;
mod execs;
mod files;
mod json;
mod locks;
mod net;
mod odd;
mod options;
mod process;
mod storm;
mod traffic;
mod uring;
mod uses;

use std::io::{self, Write};
use std::process::exit;

use json::Object;
use options::Options;

const USAGE: &str =
    "usage: truth sends|pingpong|twothreads|connects|odd|execs|files|calls|storm|locks|hops|uses|idle [--family v4|v6|mapped] [--count N]
       [--size BYTES] [--reply BYTES] [--delay-ms N] [--ms N] [--missing N] [--port P] [--case NAME,…]
       [--dir PATH] [--output FILE]";

/// What a command runs, and whether `--family` matters to it.
enum Command {
    Network(fn(&Options) -> io::Result<Object>),
    Local(fn(&Options) -> io::Result<Object>),
}

fn main() {
    process::set_alarm();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else { usage("which command?") };
    if name == "nop" {
        exit(execs::nop(rest));
    }
    let command = match name.as_str() {
        "sends" => Command::Network(traffic::sends),
        "pingpong" => Command::Network(traffic::pingpong),
        "twothreads" => Command::Network(traffic::two_threads),
        "connects" => Command::Network(traffic::connects),
        "odd" => Command::Network(odd::odd),
        "execs" => Command::Local(execs::execs),
        "files" => Command::Local(files::files),
        "calls" => Command::Local(calls::calls),
        "storm" => Command::Local(storm::storm),
        "locks" => Command::Local(locks::locks),
        "hops" => Command::Local(storm::hops),
        "uses" => Command::Local(uses::uses),
        "idle" => Command::Local(|options| Ok(traffic::idle(options))),
        _ => usage(&format!("unknown command {name}")),
    };
    let options = Options::parse(rest).unwrap_or_else(|problem| usage(&problem));
    if let Err(error) = run(name, &command, &options) {
        eprintln!("truth {name}: {error}");
        exit(1);
    }
}

/// Runs the command, unless this machine lacks the family that it needs, and prints its JSON.
fn run(name: &str, command: &Command, options: &Options) -> io::Result<()> {
    let facts = match command {
        Command::Local(command) => command(options)?,
        Command::Network(command) => match options.family.missing() {
            Some(reason) => Object::new().text("skipped", &reason),
            None => command(options)?,
        }
        .text("family", options.family.name()),
    };
    let json = facts.text("command", name).end();
    match &options.output {
        Some(path) => std::fs::write(path, json + "\n"),
        None => writeln!(io::stdout(), "{json}"),
    }
}

fn usage(problem: &str) -> ! {
    eprintln!("truth: {problem}\n{USAGE}");
    exit(2);
}

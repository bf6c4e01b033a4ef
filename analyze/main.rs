//! Parse, call, and turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tapedeck::analyze::main(std::env::args_os()) as u8)
}

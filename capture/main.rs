//! `capture`: records what the kernel does into a trace file.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use clap::Parser as _;
    use tapedeck::capture::{args::Args, control, dry_run, list, session, summary};

    let args = Args::parse();
    let failed = if args.command.is_empty() { 1 } else { 125 };
    let result = match (&args.dump, args.dry_run) {
        (Some(recorder), _) => control::dump(recorder).map(|()| 0),
        _ if args.list.is_some() => list::list(&args).map(|()| 0),
        (None, Some(time)) => dry_run::dry_run(&args, time),
        (None, None) => session::record(&args),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            summary::tell(&format!("capture: {error:#}\n"));
            ExitCode::from(failed)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("capture: recording needs Linux; `analyze` reads traces on any system");
    ExitCode::FAILURE
}

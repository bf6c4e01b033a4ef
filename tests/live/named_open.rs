//! Calls that last beyond the ends of the recording: of a program that says when it is in one.

use super::named::{able, column, program};
use super::profile::analyze;
use super::support::{Watch, line};
use super::trace::{bytes, number, rows};
use std::io::{BufReader, Write as _};
use std::process::{Command, Stdio};

#[test]
fn calls_in_flight_at_the_end_are_counted_and_not_measured() {
    if !able() {
        return;
    }
    let (program, _) = program("named-open");
    let mut process = Command::new(&program);
    process.args(["9", "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = process.spawn().expect("our own program");
    let mut said = BufReader::new(process.stdout.take().expect("a pipe"));
    let mut bytes_for = process.stdin.take().expect("a pipe");
    assert_eq!(line(&mut said), "0", "in its first call, which nobody sees begin");
    let (path, pid) = (program.to_str().expect("plain"), process.id().to_string());
    let probes = [format!("ur:{path}:await(n=arg1)"), format!("sums=ur:{path}:await {{hist}}")];
    let watch = Watch::start("named-open-trace", &["-p", &pid, "-e", &probes[0], "-e", &probes[1]]);
    let trace = watch.path.clone();
    for n in 1..4 {
        bytes_for.write_all(b".").expect("it reads");
        assert_eq!(line(&mut said), n.to_string());
    }
    let capture = watch.finish();
    drop(bytes_for);
    process.wait().expect("our own child");
    assert!(capture.contains(" 0 lost"), "{capture}");
    assert_eq!(column(&rows(&trace, "await"), "n"), [1, 2], "those with both ends");
    assert_eq!(column(&rows(&trace, "sums"), "hits").iter().sum::<i128>(), 2);
    let open = rows(&trace, "in_flight");
    let of: Vec<_> = open.iter().map(|row| (bytes(row, "probe"), bytes(row, "function"))).collect();
    assert_eq!(of.len(), 2, "{of:?}");
    assert!(of.contains(&(b"await", b"await")) && of.contains(&(b"sums", b"await")), "{of:?}");
    assert!(open.iter().all(|row| number(row, "ts") < number(row, "until")));
    assert!(open.iter().all(|row| number(row, "tid") == i128::from(process.id())));
    for report in ["funclatency", "funcslower"] {
        let said = analyze(&trace, &[report, "--probe", "await"]);
        assert!(
            said.contains("1 call had not returned when the recording ended, the oldest after "),
            "{said}"
        );
    }
}

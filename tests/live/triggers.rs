//! What makes a flight recorder write: rows, latencies, losses, files, a stalled machine.

use super::bounds::{check_books, set_of};
use super::flight::{Flight, complete, reason};
use super::named;
use super::support::{live, patiently, scratch, wait_for};
use super::trace::{known, number, rows, total};
use std::path::Path;
use std::time::Duration;

#[test]
fn a_trigger_brings_its_cause_and_what_follows() {
    if !live() {
        return;
    }
    patiently(|| {
        let options = [
            "-g",
            "proc",
            "--flight",
            "30s",
            "--post",
            "2s",
            "--cool-down",
            "60s",
            "--trigger",
            "process_exit.code = 7",
        ];
        let script = "sleep 1; sh -c 'exit 3'; sleep 1; sh -c 'exit 7'; sleep 1; sh -c 'exit 9'; sleep 1; sh -c 'exit 7'; exec sleep 30";
        let flight = Flight::start("flight-trigger", &options, script);
        flight.wait_for_dumps(1);
        std::thread::sleep(Duration::from_secs(4));
        let files = set_of(&flight.path);
        assert_eq!(files.len(), 1, "the cool-down");
        let codes: Vec<i128> =
            rows(&files[0], "process_exit").iter().filter_map(|row| known(row, "code")).collect();
        let codes: Vec<i128> = codes.into_iter().filter(|&code| code != 0).collect();
        assert!(codes.starts_with(&[3, 7, 9]), "before, the cause, and after: {codes:?}");
        assert_eq!(reason(&files[0]), "dumped: process_exit.code = 7");
        flight.end();
    });
}

#[test]
fn a_file_that_appears_and_the_end_of_the_recording_are_triggers() {
    if !live() {
        return;
    }
    let mark = scratch("flight-mark").join("now");
    let file = format!("file:{}", mark.display());
    let options =
        ["-g", "proc", "--flight", "30s", "--cool-down", "0s", "--trigger", &file, "--trigger", "end"];
    let flight = Flight::start("flight-file", &options, "exec sleep 60");
    std::fs::write(&mark, "").expect("the test's own directory");
    flight.wait_for_dumps(1);
    let path = flight.path.clone();
    flight.end();
    let reasons: Vec<String> = set_of(&path).iter().map(|file| reason(file)).collect();
    assert_eq!(reasons, [format!("dumped: {file}"), "dumped: the recording ended: interrupted".into()]);
    assert!(!path.with_file_name("trace.bin.sock").exists(), "the control socket goes with the recorder");
}

/// The one row of a table that has but one, where the workload passed the limit once.
fn the_one(file: &Path, table: &str) -> i128 {
    let rows = rows(file, table);
    assert_eq!(rows.len(), 1, "{table}: {rows:?}");
    number(&rows[0], "latency")
}

#[test]
fn a_response_that_takes_too_long_is_a_trigger() {
    if !live() {
        return;
    }
    patiently(|| {
        let options = ["-g", "net,net-rx", "--flight", "30s", "--post", "0s", "--cool-down", "60s"];
        let options = [&options[..], &["--trigger", "tcplat.response > 100ms"]].concat();
        let account = scratch("flight-response-truth").join("slow.json");
        let script = format!(
            "$TRUTH pingpong --count 50 --size 20 --delay-ms 2 >/dev/null; \
         $TRUTH pingpong --count 1 --size 20 --reply 300 --delay-ms 150 --output {}; \
         $TRUTH pingpong --count 50 --size 20 --delay-ms 2 >/dev/null; exec sleep 30",
            account.display()
        );
        let flight = Flight::start("flight-response", &options, &script);
        flight.wait_for_dumps(1);
        let file = &set_of(&flight.path)[0];
        assert_eq!(reason(file), "dumped: tcplat.response > 100ms");
        let took = the_one(file, "tcp_slow");
        let truth: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&account).expect("an account")).expect("JSON");
        let of = |value: &serde_json::Value| i128::from(value[0].as_i64().expect("a time"));
        let (held, response) = (of(&truth["server"]["held_ns"]), of(&truth["response_ns"]));
        assert!(
            (held..=response).contains(&took),
            "the server held it for {held}, the client waited for {response}: {took}"
        );
        check_books(file);
        flight.end();
    });
}

#[test]
fn a_slow_disk_and_an_error_are_triggers() {
    use super::block::Loop;
    if !live() {
        return;
    }
    let Some(disk) = Loop::new("flight-disk") else { return };
    let options = ["-g", "block,file", "--flight", "30s", "--post", "0s"];
    let triggers = ["--cool-down", "0s", "--trigger", "biolatency > 1us", "--trigger", "file_open.ret = -2"];
    let script = format!("{}; sleep 3; cat /no/such/file; exec sleep 30", disk.workload(1, 1));
    let flight = Flight::start("flight-disk", &[&options[..], &triggers].concat(), &script);
    let told =
        |cause: &str| set_of(&flight.path).iter().any(|file| complete(file) && reason(file).contains(cause));
    // Which comes first is open, and whether one dump has both: programs look for files that are not there.
    wait_for("dumps with both causes", || told("biolatency > 1us") && told("file_open.ret = -2"));
    let all =
        |table: &str| set_of(&flight.path).iter().flat_map(|file| rows(file, table)).collect::<Vec<_>>();
    let (slow, parts) = (all("block_slow"), all("block_rq"));
    assert!(!slow.is_empty());
    for row in &slow {
        let of = |part: i128, at: i128| {
            let mut same = parts.iter().filter(|other| number(other, "rq") == number(row, "rq"));
            same.any(|other| number(other, "part") == part && number(other, "ts") == at)
        };
        let (end, latency) = (number(row, "ts"), number(row, "latency"));
        assert!(of(5, end) && of(3, end - latency), "no completion or no issue of {row:?}");
    }
    flight.end();
}

#[test]
fn a_stalled_machine_is_a_trigger() {
    if !live() {
        return;
    }
    patiently(|| {
        if !Path::new("/proc/pressure/cpu").exists() {
            super::support::skip("this kernel has no pressure information");
            return;
        }
        let options = ["-g", "proc", "--flight", "30s", "--post", "0s", "--trigger", "psi:cpu:some:10%"];
        // One more than there are processors wants one; other tests need not wait for them.
        let script = "for i in $(seq $(($(nproc) + 1))); do timeout 5 nice -n 19 sh -c 'while :; do :; done' & done; wait; exec sleep 30";
        let flight = Flight::start("flight-pressure", &options, script);
        flight.wait_for_dumps(1);
        assert_eq!(reason(&set_of(&flight.path)[0]), "dumped: psi:cpu:some:10%");
        flight.end();
    });
}

#[test]
fn a_loss_is_a_trigger() {
    if !live() {
        return;
    }
    let options = ["-g", "net", "--rings", "16", "--stall", "300ms", "--flight", "30s", "--post", "0s"];
    let options = [&options[..], &["--cool-down", "60s", "--trigger", "lost"]].concat();
    let script = "$TRUTH sends --count 30000 --size 10 >/dev/null; exec sleep 30";
    let flight = Flight::start("flight-lost", &options, script);
    flight.wait_for_dumps(1);
    let file = &set_of(&flight.path)[0];
    assert_eq!(reason(file), "dumped: events were lost");
    check_books(file);
    let lost = total(file, "sock_send", "ring_full") + total(file, "sock_recv", "ring_full");
    assert!(lost > 0, "the dump has the loss that is its cause");
    flight.end();
}

#[test]
fn an_argument_of_a_named_probe_is_a_trigger() {
    if !named::able() {
        return;
    }
    let (program, _) = named::program("flight-named-program");
    let probe = format!("slow=ur:{}:nap(ms=arg1)", program.display());
    let options = ["-g", "proc", "--flight", "30s", "--post", "0s", "--cool-down", "60s", "-e", &probe];
    let options = [&options[..], &["--trigger", "slow.ms > 20"]].concat();
    let flight = Flight::start(
        "flight-named",
        &options,
        &format!("{} 1 >/dev/null; exec sleep 30", program.display()),
    );
    flight.wait_for_dumps(1);
    let file = &set_of(&flight.path)[0];
    assert_eq!(reason(file), "dumped: slow.ms > 20");
    let asked: Vec<i128> = rows(file, "slow").iter().map(|row| number(row, "ms")).collect();
    assert_eq!(asked, [5, 30], "the call before it is there too");
    flight.end();
}

//! Probes that the user names on kernel functions, attached in each way, on reads whose number and size are known.
//!
//! Where the kernel has kprobes it has all that these tests need; elsewhere they skip, aloud.

use super::support::{CAPTURE, Watch, aloud, has, kernel_is, live, scratch, text};
use super::trace::{Row, bytes, known, number, rows, total};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const READS: usize = 300;
const SIZE: i128 = 777;

fn able() -> bool {
    let kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    if !kprobes {
        aloud("this kernel has no kprobes");
    }
    kprobes && live() && has("dd")
}

/// Records `dd`, which reads so often and so much.
fn record(name: &str, options: &[&str]) -> (Output, PathBuf) {
    let trace = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    capture.arg("-o").arg(&trace).args(options).args(["--", "dd", "if=/dev/zero", "of=/dev/null"]);
    capture.arg(format!("bs={SIZE}")).arg(format!("count={READS}"));
    (capture.output().expect("capture runs"), trace)
}

fn all_are(rows: &[Row], column: &str, value: i128) {
    assert!(rows.iter().all(|row| number(row, column) == value), "{column} is not {value} in all rows");
}

#[test]
fn each_way_of_attaching_sees_each_call_with_its_arguments() {
    if !able() {
        return;
    }
    for kind in ["fentry", "kprobe"] {
        let attach = [format!("hit={kind}"), format!("call={kind}")];
        let (output, trace) = record(
            &format!("kernel-{kind}"),
            &[
                "-e",
                "hit=f:vfs_read(count) /count == 777/",
                "-e",
                "call=fx:vfs_read(count) /count == 777/",
                "--attach",
                &attach[0],
                "--attach",
                &attach[1],
            ],
        );
        let said = text(&output);
        assert!(output.status.success() && said.contains(" 0 lost"), "{kind}: {said}");
        let (hits, calls) = (rows(&trace, "hit"), rows(&trace, "call"));
        assert_eq!((hits.len(), calls.len()), (READS, READS), "{kind}: {said}");
        all_are(&hits, "count", SIZE);
        all_are(&calls, "count", SIZE);
        all_are(&calls, "ret", SIZE);
        assert!(calls.iter().all(|row| number(row, "latency") > 0), "{kind}");
    }
}

#[test]
fn a_member_behind_a_pointer_is_found_by_its_name() {
    if !able() {
        return;
    }
    // What /dev/zero is: its inode has the type and rights of a device file, the same as `stat` says.
    let mode = std::fs::metadata("/dev/zero").expect("a device").mode();
    let (output, trace) =
        record("kernel-member", &["-e", "r=k:vfs_read(mode=file->f_inode->i_mode, count) /count == 777/"]);
    assert!(output.status.success(), "{}", text(&output));
    let rows = rows(&trace, "r");
    assert_eq!(rows.len(), READS);
    all_are(&rows, "mode", mode.into());
}

#[test]
fn a_pattern_of_kernel_functions_says_which_it_was() {
    if !able() {
        return;
    }
    let (output, trace) = record("kernel-pattern", &["-e", "reads=k:vfs_rea*(arg3) /arg3 == 777/"]);
    if !kernel_is(5, 18) {
        let said = text(&output);
        assert!(!output.status.success() && said.contains("cannot be attached here: "), "{said}");
        return aloud("several kernel functions at once need Linux 5.18 (kprobe-multi)");
    }
    assert!(output.status.success(), "{}", text(&output));
    let hits = rows(&trace, "reads");
    assert_eq!(hits.len(), READS);
    let function = number(&hits[0], "function");
    all_are(&hits, "function", function);
    let is_it = |row: &&Row| bytes(row, "name") == b"reads.function" && known(row, "value") == Some(function);
    let names = rows(&trace, "enum");
    assert_eq!(bytes(names.iter().find(is_it).expect("its name"), "label"), b"vfs_read");
}

#[test]
fn an_address_that_the_kernel_has_copied_is_read() {
    if !able() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("an address");
    let port = address.port();
    let probe = format!("to=k:tcp_v4_connect(uaddr:sockaddr) /uaddr_port == {port}/");
    let watch = Watch::start("kernel-sockaddr", &["-a", "-e", &probe]);
    let other = TcpListener::bind("127.0.0.1:0").expect("loopback");
    for to in [address, other.local_addr().expect("an address")] {
        drop(TcpStream::connect(to).expect("our own listener"));
    }
    let path = watch.path.clone();
    watch.finish();
    let hits = rows(&path, "to");
    assert_eq!((hits.len(), number(&hits[0], "uaddr_family")), (1, 2));
    assert!(bytes(&hits[0], "uaddr").ends_with(&[255, 255, 127, 0, 0, 1]), "{hits:?}");
}

/// See `ledger::a_receive_that_waits_…`: the same is true of calls of a function that the user names. The kernel begins
/// each system call at another depth of the stack, so that one that was missed is not always below the next:
/// at the end of the recording at the latest, since the thread is gone, it is known to be over.
#[test]
fn a_call_that_waits_while_another_tracer_comes_and_goes_is_recorded_or_counted() {
    if !able() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let watch =
        Watch::start("kernel-second", &["-a", "-e", "call=fx:tcp_recvmsg", "--attach", "call=fentry"]);
    let mut client =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("our own listener");
    let (mut server, _) = listener.accept().expect("our own client");
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        (0..4).all(|_| server.read_exact(&mut byte).is_ok())
    });
    for byte in [b"1", b"2"] {
        Watch::start("kernel-other", &["-a", "-e", "other=fx:tcp_recvmsg"]).finish();
        client.write_all(byte).expect("a server that listens");
    }
    client.write_all(b"34").expect("a server that listens");
    assert!(reader.join().expect("a reader that goes well"));
    let path = watch.path.clone();
    let said = watch.finish();
    let received = rows(&path, "call").len() as i128;
    assert_eq!(received + total(&path, "call", "state_full"), 4, "{received} recorded: {said}");
    println!("{received} of 4 calls recorded, the others counted");
}

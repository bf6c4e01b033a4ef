//! What named probes read behind pointers: bytes and sockets' addresses, of this very thread (`--tid`).

use super::named::{able, column, record};
use super::support::{Watch, scratch};
use super::trace::{Row, bytes, known, number, rows};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Records probes on what this thread does.
fn watch_this_thread(name: &str, options: &[&str], deed: impl FnOnce()) -> (PathBuf, String) {
    // SAFETY: no preconditions.
    let tid = unsafe { libc::gettid() }.to_string();
    let watch = Watch::start(name, &[&["--tid", tid.as_str()], options].concat());
    deed();
    let path = watch.path.clone();
    let said = watch.finish();
    assert!(said.contains(" 0 lost"), "{said}");
    (path, said)
}

#[test]
fn bytes_are_as_many_as_there_are_or_as_are_asked_for() {
    if !able() {
        return;
    }
    let mut file = std::fs::File::create(scratch("named-bytes-file").join("written")).expect("a file");
    let long: Vec<u8> = (0..=255).collect();
    let probes = [
        "-e",
        "counted=t:syscalls:sys_enter_write(count, data=buf:ubytes[count,32])",
        "-e",
        "fixed=t:syscalls:sys_enter_write(count, buf:ubytes[3]) /count == 7/",
    ];
    let (trace, _) = watch_this_thread("named-bytes", &probes, || {
        file.write_all(b"\x00\xff tab\t").expect("room");
        file.write_all(&long).expect("room");
        // SAFETY: the kernel refuses the address.
        let failed = unsafe { libc::write(std::os::fd::AsRawFd::as_raw_fd(&file), std::ptr::dangling(), 5) };
        assert_eq!(failed, -1);
    });
    let counted = rows(&trace, "counted");
    assert_eq!(column(&counted, "count"), [7, 256, 5]);
    let data: Vec<_> = counted.iter().map(|row| bytes(row, "data")).collect();
    assert_eq!(data, [&b"\x00\xff tab\t"[..], &long[..32], b""]);
    let fixed = rows(&trace, "fixed");
    assert_eq!(fixed.iter().map(|row| bytes(row, "buf")).collect::<Vec<_>>(), [b"\x00\xff "]);
}

#[test]
fn bytes_of_a_program_may_be_in_pages_that_were_not_there_yet() {
    if !able() {
        return;
    }
    let trace = record("named-bytes-user", &["u:@:greet(whom=arg1:bytes[4])"], 1);
    let greeted = rows(&trace, "greet");
    assert_eq!(greeted.len(), 1);
    if super::named::loads_pages() {
        assert_eq!(bytes(&greeted[0], "whom"), b"worl");
    }
}

/// Family, address and port of each row.
fn ends(rows: &[Row]) -> Vec<(i128, Vec<u8>, Option<i128>)> {
    rows.iter()
        .map(|row| (number(row, "to_family"), bytes(row, "to").to_vec(), known(row, "to_port")))
        .collect()
}

const CONNECT: &str = "t:syscalls:sys_enter_connect(fd, to=uservaddr:usockaddr)";

/// What is connected to, and the ports of it: IPv4, IPv6, a socket of the file system.
fn connect(name: &str) -> [u16; 2] {
    let local = ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).expect("loopback"));
    let addresses = local.each_ref().map(|listener| listener.local_addr().expect("an address"));
    for address in &addresses {
        drop(TcpStream::connect(address).expect("our own listener"));
    }
    let path = scratch(name).join("socket");
    let _listener = UnixListener::bind(&path).expect("a socket");
    drop(std::os::unix::net::UnixStream::connect(&path).expect("our own listener"));
    addresses.map(|address| address.port())
}

#[test]
fn an_address_of_a_socket_is_read_by_its_family() {
    if !able() {
        return;
    }
    let mut ports = [0; 2];
    let named = ["-e", &format!("to={CONNECT}")];
    let (trace, _) = watch_this_thread("named-sockaddr", &named, || ports = connect("named-sockaddr-socket"));
    let mut v4 = vec![0; 16];
    v4[10..].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
    let v6 = [vec![0; 15], vec![1]].concat();
    let [first, second] = ports.map(i128::from);
    assert_eq!(
        ends(&rows(&trace, "to")),
        [(2, v4, Some(first)), (10, v6, Some(second)), (1, vec![0; 16], None)]
    );
    let lines = super::support::report(&trace, &["events", "--table", "to"]);
    let shown: Vec<_> = lines.iter().map(|line| (line["to"].as_str(), line["to_family"].as_str())).collect();
    assert_eq!(shown[..2], [(Some("127.0.0.1"), Some("inet")), (Some("::1"), Some("inet6"))], "{lines:?}");
    assert_eq!((lines[2]["to_family"].as_str(), lines[2]["to_port"].is_null()), (Some("unix"), true));
}

#[test]
fn a_port_is_a_condition_and_an_address_can_be_hidden() {
    if !able() {
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = UdpSocket::bind("127.0.0.1:0").expect("loopback").local_addr().expect("an address").port();
    let options = ["--hash-addresses", "-e", &format!("to={CONNECT} /to_port == {port}/")];
    let (trace, _) = watch_this_thread("named-sockaddr-port", &options, || {
        for to in [port, port ^ 1, port] {
            // Of a network of examples; whether there is a way there does not matter.
            drop(socket.connect(("192.0.2.1", to)));
        }
    });
    let connected = rows(&trace, "to");
    assert_eq!(column(&connected, "to_port"), [i128::from(port); 2]);
    let addresses: Vec<_> = connected.iter().map(|row| bytes(row, "to").to_vec()).collect();
    assert!(addresses[0] == addresses[1] && !addresses[0].ends_with(&[192, 0, 2, 1]), "{addresses:?}");
}

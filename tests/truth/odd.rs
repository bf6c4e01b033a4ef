//! `odd`: what plain traffic does not show, one case after the other, each on sockets of its own.
//!
//! A case reports its `ends`: every user of every socket with what it did there.

use std::io::{self, IoSlice, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::thread;

use crate::json::Object;
use crate::net::{Family, Socket, bound, connect_bound};
use crate::options::Options;
use crate::process::{Child, comm, memory_file, pipe, tid};
use crate::uring::Ring;

type Case = fn(Family) -> io::Result<Object>;

/// Cases that fork come first: no thread has been started then.
const CASES: [(&str, Case); 11] = [
    ("shared_over_fork", shared_over_fork),
    ("eagain", eagain),
    ("zero_length", zero_length),
    ("peek", peek),
    ("vectors", vectors),
    ("half_close", half_close),
    ("reset", reset),
    ("refused", refused),
    ("port_reuse", port_reuse),
    ("spliced", spliced),
    ("io_uring", io_uring),
];

pub fn odd(options: &Options) -> io::Result<Object> {
    let mut cases = Vec::new();
    for (name, case) in chosen(options.case.as_deref())? {
        let facts = case(options.family).map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        cases.push(facts.text("case", name));
    }
    Ok(Object::new().objects("cases", cases))
}

/// The cases of a list like `peek,reset`; all of them without a list.
fn chosen(list: Option<&str>) -> io::Result<Vec<(&'static str, Case)>> {
    let Some(list) = list else { return Ok(CASES.to_vec()) };
    let known = |name: &str| CASES.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = list.split(',').find(|name| !known(name)) {
        let names = CASES.map(|(name, _)| name).join(", ");
        return Err(io::Error::other(format!("no case {unknown}; there are {names}")));
    }
    Ok(CASES.into_iter().filter(|(name, _)| list.split(',').any(|wanted| wanted == *name)).collect())
}

fn ends(reports: impl IntoIterator<Item = Object>) -> Object {
    Object::new().objects("ends", reports)
}

/// A non-blocking socket that is filled, by sends larger than it can take at once, until it has refused five times;
/// then emptied by the peer, which in the end asks once more than there is.
fn eagain(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    client.set_buffers(32 * 1024)?;
    client.set_nonblocking()?;
    let data = vec![b'e'; 1_000_000];
    while client.tally.send_eagain() < 5 {
        match client.send(&data) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    let total = usize::try_from(client.tally.send_bytes()).map_err(io::Error::other)?;
    server.recv_exact(total)?;
    match server.recv(&mut [0; 1], libc::MSG_DONTWAIT) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Ok(ends([client.report(), server.report()]))
        }
        other => Err(io::Error::other(format!("expected EAGAIN from an empty socket, got {other:?}"))),
    }
}

/// Sends of nothing between sends of something.
fn zero_length(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    for _ in 0..3 {
        client.send(&[])?;
        client.write(&[])?;
        client.send(&[b'z'; 10])?;
    }
    server.recv_exact(30)?;
    Ok(ends([client.report(), server.report()]))
}

/// Each message is looked at twice before it is taken.
fn peek(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    let mut buffer = [0; 100];
    for _ in 0..4 {
        client.send(&[b'k'; 100])?;
        for flags in [libc::MSG_PEEK | libc::MSG_WAITALL, libc::MSG_PEEK, 0] {
            server.recv(&mut buffer, flags)?;
        }
    }
    Ok(ends([client.report(), server.report()]))
}

/// write, writev, sendmsg and sendmmsg: one send per call, but one per message of sendmmsg.
fn vectors(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    let parts = [IoSlice::new(&[b'a'; 100]), IoSlice::new(&[b'b'; 20]), IoSlice::new(&[b'c'; 3])];
    client.write(&[b'w'; 50])?;
    for _ in 0..4 {
        client.writev(&parts)?;
        client.sendmsg(&parts[..2])?;
    }
    client.sendmmsg(&[[parts[0]], [parts[1]], [parts[2]]])?;
    let total = usize::try_from(client.tally.send_bytes()).map_err(io::Error::other)?;
    server.recv_exact(total)?;
    Ok(ends([client.report(), server.report()]))
}

/// The client has finished sending, tries once more (EPIPE), and the server goes on.
fn half_close(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    client.send(&[b'h'; 10])?;
    client.finish_sending()?;
    let refused = client.send(&[b'h'; 10]).is_err();
    server.recv_to_end()?;
    for _ in 0..5 {
        server.send(&[b'H'; 200])?;
    }
    client.recv_exact(1000)?;
    Ok(ends([client.report(), server.report()]).value("send_after_end_refused", refused))
}

/// The client closes by a reset; the server reads what had arrived, gets the error, and cannot send.
fn reset(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    client.send(&[b'x'; 500])?;
    client.reset_on_close()?;
    let report = client.report();
    drop(client);
    let mut buffer = [0; 1000];
    let mut seen = false;
    for _ in 0..3 {
        match server.recv(&mut buffer, 0) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => seen |= error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
    let broken = server.send(&[b'y'; 5]).is_err();
    Ok(ends([report, server.report()]).value("reset_seen", seen).value("send_after_reset_refused", broken))
}

/// A connection to a port where nobody listens. The port is held meanwhile, so that nobody begins to.
fn refused(family: Family) -> io::Result<Object> {
    let holder = bound(family.address(0))?;
    let client = bound(family.address(0))?;
    let (from, to) = (client.local_addr()?, holder.local_addr()?);
    let error = connect_bound(&client, to).err().and_then(|error| error.raw_os_error());
    let attempt = Object::new()
        .value("pid", std::process::id())
        .value("tid", tid())
        .text("comm", &comm())
        .text("laddr", &from.ip().to_string())
        .value("lport", from.port())
        .text("raddr", &to.ip().to_string())
        .value("rport", to.port())
        .value("errno", error.unwrap_or(0))
        .value("refused", error == Some(libc::ECONNREFUSED));
    Ok(ends([]).object("attempt", attempt))
}

/// Parent and child send on the same socket, at the same time.
fn shared_over_fork(family: Family) -> io::Result<Object> {
    let (mut client, mut server) = Socket::pair(family)?;
    let mut of_child = client.share();
    let child = Child::fork("truth-child", || {
        for _ in 0..7 {
            of_child.send(&[b'c'; 110])?;
        }
        Ok(of_child.report().end())
    })?;
    for _ in 0..5 {
        client.send(&[b'p'; 1000])?;
    }
    let child = child.join()?;
    server.recv_exact(7 * 110 + 5 * 1000)?;
    let reports = [client.report().end(), child, server.report().end()];
    Ok(Object::new().list("ends", reports))
}

/// The same four numbers, three connections one after the other, each with its own count of sends.
fn port_reuse(family: Family) -> io::Result<Object> {
    let listener = TcpListener::bind(family.address(0))?;
    let mut local = family.address(0);
    let mut reports = Vec::new();
    for generation in 1..=3 {
        let mut client = Socket::connect_from(local, listener.local_addr()?)?;
        let mut server = Socket::accept(&listener)?;
        for _ in 0..generation {
            client.send(&[b'g'; 100])?;
        }
        server.recv_exact(generation * 100)?;
        client.reset_on_close()?; // otherwise the server's end would linger, and the ports with it
        local = client.local();
        reports.extend([client.report(), server.report()].map(|end| end.value("generation", generation)));
    }
    Ok(ends(reports))
}

/// sendfile from memory and splice from a pipe, each of more than one pipe's worth of pages.
fn spliced(family: Family) -> io::Result<Object> {
    const FILE: usize = 200_000;
    const PIPE: usize = 50_000;
    let (mut client, mut server) = Socket::pair(family)?;
    let reader = thread::spawn(move || server.recv_to_end().map(|()| server.report()));
    client.sendfile(memory_file(FILE)?.as_raw_fd(), FILE)?;
    let (read, write) = pipe()?;
    let mut write = std::fs::File::from(write);
    for _ in 0..4 {
        write.write_all(&vec![b'|'; PIPE])?;
        client.splice(read.as_raw_fd(), PIPE)?;
    }
    client.finish_sending()?;
    let server = reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
    Ok(ends([client.report(), server]))
}

/// Sends through `io_uring`, where there is one for us.
fn io_uring(family: Family) -> io::Result<Object> {
    let mut ring = match Ring::new() {
        Ok(ring) => ring,
        Err(error) => return Ok(ends([]).text("skipped", &format!("no io_uring: {error}"))),
    };
    let (mut client, mut server) = Socket::pair(family)?;
    for _ in 0..6 {
        let data = [b'u'; 300];
        let sent = ring.send(client.fd(), &data);
        client.sent_elsewhere(data.len(), sent)?;
    }
    server.recv_exact(6 * 300)?;
    Ok(ends([client.report(), server.report()]))
}

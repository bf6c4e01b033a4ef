//! Plain traffic: one connection, or several one after the other, between a client and a forked server.

use std::io;
use std::net::TcpListener;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::json::Object;
use crate::net::Socket;
use crate::options::Options;
use crate::process::{Child, now_ns, set_comm};

/// Listens, forks a server that runs `serve` on the listener, and tells the client where to connect.
fn with_server(
    options: &Options,
    serve: impl FnOnce(&TcpListener) -> io::Result<String>,
) -> io::Result<(Child, std::net::SocketAddr)> {
    let listener = TcpListener::bind(options.family.address(options.port))?;
    let address = listener.local_addr()?;
    let server = Child::fork("truth-server", || serve(&listener))?;
    Ok((server, address))
}

/// A server for one connection that only reads.
fn swallow(listener: &TcpListener) -> io::Result<String> {
    let mut socket = Socket::accept(listener)?;
    socket.recv_to_end()?;
    Ok(socket.report().end())
}

/// `sends`: `--count` blocking sends of exactly `--size` bytes on one connection; the server reads everything.
pub fn sends(options: &Options) -> io::Result<Object> {
    let (server, address) = with_server(options, swallow)?;
    let mut client = Socket::connect(address)?;
    let data = vec![b's'; options.size];
    let start = now_ns();
    for _ in 0..options.count {
        client.send(&data)?;
    }
    let end = now_ns();
    client.finish_sending()?;
    let server = server.join()?;
    Ok(Object::new()
        .value("calls", client.tally.send_calls())
        .value("bytes", client.tally.send_bytes())
        .value("size", options.size)
        .value("start_ns", start)
        .value("end_ns", end)
        .object("client", client.report())
        .value("server", server))
}

/// `pingpong`: `--count` turns of a request of `--size` bytes, a pause of `--delay-ms`, a reply of `--reply` bytes.
///
/// `response_ns` is the client's own measure of each turn, from before its send to after the receive of the first
/// byte of the reply; no exact observer in between may see more. `held_ns` is the server's, from the end of its
/// receive to the start of its send; no observer outside of it may see less.
pub fn pingpong(options: &Options) -> io::Result<Object> {
    let (server, address) = with_server(options, |listener| answer(listener, options))?;
    let mut client = Socket::connect(address)?;
    let request = vec![b'p'; options.size];
    let mut turns = Vec::new();
    let start = now_ns();
    for _ in 0..options.count {
        let sent = now_ns();
        client.send(&request)?;
        client.recv_exact(1)?;
        turns.push(now_ns() - sent);
        if options.reply > 1 {
            client.recv_exact(options.reply - 1)?;
        }
    }
    let end = now_ns();
    client.finish_sending()?;
    let server = server.join()?;
    Ok(Object::new()
        .value("turns", options.count)
        .value("size", options.size)
        .value("reply", options.reply)
        .value("delay_ns", options.delay_ms * 1_000_000)
        .value("start_ns", start)
        .value("end_ns", end)
        .object("response_summary", summary(&turns))
        .list("response_ns", turns)
        .object("client", client.report())
        .value("server", server))
}

/// The server of `pingpong`.
fn answer(listener: &TcpListener, options: &Options) -> io::Result<String> {
    let mut socket = Socket::accept(listener)?;
    let reply = vec![b'r'; options.reply];
    let mut held = Vec::new();
    for _ in 0..options.count {
        socket.recv_exact(options.size)?;
        let received = now_ns();
        thread::sleep(Duration::from_millis(options.delay_ms));
        held.push(now_ns() - received);
        socket.send(&reply)?;
    }
    socket.recv_to_end()?;
    Ok(socket.report().object("held_summary", summary(&held)).list("held_ns", held).end())
}

/// Smallest, middle (the lower one of two) and largest value.
fn summary(values: &[u64]) -> Object {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0);
    Object::new()
        .value("n", sorted.len())
        .value("min_ns", at(0))
        .value("p50_ns", at(sorted.len().saturating_sub(1) / 2))
        .value("max_ns", at(sorted.len().saturating_sub(1)))
}

/// `twothreads`: two threads send on one socket at the same time. The first sends `--count` times `--size` bytes,
/// the second twice as often half as much and one byte, so that the two can be told apart.
pub fn two_threads(options: &Options) -> io::Result<Object> {
    let (server, address) = with_server(options, swallow)?;
    let client = Socket::connect(address)?;
    let plans = [(options.count, options.size), (options.count * 2, options.size / 2 + 1)];
    let barrier = Barrier::new(plans.len());
    let reports = thread::scope(|scope| {
        let writers = plans.map(|(count, size)| {
            let (socket, barrier) = (client.share(), &barrier);
            scope.spawn(move || write_in_thread(socket, count, size, barrier))
        });
        writers.map(|writer| writer.join().unwrap_or_else(|_| Err(io::Error::other("a writer panicked"))))
    });
    let reports = reports.into_iter().collect::<io::Result<Vec<Object>>>()?;
    client.finish_sending()?;
    let server = server.join()?;
    let calls: u64 = plans.iter().map(|(count, _)| count).sum();
    let bytes: u64 = plans.iter().map(|(count, size)| count * *size as u64).sum();
    Ok(Object::new()
        .value("calls", calls)
        .value("bytes", bytes)
        .objects("writers", reports)
        .value("server", server))
}

fn write_in_thread(mut socket: Socket, count: u64, size: usize, barrier: &Barrier) -> io::Result<Object> {
    set_comm(&format!("truth-w-{size}"));
    let data = vec![b't'; size];
    barrier.wait();
    for _ in 0..count {
        socket.send(&data)?;
    }
    Ok(socket.report().value("size", size))
}

/// `connects`: `--count` connections one after the other. Connection `i` carries `--size` + `i` bytes in one send to
/// the server and `--reply` bytes back; even ones are closed by the client first, odd ones by the server.
pub fn connects(options: &Options) -> io::Result<Object> {
    let (server, address) = with_server(options, |listener| accept_all(listener, options))?;
    let mut connections = Vec::new();
    for index in 0..options.count {
        let size = message_size(options, index);
        let start = now_ns();
        let mut client = Socket::connect(address)?;
        let connected = now_ns();
        client.send(&vec![b'c'; size])?;
        client.recv_exact(options.reply)?;
        if client_closes_first(index) {
            client.finish_sending()?;
        }
        client.recv_to_end()?;
        let report = client.report();
        drop(client);
        connections.push(
            report
                .value("start_ns", start)
                .value("connect_ns", connected - start)
                .value("end_ns", now_ns())
                .text("closed_first_by", if client_closes_first(index) { "client" } else { "server" }),
        );
    }
    let accepted = server.join()?;
    Ok(Object::new()
        .value("connections", options.count)
        .objects("clients", connections)
        .value("servers", accepted))
}

/// The server of `connects`.
fn accept_all(listener: &TcpListener, options: &Options) -> io::Result<String> {
    let mut reports = Vec::new();
    for index in 0..options.count {
        let mut socket = Socket::accept(listener)?;
        socket.recv_exact(message_size(options, index))?;
        socket.send(&vec![b'r'; options.reply])?;
        if client_closes_first(index) {
            socket.recv_to_end()?;
        }
        reports.push(socket.report().end());
    }
    Ok(format!("[{}]", reports.join(",")))
}

fn message_size(options: &Options, index: u64) -> usize {
    options.size + usize::try_from(index).unwrap_or(0)
}

fn client_closes_first(index: u64) -> bool {
    index.is_multiple_of(2)
}

/// `idle`: sleeps `--ms`, and sends nothing.
pub fn idle(options: &Options) -> Object {
    let start = now_ns();
    thread::sleep(Duration::from_millis(options.ms));
    Object::new().value("pid", std::process::id()).value("start_ns", start).value("end_ns", now_ns())
}

//! TCP sockets on loopback that keep count of every call made on them.

use std::io::{self, IoSlice, Write};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;

use crate::json::Object;
use crate::process::{check, comm, tid};

/// Which addresses, and with them which code of the kernel, a connection uses.
#[derive(Clone, Copy)]
pub enum Family {
    V4,
    V6,
    /// IPv4 packets between IPv6 sockets: `::ffff:127.0.0.1`.
    Mapped,
}

impl Family {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "v4" => Some(Self::V4),
            "v6" => Some(Self::V6),
            "mapped" => Some(Self::Mapped),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::Mapped => "mapped",
        }
    }

    /// The loopback address of this family; port 0 lets the kernel choose.
    pub fn address(self, port: u16) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
            Self::Mapped => IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        };
        SocketAddr::new(ip, port)
    }

    /// Why this machine cannot use the family, if so. Tried without a listen or a connect, to leave no trace.
    pub fn missing(self) -> Option<String> {
        let error = bound(self.address(0)).err()?;
        Some(format!("no {} loopback: {error}", self.name()))
    }
}

/// What was done at one end of a connection, counted by the calls themselves.
///
/// `calls` returned 0 or more and `errors` returned -1: together they are the system calls that were made, each of
/// which is one call of the protocol's sendmsg or recvmsg. `spliced` (sendfile, splice) stands by itself: how many
/// calls of the protocol one such system call becomes is the kernel's own affair.
#[derive(Default)]
pub struct Tally {
    send_calls: u64,
    send_bytes: u64,
    send_empty: u64,
    send_partial: u64,
    send_errors: u64,
    send_eagain: u64,
    spliced_syscalls: u64,
    spliced_bytes: u64,
    recv_calls: u64,
    recv_bytes: u64,
    recv_peeks: u64,
    recv_peek_bytes: u64,
    recv_ends: u64,
    recv_errors: u64,
    recv_eagain: u64,
}

impl Tally {
    /// Notes one send call that was asked for `requested` bytes, and passes its result on.
    fn sent(&mut self, requested: usize, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(sent) => {
                self.send_calls += 1;
                self.send_bytes += *sent as u64;
                self.send_empty += u64::from(requested == 0);
                self.send_partial += u64::from(*sent < requested);
            }
            Err(error) => {
                self.send_errors += 1;
                self.send_eagain += u64::from(error.kind() == io::ErrorKind::WouldBlock);
            }
        }
        result
    }

    /// Notes one receive call, and passes its result on. A peek takes no bytes; 0 bytes are the end of the stream.
    fn received(&mut self, flags: i32, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(got) => {
                let peek = flags & libc::MSG_PEEK != 0;
                self.recv_calls += 1;
                self.recv_ends += u64::from(*got == 0);
                self.recv_peeks += u64::from(peek);
                *if peek { &mut self.recv_peek_bytes } else { &mut self.recv_bytes } += *got as u64;
            }
            Err(error) => {
                self.recv_errors += 1;
                self.recv_eagain += u64::from(error.kind() == io::ErrorKind::WouldBlock);
            }
        }
        result
    }

    pub fn send_calls(&self) -> u64 {
        self.send_calls
    }

    pub fn send_bytes(&self) -> u64 {
        self.send_bytes
    }

    pub fn send_eagain(&self) -> u64 {
        self.send_eagain
    }

    fn send_json(&self) -> Object {
        let spliced =
            Object::new().value("syscalls", self.spliced_syscalls).value("bytes", self.spliced_bytes);
        Object::new()
            .value("calls", self.send_calls)
            .value("bytes", self.send_bytes)
            .value("empty", self.send_empty)
            .value("partial", self.send_partial)
            .value("errors", self.send_errors)
            .value("eagain", self.send_eagain)
            .object("spliced", spliced)
    }

    fn recv_json(&self) -> Object {
        Object::new()
            .value("calls", self.recv_calls)
            .value("bytes", self.recv_bytes)
            .value("peeks", self.recv_peeks)
            .value("peek_bytes", self.recv_peek_bytes)
            .value("ends", self.recv_ends)
            .value("errors", self.recv_errors)
            .value("eagain", self.recv_eagain)
    }
}

/// One user of one end of a connection. Users of the same socket share it and count for themselves.
pub struct Socket {
    stream: Arc<TcpStream>,
    /// Taken while connected: after a reset the kernel no longer knows the peer.
    local: SocketAddr,
    remote: SocketAddr,
    pub tally: Tally,
}

impl Socket {
    pub fn connect(remote: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(remote)?)
    }

    /// Connects from a given local address, even if it was in use a moment ago.
    pub fn connect_from(local: SocketAddr, remote: SocketAddr) -> io::Result<Self> {
        let stream = bound(local)?;
        connect_bound(&stream, remote)?;
        Self::new(stream)
    }

    pub fn accept(listener: &TcpListener) -> io::Result<Self> {
        Self::new(listener.accept()?.0)
    }

    /// A connected pair, both ends in this process: (the one that connected, the one that accepted).
    pub fn pair(family: Family) -> io::Result<(Self, Self)> {
        let listener = TcpListener::bind(family.address(0))?;
        let client = Self::connect(listener.local_addr()?)?;
        Ok((client, Self::accept(&listener)?))
    }

    /// Nagle's algorithm is off: a small message is not held back for an acknowledgement.
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self { stream: Arc::new(stream), local, remote, tally: Tally::default() })
    }

    /// Another user of the same socket, with a count of its own.
    pub fn share(&self) -> Self {
        Self {
            stream: Arc::clone(&self.stream),
            local: self.local,
            remote: self.remote,
            tally: Tally::default(),
        }
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    pub fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        // SAFETY: the slice outlives the call. MSG_NOSIGNAL: a broken pipe is an error to count, not a signal.
        let sent = unsafe { libc::send(self.fd(), data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL) };
        self.tally.sent(data.len(), length(sent))
    }

    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // SAFETY: the slice outlives the call.
        let sent = unsafe { libc::write(self.fd(), data.as_ptr().cast(), data.len()) };
        self.tally.sent(data.len(), length(sent))
    }

    pub fn writev(&mut self, parts: &[IoSlice]) -> io::Result<usize> {
        let requested = parts.iter().map(|part| part.len()).sum();
        let sent = (&*self.stream).write_vectored(parts);
        self.tally.sent(requested, sent)
    }

    pub fn sendmsg(&mut self, parts: &[IoSlice]) -> io::Result<usize> {
        let requested = parts.iter().map(|part| part.len()).sum();
        let message = message(parts);
        // SAFETY: the message refers to slices that outlive the call.
        let sent = unsafe { libc::sendmsg(self.fd(), &raw const message, libc::MSG_NOSIGNAL) };
        self.tally.sent(requested, length(sent))
    }

    /// One system call, one send per message: returns how many messages were sent.
    pub fn sendmmsg(&mut self, messages: &[[IoSlice; 1]]) -> io::Result<usize> {
        let mut headers: Vec<libc::mmsghdr> =
            messages.iter().map(|parts| libc::mmsghdr { msg_hdr: message(parts), msg_len: 0 }).collect();
        let count = u32::try_from(headers.len()).unwrap_or(0);
        // SAFETY: the headers refer to slices that outlive the call.
        let sent =
            check(unsafe { libc::sendmmsg(self.fd(), headers.as_mut_ptr(), count, libc::MSG_NOSIGNAL) })?;
        let sent = usize::try_from(sent).unwrap_or(0);
        for (header, parts) in headers.iter().zip(messages).take(sent) {
            self.tally.sent(parts[0].len(), Ok(header.msg_len as usize))?;
        }
        Ok(sent)
    }

    /// A send that went another way (`io_uring`), counted as one.
    pub fn sent_elsewhere(&mut self, requested: usize, result: io::Result<usize>) -> io::Result<usize> {
        self.tally.sent(requested, result)
    }

    /// Sends `size` bytes of `file` from its start by sendfile(2).
    pub fn sendfile(&mut self, file: RawFd, size: usize) -> io::Result<()> {
        let mut offset = 0;
        self.spliced(size, |socket, left| {
            // SAFETY: both descriptors are open, `offset` is ours.
            unsafe { libc::sendfile(socket, file, &raw mut offset, left) }
        })
    }

    /// Moves `size` bytes that are in a pipe into the socket by splice(2).
    pub fn splice(&mut self, pipe: RawFd, size: usize) -> io::Result<()> {
        self.spliced(size, |socket, left| {
            // SAFETY: both descriptors are open; no offsets.
            unsafe { libc::splice(pipe, std::ptr::null_mut(), socket, std::ptr::null_mut(), left, 0) }
        })
    }

    fn spliced(&mut self, size: usize, mut call: impl FnMut(RawFd, usize) -> isize) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let moved = length(call(self.fd(), left))?;
            self.tally.spliced_syscalls += 1;
            self.tally.spliced_bytes += moved as u64;
            left -= moved;
        }
        Ok(())
    }

    pub fn recv(&mut self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        // SAFETY: the buffer is ours and as long as we say.
        let got = unsafe { libc::recv(self.fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        self.tally.received(flags, length(got))
    }

    /// Receives until `size` bytes are there.
    pub fn recv_exact(&mut self, size: usize) -> io::Result<()> {
        let mut buffer = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match self.recv(&mut buffer[filled..], 0)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => filled += got,
            }
        }
        Ok(())
    }

    /// Receives until the peer has finished.
    pub fn recv_to_end(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while self.recv(&mut buffer, 0)? > 0 {}
        Ok(())
    }

    pub fn finish_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    /// Send and receive buffers of about `bytes` (the kernel doubles it, and has a lower bound).
    pub fn set_buffers(&self, bytes: i32) -> io::Result<()> {
        set_option(self.fd(), libc::SO_SNDBUF, &bytes)?;
        set_option(self.fd(), libc::SO_RCVBUF, &bytes)
    }

    /// Lets the coming close be a reset: no farewell, no `TIME_WAIT`, the ports free at once.
    pub fn reset_on_close(&self) -> io::Result<()> {
        set_option(self.fd(), libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
    }

    /// Who did what at this end. Call it in the thread that did it.
    pub fn report(&self) -> Object {
        Object::new()
            .value("pid", std::process::id())
            .value("tid", tid())
            .text("comm", &comm())
            .text("laddr", &self.local.ip().to_string())
            .value("lport", self.local.port())
            .text("raddr", &self.remote.ip().to_string())
            .value("rport", self.remote.port())
            .object("send", self.tally.send_json())
            .object("recv", self.tally.recv_json())
    }
}

/// A socket with a local address and no peer yet.
pub fn bound(local: SocketAddr) -> io::Result<TcpStream> {
    let domain = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the new descriptor is ours alone.
    let stream = unsafe {
        TcpStream::from_raw_fd(check(libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?)
    };
    set_option(stream.as_raw_fd(), libc::SO_REUSEADDR, &1)?;
    let (address, size) = socket_address(local);
    // SAFETY: an address of the size that we say.
    check(unsafe { libc::bind(stream.as_raw_fd(), (&raw const address).cast(), size) })?;
    Ok(stream)
}

/// connect(2), once.
pub fn connect_bound(stream: &TcpStream, remote: SocketAddr) -> io::Result<()> {
    let (address, size) = socket_address(remote);
    // SAFETY: an address of the size that we say.
    check(unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), size) })?;
    Ok(())
}

/// The kernel's form of an address, and its size.
fn socket_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes are a valid, empty address.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let size = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for every kind of address.
            let target = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            target.sin_family = family(libc::AF_INET);
            target.sin_port = v4.port().to_be();
            target.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            socklen::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let target = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            target.sin6_family = family(libc::AF_INET6);
            target.sin6_port = v6.port().to_be();
            target.sin6_addr.s6_addr = v6.ip().octets();
            socklen::<libc::sockaddr_in6>()
        }
    };
    (storage, size)
}

/// An address family, as addresses hold it.
fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or(0)
}

/// The size of a type, as the socket calls want it.
fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(0)
}

fn set_option<T>(fd: RawFd, name: i32, value: &T) -> io::Result<()> {
    let size = socklen::<T>();
    // SAFETY: a value of the size that we say.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, std::ptr::from_ref(value).cast(), size) })?;
    Ok(())
}

/// A message header over some slices (an `IoSlice` has the layout of an iovec).
fn message(parts: &[IoSlice]) -> libc::msghdr {
    // SAFETY: all zeroes are a valid, empty header.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len();
    message
}

/// The result of a call that returns a length or -1.
fn length(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

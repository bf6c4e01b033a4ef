//! What was there before the recording began, and who belongs to a process that was named.

use super::support::{Watch, line, live, scratch};
use super::trace::{
    Row, bytes, carried, distance, events, known, number, of_socket, rows, sockets, sum, total,
};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

const TURNS: usize = 10;
const REQUEST: usize = 1001;

/// A client, in bash: connects, says so, waits for a line, then asks and reads answers.
const CLIENT: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$0
echo connected
read -r go
for turn in 1 2 3 4 5 6 7 8 9 10; do
    printf '%01000d\n' $turn >&3
    read -r answer <&3
done
echo "$answer"
read -r end
"#;

struct Connection {
    client: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
    port: i128,
    client_port: i128,
    server: JoinHandle<()>,
}

/// A client process that is connected with a thread of this test.
fn connect() -> Connection {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("an address").port();
    let mut bash = Command::new("bash");
    bash.args(["-c", CLIENT, &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = bash.spawn().expect("bash runs");
    let input = client.stdin.take().expect("a pipe");
    let mut output = BufReader::new(client.stdout.take().expect("a pipe"));
    let (stream, peer) = listener.accept().expect("the client");
    assert_eq!(line(&mut output), "connected");
    let server = std::thread::spawn(move || {
        let mut from = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut to = stream;
        for _ in 0..TURNS {
            let mut request = String::new();
            from.read_line(&mut request).expect("a request");
            std::thread::sleep(std::time::Duration::from_millis(20));
            to.write_all(b"answer\n").expect("a client that listens");
        }
    });
    Connection { client, input, output, port: port.into(), client_port: peer.port().into(), server }
}

impl Connection {
    /// Lets the client do its turns.
    fn go(&mut self) {
        self.input.write_all(b"go\n").expect("the client reads");
        assert_eq!(line(&mut self.output), "answer");
    }

    fn end(mut self) {
        self.input.write_all(b"end\n").expect("the client reads");
        self.client.wait().expect("our own child");
        self.server.join().expect("a server that goes well");
    }
}

#[test]
fn the_client_alone_is_recorded_with_its_receives_and_nothing_of_the_server() {
    if !live() {
        return;
    }
    let mut connection = connect();
    let pid = i128::from(connection.client.id());
    let watch = Watch::start("state-client", &["-g", "proc,net,net-rx", "--pid", &pid.to_string()]);
    connection.go();
    let path = watch.path.clone();
    watch.finish();
    let (port, client_port) = (connection.port, connection.client_port);
    connection.end();

    let known_sockets = sockets(&path);
    assert_eq!(known_sockets.len(), 1, "the client's and no other: {known_sockets:?}");
    let (&id, socket) = known_sockets.iter().next().expect("one");
    assert_eq!((number(socket, "lport"), number(socket, "rport")), (client_port, port));
    assert_eq!(number(socket, "owner"), pid, "from before the start");
    let sends = rows(&path, "sock_send");
    assert_eq!(sends.len(), TURNS);
    assert!(sends.iter().all(|row| number(row, "tid") == pid && number(row, "ret") == REQUEST as i128));
    // bash reads byte by byte. A read that waits while another tracer comes or goes is lost, and counted (see `ledger`).
    let received = sum(&rows(&path, "sock_recv"), "ret") + total(&path, "sock_recv", "state_full");
    assert_eq!(received, (TURNS * "answer\n".len()) as i128);
    check_segments(&of_socket(rows(&path, "tcp_rx"), id), &sends);
    let us = i128::from(std::process::id());
    let threads: Vec<i128> = rows(&path, "task")
        .iter()
        .filter(|row| number(row, "tgid") == us)
        .map(|row| number(row, "tid"))
        .collect();
    assert!(threads.iter().all(|&tid| tid == us), "an ancestor is named, its other threads are not");
    assert!(
        events(&path).iter().all(|(_, row)| row.get("tid").is_none_or(|_| known(row, "tid") != Some(us)))
    );
}

/// Every answer and every acknowledgement, though they arrive in interrupt context.
fn check_segments(segments: &[Row], sends: &[Row]) {
    assert_eq!(carried(segments), (TURNS * "answer\n".len()) as i128);
    for send in sends {
        let end = number(send, "seq") + number(send, "ret");
        assert!(
            segments.iter().any(|row| distance(end, number(row, "ack")) >= 0),
            "no acknowledgement of {send:?}"
        );
    }
}

#[test]
fn descendants_from_before_and_from_after_the_start_are_followed() {
    if !live() {
        return;
    }
    let fifo = scratch("state-fifo").join("fifo");
    let script = r#"
mkfifo "$0"
(read -r go <"$0"; /bin/true born-before) &
sleep 0.01
echo started
read -r go
echo go >"$0"
(/bin/true born-after)
wait
echo done
"#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).arg(&fifo).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut parent = bash.spawn().expect("bash runs");
    let mut output = BufReader::new(parent.stdout.take().expect("a pipe"));
    assert_eq!(line(&mut output), "started");
    let watch = Watch::start("state-descendants", &["-g", "proc", "--pid", &parent.id().to_string()]);
    drop(parent.stdin.take().map(|mut input| input.write_all(b"go\n")));
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "done\n");
    assert!(parent.wait().expect("our own child").success());
    let path = watch.path.clone();
    watch.finish();
    let execs = rows(&path, "process_exec");
    for argument in ["born-before", "born-after"] {
        let expected = format!("/bin/true\0{argument}\0");
        let found: Vec<&Row> = execs.iter().filter(|row| bytes(row, "args") == expected.as_bytes()).collect();
        assert_eq!(found.len(), 1, "{argument}");
        let exits = rows(&path, "process_exit");
        let ends = exits.iter().filter(|row| number(row, "tid") == number(found[0], "tid")).count();
        assert_eq!(ends, 1, "{argument}");
    }
    let last = rows(&path, "process_exit");
    assert!(last.iter().any(|row| number(row, "tid") == i128::from(parent.id())), "the end of the parent");
}

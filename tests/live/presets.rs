//! Presets (`-e dns`, `bash`, `ssl`, `malloc`): what programs that are known to all did, found by name.

use super::named::{able, column, program};
use super::profile::analyze;
use super::support::{CAPTURE, Watch, free_port, has, live, scratch, signal, text, wait_for};
use super::trace::{Row, bytes, number, rows};
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn memory_that_is_not_released_is_found_with_where_it_came_from() {
    if !able() {
        return;
    }
    let (program, trace) = program("named-memleak");
    let mut capture = Command::new(CAPTURE);
    let output = capture
        .arg("-o")
        .arg(&trace)
        .args(["-e", "memleak", "--"])
        .arg(&program)
        .args(["100", "leak"])
        .output();
    let output = output.expect("capture runs");
    assert!(output.status.success() && text(&output).contains(" 0 lost"), "{}", text(&output));
    let page =
        analyze(&trace, &["memleak", "--by", "comm", "--format", "csv", "--having", "stack LIKE '%;main%'"]);
    // What calls main has no name where the C library is stripped.
    let lines: Vec<(&str, &str)> = page.lines().skip(1).filter_map(|line| line.split_once(";main")).collect();
    let numbers =
        |line: &(&str, &str)| (line.0.rsplit_once(',').map(|before| before.0.to_owned()), line.1.to_owned());
    let expected = [("named,false,50000,50", ";take"), ("named,false,15000,50", "")];
    let expected = expected.map(|(before, after)| (Some(before.to_owned()), after.to_owned()));
    assert_eq!(lines.iter().map(numbers).collect::<Vec<_>>(), expected, "{page}");
}

/// A folder with a key and its certificate.
fn keys(name: &str) -> PathBuf {
    let directory = scratch(name);
    let request =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout key -out cert";
    let made = Command::new("openssl").args(request.split(' ')).current_dir(&directory).output();
    assert!(made.is_ok_and(|output| output.status.success()));
    directory
}

#[test]
fn preset_ssl_has_the_lengths_of_what_was_sent() {
    if !live() || !has("openssl") || !has("python3") {
        return;
    }
    let directory = keys("named-ssl-keys");
    let talk = "import ssl, sys\n\
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain(sys.argv[1] + '/cert', sys.argv[1] + '/key')\n\
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); client.check_hostname = False; client.verify_mode = ssl.CERT_NONE\n\
        a, b = ssl.MemoryBIO(), ssl.MemoryBIO()\n\
        s, c = server.wrap_bio(a, b, server_side=True), client.wrap_bio(b, a)\n\
        for turn in range(4):\n\
        \x20 for end in (c, s):\n\
        \x20   try: end.do_handshake()\n\
        \x20   except ssl.SSLWantReadError: pass\n\
        for size in (10, 1000, 16000): c.write(b'x' * size); s.read(20000)";
    let trace = preset("named-ssl", "ssl", &["python3", "-c", talk, directory.to_str().expect("plain")]);
    let page = analyze(&trace, &["sslsniff", "--format", "csv"]);
    let bytes = |word: &str| {
        let lines = page.lines().filter(|line| line.contains(word));
        lines.filter_map(|line| line.split(',').nth(5)?.parse().ok()).collect::<Vec<u64>>()
    };
    assert_eq!(
        (bytes("SSL_write"), bytes("SSL_read")),
        (vec![10, 1000, 16000], vec![10, 1000, 16000]),
        "{page}"
    );
}

#[test]
fn preset_ssl_has_what_goes_through_nss_and_gnutls() {
    if !live() || !has("python3") {
        return;
    }
    let file = scratch("named-nss-file").join("file");
    let nss = "import ctypes, sys\n\
        n = ctypes.CDLL('libnspr4.so'); n.PR_Open.restype = ctypes.c_void_p; n.PR_Open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]\n\
        for call in (n.PR_Write, n.PR_Read): call.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]\n\
        f = n.PR_Open(sys.argv[1].encode(), 0x2a, 0o600)\n\
        for size in (10, 1000): n.PR_Write(f, b'x' * size, size)\n\
        f = n.PR_Open(sys.argv[1].encode(), 1, 0)\n\
        n.PR_Read(f, ctypes.create_string_buffer(5000), 5000)";
    let gnutls = "import ctypes\n\
        g = ctypes.CDLL('libgnutls.so.30'); s = ctypes.c_void_p(); g.gnutls_init(ctypes.byref(s), 2)\n\
        g.gnutls_record_send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]; g.gnutls_record_send(s, b'x' * 77, 77)";
    let there = |library: &str| {
        let load = Command::new("python3")
            .args(["-c", &format!("import ctypes; ctypes.CDLL('{library}')")])
            .output();
        load.is_ok_and(|output| output.status.success())
            || super::support::skip(&format!("{library} is not installed"))
    };
    if there("libnspr4.so") {
        let trace = preset("named-nss", "ssl", &["python3", "-c", nss, file.to_str().expect("plain")]);
        let page = analyze(&trace, &["sslsniff", "--format", "csv"]);
        let calls: Vec<String> = page
            .lines()
            .skip(1)
            .map(|line| line.split(',').skip(3).take(3).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(calls, ["PR_Write 10 10", "PR_Write 1000 1000", "PR_Read 5000 1010"], "{page}");
    }
    if there("libgnutls.so.30") {
        // Without a handshake nothing goes through: a call that fails.
        let trace = preset("named-gnutls", "ssl", &["python3", "-c", gnutls]);
        let page = analyze(&trace, &["sslsniff", "--format", "csv"]);
        assert!(page.contains(",gnutls_record_send,77,,"), "{page}");
    }
}

/// A client that sends some lines, and reads them back from a server that repeats what it gets.
#[test]
fn preset_ssl_has_what_a_session_of_gnutls_sent_and_got() {
    if !live() || !has("openssl") || !has("gnutls-serv") || !has("gnutls-cli") || !has("python3") {
        return;
    }
    let (directory, port) = (keys("named-gnutls-keys"), free_port().to_string());
    let mut server = Command::new("timeout");
    server.args([
        "60",
        "gnutls-serv",
        "--echo",
        "-p",
        &port,
        "--x509keyfile",
        "key",
        "--x509certfile",
        "cert",
    ]);
    let server = server.current_dir(&directory).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = server.expect("gnutls-serv runs");
    wait_for("the server", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
    let sizes: [u64; 3] = [100, 2000, 9000];
    let talk = "import subprocess, sys\n\
        client = subprocess.Popen(['gnutls-cli', '--insecure', '-p', sys.argv[1], '127.0.0.1'], stdin=-1, stdout=-1)\n\
        for size in map(int, sys.argv[2:]):\n\
        \x20 line = b'x' * (size - 1) + b'\\n'\n\
        \x20 client.stdin.write(line); client.stdin.flush()\n\
        \x20 while client.stdout.readline() != line: pass\n\
        client.stdin.close(); client.wait()";
    let words = sizes.map(|size| size.to_string());
    let command = [&["python3", "-c", talk, &port][..], &words.each_ref().map(String::as_str)].concat();
    let trace = preset("named-gnutls-session", "ssl", &command);
    signal(&server, libc::SIGTERM);
    server.wait().expect("our own child");
    let page = analyze(&trace, &["sslsniff", "--format", "csv"]);
    let bytes = |function: &str| -> u64 {
        let lines = page.lines().filter(|line| line.contains(function));
        lines.filter_map(|line| line.split(',').nth(5)?.parse::<u64>().ok()).sum()
    };
    let sent = sizes.iter().sum::<u64>();
    assert_eq!((bytes("gnutls_record_send"), bytes("gnutls_record_recv")), (sent, sent), "{page}");
}

/// Records a command with one preset.
fn preset(name: &str, preset: &str, command: &[&str]) -> PathBuf {
    let trace = scratch(name).join("trace.bin");
    let mut capture = Command::new(CAPTURE);
    let output = capture.arg("-o").arg(&trace).args(["-e", preset, "--"]).args(command).output();
    let output = output.expect("capture runs");
    let said = text(&output);
    assert!(output.status.success() && said.contains(" 0 lost"), "{said}");
    trace
}

#[test]
fn preset_dns_has_the_names_that_were_looked_up() {
    if !live() || !has("python3") {
        return;
    }
    let look_up = "import socket\nfor n in range(20): socket.getaddrinfo('127.0.0.%d' % n, 80)";
    let trace = preset("named-dns", "dns", &["python3", "-c", look_up]);
    let rows = rows(&trace, "getaddrinfo");
    let hosts: Vec<String> =
        rows.iter().map(|row| String::from_utf8_lossy(bytes(row, "host")).into_owned()).collect();
    assert_eq!(hosts, (0..20).map(|n| format!("127.0.0.{n}")).collect::<Vec<_>>());
    assert_eq!(column(&rows, "ret"), [0; 20]);
}

#[test]
fn preset_bash_has_the_lines_that_were_typed() {
    if !live() || !has("script") {
        return;
    }
    let typed =
        "printf 'echo one\\necho two words\\nexit 0\\n' | script -qec 'bash --norc --noprofile -i' /dev/null";
    let trace = preset("named-bash", "bash", &["sh", "-c", typed]);
    let rows = rows(&trace, "readline");
    let lines: Vec<&[u8]> = rows.iter().map(|row| bytes(row, "ret")).collect();
    assert_eq!(lines, [&b"echo one"[..], b"echo two words", b"exit 0"]);
}

/// A server of our own, without a network, and what its own log has of the queries.
#[test]
fn preset_mysql_has_the_queries_that_the_server_logs() {
    if !live() || !has("mariadbd") || !has("mariadb") {
        return;
    }
    let directory = scratch("named-mysql-data");
    let place = |name: &str| directory.join(name).display().to_string();
    let mut server = Command::new("timeout");
    server.args([
        "120",
        "mariadbd",
        "--no-defaults",
        "--user=root",
        "--skip-grant-tables",
        "--skip-networking",
    ]);
    server.args([format!("--datadir={}", directory.display()), format!("--socket={}", place("socket"))]);
    server.args(["--general-log", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"]);
    server.arg(format!("--general-log-file={}", place("log"))).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.spawn().expect("mariadbd runs");
    wait_for("the server", || std::os::unix::net::UnixStream::connect(place("socket")).is_ok());
    let watch = Watch::start("named-mysql", &["-a", "-e", "mysql"]);
    let queries = "select 1; select sleep(0.2); select '\u{fc}', 'and more'";
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "-S", &place("socket"), "-e", queries]).stdout(Stdio::null());
    assert!(client.status().is_ok_and(|status| status.success()));
    let path = watch.path.clone();
    watch.finish();
    signal(&server, libc::SIGTERM);
    server.wait().expect("our own child");
    let log = std::fs::read_to_string(place("log")).expect("its log");
    let logged: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(" Query\t")?.1)).collect();
    let rows = rows(&path, "query");
    let texts: Vec<_> = rows.iter().map(|row| String::from_utf8_lossy(bytes(row, "text"))).collect();
    assert!(logged.len() == 3 && texts == logged, "{texts:?}: {log}");
    assert!((200_000_000..5_000_000_000).contains(&number(&rows[1], "latency")), "{:?}", rows[1]);
    let page = analyze(&path, &["funcslower", "--probe", "query", "--min", "100ms", "--format", "csv"]);
    assert!(page.lines().count() == 2 && page.contains("select sleep(0.2)"), "{page}");
}

#[test]
fn preset_malloc_has_each_allocation_and_release() {
    if !live() || !has("python3") {
        return;
    }
    let calls = "import ctypes\n\
                 c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; c.calloc.restype = ctypes.c_void_p\n\
                 kept = [c.malloc(91237) for n in range(10)]\n\
                 c.calloc(3, 91239)\n\
                 for n in kept[:6]: c.free(ctypes.c_void_p(n))";
    let trace = preset("named-malloc", "malloc", &["python3", "-c", calls]);
    let allocated = rows(&trace, "malloc");
    let ours: Vec<&Row> = allocated.iter().filter(|row| number(row, "size") == 91237).collect();
    assert_eq!(ours.len(), 10);
    let released = column(&rows(&trace, "free"), "address");
    let kept = |row: &&&Row| !released.contains(&number(row, "ret"));
    assert_eq!(ours.iter().filter(kept).count(), 4);
    let cleared = rows(&trace, "calloc");
    assert_eq!(
        cleared.iter().filter(|row| number(row, "size") == 91239 && number(row, "count") == 3).count(),
        1
    );
}

//! `capture --dump FILE`: asks a running flight recorder to write its memory out.
//!
//! The recorder listens on a socket beside its files, `FILE.sock`, that only its owner can reach; who connects
//! must be root, the recorder's own user, or the user who started it with sudo, as the kernel says (`SO_PEERCRED`), whatever the
//! mode of the socket has become: of anybody else nothing is read. One request per connection, each served by a thread of its
//! own, since a dump takes its time; the answer is the dump's name, or why there is none.

use super::medium::Dumped;
use super::output::sudo_user;
use super::recorder::Message;
use anyhow::{Context as _, Result, anyhow, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};
use std::time::Duration;

/// Who asks has to say so within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// No request is longer.
const LONGEST: u64 = 64;
/// So many may wait for a dump at once.
const WAITING: usize = 16;
/// A dump takes its post-window and as long as the disk needs.
const DUMP_TAKES: Duration = Duration::from_secs(600);

/// The listening socket; gone with the value.
pub struct Control(PathBuf);

impl Control {
    /// Listens beside `output`, and hands requests to the recorder.
    ///
    /// # Errors
    /// When the socket cannot be made, or another recorder listens on it.
    pub fn listen(output: &Path, to: SyncSender<Message>) -> Result<Self> {
        let path = socket_path(output);
        let left_over = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket());
        if left_over && UnixStream::connect(&path).is_ok() {
            bail!("another recorder listens on {}: choose another name with -o", path.display());
        }
        if left_over {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
        let control = Self(path);
        std::fs::set_permissions(&control.0, std::fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = sudo_user() {
            chown(&control.0, Some(uid), Some(gid))
                .context("give the control socket to the invoking user")?;
        }
        std::thread::Builder::new().name("control".into()).spawn(move || listen(&listener, &to))?;
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn socket_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".sock");
    name.into()
}

/// Hands each connection to a thread; who cannot have one is told so.
fn listen(listener: &UnixListener, to: &SyncSender<Message>) {
    let served = Arc::new(());
    for stream in listener.incoming().flatten() {
        let (to, place) = (to.clone(), Arc::clone(&served));
        let work = move |stream: &UnixStream| {
            answer(stream, request(stream, &to));
            drop(place);
        };
        let full = Arc::strong_count(&served) > WAITING + 1;
        let own = stream.try_clone().ok().filter(|_| !full);
        let begun =
            own.map(|own| std::thread::Builder::new().name("request".into()).spawn(move || work(&own)));
        if !matches!(begun, Some(Ok(_))) {
            answer(&stream, Err(anyhow!("{WAITING} others wait for a dump already: ask again later")));
        }
    }
}

fn answer(mut stream: &UnixStream, to_request: Result<PathBuf>) {
    let answer = match to_request {
        Ok(path) => format!("dumped {}\n", path.display()),
        Err(error) => format!("error {error:#}\n"),
    };
    // Who asked may be gone by now.
    let _ = stream.write_all(answer.as_bytes());
}

fn request(stream: &UnixStream, to: &SyncSender<Message>) -> Result<PathBuf> {
    let peer = peer_uid(stream)?;
    // SAFETY: no preconditions.
    let own = unsafe { libc::geteuid() };
    if ![Some(0), Some(own), sudo_user().map(|user| user.0)].contains(&Some(peer)) {
        bail!("user {peer} may not ask this recorder for anything");
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line).context("read the request")?;
    if line.trim_end() != "dump" {
        bail!("expected the request 'dump'");
    }
    let (done, dumped) = channel();
    let message = Message::Dump { why: "asked for with --dump".into(), done: Some(done), by_hand: true };
    to.send(message).context("the recording has ended")?;
    let answer: Dumped = dumped.recv_timeout(DUMP_TAKES).context("the recording ended before the dump")?;
    answer.map_err(anyhow::Error::msg)
}

fn peer_uid(stream: &UnixStream) -> Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = u32::try_from(size_of_val(&peer)).expect("a small struct");
    // SAFETY: `peer` and `length` are valid and describe each other.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if failed != 0 {
        return Err(std::io::Error::last_os_error()).context("ask who connected");
    }
    Ok(peer.uid)
}

/// Asks the recorder that was started with `-o output`, and prints the dump's name.
///
/// # Errors
/// When there is none, or it refuses.
pub fn dump(output: &Path) -> Result<()> {
    let path = socket_path(output);
    let mut stream = UnixStream::connect(&path).with_context(|| {
        format!("no flight recorder listens on {}; -o and --dump take the same name", path.display())
    })?;
    // Who may not ask is told so without being listened to.
    let asked = stream.write_all(b"dump\n").context("ask for a dump");
    let mut answer = String::new();
    let read = BufReader::new(stream).read_line(&mut answer).context("read the answer");
    if answer.is_empty() {
        asked.and(read)?;
    }
    match answer.trim_end().split_once(' ') {
        Some(("dumped", path)) => println!("{path}"),
        Some(("error", why)) => bail!("{why}"),
        _ => bail!("the recorder ended before the dump"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    /// A client that has sent this, and where its answer comes from.
    fn client(path: &Path, words: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(socket_path(path)).expect("somebody listens");
        stream.write_all(words.as_bytes()).expect("somebody reads");
        BufReader::new(stream)
    }

    fn line(from: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        from.read_line(&mut line).expect("an answer");
        line
    }

    #[test]
    fn nobody_waits_for_the_dump_of_another() {
        let path = std::env::temp_dir().join(format!("tapedeck-control-{}", std::process::id()));
        let (to, asked) = sync_channel(4);
        let _control = Control::listen(&path, to).expect("a socket of ours");
        let mut silent = client(&path, "");
        let mut first = client(&path, "dump\n");
        let Ok(Message::Dump { done: Some(done), .. }) = asked.recv_timeout(PATIENCE) else {
            panic!("a request")
        };
        let began = std::time::Instant::now();
        let mut second = client(&path, "what?\n");
        assert!(line(&mut second).contains("expected the request 'dump'"));
        assert!(began.elapsed() < PATIENCE, "it has waited for the silent one");
        done.send(Ok("t.000001.bin".into())).expect("it waits");
        assert_eq!(line(&mut first), "dumped t.000001.bin\n");
        silent.get_mut().write_all(b"dump\n").expect("somebody reads");
        assert!(matches!(asked.recv_timeout(PATIENCE), Ok(Message::Dump { by_hand: true, .. })));
    }

    #[test]
    fn more_than_can_wait_are_told() {
        let path = std::env::temp_dir().join(format!("tapedeck-control-many-{}", std::process::id()));
        let (to, _asked) = sync_channel(4);
        let _control = Control::listen(&path, to).expect("a socket of ours");
        let mut waiting: Vec<_> = (0..=WAITING).map(|_| client(&path, "")).collect();
        assert!(line(&mut waiting[WAITING]).contains("ask again later"));
    }
}

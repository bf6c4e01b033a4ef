//! Files on disk, and command lines about them.

use crate::analyze::error::{Exit, Failure};
use crate::analyze::run::run;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of its own for each test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tapedeck-folder-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the temporary folder takes a folder");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Adds a file.
    pub fn put(&self, name: &str, bytes: &[u8]) -> &Self {
        std::fs::write(self.0.join(name), bytes).expect("a folder of ours");
        self
    }

    /// Adds a pipe, and returns where it is.
    pub fn pipe(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo runs").success());
        path
    }

    /// What is in a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).expect("a file of ours")
    }

    /// Exit code, output and messages; words that end in `.bin` are files of this folder, and `~` is a space.
    pub fn run(&self, line: &str) -> (i32, String, String) {
        let word = |word: &str| {
            let file = Path::new(word).extension().is_some_and(|end| end == "bin");
            if file { self.0.join(word).display().to_string() } else { word.replace('~', " ") }
        };
        let args: Vec<String> = ["analyze"].into_iter().chain(line.split(' ')).map(word).collect();
        let (mut out, mut messages) = (Vec::new(), Vec::new());
        let exit = run(&args, &mut out, &mut messages, false).unwrap_or_else(|error| {
            messages.extend(format!("{error:#}").into_bytes());
            error.downcast_ref::<Failure>().map_or(Exit::Unusable, |failure| failure.exit)
        });
        let text =
            |bytes| String::from_utf8(bytes).expect("UTF-8").replace(&format!("{}/", self.0.display()), "");
        (exit as i32, text(out), text(messages))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

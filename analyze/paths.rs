//! Paths as a process gives them, made whole: what a relative one starts from is in the trace.

use super::escape::lossless;
use super::identity::Identity;
use super::rows::Rows;
use super::trace::Trace;
use std::sync::Arc;

/// Knows the directories of a trace.
#[derive(Clone)]
pub(crate) struct Paths {
    files: Option<(Arc<Identity>, usize)>,
}

impl Paths {
    /// Of a trace; one without table `file` leaves relative paths as they are.
    pub fn of(trace: &Trace) -> Self {
        let files = trace.identity("file");
        Self { files: files.and_then(|files| Some((Arc::clone(&files), files.column("path")?))) }
    }

    /// The path of a file by its id; `None` where it is not known.
    pub fn of_file(&self, file: u64) -> Option<String> {
        let (files, path) = self.files.as_ref()?;
        let row = files.find(file, 0)?;
        Some(lossless(files.bytes(*path, row)))
    }

    /// The whole path of a call: columns with the directory and the path.
    pub fn whole(&self, rows: &Rows, row: usize, dir: usize, path: usize) -> String {
        let path = lossless(rows.bytes(path, row));
        if path.starts_with('/') {
            return normal(&path);
        }
        let dir = rows.get(dir, row).and_then(|dir| self.of_file(dir.cast_unsigned()));
        dir.map_or_else(|| path.clone(), |dir| normal(&format!("{dir}/{path}")))
    }
}

/// Without `.`, `..` and doubled slashes. A `..` behind a symbolic link may lead elsewhere in truth.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn a_path_is_written_in_one_way() {
        assert_eq!(normal("/a//b/./c/../d"), "/a/b/d");
        assert_eq!((normal("/.."), normal("x/../y")), ("/".into(), "y".into()));
    }
}

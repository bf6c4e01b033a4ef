//! Names of the files of a set, by which a reader finds the next one: `trace.bin` becomes `trace.000001.bin`,
//! `trace.000002.bin`, …, so that sorted by name they are in order.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// How a footer says that the recording goes on. The next file is there by then, since it is begun before.
pub const GOES_ON: &str = "the next file of the set follows";

const DIGITS: usize = 6;

/// `trace.bin` → `trace.000001.bin`; `trace` → `trace.000001`.
#[must_use]
pub fn part_path(path: &Path, part: u32) -> PathBuf {
    let (stem, extension) = halves(path);
    path.with_file_name(format!("{stem}.{part:0DIGITS$}{extension}"))
}

/// `trace.000001.bin` → `trace.bin`, what the set is called; `None` for a file that is not called like that part.
#[must_use]
pub fn set_path(path: &Path, part: u32) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let number = format!(".{part:0DIGITS$}");
    let at = name.rfind(&number)?;
    let set = path.with_file_name([&name[..at], &name[at + number.len()..]].concat());
    (part_path(&set, part) == path).then_some(set)
}

/// The number in the name of a part; `None` where there is none.
#[must_use]
pub fn part_number(path: &Path) -> Option<u32> {
    let words = path.file_name()?.to_str()?.rsplit('.').take(2);
    let mut numbers = words.filter(|word| word.len() >= DIGITS).filter_map(|word| word.parse().ok());
    numbers.find(|&part| set_path(path, part).is_some())
}

/// Files that have a name of the set, with their numbers, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn parts(path: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (stem, extension) = halves(path);
    let number = |name: &str| {
        let digits = name.strip_prefix(&stem)?.strip_prefix('.')?.strip_suffix(&extension)?;
        let is_number = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let entries = fs::read_dir(folder)?.flatten();
    let named = entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())));
    let mut found: Vec<(u32, PathBuf)> = named.collect();
    found.sort();
    Ok(found)
}

/// What stands before and behind the number.
fn halves(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem.to_owned(), format!(".{extension}")),
        _ => (name, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_in_order_and_keep_their_ending() {
        let part = |path: &str, part| part_path(Path::new(path), part).display().to_string();
        assert_eq!(part("/var/trace.bin", 1), "/var/trace.000001.bin");
        assert_eq!(part("trace", 12), "trace.000012");
        assert_eq!(part("a.b/.hidden", 2), "a.b/.hidden.000002");
        assert!(part("t.bin", 9) < part("t.bin", 10));
    }

    #[test]
    fn the_name_of_a_part_tells_that_of_the_set() {
        for (set, part) in [
            ("/var/trace.bin", 1),
            ("trace", 12),
            ("a.000003.bin", 3),
            ("b/.hidden", 2),
            ("t.bin", 1_000_000),
        ] {
            let path = part_path(Path::new(set), part);
            assert_eq!(set_path(&path, part).as_deref(), Some(Path::new(set)), "{}", path.display());
            assert_eq!(part_number(&path), Some(part), "{}", path.display());
        }
        for (path, part) in [("trace.bin", 1), ("trace.000001.bin", 2), ("000001", 1), ("x000001.bin", 1)] {
            assert_eq!(set_path(Path::new(path), part), None, "{path}");
        }
        for path in ["trace.bin", "t.12.bin", "000001", "x000001.bin", "t.00000x.bin", "t.000001.bin.zst"] {
            assert_eq!(part_number(Path::new(path)), None, "{path}");
        }
    }
}

//! Where programs and libraries are: by path, by the name of a library, or by that of a program in `$PATH`.

use super::value::nearest;
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Where `ld.so` looks; Debian adds a directory for each architecture to two of them.
const LIBRARIES: [&str; 5] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"];

/// The file of that name (`c`, `libc` and `libc.so.6` are all the C library), below `root`, the file system of a process.
///
/// # Errors
/// When there is none, with the nearest name that there is.
pub(super) fn locate(name: &str, root: Option<&Path>) -> Result<PathBuf> {
    let found = if name.contains('/') {
        Some(below(root, Path::new(name))).filter(|path| path.is_file())
    } else {
        library(name, root).or_else(|| program(name, root))
    };
    match found {
        Some(path) => Ok(path),
        None => bail!("there is no program, library or file '{name}'{}: give its path", guess(name, root)),
    }
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

fn libraries(root: Option<&Path>) -> Vec<PathBuf> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let both = LIBRARIES.iter().flat_map(|path| [Path::new(path).join(&triple), PathBuf::from(path)]);
    both.map(|path| below(root, &path)).collect()
}

fn programs(root: Option<&Path>) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|path| below(root, &path)).collect()
}

fn program(name: &str, root: Option<&Path>) -> Option<PathBuf> {
    programs(root).into_iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// By the name that a linker is told first (`-lc`), then by what the file is called.
fn library(name: &str, root: Option<&Path>) -> Option<PathBuf> {
    let stems = if name.contains(".so") {
        vec![name.to_owned()]
    } else {
        let with_lib = name.starts_with("lib").then(|| format!("{name}.so"));
        [format!("lib{name}.so")].into_iter().chain(with_lib).collect()
    };
    let directories = libraries(root);
    stems.iter().find_map(|stem| directories.iter().find_map(|directory| newest(directory, stem)))
}

/// `libNAME.so`, with the version that programs use: not the linker script of that name.
fn newest(directory: &Path, stem: &str) -> Option<PathBuf> {
    let named =
        |file: &String| file.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let matching = entries(directory).into_iter().filter(named).map(|file| directory.join(file));
    matching.filter(|path| is_elf(path)).max()
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let opened = fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    opened.is_ok() && magic == *b"\x7fELF"
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// `, the nearest name is …`: of what lies beside a path, or of all libraries and programs.
fn guess(name: &str, root: Option<&Path>) -> String {
    if let Some((directory, file)) = name.rsplit_once('/') {
        let files = entries(&below(root, &Path::new("/").join(directory)));
        return nearest(file, files.iter().map(String::as_str));
    }
    let spelled = |file: &str| {
        let stem = if name.contains(".so") { file } else { file.split_once(".so")?.0 };
        Some(if name.starts_with("lib") { stem } else { stem.strip_prefix("lib")? }.to_owned())
    };
    let of_libraries = libraries(root).into_iter().flat_map(|directory| entries(&directory));
    let mut known: Vec<String> = of_libraries.filter_map(|file| spelled(&file)).collect();
    known.extend(programs(root).into_iter().flat_map(|directory| entries(&directory)));
    nearest(name, known.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_has_several_names() {
        let of = |name: &str| locate(name, None).expect(name);
        assert!(of("c").to_string_lossy().contains("/libc.so"), "{:?}", of("c"));
        assert_eq!((of("libc"), of("libc.so.6")), (of("c"), of("c")));
        assert!(of("sh").ends_with("sh"), "a program that is no library");
        assert_eq!(of(of("c").to_str().expect("plain")), of("c"));
    }

    #[test]
    fn what_there_is_not_is_told_the_nearest() {
        let of = |name: &str| locate(name, None).expect_err(name).to_string();
        let said = of("no-such-library-anywhere");
        assert_eq!(said, "there is no program, library or file 'no-such-library-anywhere': give its path");
        let path = locate("c", None).expect("every program here uses it");
        let mistyped = path.display().to_string().replace("libc.", "libcc.");
        assert!(of(&mistyped).contains(", the nearest name is libc.so"), "{}", of(&mistyped));
        assert!(of("libpthraed").contains(", the nearest name is libpthread"), "{}", of("libpthraed"));
        assert!(of("libc.so.5").contains(", the nearest name is libc.so.6"), "{}", of("libc.so.5"));
        assert!(of("pthraed").contains(", the nearest name is pthread"), "{}", of("pthraed"));
    }
}

//! Names of code: from addresses to functions, with what the compiler inlined into them.
//!
//! Both programs ask: `capture` at the end of a recording, where the files are at hand; `analyze` later,
//! from a directory of files with debug information. A file counts only if its build id is the one that
//! was running.

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use std::fmt::Write as _;
use std::path::Path;

/// A function that an address is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// Demangled.
    pub function: String,
    /// Source file, or empty.
    pub file: String,
    /// Line in it, or 0.
    pub line: u32,
}

/// What the symbols of a file are asked with.
#[derive(Debug, Default)]
pub struct Symbols(Symbolizer);

impl Symbols {
    /// The functions at some offsets of an ELF file: per offset the innermost inlined one first, the one that
    /// has the code last; none where it is not known.
    #[must_use]
    pub fn of_file(&self, path: &Path, offsets: &[u64]) -> Vec<Vec<Name>> {
        let source = Source::Elf(Elf::new(path));
        // A file that cannot be read at all names nothing: the frames stay as build id and offset.
        let found = self.0.symbolize(&source, Input::FileOffset(offsets)).unwrap_or_default();
        let names = found.iter().map(|symbol| match symbol {
            Symbolized::Sym(sym) => names(sym),
            Symbolized::Unknown(_) => Vec::new(),
        });
        names.chain(std::iter::repeat(Vec::new())).take(offsets.len()).collect()
    }
}

fn names(sym: &Sym) -> Vec<Name> {
    let inlined = sym.inlined.iter().rev().map(|inlined| name(&inlined.name, inlined.code_info.as_ref()));
    inlined.chain([name(&sym.name, sym.code_info.as_deref())]).collect()
}

fn name(function: &str, code: Option<&CodeInfo>) -> Name {
    Name {
        function: function.to_owned(),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: code.and_then(|code| code.line).unwrap_or(0),
    }
}

/// The build id of an ELF file as hexadecimal digits; empty where it has none or cannot be read.
#[must_use]
pub fn build_id(path: &Path) -> String {
    let id = blazesym::helper::read_elf_build_id(&path).ok().flatten();
    id.map_or_else(String::new, |id| hex(&id))
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String grows");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_that_is_looked_up() -> usize {
        a_function_that_is_looked_up as fn() -> usize as usize
    }

    #[test]
    fn a_function_of_this_program_is_found_by_its_offset() {
        let address = a_function_that_is_looked_up() as u64;
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal digits");
        let offset = maps.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            let inside = (number(from)..number(to)).contains(&address);
            inside.then(|| address - number(from) + number(words.nth(1).expect("an offset")))
        });
        let exe = std::env::current_exe().expect("this program has a path");
        let names = Symbols::default().of_file(&exe, &[offset.expect("it is mapped"), u64::MAX]);
        assert!(
            names[0].last().expect("known").function.ends_with("a_function_that_is_looked_up"),
            "{names:?}"
        );
        assert!(names[0][0].file.ends_with("symbols/mod.rs"));
        assert_eq!((names.len(), names[1].len()), (2, 0));
        assert_eq!(build_id(&exe), build_id(Path::new("/proc/self/exe")));
        assert_eq!(build_id(Path::new("/nonexistent")), "");
    }
}

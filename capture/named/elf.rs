//! Programs and libraries: where a function begins in the file, and the notes of static probes.

use super::files::locate;
use super::value::nearest;
use anyhow::{Context as _, Result, bail};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Type of the notes that `<sys/sdt.h>` leaves.
const SDT_NOTE: u32 = 3;

/// A function: where it begins in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name in the symbol table.
    pub name: String,
    /// Bytes from the begin of the file.
    pub offset: u64,
}

/// One place of a static probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticProbe {
    /// Who defined it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Bytes from the begin of the file.
    pub offset: u64,
    /// Bytes from the begin of the file to the counter that says whether anybody listens; 0: none.
    pub semaphore: u64,
    /// Where its arguments are, as the assembler names it.
    pub args: Vec<String>,
}

/// An ELF file in memory.
pub struct Binary {
    /// Where it is.
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl Binary {
    /// Opens a program or library by path or name ([`super::files`]); below `root`, the file system of a process.
    ///
    /// # Errors
    /// When there is no such file, or it is no ELF file.
    pub fn open(name: &str, root: Option<&Path>) -> Result<Self> {
        let path = locate(name, root)?;
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        object::File::parse(&*bytes).with_context(|| format!("{} is no ELF file", path.display()))?;
        Ok(Self { path, bytes })
    }

    fn file(&self) -> object::File<'_> {
        object::File::parse(&*self.bytes).expect("parsed in open()")
    }

    /// Functions whose name matches a pattern (`*` for any part), by name, each place once.
    #[must_use]
    pub fn functions(&self, pattern: &str) -> Vec<Function> {
        let file = self.file();
        let symbols = file.symbols().chain(file.dynamic_symbols());
        let matching = symbols
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
            .filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())))
            .map(|(name, address)| (name.split('@').next().unwrap_or(name), address))
            .filter(|(name, _)| matches(pattern, name));
        let mut by_offset = BTreeMap::new();
        for (name, address) in matching {
            if let Some(offset) = self.offset(address) {
                by_offset.entry(offset).or_insert_with(|| name.to_owned());
            }
        }
        let mut functions: Vec<_> =
            by_offset.into_iter().map(|(offset, name)| Function { name, offset }).collect();
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        functions
    }

    /// Whether Go made it.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.file().section_by_name(".gopclntab").is_some()
    }

    /// `, the nearest name is …`, if one of the file's functions is near.
    #[must_use]
    pub fn guess(&self, name: &str) -> String {
        let functions = self.functions("*");
        nearest(name, functions.iter().map(|function| function.name.as_str()))
    }

    /// From an address of the loaded file to the byte of the file that is loaded there.
    fn offset(&self, address: u64) -> Option<u64> {
        let header = object::elf::FileHeader64::<object::Endianness>::parse(&*self.bytes).ok()?;
        let endian = header.endian().ok()?;
        header.program_headers(endian, &*self.bytes).ok()?.iter().find_map(|segment| {
            let loaded = segment.p_type(endian) == object::elf::PT_LOAD;
            let start = segment.p_vaddr(endian);
            let inside = (start..start + segment.p_filesz(endian)).contains(&address);
            (loaded && inside).then(|| address - start + segment.p_offset(endian))
        })
    }

    /// The static probes, in the order of the notes.
    ///
    /// # Errors
    /// When the notes are damaged.
    pub fn static_probes(&self) -> Result<Vec<StaticProbe>> {
        let header = object::elf::FileHeader64::<object::Endianness>::parse(&*self.bytes)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, &*self.bytes)?;
        let Some((_, section)) = sections.section_by_name(endian, b".note.stapsdt") else {
            return Ok(Vec::new());
        };
        let base = self.file().section_by_name(".stapsdt.base").map_or(0, |section| section.address());
        let Some(mut notes) = section.notes(endian, &*self.bytes)? else { return Ok(Vec::new()) };
        let mut probes = Vec::new();
        while let Some(note) = notes.next()? {
            if note.name() == b"stapsdt" && note.n_type(endian) == SDT_NOTE {
                probes.push(self.static_probe(note.desc(), base).context("a static probe's note")?);
            }
        }
        Ok(probes)
    }

    /// A note: the addresses of the probe, of the base when it was linked, and of the semaphore; then texts.
    fn static_probe(&self, note: &[u8], base: u64) -> Result<StaticProbe> {
        let (numbers, texts) = note.split_at_checked(24).context("is too short")?;
        let number = |index: usize| {
            u64::from_le_bytes(numbers[8 * index..8 * index + 8].try_into().expect("eight bytes"))
        };
        let moved = if base == 0 { 0 } else { base.wrapping_sub(number(1)) };
        let offset = self.offset(number(0).wrapping_add(moved)).context("points outside of the file")?;
        let semaphore = match number(2) {
            0 => 0,
            address => self.offset(address.wrapping_add(moved)).context("points outside of the file")?,
        };
        let mut texts = texts.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let (Some(provider), Some(name), Some(args)) = (texts.next(), texts.next(), texts.next()) else {
            bail!("lacks its names");
        };
        let args = args.split_whitespace().map(str::to_owned).collect();
        Ok(StaticProbe { provider, name, offset, semaphore, args })
    }
}

/// Whether a name matches a pattern in which `*` stands for any part.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part() {
        assert!(matches("vfs_*", "vfs_read") && matches("*", "x") && matches("a*c*e", "abcde"));
        assert!(matches("malloc", "malloc") && !matches("malloc", "mallocx"));
        assert!(!matches("vfs_*", "do_vfs_x") && !matches("a*a", "a") && !matches("*b*", "ac"));
    }

    #[test]
    fn functions_of_this_very_program_are_found() {
        let own = std::env::current_exe().expect("a path");
        let binary = Binary::open(own.to_str().expect("plain"), None).expect("an ELF file");
        let functions = binary.functions("main");
        assert_eq!(functions.len(), 1, "{functions:?}");
        assert!(functions[0].offset > 0);
        assert!(binary.guess("mainn").contains("main"));
    }

    #[test]
    fn the_c_library_is_found_by_its_short_name() {
        let binary = Binary::open("c", None).expect("every program here uses it");
        assert!(binary.path.to_string_lossy().contains("libc.so"), "{:?}", binary.path);
        assert_eq!(binary.functions("malloc").len(), 1);
    }
}

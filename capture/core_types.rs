//! The kernel's types, reduced to those that our programs look for.
//!
//! For each struct that an object mentions, libbpf goes through all types of the kernel (some 130,000) and compares names,
//! and again for each attempt to load: seven tenths of the CPU time before the first event. So it is given a copy of
//! the kernel's type information with the structs that any object mentions and what is inside of them; every
//! other type is a pointer to nothing, and what pointers point to is left out. Types keep their numbers, since programs hand
//! some to the kernel. What attaches is still looked up in the kernel's own file.
//! The layout of the data: Documentation/bpf/btf.rst.

use super::named::probe::OBJECT;
use super::probes::FAMILIES;
use libbpf_rs::btf::{Btf, BtfType, TypeId};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

type Names = HashSet<Vec<u8>>;

/// What libbpf is given instead of the kernel's own file.
struct Reduced {
    names: Names,
    file: OwnedFd,
}

/// Where the copy is for this object; none if it could not be made, or lacks a name that the object asks for.
#[must_use]
pub fn path(object: &[u8]) -> Option<PathBuf> {
    static REDUCED: OnceLock<Option<Reduced>> = OnceLock::new();
    let reduced = REDUCED.get_or_init(Reduced::new).as_ref()?;
    let known = names_in(object)?.is_subset(&reduced.names);
    let path = PathBuf::from(format!("/proc/self/fd/{}", reduced.file.as_raw_fd()));
    // Who gained privileges by way of the file's capabilities may not open it so.
    (known && File::open(&path).is_ok()).then_some(path)
}

impl Reduced {
    fn new() -> Option<Self> {
        let mut names = Names::new();
        for object in FAMILIES.iter().map(|(_, object)| *object).chain([OBJECT]) {
            names.extend(names_in(object)?);
        }
        let types = Types::new(std::fs::read("/sys/kernel/btf/vmlinux").ok()?)?;
        let reduced = types.reduced(&names)?;
        // SAFETY: the name is a constant that ends with a zero; the result is checked.
        let fd = unsafe { libc::memfd_create(c"types".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: a new descriptor that nobody else owns.
        let file = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })?;
        File::from(file.try_clone().ok()?).write_all(&reduced).ok()?;
        Some(Self { names, file })
    }
}

/// Names of all types of an object, without what makes them variants of one another (`sock___old` is `sock`).
fn names_in(object: &[u8]) -> Option<Names> {
    let types = Btf::from_raw("types", object).ok()??;
    let name = |number: usize| {
        let found = types.type_by_id::<BtfType>(TypeId::from(u32::try_from(number).ok()?))?;
        let name = found.name()?.as_encoded_bytes();
        Some(essential(name).to_vec())
    };
    Some((1..=types.len()).filter_map(name).filter(|name| !name.is_empty()).collect())
}

/// A name up to the three underscores behind which its variant is.
fn essential(name: &[u8]) -> &[u8] {
    let end = name.windows(3).skip(1).position(|part| part == b"___").map_or(name.len(), |at| at + 1);
    &name[..end]
}

/// struct `btf_header`, version 1, with its magic number, and its length.
const START: [u32; 2] = [0x0001_eb9f, HEADER as u32];
const HEADER: usize = 24;
/// Name, kind and count, size or type.
const ENTRY: usize = 12;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const RESTRICT: u32 = 11;
const FLOAT: u32 = 16;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Raw type information, and where each entry begins in it; the first is number 1.
struct Types {
    entries: Vec<usize>,
    strings: usize,
    data: Vec<u8>,
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

impl Types {
    fn new(data: Vec<u8>) -> Option<Self> {
        if START != [word(&data, 0)?, word(&data, 4)?] {
            return None;
        }
        let at = |place: usize| Some(HEADER + word(&data, place)? as usize);
        let (mut next, strings) = (at(8)?, at(16)?);
        let (end, mut entries) = (next + word(&data, 12)? as usize, Vec::new());
        while next < end {
            entries.push(next);
            next += ENTRY + behind(word(&data, next + 4)?)?;
        }
        Some(Self { entries, strings, data })
    }

    fn name(&self, at: usize) -> Option<&[u8]> {
        let name = self.data.get(self.strings + word(&self.data, at)? as usize..)?;
        Some(&name[..name.iter().position(|&byte| byte == 0)?])
    }

    fn kind(&self, number: u32) -> Option<(usize, u32)> {
        let at = *self.entries.get((number as usize).checked_sub(1)?)?;
        Some((at, word(&self.data, at + 4)?))
    }

    /// Types that an entry is made of: not those that it points to.
    fn parts(&self, number: u32) -> Option<Vec<u32>> {
        let (at, info) = self.kind(number)?;
        let number_at = |offset: usize| word(&self.data, at + offset);
        Some(match info >> 24 & 0x1f {
            STRUCT | UNION => {
                (0..info as usize & 0xffff).filter_map(|m| number_at(ENTRY + 12 * m + 4)).collect()
            }
            ARRAY => [number_at(ENTRY)?, number_at(ENTRY + 4)?].into(),
            TYPEDEF..=RESTRICT | TYPE_TAG => vec![number_at(8)?],
            _ => Vec::new(),
        })
    }

    /// The numbers of what has one of these names, and of its parts.
    fn wanted(&self, names: &Names) -> Option<BTreeSet<u32>> {
        let mut open = Vec::new();
        for (number, &at) in (1..).zip(&self.entries) {
            let named = [INT, STRUCT, UNION, ENUM, TYPEDEF, FLOAT, ENUM64];
            let kind = word(&self.data, at + 4)? >> 24 & 0x1f;
            if named.contains(&kind) && names.contains(essential(self.name(at)?)) {
                open.push(number);
            }
        }
        let mut wanted = BTreeSet::new();
        while let Some(number) = open.pop() {
            if number != 0 && wanted.insert(number) {
                open.extend(self.parts(number)?);
            }
        }
        Some(wanted)
    }

    /// The same with the wanted types alone, up to the last of them.
    fn reduced(&self, names: &Names) -> Option<Vec<u8>> {
        let wanted = self.wanted(names)?;
        let (mut types, mut strings) = (Vec::new(), vec![0]);
        for number in 1..=*wanted.last()? {
            let (at, info) = self.kind(number)?;
            let kind = info >> 24 & 0x1f;
            let whole = [INT, ARRAY, STRUCT, UNION, ENUM, FORWARD, FLOAT, TYPE_TAG, ENUM64];
            if !wanted.contains(&number) || !(whole.contains(&kind) || (TYPEDEF..=RESTRICT).contains(&kind)) {
                types.extend([0, POINTER << 24, 0].into_iter().flat_map(u32::to_le_bytes));
                continue;
            }
            let start = types.len();
            types.extend_from_slice(self.data.get(at..at + ENTRY + behind(info)?)?);
            for place in names_of(info) {
                let name = u32::try_from(strings.len()).ok()?;
                strings.extend_from_slice(self.name(at + place)?);
                strings.push(0);
                types[start + place..start + place + 4].copy_from_slice(&name.to_le_bytes());
            }
        }
        let sizes = [0, types.len(), types.len(), strings.len()].map(|size| size as u32);
        let header = START.into_iter().chain(sizes).flat_map(u32::to_le_bytes).collect();
        Some([header, types, strings].concat())
    }
}

/// Bytes that follow an entry; none for a kind that is not known.
fn behind(info: u32) -> Option<usize> {
    const FUNCTION_PROTOTYPE: u32 = 13;
    const SECTION: u32 = 15;
    let members = (info & 0xffff) as usize;
    match info >> 24 & 0x1f {
        // And variables and declaration tags.
        INT | 14 | 17 => Some(4),
        ARRAY => Some(12),
        ENUM | FUNCTION_PROTOTYPE => Some(8 * members),
        STRUCT | UNION | SECTION | ENUM64 => Some(12 * members),
        POINTER..=ENUM64 => Some(0),
        _ => None,
    }
}

/// Where in an entry names are: its own, and those of members or values.
fn names_of(info: u32) -> Vec<usize> {
    let each = match info >> 24 & 0x1f {
        STRUCT | UNION | ENUM64 => 12,
        ENUM => 8,
        _ => return vec![0],
    };
    [0].into_iter().chain((0..info as usize & 0xffff).map(|member| ENTRY + each * member)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::btf::types::{Struct, StructMember};

    fn parsed(data: &[u8]) -> Btf<'static> {
        let file = std::env::temp_dir().join(format!("tapedeck-types-{}-{}", std::process::id(), data.len()));
        std::fs::write(&file, data).expect("a temporary file");
        let parsed = Btf::from_path(&file).expect("type information");
        std::fs::remove_file(&file).expect("ours");
        parsed
    }

    #[test]
    fn what_is_wanted_is_there_with_its_number_and_its_members() {
        let Ok(data) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let names = Names::from([b"sock".to_vec()]);
        let reduced = Types::new(data.clone()).expect("types").reduced(&names).expect("a sock");
        assert!(reduced.len() < data.len() / 3, "{} of {} bytes", reduced.len(), data.len());
        let (all, few) = (parsed(&data), parsed(&reduced));
        let members = |of: &Btf| {
            let sock = of.type_by_name::<Struct>("sock").expect("a struct");
            let member = |member: StructMember| {
                (member.name.map(ToOwned::to_owned), member.ty, format!("{:?}", member.attr))
            };
            (sock.type_id(), sock.iter().map(member).collect::<Vec<_>>())
        };
        assert_eq!(members(&all), members(&few));
        // A part of it, and so with members of its own; and what it only points to.
        assert!(few.type_by_name::<Struct>("sock_common").is_some_and(|part| !part.is_empty()));
        assert!(
            all.type_by_name::<Struct>("module").is_some() && few.type_by_name::<Struct>("module").is_none()
        );
    }

    #[test]
    fn what_is_no_type_information_is_left_alone() {
        let mut header = [START[0], START[1], 0, 12, 12, 1].map(u32::to_le_bytes).concat();
        header.extend([0, 31 << 24, 0].into_iter().flat_map(u32::to_le_bytes));
        assert!(Types::new(header.clone()).is_none(), "a kind of some later kernel");
        header[27] = 0;
        assert!(Types::new(header[..20].to_vec()).is_none(), "cut");
        assert!(Types::new(vec![0; 64]).is_none());
    }

    #[test]
    fn variants_have_the_name_before_their_underscores() {
        let names = ["sock___old", "sock", "__sk_common", "___x", "a___b___c"].map(str::as_bytes);
        assert_eq!(names.map(essential), ["sock", "sock", "__sk_common", "___x", "a"].map(str::as_bytes));
    }
}

//! Stacks by name: from the number in an event to functions, with what was inlined where.
//!
//! `stack` lists frames, `frame` says where in a file each is, and `symbol` what function that was when the
//! recording ended. A directory of files with debug information (`--symbols`) says it instead for the files that it
//! has, matched by build id. A frame without a name is called after its file: `[libc.so.6]`. With `--lines` a name has the
//! place in the source behind it, where that is known: `parse main.c:42`.

use super::error::Failure;
use super::identity::Identity;
use super::report::Context;
use super::rows::Value;
use super::trace::Trace;
use crate::schema::hash::FastMap;
use crate::symbols::{Name, Symbols, build_id};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the first function of a thread is, so far as its frames can be followed.
const FIRST: &[&str] = &[
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "_dl_start",
    "_dl_start_user",
    "_dl_runtime_resolve_xsave",
];

/// A function in a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Function {
    /// Its name, or its file's in brackets.
    pub name: Arc<str>,
    /// The file that its code is in, without directories; `[kernel]`.
    pub binary: Arc<str>,
    /// Part of the kernel.
    pub kernel: bool,
    /// Inlined into the function that follows.
    pub inlined: bool,
    /// Source file and line, where that was asked for and is known.
    pub place: Option<Arc<str>>,
}

impl Function {
    /// Its name, and its place.
    pub fn shown(&self) -> Cow<'_, str> {
        self.place.as_ref().map_or(Cow::Borrowed(&self.name), |place| format!("{} {place}", self.name).into())
    }

    /// The same, without what separates names in lines of them.
    pub fn plain(&self) -> String {
        plain(&self.shown())
    }

    fn is_probe(&self) -> bool {
        let names = ["bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"];
        self.kernel && names.iter().any(|name| self.name.starts_with(name))
    }
}

/// What separates names must not be in them.
pub(crate) fn plain(name: &str) -> String {
    name.replace(';', ":").replace(['\n', '\r'], " ")
}

/// How frames are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Naming {
    /// By the files of this directory first.
    symbols: Option<PathBuf>,
    /// With lines of source files.
    lines: bool,
}

impl Naming {
    /// As the options say.
    pub fn of(context: &Context) -> Result<Self, Failure> {
        let symbols = context.flag("symbols").map(PathBuf::from);
        if let Some(missing) = symbols.as_ref().filter(|directory| !directory.is_dir()) {
            return Err(Failure::usage(format!("--symbols {}: not a directory", missing.display())));
        }
        Ok(Self { symbols, lines: context.flag("lines").is_some() })
    }

    /// A function with its place; files are without their directories.
    fn named(&self, function: Arc<str>, path: &str, line: u32) -> Named {
        let known = self.lines && !path.is_empty();
        let file = path.rsplit('/').next().unwrap_or(path);
        (function, known.then(|| format!("{file}:{line}").into()))
    }
}

/// A function and its place.
type Named = (Arc<str>, Option<Arc<str>>);

/// Per frame, innermost inlined function first.
pub(crate) type Functions = FastMap<u64, Vec<Arc<Function>>>;

/// All stacks of a trace.
pub(crate) struct Stacks {
    stacks: Option<Arc<Identity>>,
    functions: Arc<Functions>,
}

impl Stacks {
    /// Reads names, once for a trace.
    pub fn load(trace: &Trace, naming: &Naming) -> Self {
        let functions = trace.functions(naming, || named(trace, naming));
        Self { stacks: trace.identity("stack"), functions }
    }

    /// Leaves out the tracing itself: a stack that a tracepoint's program takes begins with that program.
    pub fn without_probes(mut self) -> Self {
        Arc::make_mut(&mut self.functions).retain(|_, list| !list.iter().all(|function| function.is_probe()));
        self
    }

    /// The functions of a stack, innermost first; none for stack 0 and for stacks that are not in the trace.
    pub fn functions(&self, stack: u32) -> impl Iterator<Item = &Arc<Function>> {
        self.frames(stack).filter_map(|frame| self.functions.get(&frame)).flatten()
    }

    fn frames(&self, stack: u32) -> impl Iterator<Item = u64> {
        let row = self.stacks.as_ref().and_then(|stacks| stacks.find(stack.into(), 0));
        let found = self.stacks.as_ref().zip(row);
        let ids = found.and_then(|(stacks, row)| Some(stacks.ids(stacks.column("frames")?, row)));
        ids.into_iter().flatten()
    }

    /// Whether a stack was deeper than stacks are followed.
    pub fn is_cut(&self, stack: u32) -> bool {
        let Some(stacks) = &self.stacks else { return false };
        let found = stacks.find(stack.into(), 0).zip(stacks.column("cut"));
        found.is_some_and(|(row, column)| stacks.get(column, row) == Some(1))
    }

    /// Whether a user stack reaches the function that its thread began with. If not, code without frame
    /// pointers is in it, and callers are missing.
    pub fn is_whole(&self, stack: u32) -> bool {
        self.functions(stack).last().is_some_and(|first| FIRST.contains(&&*first.name))
    }
}

/// The functions of each frame.
fn named(trace: &Trace, naming: &Naming) -> Functions {
    let mut names = recorded(trace, naming);
    let frames = Frames::load(trace);
    if let Some(directory) = &naming.symbols {
        names.extend(frames.iter().flat_map(|frames| frames.look_up(directory, naming)));
    }
    let mut functions = Functions::default();
    functions.reserve(frames.as_ref().map_or(0, |frames| frames.list.len()));
    for (key, frame) in frames.iter().flat_map(|frames| &frames.list) {
        let unnamed = || Cow::Owned(vec![(frame.unnamed(), None)]);
        let named: Cow<[Named]> = names.get(key).map_or_else(unnamed, Cow::from);
        let last = named.len().saturating_sub(1);
        let function = |(at, (name, place)): (usize, &Named)| Function {
            name: Arc::clone(name),
            place: place.clone(),
            binary: Arc::clone(&frame.binary),
            kernel: frame.kernel,
            inlined: at < last,
        };
        functions.insert(*key, named.iter().enumerate().map(|part| Arc::new(function(part))).collect());
    }
    functions
}

/// A place in code.
struct Frame {
    mapping: u64,
    offset: u64,
    binary: Arc<str>,
    kernel: bool,
}

impl Frame {
    fn unnamed(&self) -> Arc<str> {
        if self.binary.starts_with('[') {
            Arc::clone(&self.binary)
        } else {
            format!("[{}]", self.binary).into()
        }
    }
}

/// All of them, by number.
struct Frames {
    list: Vec<(u64, Frame)>,
    build_ids: HashMap<u64, String>,
}

impl Frames {
    fn load(trace: &Trace) -> Option<Self> {
        let frames = trace.identity("frame")?;
        let mappings = trace.identity("mapping");
        let text = |key: u64, column: &str| match mappings.as_ref()?.look_up(trace, key, 0, column) {
            Value::Text(text) => Some(text),
            Value::Int(_) | Value::Null => None,
        };
        let columns = ["mapping", "offset", "kernel"].map(|name| frames.column(name));
        let [Some(mapping), Some(offset), Some(kernel)] = columns else { return None };
        let number = |column, row| frames.get(column, row).map_or(0, i64::cast_unsigned);
        let look = |mapping: u64| {
            let path = text(mapping, "path");
            let file = path.as_deref().map_or("[unknown]", |path| path.rsplit('/').next().unwrap_or(path));
            (file.into(), text(mapping, "build_id").unwrap_or_default().to_string())
        };
        let (mut list, mut files) = (Vec::new(), FastMap::<u64, (Arc<str>, String)>::default());
        let in_kernel: Arc<str> = "[kernel]".into();
        for (key, row) in frames.latest() {
            let (mapping, kernel) = (number(mapping, row), number(kernel, row) == 1);
            let file = &files.entry(mapping).or_insert_with(|| look(mapping)).0;
            let binary = Arc::clone(if kernel { &in_kernel } else { file });
            list.push((key, Frame { mapping, offset: number(offset, row), binary, kernel }));
        }
        let build_ids = files.into_iter().map(|(mapping, file)| (mapping, file.1)).collect();
        Some(Self { list, build_ids })
    }

    /// Names from the files of a directory, matched by build id.
    fn look_up(&self, directory: &Path, naming: &Naming) -> Vec<(u64, Vec<Named>)> {
        let mut by_mapping: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (number, frame) in &self.list {
            by_mapping.entry(frame.mapping).or_default().push((*number, frame.offset));
        }
        let files = Files::new(directory);
        let (symbols, mut found) = (Symbols::default(), Vec::new());
        for (mapping, frames) in by_mapping {
            let id = self.build_ids.get(&mapping).map_or("", String::as_str);
            let Some(file) = files.find(id) else { continue };
            let offsets: Vec<u64> = frames.iter().map(|frame| frame.1).collect();
            for ((number, _), names) in frames.iter().zip(symbols.of_file(&file, &offsets)) {
                let named = |name: &Name| naming.named(name.function.as_str().into(), &name.file, name.line);
                let names: Vec<Named> = names.iter().map(named).collect();
                found.extend((!names.is_empty()).then_some((*number, names)));
            }
        }
        found
    }
}

/// The files with debug information in a directory.
struct Files<'a> {
    directory: &'a Path,
    by_id: HashMap<String, PathBuf>,
}

impl<'a> Files<'a> {
    fn new(directory: &'a Path) -> Self {
        let mut by_id = HashMap::new();
        let mut queue = vec![directory.to_owned()];
        while let Some(folder) = queue.pop() {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                match path.symlink_metadata() {
                    Ok(meta) if meta.is_dir() => queue.push(path),
                    Ok(meta) if meta.is_file() => {
                        by_id.entry(build_id(&path)).or_insert(path);
                    }
                    _ => {}
                }
            }
        }
        Self { directory, by_id }
    }

    /// As debuggers lay them out (`.build-id/ab/cdef.debug`), or under any name.
    fn find(&self, id: &str) -> Option<PathBuf> {
        let (first, rest) = id.split_at_checked(2)?;
        let usual = self.directory.join(".build-id").join(first).join(format!("{rest}.debug"));
        if usual.exists() { Some(usual) } else { self.by_id.get(id).cloned() }
    }
}

/// Names that the trace has, innermost first.
fn recorded(trace: &Trace, naming: &Naming) -> FastMap<u64, Vec<Named>> {
    let mut names: FastMap<u64, Vec<Named>> = FastMap::default();
    let Some(rows) = trace.gather("symbol") else { return names };
    let columns = ["frame", "level", "function"].map(|name| rows.def.column(name));
    let [Some(frame), Some(level), Some(function)] = columns else { return names };
    let [file, line] = ["file", "line"].map(|name| rows.def.column(name).filter(|_| naming.lines));
    // A function is in many places.
    let mut texts: FastMap<&[u8], Arc<str>> = FastMap::default();
    let mut text = |column, row| {
        let bytes = rows.bytes(column, row);
        Arc::clone(texts.entry(bytes).or_insert_with(|| super::escape::lossless(bytes).into()))
    };
    let place = |row: usize| (rows.raw(frame, row), rows.raw(level, row), row);
    let mut order: Vec<(u64, u64, usize)> = (0..rows.len()).map(place).collect();
    order.sort_unstable();
    // Parts that were merged again have the same rows twice.
    order.dedup_by_key(|&mut (frame, level, _)| (frame, level));
    names.reserve(order.len());
    for (frame, _, row) in order {
        let path = file.map(|file| text(file, row));
        let line = line.map_or(0, |line| rows.raw(line, row) as u32);
        let name = naming.named(text(function, row), path.as_deref().unwrap_or_default(), line);
        names.entry(frame).or_default().push(name);
    }
    names
}

//! From a probe as it was written to the ways of attaching it: names become offsets.

use super::elf::matches;
use super::fetch::{
    Adding, Compare, Fetch, FetchKind, Frame, NO_VALUE, Program, RECORD, SLOT_LATENCY, SLOT_RET,
};
use super::parse::NO_TEXT;
use super::perf::Counter;
use super::spec::{Arg, Kind, Spec, Sum, Wrong};
use super::value::{Value, nearest};
use super::{format, kernel, refused, regs};
use anyhow::{Context as _, Result};
use libbpf_rs::btf::Btf;
use std::path::{Path, PathBuf};

/// Functions that one pattern may name.
pub(super) const FUNCTIONS: usize = 512;

/// Where no registers of an interrupted place are at hand, a stack begins with the program, and what called it.
const OWN_FRAMES: u8 = 2;

/// Where a program is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An event of tracefs.
    Tracepoint(String, String),
    /// A raw tracepoint.
    Raw(String),
    /// Kernel functions, each with its attach cookie.
    Kernel(Vec<String>),
    /// Places in a file.
    User(PathBuf, Vec<UserPlace>),
    /// What is counted.
    Perf(Counter),
}

/// A place in a program or library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserPlace {
    /// Bytes from the begin of the file.
    pub offset: u64,
    /// Where the counter of listeners is in the file; 0: none.
    pub semaphore: u64,
}

/// One way to attach a probe, or a part of one: a static probe has its arguments elsewhere at each place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// As `--attach` and the trace name it.
    pub kind: &'static str,
    /// Programs of `bpf/named.bpf.c`: of the entry, and of the return.
    pub programs: &'static [&'static str],
    /// What the interpreter is told.
    pub program: Program,
    /// Where.
    pub target: Target,
}

/// A probe, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its columns besides those that all have.
    pub values: Vec<Value>,
    /// What calls return.
    pub ret: Option<Value>,
    /// The functions that it may be, in the order of their numbers; one: no need to tell.
    pub functions: Vec<String>,
    /// Best first; each is a list of parts that are attached together.
    pub ways: Vec<Vec<Way>>,
}

/// Names of the machine that probes refer to.
pub struct Names {
    btf: Option<Btf<'static>>,
    /// File system of the process whose programs and libraries are meant.
    pub(super) root: Option<PathBuf>,
}

impl Names {
    /// Of this kernel, and of the file system of `pid`, if there is one.
    #[must_use]
    pub fn new(pid: Option<u32>) -> Self {
        let root = pid.map(|pid| Path::new("/proc").join(pid.to_string()).join("root"));
        Self { btf: Btf::from_vmlinux().ok(), root }
    }

    /// Finds what a probe names.
    ///
    /// # Errors
    /// [`Wrong`] for a name that there is not, with the nearest that there is; or a file that cannot be read.
    pub fn resolve(&self, spec: &Spec) -> Result<Place> {
        let mut place = match spec.kind {
            Kind::Tracepoint => tracepoint(spec)?,
            Kind::Raw => self.raw(spec)?,
            Kind::Function | Kind::Kprobe => self.function(spec)?,
            Kind::User => self.user(spec)?,
            Kind::Usdt => self.usdt(spec)?,
            Kind::Perf => self.perf(spec)?,
        };
        let tests = tests(spec, &place)?;
        let adding = adding(spec, &place)?;
        for part in place.ways.iter_mut().flatten() {
            if let Some(ret) = spec.calls.then(|| returned(spec, &part.program.ret.offset)) {
                part.program.ret = ret.fetch.clone();
                place.ret = Some(ret);
            }
            part.program.tests.clone_from(&tests);
            part.program.threshold = spec.threshold;
            part.program.stacks = spec.stacks;
            part.program.most = most_in_a_tick(spec.most);
            part.program.cookie = place.functions.len() > 1;
            part.program.adding = adding;
        }
        let size = place.ways[0][0].program.record_size();
        if size > RECORD {
            let at = spec.args.as_ref().and_then(|args| args.first()).map_or(0, |arg| arg.at);
            let reason = format!(
                "a record of {size} bytes is longer than {RECORD}: limit its texts, as in name:str[64]"
            );
            return Err(Wrong::new(&spec.text, at, reason).into());
        }
        Ok(place)
    }

    /// Types of the running kernel.
    ///
    /// # Errors
    /// When it has none.
    pub fn types(&self) -> Result<&Btf<'static>> {
        self.btf.as_ref().context("this kernel has no type information (/sys/kernel/btf/vmlinux)")
    }

    fn raw(&self, spec: &Spec) -> Result<Place> {
        let (btf, name) = (self.types()?, spec.target.0.rsplit(':').next().unwrap_or_default());
        let parameters = kernel::tracepoint(btf, name).ok_or_else(|| {
            let names: Vec<String> = kernel::tracepoints(btf).collect();
            let guess = nearest(name, names.iter().map(String::as_str));
            Wrong::new(&spec.text, spec.target.1, format!("there is no tracepoint '{name}'{guess}"))
        })?;
        let values = words(btf, spec, &parameters)?;
        let way = Way {
            kind: "raw-tracepoint",
            programs: &["hit__raw"],
            program: Program { skip: OWN_FRAMES, ..program(&values) },
            target: Target::Raw(name.to_owned()),
        };
        Ok(Place { values, ret: None, functions: vec![name.to_owned()], ways: vec![vec![way]] })
    }

    fn function(&self, spec: &Spec) -> Result<Place> {
        let btf = self.types()?;
        let (pattern, at) = (&spec.target.0, spec.target.1);
        let wrong = |reason: String| Wrong::new(&spec.text, at, reason);
        let mut functions: Vec<String> =
            kernel::functions(btf).filter(|name| matches(pattern, name)).collect();
        functions.sort();
        functions.dedup();
        if let (false, Some(reason)) = (pattern.contains('*'), refused::kernel(pattern)) {
            return Err(wrong(format!("'{pattern}' is not probed: {reason}")).into());
        }
        functions.retain(|name| refused::kernel(name).is_none());
        let Some(first) = functions.first() else {
            let names: Vec<String> = kernel::functions(btf).collect();
            let guess = nearest(pattern, names.iter().map(String::as_str));
            return Err(wrong(format!("the kernel has no function '{pattern}'{guess}")).into());
        };
        if functions.len() > FUNCTIONS {
            return Err(wrong(format!(
                "'{pattern}' names {} functions, more than {FUNCTIONS}",
                functions.len()
            ))
            .into());
        }
        let parameters = kernel::function(btf, first).context("a function has a type")?;
        let single = functions.len() == 1;
        if !single && spec.args.as_ref().is_some_and(|args| args.iter().any(|arg| !arg.members.is_empty())) {
            return Err(wrong(format!(
                "'{pattern}' names several functions: name arguments as arg1, arg2, …"
            ))
            .into());
        }
        let of = |register: &dyn Fn(usize) -> Option<i32>| arguments(btf, spec, &parameters, register);
        let in_registers = of(&|index| regs::ARGS.get(index).copied())?;
        let mut ways = Vec::new();
        if single && spec.kind == Kind::Function {
            let values = of(&|index| i32::try_from(8 * index).ok())?;
            let ret = Fetch::context(i32::try_from(8 * parameters.len())?, 8, true);
            ways.push(vec![kernel_way("fentry", spec, &values, ret, Frame::Context, &functions)]);
        }
        let ret = Fetch::context(regs::RET, 8, true);
        let kind = if single { "kprobe" } else { "kprobe-multi" };
        ways.push(vec![kernel_way(kind, spec, &in_registers, ret, Frame::Pointer(regs::STACK), &functions)]);
        Ok(Place { values: in_registers, ret: None, functions, ways })
    }
}

/// What a call returns, which lies at an offset in the context at its end.
fn returned(spec: &Spec, place: &[i32]) -> Value {
    let arg = Arg {
        label: "ret".into(),
        base: "ret".into(),
        offset: None,
        at_return: false,
        members: Vec::new(),
        ty: None,
        at: 0,
    };
    let user = spec.kind == Kind::User;
    let mut value =
        Value::typed(&arg, spec.ret, Fetch { offset: place.to_vec(), user, ..Fetch::default() }, user);
    value.column.doc = "returned value".into();
    value
}

/// What is added up, if hits are: numbers, by numbers.
fn adding(spec: &Spec, place: &Place) -> Result<Adding, Wrong> {
    let Some(sum) = &spec.sum else { return Ok(Adding::Not) };
    if let Some(index) = place.values.iter().position(|value| value.fetch.is_text()) {
        let at = spec.args.as_ref().map_or(0, |args| args[index].at);
        return Err(Wrong::new(&spec.text, at, "hits are added up by numbers: leave texts out"));
    }
    let label = match sum {
        Sum::Hist(label) => label.as_str(),
        Sum::Count if spec.calls => "latency",
        Sum::Count => return Ok(Adding::Count(NO_VALUE)),
    };
    let argument = spec.args.iter().flatten().position(|arg| arg.label == label);
    let slot = match (argument, label) {
        (Some(index), _) => u8::try_from(index).expect("at most 8"),
        (None, "ret") => SLOT_RET,
        (None, _) => SLOT_LATENCY,
    };
    Ok(if *sum == Sum::Count { Adding::Count(slot) } else { Adding::BySlot(slot) })
}

/// The programs count in ticks of 2^30 ns.
fn most_in_a_tick(most: u64) -> u64 {
    let most = u128::from(most) << 30;
    u64::try_from(most.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

fn tracepoint(spec: &Spec) -> Result<Place> {
    let (category, event, fields) = format::fields(spec)?;
    let values = format::values(spec, &fields)?;
    let way = Way {
        kind: "tracepoint",
        programs: &["hit__tracepoint"],
        program: program(&values),
        target: Target::Tracepoint(category, event.clone()),
    };
    Ok(Place { values, ret: None, functions: vec![event], ways: vec![vec![way]] })
}

pub(super) fn program(values: &[Value]) -> Program {
    Program { args: values.iter().map(|value| value.fetch.clone()).collect(), ..Program::default() }
}

fn kernel_way(
    kind: &'static str,
    spec: &Spec,
    values: &[Value],
    ret: Fetch,
    stack: Frame,
    functions: &[String],
) -> Way {
    let programs: &[&str] = match (kind, spec.calls) {
        ("fentry", false) => &["hit__fentry"],
        ("fentry", true) => &["note__fentry", "end__fentry"],
        ("kprobe", false) => &["hit__kprobe"],
        ("kprobe", true) => &["note__kprobe", "end__kprobe"],
        (_, false) => &["hit__multi"],
        (_, true) => &["note__multi", "end__multi"],
    };
    let ret = if spec.calls { ret } else { Fetch::default() };
    Way {
        kind,
        programs,
        program: Program {
            ret,
            stack,
            skip: if kind == "fentry" { OWN_FRAMES } else { 0 },
            ..program(values)
        },
        target: Target::Kernel(functions.to_vec()),
    }
}

/// The arguments of a raw tracepoint: words one after the other; all numbers, where none are named.
fn words(btf: &Btf, spec: &Spec, parameters: &[kernel::Parameter]) -> Result<Vec<Value>> {
    arguments(btf, spec, parameters, &|index| i32::try_from(8 * index).ok())
}

/// The arguments that are named, found among the parameters; where none are named, none but a raw tracepoint's.
fn arguments(
    btf: &Btf,
    spec: &Spec,
    parameters: &[kernel::Parameter],
    place: &dyn Fn(usize) -> Option<i32>,
) -> Result<Vec<Value>> {
    let whole = |parameter: &kernel::Parameter| Arg {
        label: parameter.name.clone(),
        base: parameter.name.clone(),
        offset: None,
        at_return: false,
        members: Vec::new(),
        ty: None,
        at: 0,
    };
    let args = spec.args.clone().unwrap_or_else(|| parameters.iter().take(6).map(whole).collect());
    let mut values = Vec::new();
    for arg in &args {
        let position = kernel::position(&spec.text, parameters, arg)?;
        let offset = place(position).ok_or_else(|| {
            Wrong::new(
                &spec.text,
                arg.at,
                "this argument is on the stack, which is not read: only those in registers are",
            )
        })?;
        match kernel::value(btf, &spec.text, arg, &parameters[position], offset) {
            Ok(value) => values.push(value),
            Err(_) if spec.args.is_none() => {} // a structure by value: nothing that was asked for
            Err(wrong) => return Err(wrong.into()),
        }
    }
    Ok(values)
}

/// What is said of a condition on nothing that is recorded.
fn unknown_label(label: &str, spec: &Spec, place: &Place) -> String {
    let of_calls = ["ret", "latency"].into_iter().filter(|_| spec.calls);
    let known = place.values.iter().map(|value| value.column.name.as_str());
    let guess = nearest(label, known.chain(of_calls));
    format!("'{label}' is not among the arguments{guess}: record it too")
}

fn tests(spec: &Spec, place: &Place) -> Result<Vec<Compare>, Wrong> {
    let compare = |test: &super::spec::Test| {
        let wrong = |reason: String| Wrong::new(&spec.text, test.at, reason);
        let (slot, sign) = match test.label.as_str() {
            "ret" if !spec.ret.is_number() => {
                return Err(wrong(NO_TEXT.into()));
            }
            "ret" if spec.calls => (SLOT_RET, true),
            "latency" if spec.calls => (SLOT_LATENCY, false),
            "ret" | "latency" => {
                return Err(wrong(format!("only whole calls have '{}': use fx:, kr: or ur:", test.label)));
            }
            label => {
                let index = place.values.iter().position(|value| value.column.name == label);
                let index = index.ok_or_else(|| wrong(unknown_label(label, spec, place)))?;
                if place.values[index].fetch.is_text() {
                    return Err(wrong(NO_TEXT.into()));
                }
                if place.values[index].fetch.kind == FetchKind::AtReturn {
                    return Err(wrong(
                        "what a call leaves is not compared in the kernel: use `analyze --where`".into(),
                    ));
                }
                (u8::try_from(index).expect("at most 8"), place.values[index].fetch.sign || test.value < 0)
            }
        };
        Ok(Compare { slot, op: test.op, sign, value: test.value.cast_unsigned() })
    };
    spec.tests.iter().map(compare).collect()
}

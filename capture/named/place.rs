//! From a probe as it was written to the ways of attaching it: names become offsets.

use super::elf::{Binary, Function, StaticProbe, matches};
use super::fetch::{Compare, Fetch, Program, RECORD, SLOT_LATENCY, SLOT_RET};
use super::spec::{Arg, Kind, Spec, Type, Wrong};
use super::value::{Value, nearest};
use super::{format, kernel, regs, sdt};
use anyhow::{Context as _, Result};
use libbpf_rs::btf::Btf;
use std::path::{Path, PathBuf};

/// Functions that one pattern may name.
const FUNCTIONS: usize = 512;

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
    root: Option<PathBuf>,
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
        };
        let tests = tests(spec, &place)?;
        for part in place.ways.iter_mut().flatten() {
            if let Some(ret) = spec.calls.then(|| returned(spec, &part.program.ret.offset)) {
                part.program.ret = ret.fetch.clone();
                place.ret = Some(ret);
            }
            part.program.tests.clone_from(&tests);
            part.program.threshold = spec.threshold;
            part.program.cookie = place.functions.len() > 1;
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

    fn types(&self) -> Result<&Btf<'static>> {
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
            program: program(&values),
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
            ways.push(vec![kernel_way("fentry", spec, &values, ret, None, &functions)]);
        }
        let ret = Fetch::context(regs::RET, 8, true);
        let kind = if single { "kprobe" } else { "kprobe-multi" };
        ways.push(vec![kernel_way(kind, spec, &in_registers, ret, Some(regs::STACK), &functions)]);
        Ok(Place { values: in_registers, ret: None, functions, ways })
    }

    fn user(&self, spec: &Spec) -> Result<Place> {
        let (file, symbol, at) = binary_and_name(spec)?;
        let binary = Binary::open(file, self.root.as_deref())?;
        let functions = match symbol.strip_prefix("0x") {
            Some(digits) => {
                let offset = u64::from_str_radix(digits, 16).context("an offset is hexadecimal")?;
                vec![Function { name: symbol.to_owned(), offset }]
            }
            None => binary.functions(symbol),
        };
        if functions.is_empty() {
            if binary.static_probes()?.iter().any(|probe| probe.name == symbol) {
                return self.usdt(spec); // as bcc spells it
            }
            let reason =
                format!("{} has no function '{symbol}'{}", binary.path.display(), binary.guess(symbol));
            return Err(Wrong::new(&spec.text, at, reason).into());
        }
        if functions.len() > FUNCTIONS {
            let reason = format!("'{symbol}' names {} functions, more than {FUNCTIONS}", functions.len());
            return Err(Wrong::new(&spec.text, at, reason).into());
        }
        let values =
            spec.args.iter().flatten().map(|arg| in_register(spec, arg)).collect::<Result<Vec<_>, _>>()?;
        let places =
            functions.iter().map(|function| UserPlace { offset: function.offset, semaphore: 0 }).collect();
        let way = Way {
            kind: "uprobe",
            programs: &[],
            program: Program {
                ret: if spec.calls { Fetch::context(regs::RET, 8, true) } else { Fetch::default() },
                stack: Some(regs::STACK),
                ..program(&values)
            },
            target: Target::User(binary.path, places),
        };
        let names = functions.into_iter().map(|function| function.name).collect();
        Ok(Place { values, ret: None, functions: names, ways: user_ways(&[way], spec.calls) })
    }

    fn usdt(&self, spec: &Spec) -> Result<Place> {
        let (file, name, at) = binary_and_name(spec)?;
        let binary = Binary::open(file, self.root.as_deref())?;
        let (provider, name) = match name.split_once(':') {
            Some((provider, name)) => (Some(provider), name),
            None => (None, name),
        };
        let all = binary.static_probes()?;
        let wanted = |probe: &&StaticProbe| {
            probe.name == name && provider.is_none_or(|provider| probe.provider == provider)
        };
        let probes: Vec<&StaticProbe> = all.iter().filter(wanted).collect();
        let Some(first) = probes.first() else {
            let guess = nearest(name, all.iter().map(|probe| probe.name.as_str()));
            let reason = format!(
                "{} has no static probe '{name}'{guess} (of {} that it has)",
                binary.path.display(),
                all.len()
            );
            return Err(Wrong::new(&spec.text, at, reason).into());
        };
        let mut parts = Vec::new();
        let mut values = Vec::new();
        for probe in &probes {
            let found = static_values(spec, probe, first.args.len())?;
            parts.push(Way {
                kind: "usdt",
                programs: &[],
                program: program(&found),
                target: Target::User(
                    binary.path.clone(),
                    vec![UserPlace { offset: probe.offset, semaphore: probe.semaphore }],
                ),
            });
            values = found;
        }
        let functions = vec![name.to_owned()];
        Ok(Place { values, ret: None, functions, ways: user_ways(&parts, false) })
    }
}

/// Programs that may sleep first, where there is text to be loaded (Linux 6.0); then those that may not.
fn user_ways(parts: &[Way], calls: bool) -> Vec<Vec<Way>> {
    let sleepable: &[&str] = if calls { &["note__sleepable", "end__sleepable"] } else { &["hit__sleepable"] };
    let plain: &[&str] = if calls { &["note__kprobe", "end__kprobe"] } else { &["hit__kprobe"] };
    let by = |programs: &'static [&'static str]| {
        parts.iter().map(|part| Way { programs, ..part.clone() }).collect::<Vec<Way>>()
    };
    let text = parts.iter().any(|part| part.program.args.iter().any(Fetch::is_text));
    if text { vec![by(sleepable), by(plain)] } else { vec![by(plain)] }
}

/// What a call returns, which lies at an offset in the context at its end.
fn returned(spec: &Spec, place: &[i32]) -> Value {
    let arg =
        Arg { label: "ret".into(), base: "ret".into(), offset: None, members: Vec::new(), ty: None, at: 0 };
    let user = spec.kind == Kind::User;
    let mut value =
        Value::typed(&arg, spec.ret, Fetch { offset: place.to_vec(), user, ..Fetch::default() }, user);
    value.column.doc = "returned value".into();
    value
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

fn program(values: &[Value]) -> Program {
    Program { args: values.iter().map(|value| value.fetch.clone()).collect(), ..Program::default() }
}

fn kernel_way(
    kind: &'static str,
    spec: &Spec,
    values: &[Value],
    ret: Fetch,
    stack: Option<i32>,
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
        program: Program { ret, stack, ..program(values) },
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

/// `argN[+OFFSET][:TYPE]` of a function of which no types are known.
fn in_register(spec: &Spec, arg: &Arg) -> Result<Value, Wrong> {
    let wrong = |reason: &str| Wrong::new(&spec.text, arg.at, reason);
    let number = arg.base.strip_prefix("arg").and_then(|number| number.parse::<usize>().ok());
    let register = number.and_then(|number| regs::ARGS.get(number.checked_sub(1)?).copied());
    let register = register
        .ok_or_else(|| wrong("arguments of user functions are arg1, arg2, …, as many as registers carry"))?;
    if !arg.members.is_empty() {
        return Err(wrong("types of user functions are not known: use arg1+OFFSET:TYPE"));
    }
    let mut offset = vec![register];
    if let Some(more) = arg.offset {
        offset.push(i32::try_from(more).map_err(|_| wrong("the offset is too large"))?);
    }
    let fetch = Fetch { offset, user: true, ..Fetch::default() };
    Ok(Value::typed(arg, arg.ty.unwrap_or(Type::Int(8, false, false)), fetch, true))
}

/// The arguments of a static probe, as this place of it has them.
fn static_values(spec: &Spec, probe: &StaticProbe, count: usize) -> Result<Vec<Value>> {
    let whole = |index: usize| Arg {
        label: format!("arg{index}"),
        base: format!("arg{index}"),
        offset: None,
        members: Vec::new(),
        ty: None,
        at: 0,
    };
    let args = spec.args.clone().unwrap_or_else(|| (1..=count.min(super::spec::ARGS)).map(whole).collect());
    let value = |arg: &Arg| -> Result<Value> {
        let wrong = |reason: String| Wrong::new(&spec.text, arg.at, reason);
        let number = arg.base.strip_prefix("arg").and_then(|number| number.parse::<usize>().ok());
        let text = number.and_then(|number| probe.args.get(number.checked_sub(1)?)).ok_or_else(|| {
            wrong(format!("{} has {} arguments: arg1, arg2, …", probe.name, probe.args.len()))
        })?;
        let fetch = sdt::parse(text)
            .ok_or_else(|| wrong(format!("'{text}' is a kind of address that is not read")))?;
        let natural = Type::Int(fetch.size, fetch.sign, false);
        let ty = match arg.ty {
            // The type says what the number is, the note how many bytes of it there are.
            Some(ty @ Type::Text(..)) => ty,
            _ => natural,
        };
        let kind = fetch.kind;
        let mut value = Value::typed(arg, ty, fetch, true);
        if matches!(ty, Type::Int(..)) {
            value.fetch.kind = kind;
        }
        Ok(value)
    };
    args.iter().map(value).collect()
}

fn binary_and_name(spec: &Spec) -> Result<(&str, &str, usize), Wrong> {
    let (target, at) = (&spec.target.0, spec.target.1);
    match target.split_once(':') {
        Some((file, name)) if !file.is_empty() && !name.is_empty() => Ok((file, name, at + file.len() + 1)),
        _ => Err(Wrong::new(
            &spec.text,
            at,
            "expected FILE:NAME, as in u:/usr/bin/bash:readline or u:c:malloc",
        )),
    }
}

fn tests(spec: &Spec, place: &Place) -> Result<Vec<Compare>, Wrong> {
    let compare = |test: &super::spec::Test| {
        let wrong = |reason: String| Wrong::new(&spec.text, test.at, reason);
        let (slot, sign) = match test.label.as_str() {
            "ret" if matches!(spec.ret, Type::Text(..)) => {
                return Err(wrong("text is not compared in the kernel: use `analyze --where`".into()));
            }
            "ret" if spec.calls => (SLOT_RET, true),
            "latency" if spec.calls => (SLOT_LATENCY, false),
            "ret" | "latency" => {
                return Err(wrong(format!("only whole calls have '{}': use fx:, kr: or ur:", test.label)));
            }
            label => {
                let index = place.values.iter().position(|value| value.column.name == label);
                let index = index
                    .ok_or_else(|| wrong(format!("'{label}' is not among the arguments: record it too")))?;
                if place.values[index].fetch.is_text() {
                    return Err(wrong("text is not compared in the kernel: use `analyze --where`".into()));
                }
                (u8::try_from(index).expect("at most 8"), place.values[index].fetch.sign || test.value < 0)
            }
        };
        Ok(Compare { slot, op: test.op, sign, value: test.value.cast_unsigned() })
    };
    spec.tests.iter().map(compare).collect()
}

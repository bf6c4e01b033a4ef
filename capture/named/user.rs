//! Probes in programs and libraries: functions and static probes, their arguments in registers or where a note says.

use super::elf::{Binary, Function, StaticProbe};
use super::fetch::{Fetch, Frame, Program};
use super::place::{FUNCTIONS, Names, Place, Target, UserPlace, Way, program};
use super::spec::{Arg, Spec, Type, Wrong};
use super::value::{Value, nearest};
use super::{refused, regs, sdt};
use anyhow::{Context as _, Result};
use std::path::Path;

/// `function+8`, `function+0x8`: bytes behind the begin of a function. Names of C++ may have a plus sign too.
fn inside(symbol: &str) -> Option<(&str, u64)> {
    let (name, bytes) = symbol.rsplit_once('+')?;
    let bytes = match bytes.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => bytes.parse().ok(),
    };
    Some((name, bytes?))
}

impl Names {
    /// A function of a program or library.
    pub(super) fn user(&self, spec: &Spec) -> Result<Place> {
        let (file, symbol, at) = binary_and_name(spec)?;
        let binary = open(spec, file, self.root.as_deref())?;
        let inside = inside(symbol);
        let by_name = !symbol.starts_with("0x") && inside.is_none();
        let mut functions = match (symbol.strip_prefix("0x"), inside) {
            (Some(digits), _) => {
                let offset = u64::from_str_radix(digits, 16).context("an offset is hexadecimal")?;
                vec![Function { name: symbol.to_owned(), offset }]
            }
            (None, Some((name, bytes))) => {
                let moved = |at: Function| Function { name: symbol.to_owned(), offset: at.offset + bytes };
                binary.functions(name).into_iter().map(moved).collect()
            }
            (None, None) => binary.functions(symbol),
        };
        functions.retain(|function| !spec.calls || refused::returns(&function.name));
        let refused = if spec.calls { refused::of_calls(&binary, symbol) } else { None };
        if let Some(reason) = refused {
            let reason = format!("returns of '{symbol}' are not probed: {reason}");
            return Err(Wrong::new(&spec.text, at, reason).into());
        }
        if functions.is_empty() {
            let named = |probe: &StaticProbe| {
                probe.name == symbol || symbol.split_once(':') == Some((&probe.provider, &probe.name))
            };
            if binary.static_probes()?.iter().any(named) {
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
                stack: Frame::Pointer(regs::STACK),
                // An offset may be anywhere in a function, and a call is recorded when its frame is gone.
                caller: if by_name && !spec.calls { regs::caller() } else { Fetch::default() },
                ..program(&values)
            },
            target: Target::User(binary.path, places),
        };
        let names = functions.into_iter().map(|function| function.name).collect();
        Ok(Place { values, ret: None, functions: names, ways: user_ways(&[way], spec.calls) })
    }

    /// A static probe.
    pub(super) fn usdt(&self, spec: &Spec) -> Result<Place> {
        let (file, name, at) = binary_and_name(spec)?;
        let binary = open(spec, file, self.root.as_deref())?;
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

/// Several functions at once, where the kernel can do that (Linux 6.6), then one by one; of each the programs that may
/// sleep first, where there is text to be loaded (Linux 6.0), then those that may not.
fn user_ways(parts: &[Way], calls: bool) -> Vec<Vec<Way>> {
    type Programs = &'static [&'static str];
    let [together, together_asleep, alone, asleep]: [Programs; 4] = if calls {
        [
            &["note__umulti", "end__umulti"],
            &["note__umulti_sleepable", "end__umulti_sleepable"],
            &["note__kprobe", "end__kprobe"],
            &["note__sleepable", "end__sleepable"],
        ]
    } else {
        [&["hit__umulti"], &["hit__umulti_sleepable"], &["hit__kprobe"], &["hit__sleepable"]]
    };
    let several = |part: &Way| matches!(&part.target, Target::User(_, places) if places.len() > 1);
    let several = parts.iter().any(several);
    let text = parts.iter().any(|part| part.program.args.iter().any(Fetch::is_text));
    let by = |programs: Programs, kind: Option<&'static str>| {
        let way = |part: &Way| Way { programs, kind: kind.unwrap_or(part.kind), ..part.clone() };
        parts.iter().map(way).collect::<Vec<Way>>()
    };
    let multi = Some("uprobe-multi");
    let ways = [(several && text, together_asleep, multi), (several, together, multi)];
    let ways = ways.into_iter().chain([(text, asleep, None), (true, alone, None)]);
    ways.filter(|way| way.0).map(|(_, programs, kind)| by(programs, kind)).collect()
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
        at_return: false,
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
            Some(ty) if !ty.is_number() => ty,
            _ => natural,
        };
        let kind = fetch.kind;
        let mut value = Value::typed(arg, ty, fetch, true);
        if ty.is_number() {
            value.fetch.kind = kind;
        }
        Ok(value)
    };
    args.iter().map(value).collect()
}

/// The file that a probe names.
pub(super) fn open(spec: &Spec, file: &str, root: Option<&Path>) -> Result<Binary, Wrong> {
    Binary::open(file, root).map_err(|error| Wrong::new(&spec.text, spec.target.1, format!("{error:#}")))
}

pub(super) fn binary_and_name(spec: &Spec) -> Result<(&str, &str, usize), Wrong> {
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

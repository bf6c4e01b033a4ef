//! `capture --list PATTERN`: the probes that a pattern names, with the names and types of their arguments.
//!
//! ```text
//! # capture --list 't:sched:*wak*'          tracepoints, with the fields that each declares
//! # capture --list 'f:tcp_*'                kernel functions, with parameters and what they return
//! # capture --list 'f:tcp_sendmsg(sk)'      the members of what an argument points to
//! # capture --list 'rt:sched_switch'        raw tracepoints, arguments as the kernel passes them
//! # capture --list 'u:c:*alloc'             functions of a program or library
//! # capture --list 'usdt:c:*'               its static probes
//! # capture --list 'pe:*'                   perf events, and why this machine does not count some
//! ```

use super::elf::matches;
use super::place::Names;
use super::spec::{Arg, Kind, Spec, Type, Wrong};
use super::user::open;
use super::value::nearest;
use super::{format, kernel, kinds, perf, sdt};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::btf::Btf;

/// The lines, in order; a pattern without a kind is of tracepoints.
///
/// # Errors
/// When nothing is named so, with the nearest name; or a file cannot be read.
pub fn lines(pattern: &str, pid: Option<u32>) -> Result<Vec<String>> {
    let of_kind = |text: &str| Spec::parse(text.trim_end_matches(['>', '-', '.']));
    let spec = of_kind(&closed(pattern)).or_else(|wrong| {
        if kinds::is_elsewhere(pattern) {
            Err(wrong)
        } else {
            of_kind(&format!("t:{pattern}")).map_err(|_| wrong)
        }
    })?;
    let names = Names::new(pid);
    let lines = match spec.kind {
        Kind::Tracepoint => tracepoints(&spec)?,
        Kind::Raw => functions(&spec, names.types()?, "rt:", &kernel::tracepoint_signature)?,
        Kind::Function => functions(&spec, names.types()?, "f:", &kernel::signature)?,
        Kind::Kprobe => functions(&spec, names.types()?, "k:", &kernel::signature)?,
        Kind::User => user(&spec, &names)?,
        Kind::Usdt => static_probes(&spec, &names)?,
        Kind::Perf => perf_events(&spec)?,
    };
    Ok(lines)
}

/// `f:name(sk->)` is a path that somebody is still typing.
fn closed(pattern: &str) -> String {
    match pattern.split_once('(') {
        Some((target, path)) => {
            format!("{target}({})", path.trim_end_matches(')').trim_end_matches("->").trim_end_matches('.'))
        }
        None => pattern.to_owned(),
    }
}

fn tracepoints(spec: &Spec) -> Result<Vec<String>> {
    let (category, event) = spec.target.0.split_once(':').unwrap_or(("*", &spec.target.0));
    let all = format::events()?;
    let wanted = all.iter().filter(|(c, e)| matches(category, c) && matches(event, e));
    let lines: Vec<String> = wanted
        .map(|(category, event)| {
            let fields = format::fields_of(category, event).unwrap_or_default();
            let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name, f.ty)).collect();
            format!("t:{category}:{event}({})", fields.join(", "))
        })
        .collect();
    if all.iter().any(|(known, _)| matches(category, known)) {
        return found(spec, lines, event, "tracepoint", all.iter().map(|(_, event)| event.as_str()));
    }
    found(spec, lines, category, "category", all.iter().map(|(category, _)| category.as_str()))
}

type Signature = dyn Fn(&Btf, &str) -> Option<kernel::Signature>;

/// Functions and raw tracepoints: their parameters, or the members of the one that is named.
fn functions(spec: &Spec, btf: &Btf, kind: &str, signature: &Signature) -> Result<Vec<String>> {
    let pattern = spec.target.0.rsplit(':').next().unwrap_or_default();
    let mut names: Vec<String> = match spec.kind {
        Kind::Raw => kernel::tracepoints(btf).collect(),
        _ => kernel::functions(btf).collect(),
    };
    names.sort();
    names.dedup();
    let wanted: Vec<&String> = names.iter().filter(|name| matches(pattern, name)).collect();
    if let ([name], Some([arg])) = (&wanted[..], spec.args.as_deref()) {
        let signature = signature(btf, name).context("it has a type")?;
        return Ok(members(spec, btf, &signature, arg)?);
    }
    let line = |name: &&String| Some(format!("{kind}{name}{}", signature(btf, name)?.spell(btf)));
    let lines = wanted.iter().filter_map(line).collect();
    found(spec, lines, pattern, "function", names.iter().map(String::as_str))
}

/// What can follow a path, each as an argument that `-e` takes.
fn members(spec: &Spec, btf: &Btf, signature: &kernel::Signature, arg: &Arg) -> Result<Vec<String>, Wrong> {
    let at = &spec.text[arg.at..];
    let path = at.trim_end().trim_end_matches(')');
    let position = kernel::position(&spec.text, &signature.parameters, arg)?;
    let ty = kernel::reached(btf, &spec.text, arg, &signature.parameters[position])?;
    let (step, members) = kernel::members(btf, ty);
    if members.is_empty() {
        return Ok(vec![format!("{path}: {}", kernel::spell(btf, ty))]);
    }
    Ok(members.into_iter().map(|(name, ty)| format!("{path}{step}{name}: {ty}")).collect())
}

fn user(spec: &Spec, names: &Names) -> Result<Vec<String>> {
    let (file, pattern) = spec.target.0.split_once(':').unwrap_or((&spec.target.0, "*"));
    let binary = open(spec, file, names.root.as_deref())?;
    let functions = binary.functions(pattern);
    let lines = functions.iter().map(|function| format!("u:{file}:{}(arg1, …)", function.name)).collect();
    let all = binary.functions("*");
    found(spec, lines, pattern, "function", all.iter().map(|function| function.name.as_str()))
}

fn static_probes(spec: &Spec, names: &Names) -> Result<Vec<String>> {
    let (file, pattern) = spec.target.0.split_once(':').unwrap_or((&spec.target.0, "*"));
    let (provider, name) = pattern.split_once(':').unwrap_or(("*", pattern));
    let binary = open(spec, file, names.root.as_deref())?;
    let all = binary.static_probes()?;
    let mut lines: Vec<String> = all
        .iter()
        .filter(|probe| matches(provider, &probe.provider) && matches(name, &probe.name))
        .map(|probe| {
            let args: Vec<String> = (1..).zip(&probe.args).map(|(n, arg)| note(n, arg)).collect();
            format!("usdt:{file}:{}:{}({})", probe.provider, probe.name, args.join(", "))
        })
        .collect();
    lines.sort();
    lines.dedup();
    found(spec, lines, name, "static probe", all.iter().map(|probe| probe.name.as_str()))
}

fn perf_events(spec: &Spec) -> Result<Vec<String>> {
    let pattern = spec.target.0.as_str();
    let lines = perf::all().filter(|(name, _)| matches(pattern, name)).map(|(_, line)| line).collect();
    found(spec, lines, pattern, "perf event", perf::all().map(|(name, _)| name))
}

/// An argument of a static probe, as its note says where it is.
fn note(number: usize, text: &str) -> String {
    match sdt::parse(text) {
        Some(fetch) => format!("arg{number}: {}", Type::Int(fetch.size, fetch.sign, false)),
        None => format!("arg{number}: not read, since it is at {text}"),
    }
}

fn found<'a>(
    spec: &Spec,
    lines: Vec<String>,
    name: &str,
    what: &str,
    all: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>> {
    if lines.is_empty() {
        bail!("--list {}: there is no {what} '{name}'{}", spec.text, nearest(name, all));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pattern: &str) -> String {
        format!("{:#}", lines(pattern, None).expect_err(pattern))
    }

    #[test]
    fn functions_of_the_kernel_have_their_parameters_and_members() {
        let of = |pattern: &str| lines(pattern, None).expect(pattern);
        let sendmsg = "f:tcp_sendmsg(sk: struct sock *, msg: struct msghdr *, size: size_t): int";
        assert_eq!(of("f:tcp_sendmsg"), [sendmsg]);
        assert!(of("f:tcp_send*").iter().any(|line| line == sendmsg));
        for path in ["f:tcp_sendmsg(sk->__sk_common)", "f:tcp_sendmsg(sk->__sk_common.)"] {
            assert!(of(path).contains(&"sk->__sk_common.skc_dport: __be16".to_owned()), "{:?}", of(path));
        }
        assert!(of("f:tcp_sendmsg(sk->)").iter().any(|line| line.starts_with("sk->sk_rcvbuf: ")));
        assert_eq!(of("f:tcp_sendmsg(size)"), ["size: size_t"]);
        let switch = &of("rt:sched_switch")[0];
        assert!(switch.starts_with("rt:sched_switch(preempt: bool, prev: struct task_struct *"), "{switch}");
    }

    #[test]
    fn functions_of_libraries_are_listed_and_unknown_names_are_guessed() {
        let of = |pattern: &str| lines(pattern, None).expect(pattern);
        assert!(of("u:c:*alloc").contains(&"u:c:malloc(arg1, …)".to_owned()));
        assert!(error("u:c:maloc").contains("the nearest name is malloc"), "{}", error("u:c:maloc"));
        assert!(error("f:tcp_sendmsgg").contains("the nearest name is tcp_sendmsg"));
        assert!(error("f:tcp_sendmsg(skk)").contains("there is no argument 'skk'"));
        assert!(error("kprobe:tcp_*").starts_with("write k: for kprobe: here"), "{}", error("kprobe:tcp_*"));
    }
}

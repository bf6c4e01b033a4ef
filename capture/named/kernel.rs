//! What the running kernel's own type information says of a function or tracepoint: names and types of the
//! parameters, and where members lie.

use super::fetch::{Fetch, FetchKind, HOPS};
use super::spec::{Arg, Member, Type, Wrong};
use super::value::{Value, nearest};
use libbpf_rs::ReferencesType as _;
use libbpf_rs::btf::types::{
    Array, Composite, Enum, Func, FuncProto, Int, IntEncoding, MemberAttr, Ptr, Typedef,
};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, TypeId};

/// A parameter of a function: its name and type.
pub struct Parameter {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: TypeId,
}

/// What a function takes and returns; a raw tracepoint returns nothing.
pub struct Signature {
    /// What it takes.
    pub parameters: Vec<Parameter>,
    returns: Option<TypeId>,
}

impl Signature {
    /// `(name: type, …): type`.
    #[must_use]
    pub fn spell(&self, btf: &Btf) -> String {
        let parameter = |p: &Parameter| format!("{}: {}", p.name, spell(btf, p.ty));
        let parameters: Vec<String> = self.parameters.iter().map(parameter).collect();
        let returns = self.returns.map(|ty| format!(": {}", spell(btf, ty))).unwrap_or_default();
        format!("({}){returns}", parameters.join(", "))
    }
}

/// Of a kernel function.
#[must_use]
pub fn signature(btf: &Btf, name: &str) -> Option<Signature> {
    let prototype = FuncProto::try_from(btf.type_by_name::<Func>(name)?.next_type()?).ok()?;
    let returns = prototype.next_type().map(|ty| ty.type_id());
    Some(Signature { parameters: parameters(&prototype, 0), returns })
}

/// Of a raw tracepoint.
#[must_use]
pub fn tracepoint_signature(btf: &Btf, name: &str) -> Option<Signature> {
    Some(Signature { parameters: tracepoint(btf, name)?, returns: None })
}

/// Parameters of a kernel function; `None`: the kernel has no such function, or no types for it.
#[must_use]
pub fn function(btf: &Btf, name: &str) -> Option<Vec<Parameter>> {
    Some(signature(btf, name)?.parameters)
}

/// Parameters of a tracepoint as its probes get them; `None`: there is no such tracepoint.
#[must_use]
pub fn tracepoint(btf: &Btf, name: &str) -> Option<Vec<Parameter>> {
    let typedef = btf.type_by_name::<Typedef>(&format!("btf_trace_{name}"))?;
    // The type of a probe has no names; the function that calls it has the same parameters with their names.
    if let Some(caller) = btf.type_by_name::<Func>(&format!("__bpf_trace_{name}")) {
        return Some(parameters(&FuncProto::try_from(caller.next_type()?).ok()?, 1));
    }
    let pointer = Ptr::try_from(typedef.next_type()?).ok()?;
    Some(parameters(&FuncProto::try_from(pointer.next_type()?).ok()?, 1))
}

/// Names of all functions that the type information has.
pub fn functions(btf: &Btf) -> impl Iterator<Item = String> {
    btf.type_by_kind::<Func>().filter_map(|function| Some(function.name()?.to_string_lossy().into_owned()))
}

/// Names of all tracepoints.
pub fn tracepoints(btf: &Btf) -> impl Iterator<Item = String> {
    btf.type_by_kind::<Typedef>()
        .filter_map(|ty| Some(ty.name()?.to_str()?.strip_prefix("btf_trace_")?.to_owned()))
}

fn parameters(prototype: &FuncProto, skip: usize) -> Vec<Parameter> {
    let named = |(index, parameter): (usize, libbpf_rs::btf::types::FuncProtoParam)| Parameter {
        name: parameter
            .name
            .map_or_else(|| format!("arg{}", index + 1), |n| n.to_string_lossy().into_owned()),
        ty: parameter.ty,
    };
    prototype.iter().skip(skip).enumerate().map(named).collect()
}

/// How a type reads in C.
#[must_use]
pub fn spell(btf: &Btf, id: TypeId) -> String {
    let Some(ty) = btf.type_by_id::<BtfType>(id) else { return "void".into() };
    let name = || ty.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let of_next = |before: &str, after: &str| {
        let next = ty.next_type().map_or_else(|| "void".into(), |next| spell(btf, next.type_id()));
        format!("{before}{next}{after}")
    };
    match ty.kind() {
        BtfKind::Ptr => of_next("", " *"),
        BtfKind::Const => of_next("const ", ""),
        BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => of_next("", ""),
        BtfKind::Struct => format!("struct {}", name()),
        BtfKind::Union => format!("union {}", name()),
        BtfKind::Enum | BtfKind::Enum64 => format!("enum {}", name()),
        BtfKind::Array => match Array::try_from(ty) {
            Ok(array) => format!("{}[{}]", spell(btf, array.ty()), array.capacity()),
            Err(_) => name(),
        },
        BtfKind::FuncProto => "function".into(),
        BtfKind::Void => "void".into(),
        _ => name(),
    }
}

/// Finds an argument among the parameters (by name, or `argN`): its position, from 0.
///
/// # Errors
/// When there is none of that name.
pub fn position(text: &str, parameters: &[Parameter], arg: &Arg) -> Result<usize, Wrong> {
    if let Some(index) = parameters.iter().position(|parameter| parameter.name == arg.base) {
        return Ok(index);
    }
    if let Some(number) = arg.base.strip_prefix("arg").and_then(|number| number.parse::<usize>().ok())
        && (1..=parameters.len()).contains(&number)
    {
        return Ok(number - 1);
    }
    let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let list = if names.is_empty() { "none".into() } else { names.join(", ") };
    let guess = nearest(&arg.base, names.iter().copied());
    Err(Wrong::new(text, arg.at, format!("there is no argument '{}'{guess}: there is {list}", arg.base)))
}

/// How to get an argument that begins with a parameter at `context`, an offset into the program's context.
///
/// # Errors
/// When a member does not exist, is a bit field, or the path passes more pointers than the interpreter follows.
pub fn value(btf: &Btf, text: &str, arg: &Arg, parameter: &Parameter, context: i32) -> Result<Value, Wrong> {
    let mut chain = vec![context];
    if let Some(offset) = arg.offset {
        chain.push(i32::try_from(offset).map_err(|_| Wrong::new(text, arg.at, "the offset is too large"))?);
    }
    let ty = walk(btf, text, arg, parameter, &mut chain)?;
    if chain.len() > HOPS {
        let reason = format!("a path passes at most {} pointers", HOPS - 1);
        return Err(Wrong::new(text, arg.at, reason));
    }
    let fetch = Fetch { offset: chain, ..Fetch::default() };
    match arg.ty {
        Some(ty) => Ok(Value::typed(arg, ty, fetch, false)),
        None if arg.offset.is_some() && arg.members.is_empty() => {
            Err(Wrong::new(text, arg.at, "say what is there: …:u32, :str, …"))
        }
        None => untyped(btf, text, arg, ty, fetch),
    }
}

/// The type at the end of an argument's path.
///
/// # Errors
/// When a member does not exist.
pub fn reached(btf: &Btf, text: &str, arg: &Arg, parameter: &Parameter) -> Result<TypeId, Wrong> {
    walk(btf, text, arg, parameter, &mut vec![0])
}

fn walk(btf: &Btf, text: &str, arg: &Arg, from: &Parameter, chain: &mut Vec<i32>) -> Result<TypeId, Wrong> {
    arg.members.iter().try_fold(from.ty, |ty, member| step(btf, text, member, ty, chain))
}

/// The members of a struct, or of what a pointer leads to, with their types; and what goes before their names.
#[must_use]
pub fn members(btf: &Btf, id: TypeId) -> (&'static str, Vec<(String, String)>) {
    let pointer = plain(btf, id).and_then(|ty| Ptr::try_from(ty).ok());
    let (step, id) = pointer.map_or((".", id), |pointer| ("->", pointer.referenced_type_id()));
    let composite = plain(btf, id).and_then(|ty| Composite::try_from(ty).ok());
    let typed = |(name, ty): (String, TypeId)| (name, spell(btf, ty));
    (step, composite.map_or(Vec::new(), |all| named_members(btf, &all)).into_iter().map(typed).collect())
}

/// One `->` or `.`: the member's type, and the chain that leads to it.
fn step(btf: &Btf, text: &str, member: &Member, ty: TypeId, chain: &mut Vec<i32>) -> Result<TypeId, Wrong> {
    let wrong = |reason: String| Wrong::new(text, member.at, reason);
    let mut ty = plain(btf, ty).ok_or_else(|| wrong("void has no members".into()))?;
    if member.arrow {
        let pointer = Ptr::try_from(ty).map_err(|_| wrong("this is no pointer: use '.'".into()))?;
        ty = plain(btf, pointer.referenced_type_id()).ok_or_else(|| wrong("void has no members".into()))?;
        chain.push(0);
    }
    let composite = Composite::try_from(ty).map_err(|_| {
        let pointer = if ty.kind() == BtfKind::Ptr { " but a pointer: use '->'" } else { "" };
        wrong(format!("this is no struct{pointer}"))
    })?;
    let (id, bits) = find(btf, &composite, &member.name, 0).ok_or_else(|| {
        let members = named_members(btf, &composite);
        let guess = nearest(&member.name, members.iter().map(|(name, _)| name.as_str()));
        wrong(format!("{} has no member '{}'{guess}", spell(btf, composite.type_id()), member.name))
    })?;
    let bits = bits.ok_or_else(|| wrong(format!("{} is a bit field, which cannot be read", member.name)))?;
    *chain.last_mut().expect("begins with the context") += i32::try_from(bits / 8).unwrap_or(i32::MAX);
    Ok(id)
}

/// Where a member of a struct is, in bytes, if this kernel has it.
#[must_use]
pub fn offset(btf: &Btf, structure: &str, member: &str) -> Option<i32> {
    let composite = Composite::try_from(btf.type_by_name::<BtfType>(structure)?).ok()?;
    let (_, bits) = find(btf, &composite, member, 0)?;
    i32::try_from(bits? / 8).ok()
}

/// A member, also of unnamed structs inside: its type, and its offset in bits (none: a bit field).
fn find(btf: &Btf, composite: &Composite, name: &str, base: u32) -> Option<(TypeId, Option<u32>)> {
    composite.iter().find_map(|member| {
        let offset = match member.attr {
            MemberAttr::Normal { offset } => Some(base + offset),
            MemberAttr::BitField { .. } => None,
        };
        match member.name {
            Some(found) if !found.is_empty() => (found == name).then_some((member.ty, offset)),
            _ => find(btf, &Composite::try_from(plain(btf, member.ty)?).ok()?, name, offset?),
        }
    })
}

/// Also those of unnamed structs inside.
fn named_members(btf: &Btf, composite: &Composite) -> Vec<(String, TypeId)> {
    let mut members = Vec::new();
    for member in composite.iter() {
        match member.name {
            Some(name) if !name.is_empty() => members.push((name.to_string_lossy().into_owned(), member.ty)),
            _ => {
                let inner = plain(btf, member.ty).and_then(|ty| Composite::try_from(ty).ok());
                members.extend(inner.map(|inner| named_members(btf, &inner)).unwrap_or_default());
            }
        }
    }
    members
}

/// Without typedefs and qualifiers.
fn plain<'a>(btf: &'a Btf, id: TypeId) -> Option<BtfType<'a>> {
    let ty = btf.type_by_id::<BtfType>(id)?.skip_mods_and_typedefs();
    (ty.kind() != BtfKind::Void).then_some(ty)
}

/// As the type information has it.
fn untyped(btf: &Btf, text: &str, arg: &Arg, id: TypeId, fetch: Fetch) -> Result<Value, Wrong> {
    let ty = plain(btf, id).ok_or_else(|| Wrong::new(text, arg.at, "void is no value"))?;
    if let Ok(int) = Int::try_from(ty) {
        let sign = matches!(int.encoding, IntEncoding::Signed);
        let ty = Type::Int(int.bits.div_ceil(8), sign, big_endian(btf, id));
        return Ok(Value::typed(arg, ty, fetch, false));
    }
    if let Ok(numbers) = Enum::try_from(ty) {
        let mut value = Value::typed(arg, Type::Int(4, numbers.is_signed(), false), fetch, false);
        value.names_from(&numbers);
        return Ok(value);
    }
    if ty.kind() == BtfKind::Ptr {
        return Ok(Value::typed(arg, Type::Address, fetch, false));
    }
    if let Ok(array) = Array::try_from(ty)
        && plain(btf, array.ty()).and_then(|ty| Int::try_from(ty).ok()).is_some_and(|int| int.bits == 8)
    {
        let limit = u16::try_from(array.capacity()).unwrap_or(256).clamp(1, 256);
        return Ok(Value::text(arg, Fetch { kind: FetchKind::Text, limit, ..fetch }));
    }
    let reason = format!("'{}' is a {}: name a member of it, or give a type", arg.base, spell(btf, id));
    Err(Wrong::new(text, arg.at, reason))
}

/// Whether one of the names that a type goes by is of a big-endian number.
fn big_endian(btf: &Btf, id: TypeId) -> bool {
    let mut ty = btf.type_by_id::<BtfType>(id);
    while let Some(current) = ty {
        if current.name().is_some_and(|name| ["__be16", "__be32", "__be64"].iter().any(|be| name == *be)) {
            return true;
        }
        ty = match current.kind() {
            BtfKind::Typedef | BtfKind::Const | BtfKind::Volatile | BtfKind::TypeTag => current.next_type(),
            _ => None,
        };
    }
    false
}

//! Classic tracepoints: the fields that tracefs declares in each event's `format` file.

use super::fetch::{Fetch, FetchKind};
use super::spec::{Arg, Spec, Wrong};
use super::value::{Value, nearest};
use crate::capture::tracefs;
use anyhow::{Error, Result};
use std::fs;
use std::path::Path;

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub name: String,
    /// The declaration, without the name.
    pub ty: String,
    offset: i32,
    size: usize,
    signed: bool,
}

/// The fields of `category:event`, in order, without those that all events have.
///
/// # Errors
/// When there is no such event, or tracefs cannot be read.
pub fn fields(spec: &Spec) -> Result<(String, String, Vec<Field>), Wrong> {
    let (target, at) = (&spec.target.0, spec.target.1);
    let wrong = |reason: String| Wrong::new(&spec.text, at, reason);
    let Some((category, event)) = target.split_once(':') else {
        return Err(wrong("a tracepoint is CATEGORY:EVENT, as in t:sched:sched_switch".into()));
    };
    tracefs::root().map_err(|reason| wrong(reason.into()))?;
    fields_of(category, event)
        .map(|fields| (category.into(), event.into(), fields))
        .ok_or_else(|| wrong(format!("there is no tracepoint {target}{}", guess(category, event))))
}

/// The fields of one event; `None`: there is no such event.
#[must_use]
pub fn fields_of(category: &str, event: &str) -> Option<Vec<Field>> {
    let plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let path = tracefs::events().ok()?.join(category).join(event).join("format");
    (plain(category) && plain(event)).then(|| fs::read_to_string(path).ok().map(|text| parse(&text)))?
}

/// All events: category and name, in order.
///
/// # Errors
/// When tracefs cannot be read.
pub fn events() -> Result<Vec<(String, String)>> {
    let root = tracefs::events().map_err(Error::msg)?;
    let mut all = Vec::new();
    for category in entries(&root) {
        let is_event = |event: &String| root.join(&category).join(event).join("format").exists();
        let events = entries(&root.join(&category)).into_iter().filter(is_event);
        all.extend(events.map(|event| (category.clone(), event)));
    }
    all.sort();
    Ok(all)
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn guess(category: &str, event: &str) -> String {
    let Ok(root) = tracefs::events() else { return String::new() };
    let (names, word) = match root.join(category) {
        path if path.is_dir() => (entries(&path), event),
        _ => (entries(&root), category),
    };
    nearest(word, names.iter().map(String::as_str))
}

/// The text of a `format` file.
fn parse(text: &str) -> Vec<Field> {
    text.lines().filter_map(field).filter(|field| !field.name.starts_with("common_")).collect()
}

fn field(line: &str) -> Option<Field> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let mut number = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix(':')?.parse::<i32>().ok();
    let (offset, size, signed) = (number("offset")?, number("size")?, number("signed")?);
    let (ty, name) = declaration.rsplit_once(' ')?;
    let (name, array) = name.split_at(name.find('[').unwrap_or(name.len()));
    Some(Field {
        name: name.to_owned(),
        ty: format!("{ty}{array}"),
        offset,
        size: usize::try_from(size).ok()?,
        signed: signed == 1,
    })
}

/// What to record: the fields that the user names, or all that can be.
///
/// # Errors
/// When the event has no such field, or its type cannot be recorded.
pub fn values(spec: &Spec, fields: &[Field]) -> Result<Vec<Value>, Wrong> {
    let Some(args) = &spec.args else {
        let whole = |field: &Field| {
            let arg = Arg {
                label: field.name.clone(),
                base: field.name.clone(),
                offset: None,
                at_return: false,
                members: Vec::new(),
                ty: None,
                at: 0,
            };
            value(&spec.text, &arg, field).ok()
        };
        return Ok(fields.iter().filter_map(whole).take(super::spec::ARGS).collect());
    };
    args.iter().map(|arg| value(&spec.text, arg, named(&spec.text, fields, arg)?)).collect()
}

fn named<'a>(text: &str, fields: &'a [Field], arg: &Arg) -> Result<&'a Field, Wrong> {
    fields.iter().find(|field| field.name == arg.base).ok_or_else(|| {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let guess = nearest(&arg.base, names.iter().copied());
        let reason = format!("there is no field '{}'{guess}: there is {}", arg.base, names.join(", "));
        Wrong::new(text, arg.at, reason)
    })
}

fn value(text: &str, arg: &Arg, field: &Field) -> Result<Value, Wrong> {
    if !arg.members.is_empty() || arg.offset.is_some() {
        return Err(Wrong::new(
            text,
            arg.at,
            "a tracepoint's fields have no members: rt: has the kernel's types",
        ));
    }
    let place = Fetch { offset: vec![field.offset], ..Fetch::default() };
    if let Some(ty) = arg.ty {
        return Ok(Value::typed(arg, ty, place, false));
    }
    let limit = u16::try_from(field.size).unwrap_or(256).clamp(1, 256);
    let text_of = |kind, limit| Ok(Value::text(arg, Fetch { kind, limit, ..place.clone() }));
    match (field.ty.as_str(), field.size) {
        (ty, 4) if ty.starts_with("__data_loc char") => text_of(FetchKind::DataLoc, 128),
        (ty, _) if is_text(ty) => text_of(FetchKind::Text, limit),
        (ty, size @ (1 | 2 | 4 | 8)) if !ty.ends_with(']') => {
            let ty = super::spec::Type::Int(limit_u8(size), field.signed, false);
            let unit = if field.ty.contains('*') { "address" } else { "" };
            Ok(Value::typed(arg, ty, place, false).of_unit(unit))
        }
        (ty, size) => {
            let reason =
                format!("field '{}' is {size} bytes of '{ty}', which is no number or text", field.name);
            Err(Wrong::new(text, arg.at, reason))
        }
    }
}

/// Characters in the event itself.
fn is_text(ty: &str) -> bool {
    !ty.contains("__data_loc") && ty.split_once('[').is_some_and(|(element, _)| element.ends_with("char"))
}

fn limit_u8(size: usize) -> u8 {
    u8::try_from(size).expect("at most 8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: x\nID: 1\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n\
        \tfield:__data_loc char[] filename;\toffset:28;\tsize:4;\tsigned:0;\n\
        \tfield:const char * name;\toffset:32;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned long mask[4];\toffset:40;\tsize:32;\tsigned:0;\n";

    #[test]
    fn fields_become_values() {
        let fields = parse(FORMAT);
        let spec = Spec::parse("t:a:b").expect("well formed");
        let values = values(&spec, &fields).expect("all that can be recorded");
        let names: Vec<_> = values.iter().map(|v| (v.column.name.as_str(), v.fetch.kind)).collect();
        let (text, loc, number) = (FetchKind::Text, FetchKind::DataLoc, FetchKind::Number);
        assert_eq!(names, [("comm", text), ("pid", number), ("filename", loc), ("name", number)]);
        assert_eq!((values[1].fetch.sign, values[3].column.unit.as_str()), (true, "address"));
    }

    #[test]
    fn an_unknown_field_is_named_with_the_nearest() {
        let spec = Spec::parse("t:a:b(comm, file_name)").expect("well formed");
        let error = values(&spec, &parse(FORMAT)).expect_err("no such field").to_string();
        assert!(error.contains("the nearest name is filename"), "{error}");
        assert!(error.ends_with("\n              ^"), "{error}");
    }

    #[test]
    fn a_pointer_can_be_read_as_the_processs_text() {
        let spec = Spec::parse("t:a:b(name:ustr[64])").expect("well formed");
        let value = &values(&spec, &parse(FORMAT)).expect("one")[0];
        assert_eq!(
            (value.fetch.offset.as_slice(), value.fetch.user, value.fetch.limit),
            (&[32, 0][..], true, 64)
        );
    }
}

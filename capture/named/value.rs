//! One value of a probe: how it is got, and the column that it becomes.

use super::fetch::{Fetch, FetchKind};
use super::spec::{Arg, Part, Type};
use crate::schema::{ColumnDef, ColumnType};
use libbpf_rs::btf::types::Enum;

/// Names of address families, as Linux numbers them.
const FAMILIES: [(u64, &str); 7] =
    [(0, "unspec"), (1, "unix"), (2, "inet"), (10, "inet6"), (16, "netlink"), (17, "packet"), (40, "vsock")];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// For the interpreter.
    pub fetch: Fetch,
    /// For the table.
    pub column: ColumnDef,
    /// Names of its numbers, if they have any.
    pub names: Vec<(u64, String)>,
}

impl Value {
    /// A value of a type that the user gave, or that is known; text is behind the pointer that `fetch` finds, in
    /// the process's memory if `user` says so and the type does not say otherwise.
    #[must_use]
    pub fn typed(arg: &Arg, ty: Type, fetch: Fetch, user: bool) -> Self {
        match ty {
            Type::Int(size, sign, swap) => {
                let kind = if arg.at_return { FetchKind::AtReturn } else { FetchKind::Number };
                let fetch = Fetch { kind, size, sign, swap, user: user || fetch.user, ..fetch };
                let column = ColumnDef::new(&arg.label, ColumnType::Number { width: size, signed: sign });
                Self { fetch, column, names: Vec::new() }
            }
            Type::Address => Self::typed(arg, Type::Int(8, false, false), fetch, user).of_unit("address"),
            Type::Text(limit, whose) => {
                Self::text(arg, Fetch { kind: FetchKind::Text, limit, ..fetch.behind(whose.unwrap_or(user)) })
            }
            Type::Bytes(limit, count, whose) => {
                let size = count.map_or(0, |index| index + 1);
                let fetch = fetch.behind(whose.unwrap_or(user));
                Self::text(arg, Fetch { kind: FetchKind::Bytes, limit, size, ..fetch })
            }
            Type::Sockaddr(part, whose) => Self::of_sockaddr(arg, part, fetch.behind(whose.unwrap_or(user))),
        }
    }

    /// A part of the socket's address that `fetch` leads to.
    fn of_sockaddr(arg: &Arg, part: Part, fetch: Fetch) -> Self {
        let number = |width| ColumnType::Number { width, signed: false };
        let column = |kind, doc: &str| ColumnDef { doc: doc.into(), ..ColumnDef::new(&arg.label, kind) };
        let (fetch, column, names) = match part {
            Part::Address => {
                let fetch = Fetch { kind: FetchKind::Address, limit: 16, ..fetch };
                (fetch, column(ColumnType::Ip, "address; :: in families without"), Vec::new())
            }
            Part::Port => {
                let column = column(number(4), "port; null in families without");
                let null = Some(u64::from(u32::MAX));
                (Fetch { kind: FetchKind::Port, ..fetch }, ColumnDef { null, ..column }, Vec::new())
            }
            Part::Family => {
                let enumeration = "sockaddr_family".into();
                let names = FAMILIES.map(|(number, name)| (number, name.to_owned())).to_vec();
                let column = column(number(2), "address family");
                (Fetch { size: 2, ..fetch }, ColumnDef { enumeration, ..column }, names)
            }
        };
        Self { fetch, column, names }
    }

    /// Text that `fetch` finds.
    #[must_use]
    pub fn text(arg: &Arg, fetch: Fetch) -> Self {
        Self { fetch, column: ColumnDef::new(&arg.label, ColumnType::Text), names: Vec::new() }
    }

    /// With a unit.
    #[must_use]
    pub fn of_unit(mut self, unit: &str) -> Self {
        unit.clone_into(&mut self.column.unit);
        self
    }

    /// Takes the names of an enumeration.
    pub fn names_from(&mut self, numbers: &Enum) {
        let name = numbers.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.column.enumeration = if name.is_empty() { self.column.name.clone() } else { name };
        let mask = u64::from(u32::MAX);
        self.names = numbers
            .iter()
            .filter_map(|member| {
                Some((member.value.cast_unsigned() & mask, member.name?.to_str()?.to_owned()))
            })
            .collect();
    }
}

/// `; the nearest name is …`, if one is near.
#[must_use]
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    let scored = names.map(|name| (strsim::damerau_levenshtein(word, name), name));
    match scored.min() {
        Some((distance, name)) if distance <= word.len() / 3 + 1 => format!(", the nearest name is {name}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::named::spec::Spec;

    #[test]
    fn a_pointer_is_a_place_in_memory_and_not_just_a_number() {
        let spec = Spec::parse("ur:c:realloc(old=arg1:ptr, size=arg2:u64) {ret=ptr}").expect("well formed");
        let args = spec.args.expect("two");
        let unit = |arg: &Arg, ty| Value::typed(arg, ty, Fetch::default(), true).column.unit;
        let units: Vec<String> = args.iter().map(|arg| unit(arg, arg.ty.expect("a type"))).collect();
        assert_eq!(units, ["address", ""]);
        assert_eq!(unit(&args[0], spec.ret), "address");
        let column = Value::typed(&args[0], Type::Address, Fetch::default(), true).column;
        assert_eq!(column.kind, ColumnType::Number { width: 8, signed: false });
    }
}

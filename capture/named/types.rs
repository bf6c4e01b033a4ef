//! The types that a user gives to values.

use super::parse::Cursor;
use super::spec::{Arg, Part, Type, Wrong};
use super::value::nearest;

const NAMES: [&str; 22] = [
    "u8",
    "u16",
    "u32",
    "u64",
    "i8",
    "i16",
    "i32",
    "i64",
    "be16",
    "be32",
    "bool",
    "ptr",
    "int",
    "long",
    "str",
    "ustr",
    "kstr",
    "bytes",
    "ubytes",
    "kbytes",
    "sockaddr",
    "usockaddr",
];
const EXPLAINED: &str = "a type is u8, u16, u32, u64, i8, i16, i32, i64, be16, be32, bool, ptr, str[N], bytes[N] or \
                         sockaddr; the last three with u or k before it for the process's memory or the kernel's";
/// Bytes of text where the user does not say how many.
const LENGTH: u16 = 128;
/// Most bytes of text.
const LONGEST: u16 = 256;

impl Arg {
    /// As it is recorded: a socket's address is several values.
    pub(super) fn parts(self) -> Vec<Self> {
        let Some(Type::Sockaddr(_, whose)) = self.ty else { return vec![self] };
        let part = |(part, suffix)| Self {
            label: format!("{}{suffix}", self.label),
            ty: Some(Type::Sockaddr(part, whose)),
            ..self.clone()
        };
        Part::ALL.into_iter().map(part).collect()
    }
}

impl Cursor<'_> {
    /// A type; bytes may be as many as a number among `args` says.
    pub(super) fn ty(&mut self, args: &[Arg]) -> Result<Type, Wrong> {
        let at = self.at;
        let word = self.identifier("a type")?;
        let ty = match word.as_str() {
            "u8" | "bool" => Type::Int(1, false, false),
            "u16" => Type::Int(2, false, false),
            "u32" => Type::Int(4, false, false),
            "u64" => Type::Int(8, false, false),
            "ptr" => Type::Address,
            "i8" => Type::Int(1, true, false),
            "i16" => Type::Int(2, true, false),
            "i32" | "int" => Type::Int(4, true, false),
            "i64" | "long" => Type::Int(8, true, false),
            "be16" => Type::Int(2, false, true),
            "be32" => Type::Int(4, false, true),
            "str" => Type::Text(self.length()?, None),
            "ustr" => Type::Text(self.length()?, Some(true)),
            "kstr" => Type::Text(self.length()?, Some(false)),
            "bytes" => self.bytes(args, None)?,
            "ubytes" => self.bytes(args, Some(true))?,
            "kbytes" => self.bytes(args, Some(false))?,
            "sockaddr" => Type::Sockaddr(Part::Address, None),
            "usockaddr" => Type::Sockaddr(Part::Address, Some(true)),
            "ksockaddr" => Type::Sockaddr(Part::Address, Some(false)),
            word => {
                let guess = nearest(word, NAMES.into_iter());
                let reason = format!("there is no type '{word}'{guess}: {EXPLAINED}");
                return Err(Wrong::new(self.text, at, reason));
            }
        };
        Ok(ty)
    }

    /// `[N]`, `[LABEL]` of a number before it, or both.
    fn bytes(&mut self, args: &[Arg], whose: Option<bool>) -> Result<Type, Wrong> {
        self.expect("[")?;
        let at = self.at;
        let counted = self.rest().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !counted {
            self.at -= 1;
            return Ok(Type::Bytes(self.length()?, None, whose));
        }
        let label = self.identifier("the label of a number before it")?;
        let number = |arg: &Arg| !arg.at_return && arg.ty.is_none_or(Type::is_number);
        let index = args.iter().position(|arg| arg.label == label && number(arg)).ok_or_else(|| {
            let reason = format!("'{label}' is no number among the arguments before this one");
            Wrong::new(self.text, at, reason)
        })?;
        let limit = if self.take(",") {
            self.spaces();
            self.up_to()?
        } else {
            LENGTH
        };
        self.expect("]")?;
        Ok(Type::Bytes(limit, Some(u8::try_from(index).expect("at most 8")), whose))
    }

    fn length(&mut self) -> Result<u16, Wrong> {
        if !self.take("[") {
            return Ok(LENGTH);
        }
        let length = self.up_to()?;
        self.expect("]")?;
        Ok(length)
    }

    fn up_to(&mut self) -> Result<u16, Wrong> {
        let at = self.at;
        let length = self.number()?;
        let length = u16::try_from(length).ok().filter(|length| (1..=LONGEST).contains(length));
        length.ok_or_else(|| Wrong::new(self.text, at, format!("at most {LONGEST} bytes are recorded")))
    }
}

#[cfg(test)]
mod tests {
    use crate::capture::named::spec::{Part, Spec, Type};

    fn types(args: &str) -> Vec<(String, Option<Type>)> {
        let spec = Spec::parse(&format!("u:c:f({args})")).unwrap_or_else(|wrong| panic!("{wrong}"));
        spec.args.expect("arguments").into_iter().map(|arg| (arg.label, arg.ty)).collect()
    }

    fn error(args: &str) -> String {
        Spec::parse(&format!("u:c:f({args})")).expect_err(args).to_string()
    }

    #[test]
    fn an_unknown_type_is_told_the_nearest() {
        assert!(error("arg1:u33").starts_with("there is no type 'u33', the nearest name is u32: "));
        for name in super::NAMES {
            let sized = if name.ends_with("bytes") { "[9]" } else { "" };
            assert!(Spec::parse(&format!("u:c:f(arg1:{name}{sized})")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_sockets_address_is_three_values() {
        let part = |label: &str, part| (label.to_owned(), Some(Type::Sockaddr(part, Some(true))));
        let all = [part("to", Part::Address), part("to_port", Part::Port), part("to_family", Part::Family)];
        assert_eq!(types("to=arg2:usockaddr"), all);
        assert_eq!(types("arg1, arg2, arg3, arg4, arg5, to=arg6:sockaddr").len(), 8);
        let many = error("arg1, arg2, arg3, arg4, arg5, arg6, to=arg6:sockaddr");
        assert!(many.contains("takes three") && many.ends_with('^'), "{many}");
        assert!(Spec::parse("ur:c:f {ret=sockaddr}").is_err());
    }

    #[test]
    fn bytes_are_counted_by_a_number_before_them() {
        let of = |limit, count| Some(Type::Bytes(limit, count, None));
        assert_eq!(types("arg1:bytes[7]")[0].1, of(7, None));
        assert_eq!(types("n=arg2, arg1:bytes[n]")[1].1, of(128, Some(0)));
        assert_eq!(types("a=arg3:sockaddr, n=arg2:u32, arg1:bytes[n, 9]")[4].1, of(9, Some(3)));
        assert!(error("arg1:bytes[n], n=arg2").contains("'n' is no number"));
        assert!(error("n=arg2:str, arg1:bytes[n]").contains("'n' is no number"));
        assert!(error("arg1:bytes[300]").contains("at most 256") && error("arg1:bytes").contains('['));
        assert_eq!(Spec::parse("ur:c:f {ret=bytes[4]}").map(|spec| spec.ret), Ok(Type::Bytes(4, None, None)));
    }
}

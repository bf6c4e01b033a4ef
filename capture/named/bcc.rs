//! The spellings of bcc's trace(8): `{p,r}:[LIBRARY]:FUNCTION[(SIGNATURE)] [(PREDICATE)] ["FORMAT", ARGUMENT, …]`.
//!
//! They mean what the project's own grammar ([`super::spec`]) says otherwise; those of argdist(8) are in [`super::argdist`].
//! The signature gives names and types to what is in the registers, the predicate is a condition, the format says the types
//! of arguments that do not say them themselves; for printing `analyze trace --print` takes one, so it can be another one
//! each time. `$retval` and `$latency` are columns of every call, and `$entry(x)` is what all arguments of calls are: as
//! the call got them.

use super::parse::{Cursor, NO_TEXT};
use super::spec::{ARGS, Arg, Kind, Spec, TESTS, Test, Type, Wrong};

/// What compares text there.
const STRCMP: &str = "STRCMP(";

/// A parameter: its name and type.
pub(super) type Parameter = (String, Type);

impl Cursor<'_> {
    /// `p::function` is the kernel's, `p:library:function` a user's.
    pub(super) fn kind_of_bcc(&mut self, calls: bool) -> Result<(Kind, bool), Wrong> {
        self.expect(":")?;
        Ok(if self.take(":") { (Kind::Function, calls) } else { (Kind::User, calls) })
    }

    /// What may follow a place in bcc's spelling, if it does.
    pub(super) fn of_bcc(&mut self, spec: &mut Spec) -> Result<(), Wrong> {
        let signature = self.signature();
        let mut tested = Vec::new();
        if self.take(":") {
            tested = self.of_argdist(spec, &signature)?;
        }
        self.spaces();
        if self.is_at_predicate() {
            tested = self.predicate(spec)?;
        }
        self.spaces();
        if self.take("\"") {
            self.format(spec, &signature)?;
        } else if spec.kind == Kind::User && !signature.is_empty() && spec.args.is_none() {
            let arg = |(name, ty): &Parameter| Arg { ty: Some(*ty), ..plain(name, self.at) };
            spec.args = Some(signature.iter().map(arg).map(|arg| arg.in_register(&signature)).collect());
        }
        // What is compared is recorded too, where the place does not declare all that it has.
        for arg in tested {
            let known = spec.args.iter().flatten().any(|other| other.label == arg.label);
            if !known && (spec.args.is_some() || spec.kind == Kind::User) {
                let arg = if spec.kind == Kind::User { arg.in_register(&signature) } else { arg };
                spec.args.get_or_insert_default().push(arg);
            }
        }
        Ok(())
    }

    /// `(char *name, int flags)`: what C declares, right behind the function; nothing if it is not that.
    fn signature(&mut self) -> Vec<Parameter> {
        if self.rest().starts_with("():") {
            self.at += 2;
        }
        let declared = self.rest().strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let Some((inside, _)) = declared else { return Vec::new() };
        let parameters: Option<Vec<Parameter>> = inside.split(',').map(parameter).collect();
        let parameters = parameters.unwrap_or_default();
        if !parameters.is_empty() {
            self.at += inside.len() + 2;
        }
        parameters
    }

    /// Arguments are not compared with anything.
    fn is_at_predicate(&self) -> bool {
        let inside = self.rest().strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let inside = inside.map(|(inside, _)| inside.replace("->", "")).unwrap_or_default();
        ["==", "!=", "<", ">", STRCMP].iter().any(|sign| inside.contains(sign))
    }

    /// `(retval == 0 && arg1 > 10)`: conditions, and what they are about besides what calls return and take.
    fn predicate(&mut self, spec: &mut Spec) -> Result<Vec<Arg>, Wrong> {
        self.expect("(")?;
        let tested = self.conditions(spec)?;
        self.expect(")")?;
        Ok(tested)
    }

    /// `retval == 0 && arg1 > 10`.
    pub(super) fn conditions(&mut self, spec: &mut Spec) -> Result<Vec<Arg>, Wrong> {
        let mut tested = Vec::new();
        loop {
            self.spaces();
            let at = self.at;
            if spec.tests.len() == TESTS {
                return Err(self.wrong(format!("a probe has at most {TESTS} conditions")));
            }
            if self.rest().trim_start_matches('!').starts_with(STRCMP) {
                return Err(self.wrong(format!(
                    "STRCMP is not supported: {NO_TEXT}, and record it by a format with %s"
                )));
            }
            self.take("$");
            let arg = self.argument(at)?.of_tracepoint();
            let label = match arg.label.as_str() {
                "retval" => "ret".to_owned(),
                label => label.to_owned(),
            };
            if !(spec.calls && ["ret", "latency"].contains(&label.as_str())) {
                tested.push(arg);
            }
            let (op, value) = (self.operator()?, self.number()?);
            spec.tests.push(Test { label, op, value, at });
            self.spaces();
            self.no_alternative()?;
            if !self.take("&&") {
                return Ok(tested);
            }
        }
    }

    /// `"format", argument, …`.
    fn format(&mut self, spec: &mut Spec, signature: &[Parameter]) -> Result<(), Wrong> {
        let start = self.at - 1;
        let format = self.while_(|c| c != '"');
        self.expect("\"")?;
        let mut types = conversions(format).into_iter();
        let mut args: Vec<Arg> = Vec::new();
        self.spaces();
        while self.take(",") {
            self.spaces();
            let at = self.at;
            let arg = self.printed(spec.calls, Self::argument)?;
            let none = || Wrong::new(self.text, at, "the format has no conversion for this argument");
            let ty = types.next().ok_or_else(none)?;
            spec.add(&mut args, (arg, ty), signature, self.text)?;
            self.spaces();
        }
        if types.next().is_some() {
            let reason = "the format has more conversions than there are arguments";
            return Err(Wrong::new(self.text, start, reason));
        }
        spec.args = Some(args);
        Ok(())
    }

    /// What is printed or counted: `$retval`, `$latency` and `$entry(x)` besides the usual arguments, which `read` reads.
    pub(super) fn printed(
        &mut self,
        calls: bool,
        read: fn(&mut Self, usize) -> Result<Arg, Wrong>,
    ) -> Result<Arg, Wrong> {
        let at = self.at;
        if !self.take("$") {
            return Ok(read(self, at)?.of_tracepoint());
        }
        if !calls {
            let reason = "only whole calls return and take time: use r: instead of p:";
            return Err(Wrong::new(self.text, at, reason));
        }
        if !self.take("entry") {
            return read(self, at);
        }
        self.expect("(")?;
        self.spaces();
        let arg = read(self, at)?;
        self.expect(")")?;
        Ok(arg)
    }
}

impl Spec {
    /// What is printed as this type: an argument, or what calls have anyway.
    pub(super) fn add(
        &mut self,
        args: &mut Vec<Arg>,
        (arg, ty): (Arg, Type),
        signature: &[Parameter],
        text: &str,
    ) -> Result<(), Wrong> {
        match arg.base.as_str() {
            "latency" if self.calls => {}
            "retval" if self.calls => self.ret = ty,
            _ if args.len() == ARGS => {
                return Err(Wrong::new(text, arg.at, format!("a probe records at most {ARGS} arguments")));
            }
            _ => args.push(arg.typed(self.kind, ty, signature)),
        }
        Ok(())
    }
}

impl Arg {
    /// `arg1` and so on: what is in the register, whatever its type.
    fn is_numbered(&self) -> bool {
        self.base.strip_prefix("arg").is_some_and(|number| number.parse::<u8>().is_ok())
    }

    /// bcc calls a tracepoint's field `args->field`.
    fn of_tracepoint(mut self) -> Self {
        if self.base == "args" && self.members.first().is_some_and(|member| member.arrow) {
            self.base = self.members.remove(0).name;
            if self.members.is_empty() {
                self.label.clone_from(&self.base);
            }
        }
        self
    }

    /// With the type that a format gives it. What has a type of its own keeps that, but a pointer to text is a number to the
    /// kernel.
    fn typed(self, kind: Kind, ty: Type, signature: &[Parameter]) -> Self {
        let text = matches!(ty, Type::Text(..)) && kind != Kind::Tracepoint;
        let declared = kind == Kind::User && signature.iter().any(|(name, _)| *name == self.base);
        let fitting = Some(ty).filter(|_| self.is_numbered() || text || declared);
        let arg = Self { ty: self.ty.or(fitting), ..self };
        if kind == Kind::User { arg.in_register(signature) } else { arg }
    }

    /// A parameter of a signature is in the register of its place.
    fn in_register(mut self, signature: &[Parameter]) -> Self {
        if let Some(index) = signature.iter().position(|(name, _)| *name == self.base) {
            self.ty = self.ty.or(Some(signature[index].1));
            self.base = format!("arg{}", index + 1);
        }
        self
    }
}

fn plain(name: &str, at: usize) -> Arg {
    let label = name.to_owned();
    Arg { base: label.clone(), label, offset: None, at_return: false, members: Vec::new(), ty: None, at }
}

/// `int flags`, `char *name`: a type and a name; nothing if it is not that.
fn parameter(text: &str) -> Option<Parameter> {
    let text = text.trim();
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (ty, name) = text.split_at(text.rfind(|c| !part_of_name(c))? + 1);
    let begins = ty.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let declares = begins && !name.is_empty() && ty.chars().all(|c| part_of_name(c) || c == ' ' || c == '*');
    declares.then(|| (name.to_owned(), type_of(ty)))
}

pub(super) fn type_of(text: &str) -> Type {
    let has = |word: &str| text.contains(word);
    let pointer = has("*");
    if pointer && has("char") {
        return Type::Text(128, None);
    }
    let signed = !(pointer
        || has("unsigned")
        || has("size_t") && !has("ssize_t")
        || has("uint")
        || text.starts_with('u'));
    let width = match () {
        () if pointer || has("long") || has("64") || has("size_t") => 8,
        () if has("short") || has("16") => 2,
        () if has("char") || has("bool") || has("8") => 1,
        () => 4,
    };
    Type::Int(width, signed, false)
}

/// The types that the conversions of a format of printf(3) stand for.
fn conversions(format: &str) -> Vec<Type> {
    let plain = format.replace("%%", "");
    let one = |text: &str| {
        let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || "-+ #.".contains(c));
        let (short, long) = (text.trim_start_matches(['l', 'h', 'z']), text.starts_with(['l', 'z']));
        let width = if long { 8 } else { 4 };
        match short.chars().next() {
            Some('s') => Type::Text(128, None),
            Some('d' | 'i') => Type::Int(width, true, false),
            Some('p') => Type::Address,
            Some('c') => Type::Int(1, false, false),
            _ => Type::Int(width, false, false),
        }
    };
    plain.split('%').skip(1).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_bcc_mean_the_same() {
        let of = |text: &str| Spec::parse(text).map(|spec| (spec.kind, spec.calls, spec.target.0));
        assert_eq!(of("p::do_nanosleep"), Ok((Kind::Function, false, "do_nanosleep".into())));
        assert_eq!(of("r::vfs_read"), Ok((Kind::Function, true, "vfs_read".into())));
        assert_eq!(of("p:c:malloc"), Ok((Kind::User, false, "c:malloc".into())));
        let args = |text: &str| {
            let spec = Spec::parse(text).expect("well formed");
            let args = spec.args.into_iter().flatten().map(|arg| (arg.label, arg.base, arg.ty));
            (args.collect::<Vec<_>>(), spec.ret)
        };
        let int = |width, signed| Type::Int(width, signed, false);
        let of = |name: &str, ty| (name.to_owned(), name.to_owned(), ty);
        let (list, _) = args("p:c:open \"%s mode %-5d%%, %llx\", arg1, arg2, arg3");
        let text = Some(Type::Text(128, None));
        assert_eq!(list, [of("arg1", text), of("arg2", Some(int(4, true))), of("arg3", Some(int(8, false)))]);
        assert_eq!(args("r:c:read \"%ld\", retval"), (vec![], int(8, true)));
        let (list, _) = args("t:sched:sched_switch \"%s to %d\", args->next_comm, args->next_pid");
        assert_eq!(list, [of("next_comm", None), of("next_pid", None)]);
        let wrong = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        assert!(wrong("p:c:open \"%d\", arg1, arg2").starts_with("the format has no conversion"));
        assert!(wrong("p:c:open \"%d %d\", arg1").starts_with("the format has more conversions"));
        assert!(wrong("p:c:open \"%d").contains("expected '\"'"));
    }

    #[test]
    fn signatures_predicates_and_what_calls_have_are_understood() {
        let spec = |text: &str| Spec::parse(text).unwrap_or_else(|wrong| panic!("{wrong}"));
        let args = |text: &str| {
            let args = spec(text).args.into_iter().flatten();
            args.map(|arg| (arg.label, arg.base, arg.ty)).collect::<Vec<_>>()
        };
        let arg = |label: &str, base: &str, ty| (label.to_owned(), base.to_owned(), Some(ty));
        let int = |width, signed| Type::Int(width, signed, false);
        let text = Type::Text(128, None);
        let opened = "p:c:open(char *filename, int flags) \"%s %x\", filename, flags";
        assert_eq!(args(opened), [arg("filename", "arg1", text), arg("flags", "arg2", int(4, false))]);
        let declared = [
            arg("buf", "arg1", int(8, false)),
            arg("n", "arg2", int(8, false)),
            arg("m", "arg3", int(2, true)),
        ];
        assert_eq!(args("p:c:f(void *buf, size_t n, short m)"), declared);
        assert_eq!(args("p:c:f(long a) (a > 5)"), [arg("a", "arg1", int(8, true))]);
        let tests = |text: &str| {
            let tests = spec(text).tests.into_iter();
            tests.map(|test| (test.label, test.op, test.value)).collect::<Vec<_>>()
        };
        let failed = "r:c:malloc (retval == 0 && $latency > 1ms) \"%x %d\", retval, $latency";
        assert_eq!(tests(failed), [("ret".to_owned(), 0, 0), ("latency".to_owned(), 4, 1_000_000)]);
        assert_eq!((args(failed), spec(failed).ret), (vec![], int(4, false)));
        let compared = "p:c:write (arg3 > 4096) \"%d\", arg1";
        assert_eq!(tests(compared), [("arg3".to_owned(), 4, 4096)]);
        assert_eq!(args(compared).len(), 2, "what is compared is recorded");
        assert_eq!(tests("p::vfs_read (count >= 10)"), [("count".to_owned(), 5, 10)]);
        assert!(spec("p::vfs_read (count >= 10)").args.is_none(), "the kernel's declare what they have");
        assert_eq!(tests("t:sched:sched_switch (args->prev_pid != 0)"), [("prev_pid".to_owned(), 1, 0)]);
        let entry = args("r:c:read \"%d %d\", $entry(arg3), $retval");
        assert_eq!(entry, [arg("arg3", "arg3", int(4, true))]);
        // Ours stay what they are.
        assert_eq!(args("ur:c:f(a=arg1:i64, *arg4:u64)").len(), 2);
    }

    #[test]
    fn what_only_calls_have_is_refused_elsewhere() {
        let wrong = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        assert!(wrong("p:c:open \"%d\", $retval").starts_with("only whole calls return"));
        assert!(wrong("p:c:f (a > )").starts_with("expected a number"));
    }

    #[test]
    fn what_conditions_cannot_say_is_named() {
        let wrong = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        let either = wrong("p::vfs_read (count > 9 || count == 0)");
        assert!(either.starts_with("|| is not supported") && either.contains("analyze --where"), "{either}");
        assert!(either.ends_with("\n                         ^"), "{either}");
        for text in [
            "p:c:open(char *name) (STRCMP(\"x\", name)) \"%s\", name",
            "r:c:gets():char*:$retval:!STRCMP(\"\", $retval)",
        ] {
            assert!(
                wrong(text).starts_with("STRCMP is not supported: text is not compared"),
                "{}",
                wrong(text)
            );
        }
    }
}

//! From a probe's text to a [`Spec`]: the grammar, read from left to right.

use super::spec::{ARGS, Arg, Member, Spec, Stacks, TESTS, Test, Type, Wrong};
use std::time::Duration;

const NO_OR: &str = "|| is not supported, since all conditions must hold: name a probe for each alternative, or record all and \
                     use `analyze --where \"a = 1 OR b = 2\"`";
/// What is said of text in conditions.
pub(super) const NO_TEXT: &str = "text is not compared in the kernel: use `analyze --where`";
const TOO_MANY: &str = "a probe records at most 8 arguments, of which a socket's address takes three";

impl Spec {
    /// Reads one probe.
    ///
    /// # Errors
    /// [`Wrong`], which points at the column.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let mut cursor = Cursor { text, at: 0 };
        let name = cursor.name_before_equals();
        let (kind, calls) = cursor.kind()?;
        let target = cursor.target()?;
        let mut spec = Self {
            text: text.to_owned(),
            name,
            kind,
            calls,
            target,
            args: None,
            tests: Vec::new(),
            threshold: 0,
            most: 0,
            ret: Type::Int(8, true, false),
            stacks: Stacks::default(),
            rate: None,
            sum: None,
        };
        cursor.of_bcc(&mut spec)?;
        cursor.spaces();
        if spec.args.is_none() && cursor.take("(") {
            spec.args = Some(cursor.arguments(calls)?);
        }
        cursor.spaces();
        if spec.tests.is_empty() && cursor.take("/") {
            spec.tests = cursor.tests()?;
        }
        cursor.spaces();
        if cursor.take("{") {
            cursor.options(&mut spec)?;
        }
        if spec.sum.is_some() {
            spec.args.get_or_insert_default(); // what all there is would be is too much to add up by
        }
        cursor.spaces();
        if !cursor.rest().is_empty() {
            return Err(cursor.wrong("expected (arguments), \"format\", /condition/, {options} or the end"));
        }
        Ok(spec)
    }
}

/// A place in the text, which moves on.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong::new(self.text, self.at, reason)
    }

    pub(super) fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    pub(super) fn take(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    pub(super) fn expect(&mut self, what: &str) -> Result<(), Wrong> {
        self.spaces();
        if self.take(what) { Ok(()) } else { Err(self.wrong(format!("expected '{what}'"))) }
    }

    pub(super) fn while_(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    pub(super) fn identifier(&mut self, what: &str) -> Result<String, Wrong> {
        self.spaces();
        let word = self.while_(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.is_empty() { Err(self.wrong(format!("expected {what}"))) } else { Ok(word.to_owned()) }
    }

    fn name_before_equals(&mut self) -> Option<String> {
        let (word, _) = self.rest().split_once('=')?;
        let plain =
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        plain.then(|| {
            self.at += word.len() + 1;
            word.to_owned()
        })
    }

    fn target(&mut self) -> Result<(String, usize), Wrong> {
        let at = self.at;
        let target = self.while_(|c| !c.is_whitespace() && c != '(' && c != '{');
        if target.is_empty() {
            return Err(self.wrong("expected the place: an event, or a function"));
        }
        Ok((target.to_owned(), at))
    }

    fn arguments(&mut self, calls: bool) -> Result<Vec<Arg>, Wrong> {
        let mut args: Vec<Arg> = Vec::new();
        self.spaces();
        if self.take(")") {
            return Ok(args);
        }
        loop {
            self.spaces();
            let at = self.at;
            let arg = self.argument_after(&args, at)?;
            if arg.at_return {
                self.check_at_return(&arg, calls)?;
            }
            for mut part in arg.parts() {
                if args.len() == ARGS {
                    return Err(Wrong::new(self.text, at, TOO_MANY));
                }
                while args.iter().any(|other| other.label == part.label) {
                    part.label.push('_');
                }
                args.push(part);
            }
            self.spaces();
            if self.take(")") {
                return Ok(args);
            }
            self.expect(",")?;
        }
    }

    pub(super) fn argument(&mut self, at: usize) -> Result<Arg, Wrong> {
        self.argument_after(&[], at)
    }

    /// An argument; the length of bytes may be one of those before it.
    fn argument_after(&mut self, args: &[Arg], at: usize) -> Result<Arg, Wrong> {
        let arg = self.untyped(at)?;
        let ty = if self.take(":") { Some(self.ty(args)?) } else { None };
        Ok(Arg { ty, ..arg })
    }

    /// An argument without what may follow it: a colon and its type.
    pub(super) fn untyped(&mut self, at: usize) -> Result<Arg, Wrong> {
        let mut at_return = self.take("*");
        let mut base = self.identifier("the name of an argument")?;
        self.spaces();
        let mut label = None;
        if !at_return && !self.rest().starts_with("==") && self.take("=") {
            self.spaces();
            at_return = self.take("*");
            label = Some(std::mem::replace(&mut base, self.identifier("the name of an argument")?));
        }
        let offset = if self.take("+") { Some(self.number()?) } else { None };
        let members = self.members()?;
        let label = label.unwrap_or_else(|| members.last().map_or_else(|| base.clone(), |m| m.name.clone()));
        Ok(Arg { label, base, offset, at_return, members, ty: None, at })
    }

    fn check_at_return(&self, arg: &Arg, calls: bool) -> Result<(), Wrong> {
        let reason = match arg.ty {
            _ if !calls => "only whole calls leave something: use fx:, kr: or ur:",
            Some(ty) if ty.is_number() => return Ok(()),
            _ => "say which number it points to, as in *arg4:u64",
        };
        Err(Wrong::new(self.text, arg.at, reason))
    }

    fn members(&mut self) -> Result<Vec<Member>, Wrong> {
        let mut members = Vec::new();
        loop {
            let at = self.at;
            let arrow = self.take("->");
            if !arrow && !self.take(".") {
                return Ok(members);
            }
            members.push(Member { arrow, name: self.identifier("a member's name")?, at });
        }
    }

    fn tests(&mut self) -> Result<Vec<Test>, Wrong> {
        let mut tests = Vec::new();
        loop {
            self.spaces();
            let at = self.at;
            if tests.len() == TESTS {
                return Err(self.wrong(format!("a probe has at most {TESTS} conditions")));
            }
            let label = self.identifier("the label of an argument, ret or latency")?;
            let (op, value) = (self.operator()?, self.number()?);
            tests.push(Test { label, op, value, at });
            self.spaces();
            if self.take("/") {
                return Ok(tests);
            }
            self.no_alternative()?;
            self.expect("&&")?;
        }
    }

    /// Of several conditions all must hold.
    pub(super) fn no_alternative(&self) -> Result<(), Wrong> {
        if self.rest().starts_with("||") { Err(self.wrong(NO_OR)) } else { Ok(()) }
    }

    pub(super) fn operator(&mut self) -> Result<u8, Wrong> {
        self.spaces();
        let operators = [("==", 0), ("!=", 1), ("<=", 3), (">=", 5), ("<", 2), (">", 4)];
        let found = operators.iter().find(|(sign, _)| self.rest().starts_with(sign));
        let (sign, op) = found.ok_or_else(|| self.wrong("expected ==, !=, <, <=, > or >="))?;
        self.at += sign.len();
        Ok(*op)
    }

    /// A number, decimal or hexadecimal, or a time, which is then ns.
    pub(super) fn number(&mut self) -> Result<i64, Wrong> {
        self.spaces();
        let at = self.at;
        if self.rest().starts_with(['"', '\'']) {
            return Err(self.wrong(NO_TEXT));
        }
        let negative = self.take("-");
        let word = self.while_(|c| c.is_ascii_alphanumeric() || c == '.');
        let value = match word.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => word.parse().ok().or_else(|| ns(word)),
        };
        let value =
            value.ok_or_else(|| Wrong::new(self.text, at, "expected a number, or a time as in 10ms"))?;
        Ok(if negative { -value } else { value })
    }
}

fn ns(word: &str) -> Option<i64> {
    let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let value: f64 = word[..digits].parse().ok()?;
    let unit = match &word[digits..] {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    i64::try_from(Duration::try_from_secs_f64(value * unit).ok()?.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Kind, Rate, Sum};
    use super::*;

    #[test]
    fn all_parts_are_read() {
        let text = "slow=fx:tcp_sendmsg(dport=sk->__sk_common.skc_dport:be16, size) /size > 0x10 && ret<0/ {thr=1.5ms}";
        let spec = Spec::parse(text).expect("well formed");
        assert_eq!((spec.name.as_deref(), spec.kind, spec.calls), (Some("slow"), Kind::Function, true));
        assert_eq!(spec.target, ("tcp_sendmsg".to_owned(), 8));
        let args = spec.args.expect("two");
        assert_eq!((args[0].label.as_str(), args[0].base.as_str()), ("dport", "sk"));
        let members: Vec<_> = args[0].members.iter().map(|m| (m.arrow, m.name.as_str())).collect();
        assert_eq!(members, [(true, "__sk_common"), (false, "skc_dport")]);
        assert_eq!((args[0].ty, args[1].label.as_str()), (Some(Type::Int(2, false, true)), "size"));
        let tests: Vec<_> = spec.tests.iter().map(|t| (t.label.as_str(), t.op, t.value)).collect();
        assert_eq!(tests, [("size", 4, 16), ("ret", 2, 0)]);
        assert_eq!(spec.threshold, 1_500_000);
        let spec = Spec::parse("t:a:b {kstack, max=100, ustack}").expect("well formed");
        assert_eq!(spec.most, 100);
        assert_eq!(spec.stacks, Stacks { kernel: true, user: true });
        let rate = |text: &str| Spec::parse(text).map(|spec| spec.rate);
        assert_eq!(rate("pe:cpu-clock {freq=99}"), Ok(Some(Rate::Frequency(99))));
        assert_eq!(rate("pe:page-faults {period=1}"), Ok(Some(Rate::Period(1))));
        let sum = |text: &str| Spec::parse(text).map(|spec| (spec.sum, spec.args.map(|args| args.len())));
        assert_eq!(sum("t:a:b"), Ok((None, None)));
        assert_eq!(sum("t:a:b {count}"), Ok((Some(Sum::Count), Some(0))));
        assert_eq!(sum("fx:f(a, b) {hist}"), Ok((Some(Sum::Hist("latency".into())), Some(2))));
        assert_eq!(sum("f:f(a, b) {hist=b}"), Ok((Some(Sum::Hist("b".into())), Some(2))));
    }

    #[test]
    fn a_path_may_hold_slashes_and_a_condition_follows_a_space() {
        let spec = Spec::parse("u:/usr/lib/libc.so.6:malloc(arg1:u64) /arg1 >= 4096/").expect("well formed");
        assert_eq!((spec.target.0.as_str(), spec.tests.len()), ("/usr/lib/libc.so.6:malloc", 1));
        let spec = Spec::parse("u:c:free(arg1+8:u32)").expect("well formed");
        assert_eq!(spec.args.expect("one")[0].offset, Some(8));
        let spec = Spec::parse("ur:ssl:SSL_read_ex(done=*arg4:u64, *arg3:i32)").expect("well formed");
        let args: Vec<_> =
            spec.args.iter().flatten().map(|arg| (arg.label.as_str(), arg.at_return)).collect();
        assert_eq!(args, [("done", true), ("arg3", true)]);
    }

    #[test]
    fn what_is_added_up_may_have_stacks_and_another_spelling() {
        let of = |text: &str| {
            let spec = Spec::parse(text).expect("well formed");
            (spec.sum, spec.stacks)
        };
        let stacks = Stacks { kernel: true, user: true };
        assert_eq!(of("u:c:x {count, ustack, kstack}"), (Some(Sum::Count), stacks));
        assert_eq!(of("ur:c:x {ret, lat, agg=hist}"), of("ur:c:x {hist}"));
        assert_eq!(of("u:c:x(n=arg1) {agg=hist=n}"), of("u:c:x(n=arg1) {hist=n}"));
        assert_eq!(of("u:c:x {agg=count}"), of("u:c:x {count}"));
    }

    #[test]
    fn an_error_points_at_its_column() {
        let of = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        assert!(of("sched_switch").ends_with("\n  sched_switch\n  ^"), "{}", of("sched_switch"));
        let text = "t:a:b(x:u7)";
        assert!(of(text).ends_with("\n  t:a:b(x:u7)\n          ^"), "{}", of(text));
        assert!(of("f:x(a,b,c,d,e,f,g,h,i)").starts_with("a probe records at most 8 arguments"));
        assert!(of("u:c:x(*arg1)").contains("only whole calls"), "{}", of("u:c:x(*arg1)"));
        assert!(of("f:x {thr=1ms}").contains("only whole calls have"));
        assert!(of("u:c:x {max=0}").starts_with("at least one"), "{}", of("u:c:x {max=0}"));
        assert!(of("u:c:x {freq=9}").starts_with("only perf events"), "{}", of("u:c:x {freq=9}"));
        assert!(of("pe:page-faults {period=0}").starts_with("a period is at least 1"));
        assert!(of("u:c:x {hist}").starts_with("hits have no latency"), "{}", of("u:c:x {hist}"));
        assert!(of("u:c:x(size=arg1) {hist=siz}").contains("there is size"));
        assert!(of("f:x(a, b) /a == 1 || b == 2/").starts_with("|| is not supported"));
        assert!(of("f:x(a:kstr) /a == \"b\"/").starts_with("text is not compared in the kernel"));
        assert!(of("u:c:x(a=arg1) {agg=sum}").starts_with("hits add up to agg=count"));
        assert!(of("u:c:x {lat}").contains("only whole calls have"));
        assert!(of("u:c:x {stack}").contains("the options are"), "{}", of("u:c:x {stack}"));
        assert!(of("f:x(a) /a ~ 1/").contains("expected =="));
    }
}

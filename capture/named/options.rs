//! What stands in braces behind a probe: how much of it is recorded, and how.

use super::parse::Cursor;
use super::spec::{Kind, Rate, Spec, Sum, Type, Wrong};
use super::value::nearest;

const NAMES: [&str; 11] =
    ["max", "thr", "ret", "lat", "period", "freq", "kstack", "ustack", "count", "hist", "agg"];
const EXPLAINED: &str = "the options are max=N, thr=TIME, ret=TYPE, period=N, freq=N, kstack, ustack, count and hist=LABEL (or agg=count, agg=hist=LABEL)";

impl Cursor<'_> {
    /// `max=N, kstack}`: up to the closing brace.
    pub(super) fn options(&mut self, spec: &mut Spec) -> Result<(), Wrong> {
        loop {
            self.spaces();
            let at = self.at;
            let option = self.identifier("an option")?;
            self.option(spec, &option, at)?;
            self.spaces();
            if self.take("}") {
                return Ok(());
            }
            self.expect(",")?;
        }
    }

    /// One of them, of which the word has been read.
    fn option(&mut self, spec: &mut Spec, option: &str, at: usize) -> Result<(), Wrong> {
        let wrong = |text: &str, reason: String| Err(Wrong::new(text, at, reason));
        match option {
            "thr" | "ret" | "lat" if !spec.calls => {
                return wrong(self.text, format!("only whole calls have '{option}': use fx:, kr: or ur:"));
            }
            "period" | "freq" if spec.kind != Kind::Perf => {
                return wrong(self.text, "only perf events (pe:) have a period or frequency".into());
            }
            "thr" => {
                self.expect("=")?;
                spec.threshold = self.number()?.cast_unsigned();
            }
            "ret" if self.take("=") => {
                spec.ret = self.ty(&[])?;
                if matches!(spec.ret, Type::Sockaddr(..)) {
                    return wrong(self.text, "a socket's address is recorded of arguments".into());
                }
            }
            "ret" | "lat" => {} // every call has both
            "agg" => spec.sum = Some(self.sum(spec)?),
            "max" => spec.most = self.positive("at least one each second")?,
            "period" => spec.rate = Some(Rate::Period(self.positive("a period is at least 1")?)),
            "freq" => {
                spec.rate = Some(Rate::Frequency(self.positive("a frequency is at least 1 in a second")?));
            }
            "kstack" => spec.stacks.kernel = true,
            "ustack" => spec.stacks.user = true,
            "count" => spec.sum = Some(Sum::Count),
            "hist" => spec.sum = Some(Sum::Hist(self.of_what(spec, at)?)),
            word => {
                let guess = nearest(word, NAMES.into_iter());
                return wrong(self.text, format!("there is no option '{word}'{guess}: {EXPLAINED}"));
            }
        }
        Ok(())
    }

    /// `=count` or `=hist`, as others spell it.
    fn sum(&mut self, spec: &Spec) -> Result<Sum, Wrong> {
        self.expect("=")?;
        let at = self.at;
        match self.identifier("count or hist")?.as_str() {
            "count" => Ok(Sum::Count),
            "hist" => Ok(Sum::Hist(self.of_what(spec, at)?)),
            _ => Err(Wrong::new(self.text, at, "hits add up to agg=count or agg=hist=LABEL")),
        }
    }

    /// `=N` of an option, which is not 0.
    fn positive(&mut self, otherwise: &str) -> Result<u64, Wrong> {
        self.expect("=")?;
        let at = self.at;
        let number = u64::try_from(self.number()?).ok().filter(|number| *number > 0);
        number.ok_or_else(|| Wrong::new(self.text, at, otherwise))
    }

    /// What `hist` is of: an argument, what a call returns, or how long it takes, which need not be said.
    fn of_what(&mut self, spec: &Spec, option: usize) -> Result<String, Wrong> {
        self.spaces();
        if !self.take("=") {
            let reason = "hits have no latency: say of which argument, as in hist=size";
            return if spec.calls {
                Ok("latency".into())
            } else {
                Err(Wrong::new(self.text, option, reason))
            };
        }
        let at = self.at;
        let label = self.identifier("the label of an argument, ret or latency")?;
        let args = || spec.args.iter().flatten().map(|arg| arg.label.as_str());
        let of_calls = || ["ret", "latency"].into_iter().filter(|_| spec.calls);
        if args().chain(of_calls()).any(|name| name == label) {
            return Ok(label);
        }
        let known: Vec<&str> = args().chain(of_calls()).collect();
        let reason = match known.as_slice() {
            [] => format!("there is no argument '{label}': name it in parentheses"),
            known => {
                let guess = nearest(&label, known.iter().copied());
                format!("there is no '{label}' here{guess}: there is {}", known.join(", "))
            }
        };
        Err(Wrong::new(self.text, at, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_told_the_nearest() {
        let of = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        let said = of("u:c:x {max=1, kstak}");
        assert!(said.starts_with("there is no option 'kstak', the nearest name is kstack: "), "{said}");
        assert!(said.ends_with("\n                ^"), "{said}");
        let said = of("u:c:x(size=arg1) {hist=siz}");
        assert!(
            said.starts_with("there is no 'siz' here, the nearest name is size: there is size"),
            "{said}"
        );
    }
}

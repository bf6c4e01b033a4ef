//! The spelling of bcc's argdist(8): `{p,r,t,u}:[LIBRARY]:FUNCTION(SIGNATURE):TYPE,…:EXPRESSION,…[:FILTER][#LABEL]`.
//!
//! The expressions are what is recorded, each as its type; `$retval`, `$latency` and `$entry(x)` are those of
//! [`super::bcc`]. Whether they are counted (`-C`) or make a histogram (`-H`) is asked of the recording: `analyze trace.bin
//! argdist`. Where single hits would be too many, `{count}` or `{hist=LABEL}` behind it adds them up in the kernel.

use super::bcc::{Parameter, type_of};
use super::parse::Cursor;
use super::spec::{Arg, Spec, Wrong};

impl Cursor<'_> {
    /// What follows the first colon behind a signature; returns what the filter is about.
    pub(super) fn of_argdist(&mut self, spec: &mut Spec, signature: &[Parameter]) -> Result<Vec<Arg>, Wrong> {
        let types = self.while_(|c| c != ':');
        self.expect(":")?;
        let (mut args, mut tested) = (Vec::new(), Vec::new());
        for (index, ty) in types.split(',').enumerate() {
            if index > 0 {
                self.expect(",")?;
            }
            self.spaces();
            let arg = self.printed(spec.calls, Self::untyped)?;
            spec.add(&mut args, (arg, type_of(ty.trim())), signature, self.text)?;
        }
        spec.args = Some(args);
        if self.take(":") {
            tested = self.conditions(spec)?;
        }
        if self.take("#") {
            spec.name = Some(self.identifier("a label")?);
        }
        Ok(tested)
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Type;
    use super::*;

    #[test]
    fn expressions_have_the_types_before_them() {
        let spec = |text: &str| Spec::parse(text).unwrap_or_else(|wrong| panic!("{wrong}"));
        let args = |text: &str| {
            let args = spec(text).args.into_iter().flatten();
            args.map(|arg| (arg.label, arg.base, arg.ty)).collect::<Vec<_>>()
        };
        let arg = |label: &str, base: &str, ty| (label.to_owned(), base.to_owned(), ty);
        let int = |width, signed| Some(Type::Int(width, signed, false));
        let sizes = "p:c:malloc(size_t size):size_t:size:size>16#sizes";
        assert_eq!(args(sizes), [arg("size", "arg1", int(8, false))]);
        let tests = |text: &str| {
            let tests = spec(text).tests.into_iter();
            tests.map(|test| (test.label, test.op, test.value)).collect::<Vec<_>>()
        };
        assert_eq!((tests(sizes), spec(sizes).name), (vec![("size".into(), 4, 16)], Some("sizes".into())));
        let two = "p:c:write(int fd, void *buf, size_t n):int,size_t:fd,n:fd==1 && n>9";
        assert_eq!(args(two), [arg("fd", "arg1", int(4, true)), arg("n", "arg3", int(8, false))]);
        assert_eq!(tests(two).len(), 2);
        let returned = "r:c:gets():char*:$retval:$retval!=0";
        assert_eq!((args(returned), spec(returned).ret), (vec![], Type::Text(128, None)));
        assert_eq!(tests(returned), [("ret".to_owned(), 1, 0)]);
        let kept = args("r:c:write(int fd):int,u64:$entry(fd),$latency");
        assert_eq!(kept, [arg("fd", "arg1", int(4, true))]);
        assert!(
            spec("p::vfs_read(struct file *file, char *buf, size_t count):u64:count {count}").sum.is_some()
        );
        assert_eq!(
            args("t:net:net_dev_start_xmit():u16:args->protocol"),
            [arg("protocol", "protocol", None)]
        );
    }

    #[test]
    fn what_does_not_fit_is_pointed_at() {
        let wrong = |text: &str| Spec::parse(text).expect_err("wrong").to_string();
        assert!(wrong("p:c:malloc(size_t size):size_t").contains("expected ':'"));
        assert!(wrong("p:c:f(int a, int b):int,int:a").contains("expected ','"));
        assert!(wrong("p:c:f(int a):int:$latency").starts_with("only whole calls return"));
    }
}

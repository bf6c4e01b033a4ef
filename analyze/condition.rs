//! Conditions that compare columns with constants and with each other, as most do: they are decided row by row on
//! the thread that decoded the rows. Whatever else SQL can say, and whatever is wrong in it, is left to polars.

use super::columns::Cells;
use super::input::Input;
use polars::prelude::{AnyValue, Expr, Operator};
use std::cmp::Ordering;

/// A condition on events.
pub(crate) enum Condition {
    Compare(Operand, fn(Ordering) -> bool, Operand),
    Not(Box<Self>),
    All(Box<[Self; 2]>),
    Any(Box<[Self; 2]>),
}

/// What is compared.
pub(crate) enum Operand {
    /// A column, by its position among those that are named.
    Cell(usize),
    Int(i64),
    Float(f64),
    Text(String),
}

/// What polars compares with each other; whole numbers become floats where the other is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
}

/// A value of a row.
#[derive(Clone, Copy)]
enum Found<'a> {
    Int(i64),
    Float(f64),
    Text(&'a str),
}

impl Condition {
    /// The condition on columns of these names, in their order, if it is one of this kind.
    pub fn of(expr: &Expr, named: &[Input]) -> Option<Self> {
        if let Expr::Function { input, .. } = expr
            && let [of] = &input[..]
            && *expr == of.clone().not()
        {
            return Some(Self::Not(Box::new(Self::of(of, named)?)));
        }
        let Expr::BinaryExpr { left, op, right } = expr else { return None };
        let both = || Some(Box::new([Self::of(left, named)?, Self::of(right, named)?]));
        let holds: fn(Ordering) -> bool = match op {
            Operator::And | Operator::LogicalAnd => return both().map(Self::All),
            Operator::Or | Operator::LogicalOr => return both().map(Self::Any),
            Operator::Eq => Ordering::is_eq,
            Operator::NotEq => Ordering::is_ne,
            Operator::Lt => Ordering::is_lt,
            Operator::LtEq => Ordering::is_le,
            Operator::Gt => Ordering::is_gt,
            Operator::GtEq => Ordering::is_ge,
            _ => return None,
        };
        let (left, right) = (Operand::of(left, named)?, Operand::of(right, named)?);
        (left.kind(named) == right.kind(named)).then_some(Self::Compare(left, holds, right))
    }

    /// Whether it holds in a row, by the cells of its columns; null is neither true nor false, as in SQL.
    pub fn holds(&self, cells: &[Cells], row: usize) -> Option<bool> {
        match self {
            Self::Compare(left, holds, right) => {
                Some(holds(left.value(cells, row)?.compare(right.value(cells, row)?)?))
            }
            Self::Not(of) => of.holds(cells, row).map(|holds| !holds),
            Self::All(both) => Self::unless(both, false, cells, row),
            Self::Any(both) => Self::unless(both, true, cells, row),
        }
    }

    /// What decides is `decisive` on either side; else both must be known.
    fn unless([left, right]: &[Self; 2], decisive: bool, cells: &[Cells], row: usize) -> Option<bool> {
        let left = left.holds(cells, row);
        if left == Some(decisive) {
            return left;
        }
        let right = right.holds(cells, row);
        if right == Some(decisive) { right } else { left.and(right) }
    }
}

impl Operand {
    fn of(expr: &Expr, named: &[Input]) -> Option<Self> {
        match expr {
            Expr::Column(name) => named.iter().position(|input| input.name == name.as_str()).map(Self::Cell),
            Expr::Literal(literal) => {
                let text = literal.extract_str().map(|text| Self::Text(text.to_owned()));
                let int = || literal.extract_i64().ok().map(Self::Int);
                let float = || literal.to_any_value().filter(AnyValue::is_float)?.extract().map(Self::Float);
                text.or_else(int).or_else(float)
            }
            _ => None,
        }
    }

    fn kind(&self, named: &[Input]) -> Kind {
        match self {
            Self::Cell(at) if named[*at].text => Kind::Text,
            Self::Text(_) => Kind::Text,
            Self::Cell(_) | Self::Int(_) | Self::Float(_) => Kind::Number,
        }
    }

    fn value<'a>(&'a self, cells: &'a [Cells], row: usize) -> Option<Found<'a>> {
        match self {
            Self::Cell(at) => match &cells[*at] {
                Cells::Int(values) => values[row].map(Found::Int),
                Cells::Float(values) => values[row].map(Found::Float),
                Cells::Text(values) => values[row].as_deref().map(Found::Text),
            },
            Self::Int(number) => Some(Found::Int(*number)),
            Self::Float(number) => Some(Found::Float(*number)),
            Self::Text(text) => Some(Found::Text(text)),
        }
    }
}

impl Found<'_> {
    fn compare(self, other: Self) -> Option<Ordering> {
        let float = |found| match found {
            Self::Int(number) => Some(number as f64),
            Self::Float(number) => Some(number),
            Self::Text(_) => None,
        };
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (a, b) => float(a)?.partial_cmp(&float(b)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::input::Inputs;
    use crate::analyze::mask;
    use crate::analyze::testkit::Tape;

    fn tape() -> Tape {
        let mut tape = Tape::new();
        tape.task(0, 7, 70, "redis")
            .task(0, 8, 80, "sshd")
            .sock(0, 1, 2, 4711, 6379)
            .sock(0, 2, 10, 4712, 443);
        for at in 0..200u64 {
            // Every tenth call is of a thread and a socket that nobody knows.
            let (tid, sock) = if at % 10 == 9 { (99, 99) } else { (7 + at % 2, 1 + at % 2) };
            tape.send(at * 1_000, tid, sock, at % 7 * 50, at as i32 % 60 - 11);
        }
        tape
    }

    fn is_simple(condition: &str) -> bool {
        let trace = tape().open();
        let expr = mask::parse("--where", condition).expect("it is SQL");
        let inputs = Inputs::of(&trace, trace.table("sock_send").expect("it is there"));
        let named: Vec<Input> =
            mask::names(&expr).iter().map(|name| inputs.find(name).expect("it is there").clone()).collect();
        Condition::of(&expr, &named).is_some()
    }

    #[test]
    fn rows_are_chosen_as_polars_chooses_them() {
        let chosen = |condition: &str| {
            let line = ["events", "--table", "sock_send", "--format", "csv", "--where", condition];
            let (exit, out, messages) = tape().run(&line);
            assert_eq!(exit, 0, "{condition}: {messages}");
            out
        };
        for condition in [
            "ret > 10",
            "ret <= -3",
            "ret < requested",
            "ret <> requested AND lport = 4711",
            "comm = 'redis'",
            "comm <> 'redis'",
            "comm > 'redis'",
            "family = 'IPv6' OR ret = 5",
            "lport = 4711 OR comm = 'sshd' OR ret < 0",
            "(lport = 4711 OR ret < 0) AND NOT_KNOWN",
            "latency_us >= 1.5",
            "latency_us < 2",
            "latency_us > -1.5",
            "ret > 1.5",
            "rport >= lport",
            "comm = raddr",
        ] {
            let condition = &condition.replace("NOT_KNOWN", "comm <> 'sshd'");
            assert!(is_simple(condition), "{condition}");
            let by_polars = format!("({condition}) AND TRUE");
            assert!(!is_simple(&by_polars));
            assert_eq!(chosen(condition), chosen(&by_polars), "{condition}");
        }
        assert!(chosen("ret > 10").lines().count() > 100, "there is something to choose");
    }

    #[test]
    fn what_is_more_than_comparisons_is_left_to_polars() {
        for condition in [
            "ret IN (1, 2)",
            "comm LIKE 'r%'",
            "ret IS NULL",
            "ret + 1 > 3",
            "comm = 3",
            "ret > 'a'",
            "1 = 1",
        ] {
            let simple = is_simple(condition);
            assert_eq!(simple, condition == "1 = 1", "{condition}");
        }
        let (exit, _, messages) = tape().run(&["tcpsend", "--where", "comm = 3"]);
        assert_eq!(exit, 2, "{messages}");
        assert_ne!(tape().run(&["tcpsend", "--where", "ret = [1, 2]"]).0, 0);
    }
}

//! The table of one named probe: a row for each hit, or what hits add up to.

use super::fetch::{FUNCTION, HEAD, LATENCY, Program, RET, STACKS, TID, sums};
use super::place::Place;
use super::probe::GROUP;
use super::spec::{Spec, Stacks, Sum};
use super::value::Value;
use crate::capture::layout::{Field, FieldKind, Layout};
use crate::capture::record::Own;
use crate::schema::{ColumnDef, ColumnType, Role, TableDef};

/// The table of a probe, by the name that it is to have.
pub(super) fn layout(spec: &Spec, place: &Place, name: &str) -> Layout {
    let mut layout = Layout {
        def: TableDef {
            number: 0,
            name: name.to_owned(),
            role: Role::Event,
            group: GROUP.into(),
            doc: spec.text.clone(),
            columns: Vec::new(),
        },
        size: 0,
        fields: Vec::new(),
        labels: Vec::new(),
        renewed: false,
        others: Vec::new(),
    };
    let program = &place.ways[0][0].program;
    match &spec.sum {
        None => layout.of_hits(spec, place, program),
        Some(sum) => layout.of_sums(spec, place, (sum, program)),
    }
    layout
}

/// Bytes of the key of what is added up: up to the sums.
pub(super) fn sum_key(program: &Program) -> usize {
    let Stacks { kernel, user } = program.stacks;
    sums::ARGS - sums::HEAD + 8 * (program.args.len() + usize::from(kernel) + usize::from(user))
}

fn number(name: &str, width: u8, signed: bool) -> ColumnDef {
    ColumnDef::new(name, ColumnType::Number { width, signed })
}

impl Layout {
    /// A row for each hit: `struct hit` of `bpf/named_fetch.bpf.h`.
    fn of_hits(&mut self, spec: &Spec, place: &Place, program: &Program) {
        self.size = program.record_size();
        self.moment("when the probe ran", "processor that ran the probe");
        self.task("tid", "thread that was running", TID);
        self.function(&place.functions, FUNCTION);
        if spec.calls {
            let doc = "from entry to return".into();
            let latency = number("latency", 8, false);
            self.column(ColumnDef { unit: "ns".into(), histogram: true, doc, ..latency }, LATENCY);
            self.ends_span("latency");
        }
        for (index, value) in place.values.iter().enumerate() {
            self.value(value, HEAD + 8 * index);
        }
        if let Some(ret) = &place.ret {
            self.column(ret.column.clone(), RET);
        }
        self.stacks(spec.stacks, STACKS);
    }

    /// A row for each process, function, outcome, power of two and combination of arguments, processor and interval.
    fn of_sums(&mut self, spec: &Spec, place: &Place, (sum, program): (&Sum, &Program)) {
        let first_sum = sums::HEAD + sum_key(program);
        self.size = first_sum + 24;
        self.moment("last moment of the interval", "processor that ran the probe");
        let since = ColumnDef { unit: "mono_ns".into(), ..number("since", 8, false) };
        self.column(ColumnDef { doc: "first moment of the interval".into(), ..since }, sums::SINCE);
        self.task("tgid", "process that was running", sums::TGID);
        self.function(&place.functions, sums::FUNCTION);
        let of = match sum {
            Sum::Hist(label) => Some(label.as_str()),
            Sum::Count => spec.calls.then_some("latency"),
        };
        for (index, value) in
            place.values.iter().enumerate().filter(|(_, value)| Some(&*value.column.name) != of)
        {
            self.value(value, sums::ARGS + 8 * index);
        }
        if spec.calls && !place.ret.as_ref().is_some_and(|ret| ret.fetch.is_text()) {
            let doc = "what calls returned: an error number, 0, or 1 for all that is more".into();
            self.column(ColumnDef { doc, ..number("ret", 2, true) }, sums::RET);
        }
        // What stands for a stack in the key gives way to the stack: see `capture/aggregate.rs`.
        let first = sums::ARGS + 8 * program.args.len();
        self.stacks(spec.stacks, [first, first + 8 * usize::from(spec.stacks.kernel)]);
        let count = |doc: &str| ColumnDef { doc: doc.into(), ..number("hits", 8, false) };
        self.column(count("hits, or calls that returned"), first_sum);
        let Some(of) = of else { return };
        let unit = if of == "latency" { "ns" } else { "" };
        if matches!(sum, Sum::Hist(_)) {
            let null = Some(sums::NO_SLOT.into());
            let doc = format!("power of two of {of}, rounded down; null: negative");
            self.column(ColumnDef { null, doc, ..number(&format!("{of}_log2"), 1, false) }, sums::SLOT);
        }
        for (place, (name, doc)) in
            [("sum", "what they add up to"), ("max", "the largest")].into_iter().enumerate()
        {
            let column = number(&format!("{of}_{name}"), 8, false);
            self.column(
                ColumnDef { unit: unit.into(), doc: doc.into(), ..column },
                first_sum + 8 * (place + 1),
            );
        }
    }

    /// What all events have: `EVENT` of `bpf/event.h`.
    fn moment(&mut self, ts: &str, cpu: &str) {
        self.column(ColumnDef { unit: "mono_ns".into(), doc: ts.into(), ..number("ts", 8, false) }, 0);
        self.column(ColumnDef { doc: cpu.into(), ..number("cpu", 2, false) }, 10);
    }

    fn task(&mut self, name: &str, doc: &str, offset: usize) {
        let (references, totals) = ("task".into(), crate::schema::top::ROWS.into());
        let doc = doc.into();
        self.column(ColumnDef { references, totals, doc, ..number(name, 4, false) }, offset);
    }

    /// Also where it is always the same, so that `--by function` is right for every probe: a constant costs nothing.
    fn function(&mut self, functions: &[String], offset: usize) {
        let enumeration = format!("{}.function", self.def.name);
        let labels = (0..).zip(functions).map(|(n, label)| (enumeration.clone(), n, label.clone()));
        self.labels.extend(labels);
        let doc = "what was hit".into();
        self.column(ColumnDef { enumeration, doc, ..number("function", 4, false) }, offset);
    }

    /// An argument, by a name that no other column has.
    fn value(&mut self, value: &Value, offset: usize) {
        let mut column = value.column.clone();
        while self.def.columns.iter().any(|other| other.name == column.name) {
            column.name.push('_');
        }
        let labels =
            value.names.iter().map(|(number, label)| (column.enumeration.clone(), *number, label.clone()));
        self.labels.extend(labels);
        self.column(column, offset);
    }

    fn stacks(&mut self, wanted: Stacks, places: [usize; 2]) {
        let stacks = [("kstack", wanted.kernel, "kernel stack"), ("ustack", wanted.user, "user stack")];
        for ((name, _, doc), offset) in stacks.into_iter().zip(places).filter(|(stack, _)| stack.1) {
            let column = number(name, 4, false);
            let references = Own::Stack.name().into();
            self.def.columns.push(ColumnDef { references, null: Some(0), doc: doc.into(), ..column });
            self.fields.push(Field { offset, kind: FieldKind::Stack });
        }
    }

    fn column(&mut self, column: ColumnDef, offset: usize) {
        let kind = match column.kind {
            ColumnType::Number { width, .. } => FieldKind::Number(width.into()),
            ColumnType::Text | ColumnType::Ip | ColumnType::Unknown(_) => FieldKind::Trailing,
        };
        self.fields.push(Field { offset, kind });
        self.def.columns.push(column);
    }
}

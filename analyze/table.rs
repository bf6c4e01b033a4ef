//! A result: typed columns with units. Every output format prints this and nothing else.

use super::error::Failure;
use super::rows::Value;
use anyhow::Result;
use polars::prelude::{
    AnyValue, Column, DataFrame, DataType, Int64Chunked, IntoColumn, IntoSeries as _, NamedFrom, PlSmallStr,
    Series,
};

/// How a column looks on paper; programs get the value as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Show {
    /// As it is.
    #[default]
    Plain,
    /// A count: marked `≥` where something was lost.
    Count,
    /// A number with so many decimals that is too small where something was lost: a rate.
    Decimal(usize),
    /// A number with so many decimals that losses do not make smaller: a duration.
    Measure(usize),
    /// A mean or a percentile with so many decimals: marked `≤` where only what took long was recorded.
    Typical(usize),
    /// Wall ns, as time of day with so many digits of a second's fraction.
    Time(usize),
    /// Only for programs.
    Hidden,
}

/// What a column is.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    /// The same in every format, unit included: `latency_us`.
    pub name: String,
    /// Unit, or empty.
    pub unit: String,
    /// On paper.
    pub show: Show,
    /// It tells rows apart.
    pub key: bool,
}

/// What a column of a report's result is; a report lists its own.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) show: Show,
    pub(crate) doc: &'static str,
}

impl Output {
    /// A column that is printed as it is.
    pub(crate) const fn new(name: &'static str, unit: &'static str, doc: &'static str) -> Self {
        Self { name, unit, show: Show::Plain, doc }
    }

    /// A number that is too small where events were lost.
    pub(crate) const fn count(name: &'static str, unit: &'static str, doc: &'static str) -> Self {
        Self { name, unit, show: Show::Count, doc }
    }

    /// A moment, down to the microsecond on paper.
    pub(crate) const fn moment(name: &'static str, doc: &'static str) -> Self {
        Self { name, unit: "ns", show: Show::Time(6), doc }
    }

    /// A duration or a percentile of them: no bound in either direction where events were lost.
    pub(crate) const fn measure(
        name: &'static str,
        unit: &'static str,
        digits: usize,
        doc: &'static str,
    ) -> Self {
        Self { name, unit, show: Show::Measure(digits), doc }
    }

    /// A mean or a percentile of durations: too large where only long ones were recorded.
    pub(crate) const fn typical(
        name: &'static str,
        unit: &'static str,
        digits: usize,
        doc: &'static str,
    ) -> Self {
        Self { name, unit, show: Show::Typical(digits), doc }
    }

    /// A number with a fraction that is too small where events were lost.
    pub(crate) const fn decimal(
        name: &'static str,
        unit: &'static str,
        digits: usize,
        doc: &'static str,
    ) -> Self {
        Self { name, unit, show: Show::Decimal(digits), doc }
    }
}

/// Name of the column that says which counts are lower bounds.
pub(crate) const LOWER_BOUND: &str = "lower_bound";
/// Name of the column that says which counts were scaled: see [`super::sampled`]. It is there if some were.
pub(crate) const APPROXIMATE: &str = "approximate";
/// Name of the column that says how long calls had to take to be in the figures, us. It is there if some were left out for that.
pub(crate) const ONLY_FROM: &str = "only_from_us";
/// Name of the column with the begin of the interval.
pub(crate) const TIME: &str = "time";

/// Typed columns and what they mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// One per column.
    pub headings: Vec<Heading>,
    /// The values.
    pub frame: DataFrame,
}

/// Collects the columns of a table.
#[derive(Default)]
pub(crate) struct Builder {
    headings: Vec<Heading>,
    columns: Vec<Column>,
    /// By how much the counts of each row are multiplied; empty: no row's are.
    factors: Vec<Option<f64>>,
}

impl Builder {
    /// A column of any kind.
    pub fn series(&mut self, heading: Heading, series: Series) -> &mut Self {
        self.columns.push(series.with_name(PlSmallStr::from_str(&heading.name)).into_column());
        self.headings.push(heading);
        self
    }

    /// A column that tells rows apart.
    pub fn key(
        &mut self,
        name: &str,
        unit: &str,
        text: bool,
        values: impl Iterator<Item = Value>,
    ) -> &mut Self {
        let heading = Heading { name: name.to_owned(), unit: unit.to_owned(), show: Show::Plain, key: true };
        self.series(heading, value_series(text, values))
    }

    /// The begin of intervals, wall ns.
    pub fn time(&mut self, digits: usize, values: impl Iterator<Item = i64>) -> &mut Self {
        let heading = Heading { name: TIME.into(), unit: "ns".into(), show: Show::Time(digits), key: true };
        self.series(heading, Int64Chunked::from_vec("".into(), values.collect()).into_series())
    }

    /// Moments of events, wall ns.
    pub fn moments(&mut self, output: &Output, values: impl Iterator<Item = Option<i64>>) -> &mut Self {
        self.series(output.into(), Series::new("".into(), values.collect::<Vec<_>>()))
    }

    /// Which rows are lower bounds.
    pub fn lower_bound(&mut self, values: impl Iterator<Item = bool>) -> &mut Self {
        let heading =
            Heading { name: LOWER_BOUND.into(), unit: String::new(), show: Show::Hidden, key: false };
        self.series(heading, Series::new("".into(), values.collect::<Vec<_>>()))
    }

    /// Which rows are of a span of which only a part was recorded, and by how much their counts grow.
    pub fn approximate(&mut self, factors: Vec<Option<f64>>) -> &mut Self {
        let heading =
            Heading { name: APPROXIMATE.into(), unit: String::new(), show: Show::Hidden, key: false };
        let scaled: Vec<bool> = factors.iter().map(Option::is_some).collect();
        self.factors = factors;
        self.series(heading, Series::new("".into(), scaled))
    }

    /// That in all of so many rows only calls of at least so many ns are counted.
    pub fn only_from(&mut self, rows: usize, ns: u64) -> &mut Self {
        let heading = Heading { name: ONLY_FROM.into(), unit: "us".into(), show: Show::Hidden, key: false };
        self.series(heading, Series::new("".into(), vec![ns as f64 / 1e3; rows]))
    }

    /// What the counts of a row are multiplied by.
    fn factor(&self, output: &Output, row: usize) -> f64 {
        let counted = matches!(output.show, Show::Count | Show::Decimal(_));
        self.factors.get(row).copied().flatten().filter(|_| counted).unwrap_or(1.0)
    }

    /// Whole numbers.
    pub fn ints(&mut self, output: &Output, values: impl Iterator<Item = Option<u64>>) -> &mut Self {
        let scaled = |(row, value): (usize, Option<u64>)| match self.factor(output, row) {
            1.0 => value,
            factor => value.map(|value| (value as f64 * factor).round() as u64),
        };
        let values: Vec<Option<u64>> = values.enumerate().map(scaled).collect();
        self.series(output.into(), Series::new("".into(), values))
    }

    /// Numbers with a fraction.
    pub fn floats(&mut self, output: &Output, values: impl Iterator<Item = Option<f64>>) -> &mut Self {
        let scaled = |(row, value): (usize, Option<f64>)| value.map(|value| value * self.factor(output, row));
        let values: Vec<Option<f64>> = values.enumerate().map(scaled).collect();
        self.series(output.into(), Series::new("".into(), values))
    }

    /// Text.
    pub fn texts(&mut self, output: &Output, values: impl Iterator<Item = Option<String>>) -> &mut Self {
        self.series(output.into(), Series::new("".into(), values.collect::<Vec<_>>()))
    }

    /// Names, ids or addresses that do not tell rows apart.
    pub fn values(&mut self, output: &Output, text: bool, values: impl Iterator<Item = Value>) -> &mut Self {
        self.series(output.into(), value_series(text, values))
    }

    /// The table, with all columns as long as the first.
    pub fn build(&mut self) -> Result<Table> {
        let height = self.columns.first().map_or(0, Column::len);
        let frame = DataFrame::new(height, std::mem::take(&mut self.columns))?;
        Ok(Table { headings: std::mem::take(&mut self.headings), frame })
    }
}

fn value_series(text: bool, values: impl Iterator<Item = Value>) -> Series {
    if text {
        let values: Vec<Value> = values.collect();
        let texts: Vec<Option<&str>> = values.iter().map(Value::as_text).collect();
        return Series::new("".into(), texts);
    }
    let of = |value| if let Value::Int(number) = value { Some(number) } else { None };
    Series::new("".into(), values.map(of).collect::<Vec<_>>())
}

impl From<&Output> for Heading {
    fn from(output: &Output) -> Self {
        Self { name: output.name.to_owned(), unit: output.unit.to_owned(), show: output.show, key: false }
    }
}

impl Table {
    /// Takes the columns for programs that another table of the same report has and this one has not: nothing of it is so.
    pub fn take_hidden(&mut self, other: &Self) -> Result<()> {
        for (at, heading) in other.headings.iter().enumerate() {
            if heading.show != Show::Hidden || self.headings.iter().any(|own| own.name == heading.name) {
                continue;
            }
            let (name, height) = (PlSmallStr::from_str(&heading.name), self.height());
            let none = match other.frame.columns()[at].dtype() {
                DataType::Boolean => Series::new(name, vec![false; height]),
                dtype => Series::full_null(name, height, dtype),
            };
            self.frame.insert_column(at, none.into_column())?;
            self.headings.insert(at, heading.clone());
        }
        Ok(())
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.frame.height()
    }

    /// The heading of a column by name.
    pub fn heading(&self, name: &str) -> Result<&Heading, Failure> {
        let names = || self.headings.iter().map(|heading| heading.name.as_str());
        self.headings.iter().find(|heading| heading.name == name).ok_or_else(|| {
            let near = super::error::nearest(name, names())
                .map_or(String::new(), |near| format!(": did you mean '{near}'?"));
            Failure::usage(format!("the result has no column '{name}'{near}"))
                .hint(format!("its columns are {}", names().collect::<Vec<_>>().join(", ")))
        })
    }

    /// A cell.
    pub fn cell(&self, column: usize, row: usize) -> AnyValue<'_> {
        self.frame.columns().get(column).and_then(|column| column.get(row).ok()).unwrap_or(AnyValue::Null)
    }
}

//! Columns that grow while rows are read. What each thread gathers is put together in the order of the file.

use polars::prelude::{
    Float64Chunked, Int64Chunked, IntoSeries as _, NamedFrom as _, NewChunkedArray as _, PlSmallStr, Series,
    StringChunked,
};

/// A column of a list in the making. It has no overhead per frame: a list may be of a million frames of one row each.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// Whole numbers.
    Ints(Vec<i64>, Known),
    /// Numbers with a fraction.
    Floats(Vec<f64>, Known),
    /// Texts end to end, and where each ends.
    Texts(String, Vec<usize>, Known),
}

/// Which rows have a value, once one has none; until then nothing.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<bool>);

impl Known {
    /// One more row, of `before` that were there.
    fn push(&mut self, known: bool, before: usize) {
        if !known && self.0.is_empty() {
            self.0.resize(before, true);
        }
        if !known || !self.0.is_empty() {
            self.0.push(known);
        }
    }

    /// `more` rows behind those `before`.
    fn append(&mut self, later: Self, before: usize, more: usize) {
        if self.0.is_empty() && later.0.is_empty() {
            return;
        }
        self.0.resize(before, true);
        self.0.extend(later.0);
        self.0.resize(before + more, true);
    }

    fn has(&self, row: usize) -> bool {
        self.0.get(row).is_none_or(|&known| known)
    }
}

impl Gathered {
    /// Of whole numbers.
    pub fn ints() -> Self {
        Self::Ints(Vec::new(), Known::default())
    }

    /// Room for so many rows more of numbers. Pages that are not used are none; what grows into new room is copied.
    pub fn reserve(&mut self, rows: usize) {
        match self {
            Self::Ints(values, _) => values.reserve(rows),
            Self::Floats(values, _) => values.reserve(rows),
            Self::Texts(..) => {}
        }
    }

    /// Of numbers with a fraction.
    pub fn floats() -> Self {
        Self::Floats(Vec::new(), Known::default())
    }

    /// Of text.
    pub fn texts() -> Self {
        Self::Texts(String::new(), Vec::new(), Known::default())
    }

    /// One more row of a column of whole numbers.
    pub fn int(&mut self, value: Option<i64>) {
        if let Self::Ints(values, known) = self {
            known.push(value.is_some(), values.len());
            values.push(value.unwrap_or(0));
        }
    }

    /// More rows of such a column; `none` among the values stands for no value.
    pub fn numbers(&mut self, more: &[i64], none: Option<i64>) {
        let lacks = |none: &i64| more.contains(none);
        match self {
            Self::Ints(values, known) if known.0.is_empty() && !none.as_ref().is_some_and(lacks) => {
                values.extend_from_slice(more);
            }
            _ => more.iter().for_each(|&value| self.int(Some(value).filter(|_| none != Some(value)))),
        }
    }

    /// The same of numbers with a fraction.
    pub fn float(&mut self, value: Option<f64>) {
        if let Self::Floats(values, known) = self {
            known.push(value.is_some(), values.len());
            values.push(value.unwrap_or(0.0));
        }
    }

    /// The same of text.
    pub fn text(&mut self, value: Option<&str>) {
        if let Self::Texts(all, ends, known) = self {
            known.push(value.is_some(), ends.len());
            all.push_str(value.unwrap_or(""));
            ends.push(all.len());
        }
    }

    /// What comes behind these rows, of a column of the same kind.
    pub fn append(&mut self, later: Self) {
        match (self, later) {
            (Self::Ints(values, known), Self::Ints(more, later)) => {
                known.append(later, values.len(), more.len());
                values.extend(more);
            }
            (Self::Floats(values, known), Self::Floats(more, later)) => {
                known.append(later, values.len(), more.len());
                values.extend(more);
            }
            (Self::Texts(all, ends, known), Self::Texts(more, its, later)) => {
                known.append(later, ends.len(), its.len());
                let begin = all.len();
                ends.extend(its.into_iter().map(|end| begin + end));
                all.push_str(&more);
            }
            _ => unreachable!("all threads gather the same columns"),
        }
    }

    /// The column; null where a row has no value.
    pub fn series(self) -> Series {
        match self {
            // Taken as they are, where a series of a slice would copy them.
            Self::Ints(values, Known(known)) if known.is_empty() => {
                Int64Chunked::from_vec(PlSmallStr::EMPTY, values).into_series()
            }
            Self::Floats(values, Known(known)) if known.is_empty() => {
                Float64Chunked::from_vec(PlSmallStr::EMPTY, values).into_series()
            }
            Self::Ints(values, Known(known)) => {
                let value = |(value, known): (i64, bool)| known.then_some(value);
                Series::new(PlSmallStr::EMPTY, values.into_iter().zip(known).map(value).collect::<Vec<_>>())
            }
            Self::Floats(values, Known(known)) => {
                let value = |(value, known): (f64, bool)| known.then_some(value);
                Series::new(PlSmallStr::EMPTY, values.into_iter().zip(known).map(value).collect::<Vec<_>>())
            }
            Self::Texts(all, ends, known) => {
                let begins = std::iter::once(0).chain(ends.iter().copied());
                let text =
                    |(row, (begin, &end)): (usize, (usize, &usize))| known.has(row).then(|| &all[begin..end]);
                let texts = begins.zip(&ends).enumerate().map(text);
                StringChunked::from_iter_options(PlSmallStr::EMPTY, texts).into_series()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_threads_gather_is_what_one_would(parts in prop::collection::vec(
            prop::collection::vec(prop::option::weighted(0.8, any::<i64>()), 0..5), 0..6)) {
            let columns = || [Gathered::ints(), Gathered::floats(), Gathered::texts()];
            let mut all = columns();
            for part in &parts {
                let [mut ints, mut floats, mut texts] = columns();
                // Column by column and row by row, where 7 stands for no value.
                let numbers: Vec<i64> = part.iter().map(|value| value.unwrap_or(7)).collect();
                let (mut strips, mut single) = (Gathered::ints(), Gathered::ints());
                for numbers in numbers.chunks(3) {
                    strips.numbers(numbers, Some(7));
                    for &number in numbers {
                        single.int(Some(number).filter(|&number| number != 7));
                    }
                }
                prop_assert_eq!(format!("{strips:?}"), format!("{single:?}"));
                for value in part {
                    ints.int(*value);
                    floats.float(value.map(|value| value as f64));
                    texts.text(value.map(|value| value.to_string()).as_deref());
                }
                all.iter_mut().zip([ints, floats, texts]).for_each(|(all, part)| all.append(part));
            }
            let values = parts.concat();
            let [ints, floats, texts] = all.map(Gathered::series);
            prop_assert_eq!(ints.i64().expect("numbers").iter().collect::<Vec<_>>(), values.clone());
            let expected: Vec<_> = values.iter().map(|value| value.map(|value| value as f64)).collect();
            prop_assert_eq!(floats.f64().expect("numbers").iter().collect::<Vec<_>>(), expected);
            let expected: Vec<_> = values.iter().map(|value| value.map(|value| value.to_string())).collect();
            let found: Vec<_> = texts.str().expect("text").iter().map(|text| text.map(str::to_owned)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

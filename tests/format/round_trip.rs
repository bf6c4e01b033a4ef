//! What is written comes back.

use super::content::open;
use super::made::{RUNS, Random, Run, column, host, kinds, number, table};
use proptest::prelude::*;
use tapedeck::schema::frame::MAX_PARTS;
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{Batch, Column, ColumnDef, ColumnType, FormatError, Kind, Text, TraceWriter};

fn any_columns() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    prop::collection::vec((0..kinds().len(), 0..RUNS.len(), any::<bool>()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_come_back(
        shape in any_columns(),
        rows in prop_oneof![1..40usize, 1490..1510usize, Just(4000usize)],
        seed in 1..u64::MAX,
        wanted in prop::collection::vec(0..14usize, 0..5),
    ) {
        let mut random = Random(seed);
        // Column 0 is a key that few rows share, 1 one that none does; both are hints to some of the others.
        let mut columns = vec![ColumnDef::new("few", number(4, false)), ColumnDef::new("any", number(4, false))];
        let mut values = vec![
            column(columns[0].kind, Run::Few, rows, &mut random),
            column(columns[1].kind, Run::Any, rows, &mut random),
        ];
        for (at, &(kind, run, keyed)) in shape.iter().enumerate() {
            let by = ["", "few", "any", "c0", "c1"][if keyed { random.below(5) as usize } else { 0 }];
            columns.push(ColumnDef { by: by.into(), ..ColumnDef::new(&format!("c{at}"), kinds()[kind]) });
            let absent = random.below(10) == 0;
            values.push(if absent { Column::Absent } else { column(kinds()[kind], RUNS[run], rows, &mut random) });
        }
        let batch = Batch { table: 0, stream: 3, rows, columns: values };
        let mut writer = TraceWriter::new(Vec::new(), 1, &host(), vec![table(0, "t", columns)]).expect("a Vec takes everything");
        for _ in 0..2 {
            writer.append(Kind::Events, 0, &batch).expect("a batch that fits");
        }
        let (bytes, length) = writer.finish("done").expect("a Vec takes everything");
        prop_assert_eq!(bytes.len() as u64, length);
        let reader = open(&bytes);
        prop_assert!(reader.damage.is_empty() && reader.missing().is_empty());
        for frame in reader.frames_of(0) {
            prop_assert_eq!(&reader.read(frame, None, &mut Scratch::new()).expect("undamaged"), &batch);
            let some = reader.read(frame, Some(&wanted), &mut Scratch::new()).expect("undamaged");
            for (index, column) in some.columns.iter().enumerate() {
                let expected = if wanted.contains(&index) { &batch.columns[index] } else { &Column::Absent };
                prop_assert_eq!(column, expected);
            }
        }
        prop_assert_eq!(reader.footer.expect("a clean end").totals[&0].rows, 2 * rows as u64);
    }
}

#[test]
fn a_batch_that_contradicts_its_definition_is_not_written() {
    let tables =
        vec![table(0, "t", vec![ColumnDef::new("a", number(4, false)), ColumnDef::new("b", ColumnType::Ip)])];
    let mut writer = TraceWriter::new(Vec::new(), 1, &host(), tables).expect("a Vec takes everything");
    let before = writer.bytes();
    let mut append =
        |table, rows, columns| writer.append(Kind::Events, 0, &Batch { table, stream: 0, rows, columns });
    let short = Column::Text(Text { lengths: vec![4], bytes: vec![127, 0, 0, 1] });
    for columns in [
        vec![Column::U32(vec![1])],
        vec![Column::U64(vec![1]), Column::Absent],
        vec![Column::U32(vec![1, 2]), Column::Absent],
        vec![Column::U32(vec![1]), short],
    ] {
        assert!(matches!(append(0, 1, columns), Err(FormatError::Batch(_))));
    }
    assert!(matches!(append(7, 1, Vec::new()), Err(FormatError::Batch(_))));
    let many = vec![1; 9 << 20];
    assert!(matches!(
        append(0, many.len(), vec![Column::U32(many), Column::Absent]),
        Err(FormatError::Batch(_))
    ));
    append(0, 1, vec![Column::U32(vec![1]), Column::Absent]).expect("a batch that fits");
    assert!(writer.bytes() > before);
    let columns = vec![ColumnDef::new("a", number(1, false)); MAX_PARTS + 1];
    assert!(TraceWriter::new(Vec::new(), 1, &host(), vec![table(0, "t", columns)]).is_err());
    assert!(TraceWriter::new(Vec::new(), 1, &host(), vec![table(1, "t", Vec::new())]).is_err());
}

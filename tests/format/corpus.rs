//! The committed inputs of the fuzz targets.

use super::content::{bounds, open};
use super::made::{Random, Run, column};
use super::targets;
use std::fs;
use std::path::Path;
use tapedeck::schema::frame::{RECORDER, TRAILER};
use tapedeck::schema::{Batch, Host, Kind, TraceWriter};

type Target = (&'static str, fn(&[u8]));

/// The committed inputs of the fuzz targets; `WRITE_CORPUS=1` writes anew those that are made from a trace.
#[test]
fn fuzz_corpus_is_harmless() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    if std::env::var_os("WRITE_CORPUS").is_some() {
        write_corpus(&corpus);
    }
    let runs: [Target; 3] =
        [("header", targets::header), ("payload", targets::payload), ("file", targets::file)];
    for (name, run) in runs {
        let entries: Vec<_> =
            fs::read_dir(corpus.join(name)).expect("the corpus is part of the sources").collect();
        assert!(!entries.is_empty(), "no input for {name}");
        for entry in entries {
            run(&fs::read(entry.expect("a folder entry").path()).expect("an input"));
        }
    }
}

fn write_corpus(corpus: &Path) {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(name), bytes))
            .expect("the folder is writable");
    };
    let bytes = corpus_trace();
    let reader = open(&bytes);
    put("file", "whole", &bytes);
    put("file", "cut", &bytes[..bytes.len() * 2 / 3]);
    for (at, (frame, pair)) in reader.frames.iter().zip(bounds(&reader).windows(2)).enumerate() {
        let header = &frame.header;
        let start = pair[0] + header.header_length();
        put("header", &format!("{at}"), &bytes[pair[0]..start]);
        let kind = match header.kind {
            Kind::Events => 0u8,
            Kind::Host => 2,
            Kind::Tables => 3,
            Kind::Footer => 4,
            _ => continue,
        };
        let mut start = start;
        for part in header.parts.iter().take(9) {
            let end = start + part.stored as usize;
            let message = zstd::bulk::decompress(&bytes[start..end], part.raw as usize).expect("undamaged");
            let input = [&[kind, header.table as u8], &header.rows.to_le_bytes()[..], &message].concat();
            if input.len() < 2500 {
                put("payload", &format!("{at}-{}", part.column), &input);
            }
            start = end;
        }
    }
    put("header", "trailer", &bytes[bytes.len() - TRAILER..]);
}

/// One small frame of each run, in the tables that the targets know, and one of split columns.
fn corpus_trace() -> Vec<u8> {
    let mut random = Random(99);
    let mut writer =
        TraceWriter::new(Vec::new(), 1, &Host::default(), targets::tables()).expect("a Vec takes everything");
    let def = writer.tables()[0].clone();
    let mut append = |stream, rows, run: Run, random: &mut Random| {
        let columns = def.columns.iter().map(|info| column(info.kind, run, rows, random)).collect();
        writer
            .append(Kind::Events, 0, &Batch { table: 0, stream, rows, columns })
            .expect("a batch that fits");
    };
    for (stream, run) in (0..).zip([Run::Few, Run::Rising, Run::Any]) {
        append(stream, 6, run, &mut random);
    }
    append(RECORDER, 1500, Run::Constant, &mut random);
    writer.finish("done").expect("a Vec takes everything").0
}

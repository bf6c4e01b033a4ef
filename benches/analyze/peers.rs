//! The same rows for others: Parquet in the order of time, compressed with zstd, and who reads it.

use anyhow::Context as _;
use polars::prelude::{
    Column as Series, DataFrame, IntoColumn as _, NamedFrom as _, Series as Values, SortMultipleOptions,
};
use polars_io::parquet::write::{ParquetCompression, ParquetWriter};
use std::path::{Path, PathBuf};
use std::process::Command;
use tapedeck::schema::reader::{Frame, Scratch};
use tapedeck::schema::{Column, TraceReader};

/// Rows of a row group: what both peers choose by default is near this.
const GROUP: usize = 1 << 18;

/// Writes the tables.
pub fn prepare(trace: &Path, folder: &Path) -> anyhow::Result<()> {
    let reader = TraceReader::open(trace)?;
    std::fs::write(folder.join("start"), reader.host.start_mono.to_string())?;
    let mut bytes = 0;
    for table in ["sock_send", "sock_recv", "tcp_rx"] {
        bytes += write(&reader, table, &folder.join(table).with_extension("parquet"))?;
    }
    bytes += sockets(&reader, &folder.join("sock.parquet"))?;
    let ours = reader.length();
    println!("trace {ours} bytes, Parquet {bytes}: {:.2}", ours as f64 / bytes as f64);
    Ok(())
}

/// The interpreter that has the peers, if there is one.
pub fn interpreter() -> Option<PathBuf> {
    let python = std::env::var_os("BENCH_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let known = Command::new(&python).args(["-c", "import duckdb, polars"]).output();
    let known = known.is_ok_and(|output| output.status.success());
    if !known {
        println!(
            "SKIPPED: duckdb and polars: {} has them not; make bench-analyze installs them",
            python.display()
        );
    }
    known.then_some(python)
}

/// The peer's process.
pub fn command(python: &Path, engine: &str, question: &str, folder: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/analyze/peers.py"));
    command.args([engine, question]).arg(folder).env("POLARS_MAX_THREADS", "2");
    command
}

fn series(name: &str, columns: &[&Column]) -> Option<Series> {
    fn all<'c, T: Copy + 'c>(columns: &[&'c Column], of: fn(&'c Column) -> &'c [T]) -> Vec<T> {
        columns.iter().flat_map(|column| of(column)).copied().collect()
    }
    let values = match columns.first()? {
        Column::U32(_) => Values::new(name.into(), all(columns, Column::u32s)),
        Column::U64(_) => Values::new(name.into(), all(columns, Column::u64s)),
        Column::U16(_) | Column::U8(_) => {
            let mut small = Vec::new();
            for column in columns {
                column.each_number(|value| small.push(value as u16));
            }
            Values::new(name.into(), small)
        }
        Column::Text(_) | Column::Absent => return None,
    };
    Some(values.into_column())
}

fn write(reader: &TraceReader, table: &str, path: &Path) -> anyhow::Result<u64> {
    let def = reader.table(table).with_context(|| format!("no table {table}"))?;
    let mut scratch = Scratch::new();
    let mut frame_of = |frames: &[&Frame]| -> anyhow::Result<DataFrame> {
        let batches: Result<Vec<_>, _> =
            frames.iter().map(|frame| reader.read(frame, None, &mut scratch)).collect();
        let batches = batches?;
        let rows = batches.iter().map(|batch| batch.rows).sum();
        let columns = def.columns.iter().enumerate().filter_map(|(at, column)| {
            let parts: Vec<&Column> = batches.iter().map(|batch| &batch.columns[at]).collect();
            series(&column.name, &parts)
        });
        Ok(DataFrame::new(rows, columns.collect())?)
    };
    let frames: Vec<&Frame> = reader.frames_of(def.number).collect();
    let first = frames.first().context("no rows")?.header.rows.max(1) as usize;
    let mut writer = None;
    for frames in frames.chunks((GROUP / first).max(1)) {
        let part = frame_of(frames)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(
                ParquetWriter::new(std::fs::File::create(path)?)
                    .with_compression(ParquetCompression::Zstd(None))
                    .batched(part.schema())?,
            ),
        };
        writer.write_batch(&part)?;
    }
    writer.context("no rows")?.finish()?;
    Ok(std::fs::metadata(path)?.len())
}

/// Each socket once, as it was last described, with all that the trace says of it. The peers join it.
fn sockets(reader: &TraceReader, path: &Path) -> anyhow::Result<u64> {
    let def = reader.table("sock").context("no table sock")?;
    let key = def.key().context("no key in table sock")?;
    let mut scratch = Scratch::new();
    let mut last = std::collections::BTreeMap::new();
    let frames: Vec<&Frame> = reader.frames_of(def.number).collect();
    for (at, frame) in frames.iter().enumerate() {
        let ids = reader.read(frame, Some(&[key]), &mut scratch)?;
        last.extend(ids.columns[key].u32s().iter().zip(0_u32..).map(|(&sock, row)| (sock, (at, row))));
    }
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); frames.len()];
    for (at, row) in last.into_values() {
        rows[at].push(row);
    }
    let mut parts: Vec<Vec<Column>> = vec![Vec::new(); def.columns.len()];
    for (frame, rows) in frames.iter().zip(rows) {
        let batch = reader.read(frame, None, &mut scratch)?;
        for (part, column) in parts.iter_mut().zip(batch.columns) {
            part.push(column.pick(&column.starts(), &rows));
        }
    }
    let mut columns = Vec::new();
    for (part, of) in parts.into_iter().zip(&def.columns) {
        let halves = [0, 8].map(|from| half(&part, from));
        columns.extend(series(&of.name, &part.iter().collect::<Vec<_>>()));
        for (half, name) in halves.iter().zip(["high", "low"]).filter(|(half, _)| !half.is_empty()) {
            columns.push(Values::new(format!("{}_{name}", of.name).into(), half).into_column());
        }
    }
    let mut frame = DataFrame::new(columns.first().map_or(0, Series::len), columns)?;
    frame.sort_in_place(["sock"], SortMultipleOptions::default())?;
    ParquetWriter::new(std::fs::File::create(path)?)
        .with_compression(ParquetCompression::Zstd(None))
        .finish(&mut frame)?;
    Ok(std::fs::metadata(path)?.len())
}

/// Eight bytes of each address, as a number: peers have no type for all sixteen.
fn half(parts: &[Column], from: usize) -> Vec<u64> {
    let texts = parts.iter().filter_map(Column::text).flat_map(tapedeck::schema::Text::iter);
    let eight =
        |bytes: &[u8]| bytes.get(from..from + 8).map_or([0; 8], |eight| eight.try_into().expect("eight"));
    texts.map(|bytes| u64::from_be_bytes(eight(bytes))).collect()
}

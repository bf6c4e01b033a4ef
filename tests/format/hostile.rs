//! Files that were made to do harm, and those that are no traces.

use super::content::{bounds, content, open};
use super::made::{host, trace};
use tapedeck::schema::frame::{FrameHeader, MAX_MESSAGE, Part, TRAILER};
use tapedeck::schema::reader::Scratch;
use tapedeck::schema::{FormatError, Host, Kind, TraceReader, TraceWriter};

fn with_part(stored: u32, raw: u32, rows: u32) -> FrameHeader {
    let parts = vec![Part { column: u16::MAX, stored, raw }];
    let (table, stream, epoch, sequence) = (0, 7, 0, 0);
    let (min_time, max_time, rows_before) = (0, 0, 0);
    let kind = Kind::Events;
    FrameHeader { kind, table, stream, rows, epoch, sequence, min_time, max_time, rows_before, parts }
}

#[test]
fn oversized_lengths_are_refused() {
    for header in [
        with_part(u32::MAX, 8, 1),
        with_part(8, MAX_MESSAGE + 1, 1),
        with_part(8, 8, u32::MAX),
        FrameHeader {
            parts: vec![Part { column: 0, stored: 0, raw: MAX_MESSAGE / 2 }; 3],
            ..with_part(0, 0, 1)
        },
    ] {
        assert!(FrameHeader::parse(&header.to_bytes(), 0).is_err(), "{header:?}");
    }
}

#[test]
fn a_bomb_does_not_go_off() {
    let before = trace(7, 2, 12);
    let zeros = zstd::bulk::compress(&vec![0; MAX_MESSAGE as usize], 1).expect("zstd takes everything");
    let stored = u32::try_from(zeros.len()).expect("zeros are small");
    for raw in [64, MAX_MESSAGE] {
        let bomb = [&with_part(stored, raw, 1).to_bytes()[..], &zeros].concat();
        let cut = bounds(&open(&before))[3];
        let reader = open(&[&before[..cut], &bomb].concat());
        let frame = reader.frames.last().expect("the bomb");
        assert!(reader.read(frame, None, &mut Scratch::new()).is_err());
    }
}

/// Each is 16 bytes and costs a look, so time must not grow with the square of their number.
#[test]
fn a_file_of_false_headers_opens_in_time() {
    let header = &with_part(8, 8, 1).to_bytes()[..16];
    let bytes = [trace(8, 1, 2), header.repeat(1 << 16)].concat();
    let start = std::time::Instant::now();
    assert_eq!(open(&bytes).damage.len(), 1);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_trace_for_newer_readers_is_refused() {
    let host = Host { required_reader: 2, ..host() };
    let writer = TraceWriter::new(Vec::new(), 1, &host, Vec::new()).expect("a Vec takes everything");
    let bytes = writer.finish("done").expect("a Vec takes everything").0;
    let error = TraceReader::from_bytes(bytes).expect_err("a newer format");
    assert!(matches!(error, FormatError::TooNew { required: 2, supported: 1 }), "{error}");
}

#[test]
fn unknown_kinds_are_skipped() {
    let bytes = trace(9, 7, 12);
    let (whole, _) = content(&open(&bytes));
    let unknown = FrameHeader { kind: Kind::Unknown(200), ..with_part(5, 9, 1) };
    let at = bounds(&open(&bytes))[4];
    let mixed = [&bytes[..at], &unknown.to_bytes(), b"12345", &bytes[at..]].concat();
    let reader = open(&mixed);
    // The trailer points at the footer, which the insertion moved: that is reported, and nothing else.
    assert_eq!(content(&reader), (whole, 1));
    assert_eq!(reader.damage[0].offset, (mixed.len() - TRAILER) as u64);
}

#[test]
fn what_is_no_trace_is_refused() {
    for bytes in [&b""[..], b"tapedeck", &[0; 5000], b"\x28\xb5\x2f\xfd\x00\x00\x00\x00"] {
        assert!(matches!(TraceReader::from_bytes(bytes.to_vec()), Err(FormatError::NotATrace { .. })));
    }
}

//! Files that were cut, changed or mixed up.

use super::content::{Content, assert_true_or_reported, bounds, content, open};
use super::made::trace;
use tapedeck::schema::{FormatError, TraceReader};

#[test]
fn a_file_cut_at_any_byte_yields_every_complete_frame() {
    let bytes = trace(1, 7, 12);
    let (whole, wrong) = content(&open(&bytes));
    assert_eq!(wrong, 0);
    let reader = open(&bytes);
    let bounds = bounds(&reader);
    for cut in 0..bytes.len() {
        assert_true_or_reported_when_cut(&whole, &bytes[..cut], &bounds);
        let complete = bounds[1..].iter().filter(|&&end| end <= cut).count();
        match TraceReader::from_bytes(bytes[..cut].to_vec()) {
            Ok(found) => assert_eq!(found.frames, reader.frames[..complete], "cut at {cut}"),
            Err(FormatError::NotATrace { .. }) => assert_eq!(complete, 0, "cut at {cut}"),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
}

/// A cut between two frames leaves no trace but the missing footer.
fn assert_true_or_reported_when_cut(whole: &Content, bytes: &[u8], bounds: &[usize]) {
    let Ok(reader) = TraceReader::from_bytes(bytes.to_vec()) else { return };
    let (found, wrong) = content(&reader);
    assert!(found.batches.iter().all(|(place, batch)| whole.batches.get(place) == Some(batch)));
    assert_eq!(wrong == 0, bounds.contains(&bytes.len()), "cut at {}", bytes.len());
    let before_footer = bytes.len() < bounds[bounds.len() - 1];
    assert_eq!(found.footer.is_none(), before_footer, "cut at {}", bytes.len());
}

#[test]
fn no_changed_byte_changes_what_is_read() {
    let bytes = trace(2, 7, 12);
    let (whole, _) = content(&open(&bytes));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert_true_or_reported(&whole, &changed, &format!("byte {at} of {} ^ {flip:#04x}", bytes.len()));
        }
    }
}

#[test]
fn frames_twice_or_out_of_order_or_gone_are_reported() {
    let bytes = trace(3, 7, 12);
    let reader = open(&bytes);
    let (whole, _) = content(&reader);
    let bounds = bounds(&reader);
    let frames: Vec<&[u8]> = bounds.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
    let end = &bytes[bounds[bounds.len() - 1]..];
    let joined = |frames: &[&[u8]]| [&frames.concat(), end].concat();
    for at in 0..frames.len() {
        for to in 0..frames.len() {
            let mut moved = frames.clone();
            moved.swap(at, to);
            assert_true_or_reported(&whole, &joined(&moved), &format!("frames {at} and {to} swapped"));
            let mut twice = frames.clone();
            twice.insert(to, frames[at]);
            assert_true_or_reported(&whole, &joined(&twice), &format!("frame {at} again before {to}"));
        }
        let mut without = frames.clone();
        without.remove(at);
        assert_true_or_reported(&whole, &joined(&without), &format!("without frame {at}"));
    }
}

/// How many rows are gone is known from the footer even where no later frame of the stream tells.
#[test]
fn the_last_frame_of_a_table_is_missed() {
    let bytes = trace(3, 7, 12);
    let reader = open(&bytes);
    let bounds = bounds(&reader);
    let last = reader.frames.iter().rposition(|frame| frame.header.kind.has_rows()).expect("there are rows");
    let without = [&bytes[..bounds[last]], &bytes[bounds[last + 1]..]].concat();
    let missing = open(&without).missing();
    let header = &reader.frames[last].header;
    let rows: u64 = missing.iter().filter(|one| one.table == Some(header.table)).map(|one| one.rows).sum();
    assert_eq!(rows, u64::from(header.rows), "{missing:?}");
}

#[test]
fn a_hole_costs_the_frames_that_it_touches_and_no_others() {
    let bytes = trace(4, 60, 300);
    let reader = open(&bytes);
    let (whole, _) = content(&reader);
    let bounds = bounds(&reader);
    for start in (bounds[2]..bytes.len() - 8192).step_by(1777) {
        let mut holed = bytes.clone();
        holed[start..start + 4096].fill(0);
        assert_true_or_reported(&whole, &holed, &format!("hole at {start}"));
        let found = content(&open(&holed)).0.batches;
        for (frame, pair) in reader.frames.iter().zip(bounds.windows(2)) {
            let key = (frame.header.stream, frame.header.sequence);
            let found = found.contains_key(&key);
            let payload = pair[0] + frame.header.header_length();
            let touched = |from| from < start + 4096 && start < pair[1];
            if frame.header.kind.has_rows() && !touched(pair[0]) {
                assert!(found, "hole at {start}: {:?}", frame.header);
            } else if touched(payload) {
                assert!(!found, "hole at {start}: {:?}", frame.header);
            } // else only its header is gone, and the index, if that is whole, has a copy
        }
    }
}

#[test]
fn a_lost_header_costs_nothing_where_the_index_is_whole_and_check_finds_it() {
    let bytes = trace(4, 20, 100);
    let reader = open(&bytes);
    let (whole, _) = content(&reader);
    for frame in reader.frames.iter().filter(|frame| frame.header.kind.has_rows()) {
        let mut without = bytes.clone();
        without[frame.offset as usize..][..frame.header.header_length()].fill(0);
        let again = open(&without);
        assert_eq!(content(&again).0.batches, whole.batches);
        assert!(again.verify_header(frame).is_err() && reader.verify_header(frame).is_ok());
    }
}

#[test]
fn a_file_that_lost_a_piece_yields_what_is_behind_it() {
    let bytes = trace(4, 60, 300);
    let bounds = bounds(&open(&bytes));
    let (whole, _) = content(&open(&bytes));
    let (from, to) = (bounds[40] + 200, bounds[40] + 250);
    let shorter = [&bytes[..from], &bytes[to..]].concat();
    assert_true_or_reported(&whole, &shorter, "a piece is lost");
    assert!(content(&open(&shorter)).0.batches.len() >= whole.batches.len() - 2);
    // The frame that lost its end claims to reach past the end of the file; what is there is still found.
    let footer = open(&bytes).frames.len() - 1;
    let shorter = [&bytes[..bounds[40] + 200], &bytes[bounds[footer]..]].concat();
    assert!(bounds[41] > shorter.len());
    assert_eq!(content(&open(&shorter)).0.footer, whole.footer);
}

/// One file is one trace: the second of two has other tables and ids.
#[test]
fn a_trace_behind_another_is_left_alone() {
    let (first, second) = (trace(5, 7, 12), trace(6, 40, 12));
    let (whole, _) = content(&open(&first));
    let reader = open(&[&first[..], &second].concat());
    let (found, wrong) = content(&reader);
    assert_eq!((found, wrong), (whole, 1));
    assert_eq!((reader.damage[0].offset, reader.damage[0].length), (first.len() as u64, second.len() as u64));
    let cut = &first[..bounds(&open(&first))[5]];
    let (found, wrong) = content(&open(&[cut, &second].concat()));
    assert_eq!((found, wrong), (content(&open(cut)).0, 1));
}

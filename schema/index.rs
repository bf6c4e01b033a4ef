//! What is in a cleanly ended file, without going from frame to frame: the checkpoints have copies of all headers.
//!
//! From the trailer to the footer, from there to the last checkpoint, and on to the one before: some hundred frames of a
//! file with tens of thousands. The headers must be of frames that follow each other without a gap from the first byte
//! to the trailer. Else (an older file, a damaged one, one that was written by somebody else) the reader walks from
//! header to header as if there were no index. A header that is damaged in its own place costs nothing here;
//! [`TraceReader::verify_header`] finds it.

use super::error::Result;
use super::frame::{self, FrameHeader, Kind};
use super::reader::{Frame, Scratch, TraceReader};
use super::singles::{read_checkpoint, read_last_checkpoint};
use super::walk::Order;

impl TraceReader {
    /// Finds the frames by the index; false: there is none that can be relied on, and nothing has changed.
    pub(super) fn take_index(&mut self) -> Result<bool> {
        let Some(frames) = self.indexed()? else { return Ok(false) };
        let mut order = Order::default();
        let follow = |next: u64, frame: &Frame| (frame.offset == next).then(|| next + frame.header.length());
        let end = frames.iter().try_fold(0, follow);
        let whole = end.is_some_and(|end| end + frame::TRAILER as u64 == self.source.length());
        if !whole || !frames.iter().all(|frame| order.is_next(&frame.header)) {
            return Ok(false);
        }
        (self.frames, self.order, self.walked) = (frames, order, self.source.length());
        self.indexed = true;
        Ok(true)
    }

    /// The frames that the index lists, and those that stand behind it: the last checkpoint and the footer.
    fn indexed(&self) -> Result<Option<Vec<Frame>>> {
        let mut scratch = Scratch::new();
        let Some(footer) = self.footer_frame()? else { return Ok(None) };
        let Some(mut at) = self.single_at(&mut scratch, &footer, read_last_checkpoint)? else {
            return Ok(None);
        };
        let mut before = footer.offset;
        let mut frames = vec![footer];
        while at > 0 {
            // Each stands before the one that names it, so this ends.
            let Some(checkpoint) = self.frame_at(at, Kind::Checkpoint)?.filter(|_| at < before) else {
                return Ok(None);
            };
            let Some(part) = self.single_at(&mut scratch, &checkpoint, read_checkpoint)? else {
                return Ok(None);
            };
            if frames.len() == 1 {
                frames.push(checkpoint); // the others are in the index after them
            }
            let Some(listed) = part.frames else { return Ok(None) };
            frames.extend(listed.into_iter().rev());
            (before, at) = (at, part.previous);
        }
        frames.reverse();
        Ok(Some(frames))
    }

    fn footer_frame(&self) -> Result<Option<Frame>> {
        let Some(end) = self.source.length().checked_sub(frame::TRAILER as u64) else { return Ok(None) };
        let mut bytes = [0; frame::TRAILER];
        let length = self.source.read(end, &mut bytes).map_err(super::FormatError::io("read the trace"))?;
        let Some(offset) = frame::footer_offset(&bytes[..length]) else { return Ok(None) };
        let footer = self.frame_at(offset, Kind::Footer)?;
        Ok(footer.filter(|footer| footer.offset + footer.header.length() == end))
    }

    fn frame_at(&self, offset: u64, kind: Kind) -> Result<Option<Frame>> {
        let header = self.header_at(offset)?.ok().filter(|header| header.kind == kind);
        Ok(header.map(|header| Frame { offset, header }))
    }

    /// A frame of which only the index is known must not be another one that came into its place. Where no header
    /// is there, the index knows what is, and the checksum of the rows decides.
    pub(super) fn is_not_another(&self, frame: &Frame) -> Result<()> {
        match self.indexed.then(|| self.verify_header(frame)) {
            Some(Err(error @ super::FormatError::Damaged { .. }))
                if self.header_at(frame.offset)?.is_ok() =>
            {
                Err(error)
            }
            Some(Err(error @ super::FormatError::Io { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the header of a frame is in its own place what it is here.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub fn verify_header(&self, frame: &Frame) -> Result<()> {
        let damaged = |what| super::FormatError::Damaged { offset: frame.offset, what };
        match self.header_at(frame.offset)? {
            Ok(header) if is_same(&header, &frame.header) => Ok(()),
            Ok(_) => Err(damaged("another frame header than the index says".into())),
            Err(what) => Err(damaged(what)),
        }
    }
}

/// Files of a set go on counting where the one before ended, so those numbers differ there.
fn is_same(there: &FrameHeader, here: &FrameHeader) -> bool {
    *there == FrameHeader { sequence: there.sequence, rows_before: there.rows_before, ..here.clone() }
}

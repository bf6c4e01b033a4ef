//! Memory to decode frames into, kept from table to table: to set up a decompressor and to touch fresh memory costs as
//! much as some tables do.

use crate::schema::reader::Scratch;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// What nobody uses at the moment.
#[derive(Default)]
pub(crate) struct Scratches(Mutex<Vec<Scratch>>);

/// One of them, until it is dropped.
pub(crate) struct Lent<'a> {
    /// There until then.
    scratch: Option<Scratch>,
    from: &'a Scratches,
}

impl Scratches {
    /// One that was used before, or a new one.
    pub fn lend(&self) -> Lent<'_> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { scratch: Some(free.unwrap_or_default()), from: self }
    }
}

impl std::fmt::Debug for Scratches {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.debug_struct("Scratches").finish_non_exhaustive()
    }
}

impl Deref for Lent<'_> {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        self.scratch.as_ref().expect("it is not dropped")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.scratch.as_mut().expect("it is not dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.from.0.lock().unwrap_or_else(PoisonError::into_inner).extend(self.scratch.take());
    }
}

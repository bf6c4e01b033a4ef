//! How many files may be open at a time: each file of a set stays open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What macOS allows at most where its own limit says that there is none.
const MOST: u64 = 10_240;

/// Allows as many as the system lets this process have. The usual limit, 1024, is low for the sake of programs that use
/// `select`. What is refused stays as it was: opening a file then says what to do.
pub(crate) fn allow() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(MOST);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

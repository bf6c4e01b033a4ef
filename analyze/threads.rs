//! Threads that decode: all traces of a run share them, however many there are.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// So many threads (0: one for each processor), started when they are first asked for.
pub(crate) fn pool(threads: usize) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
    static POOLS: Mutex<BTreeMap<usize, Arc<ThreadPool>>> = Mutex::new(BTreeMap::new());
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = pools.get(&threads) {
        return Ok(Arc::clone(pool));
    }
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(threads).build()?);
    pools.insert(threads, Arc::clone(&pool));
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_of_threads_are_the_same_threads() {
        let [three, again, two] = [3, 3, 2].map(|threads| pool(threads).expect("few threads"));
        assert!(Arc::ptr_eq(&three, &again) && !Arc::ptr_eq(&three, &two));
        assert_eq!((three.current_num_threads(), two.current_num_threads()), (3, 2));
    }
}

//! Where the recorder runs and how urgently: `--cpu-list` and `--nice`.
//!
//! Both are set before there are threads, which inherit them, and after COMMAND was forked, which must not.

use anyhow::{Context as _, Result};

/// Processors by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl std::str::FromStr for CpuList {
    type Err = String;

    /// `0-3,8`, as `taskset -c` has it.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no list of processors: write 0-3,8");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) =
                (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
            if first > last || last >= libc::CPU_SETSIZE as usize {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

/// Binds the calling thread, and all that it will start, to processors.
///
/// # Errors
/// When none of them exists or may be used.
pub fn bind(cpus: &CpuList) -> Result<()> {
    // SAFETY: zero is a valid cpu_set_t: the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in &cpus.0 {
        // SAFETY: parsing made sure that the number is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is valid and its size is given.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    check(result).with_context(|| format!("--cpu-list: run on processors {:?}", cpus.0))
}

/// Makes the calling thread, and all that it will start, give way to others (or not).
///
/// # Errors
/// When that is not permitted.
pub fn set_nice(nice: i32) -> Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    check(result).with_context(|| format!("--nice: run at priority {nice}"))
}

fn check(result: i32) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers() {
        assert_eq!("0-3,8".parse(), Ok(CpuList(vec![0, 1, 2, 3, 8])));
        assert_eq!("5".parse(), Ok(CpuList(vec![5])));
        for wrong in ["", "3-1", "a", "0,,2", "1-", "99999"] {
            assert!(wrong.parse::<CpuList>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_thread_goes_where_it_is_told() {
        // In a thread of its own, so that the other tests stay where they are.
        let bound = std::thread::spawn(|| {
            bind(&CpuList(vec![0])).expect("there is a processor 0");
            std::thread::available_parallelism().map_or(0, usize::from)
        });
        assert_eq!(bound.join().expect("no panic"), 1);
    }
}

//! What the scheduler did.

use super::Tape;

impl Tape {
    /// Adds the tables of group `sched`.
    pub fn sched(&mut self) -> &mut Self {
        let head = ["ts:u64", "cpu:u16", "tid:u32>task"];
        let table = |columns: &[&'static str]| [&head[..], columns].concat();
        let stacks = ["kstack:u32~stack", "ustack:u32~stack"];
        self.table("sched_run", &table(&["ran:u64?ns", "state:u32", "next:u32~task"]));
        self.table(
            "sched_wait",
            &[&table(&["off:u64^ns", "queued:u64^ns", "state:u32", "prev:u32~task"])[..], &stacks].concat(),
        );
        self.table(
            "sched_wake",
            &[
                &table(&["blocked:u64?ns", "waker:u32~task", "state:u32"])[..],
                &stacks,
                &["context:u32=wake_context"],
            ]
            .concat(),
        )
    }

    /// A task came to processor 0 after so long off and queued, replacing another, from a kernel stack.
    pub fn wait(
        &mut self,
        at: u64,
        tid: i64,
        (off, queued): (i64, i64),
        state: i64,
        (prev, kstack): (i64, i64),
    ) -> &mut Self {
        self.event("sched_wait", at, [tid, off, queued, state, prev, kstack, 0])
    }

    /// Only what lasted so long was recorded, with stacks.
    pub fn threshold(&mut self, least: &str) -> &mut Self {
        self.host(|host| host.filters.push(format!("min-wait {least}")))
    }

    /// A task left processor 0.
    pub fn ran(&mut self, at: u64, tid: i64, ran: i64, state: i64) -> &mut Self {
        self.event("sched_run", at, [tid, ran, state, 0])
    }
}

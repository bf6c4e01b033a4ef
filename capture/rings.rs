//! The rings and the threads that empty them.

use super::batch::{Batcher, Sealed};
use super::budget::{Budget, Gauge};
use super::family::SharedMaps;
use super::host::possible_cpus;
use super::layout::Layout;
use super::recorder::Message;
use super::source::{EventSource, Ring};
use super::stacks::Stacks;
use super::stage::Stage;
use super::topology::ring_of_each;
use anyhow::{Context as _, Result};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

/// The reader wakes by itself this often while there are rows; a ring that fills wakes it earlier.
const POLL: Duration = Duration::from_millis(100);
/// … and at least this often: each time that it finds nothing, and holds nothing, it waits twice as long.
/// Not longer, since a recording that ends has its rings looked at often only from the next time on.
const IDLE_POLL: Duration = Duration::from_millis(400);

/// How many rings there are and how large each is.
pub struct Rings {
    /// Without those for samples.
    pub count: u32,
    /// Which one each processor writes to.
    pub of_each: Vec<u8>,
    /// Bytes of each, a power of two.
    pub size: u32,
    /// As many again, for programs that sample.
    pub sampling: bool,
    /// To open one again by its number would take `CAP_SYS_ADMIN`.
    made: Vec<MapHandle>,
    /// Bytes that the batches of all rings may hold while they fill.
    filling: usize,
    /// Admits what goes to the writer.
    pub queue: Arc<Gauge>,
}

/// A ring for samples need not be larger: at 49 a second and 2 KiB each it then has room for two seconds and a half.
const SAMPLING_SIZE: u32 = 256 << 10;

impl Rings {
    /// One per processor, up to 64, which neighbours share then. A size is a power of two, as the kernel wants it.
    #[must_use]
    pub fn plan(budget: &Budget, sampling: bool) -> Self {
        let count = u32::try_from(possible_cpus()).unwrap_or(1).next_power_of_two().min(64);
        let size = (budget.rings_kib.saturating_mul(1024) / count).max(4096);
        Self {
            count,
            of_each: ring_of_each(count),
            size: 1 << size.ilog2(),
            sampling,
            made: Vec::new(),
            filling: budget.filling,
            queue: Gauge::new(budget.queued),
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u32 {
        if self.sampling { 2 * self.count } else { self.count }
    }

    /// Bytes of one.
    #[must_use]
    pub fn size_of(&self, index: u32) -> u32 {
        if index < self.count { self.size } else { self.size.min(SAMPLING_SIZE) }
    }

    /// What the batches of one may hold: those of samples, which are few, an eighth together.
    fn room_of(&self, index: u32) -> usize {
        let samples = if self.sampling { self.filling / 8 } else { 0 };
        let together = if index < self.count { self.filling - samples } else { samples };
        together / self.count as usize
    }

    /// Makes the rings and puts them in their places.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&mut self, maps: &SharedMaps) -> Result<()> {
        let table = maps.get("rings").context("the table of rings")?;
        for index in 0..self.total() {
            let options = libbpf_sys::bpf_map_create_opts {
                sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
                ..Default::default()
            };
            let size = self.size_of(index);
            let ring = MapHandle::create(MapType::RingBuf, Some("ring"), 0, 0, size, &options)
                .with_context(|| format!("create a ring of {size} bytes"))?;
            let fd = ring.as_fd().as_raw_fd().to_ne_bytes();
            table.update(&index.to_ne_bytes(), &fd, MapFlags::ANY).context("put a ring in its place")?;
            self.made.push(ring);
        }
        Ok(())
    }

    /// Starts one thread per ring; each returns how many records made no sense.
    ///
    /// # Errors
    /// When a ring cannot be mapped.
    pub fn drain(
        &self,
        layouts: &Arc<Vec<Layout>>,
        stacks: Option<&Arc<Stacks>>,
        to: &SyncSender<Message>,
        stage: &Stage,
        stall: Option<Duration>,
    ) -> Result<Vec<JoinHandle<u64>>> {
        let mut threads = Vec::new();
        for index in 0..self.total() {
            let map = self.made.get(index as usize).context("rings are made before they are emptied")?;
            let ring = Ring::open(map.as_fd(), self.size_of(index) as usize)?;
            let number = u16::try_from(index).context("ring number")?;
            let batcher = Batcher::new(layouts, number, self.room_of(index));
            let batcher = batcher.numbering(stacks.map(Arc::clone));
            let (to, queue, stage) = (to.clone(), Arc::clone(&self.queue), stage.clone());
            let work = move || drain(ring, batcher, (&to, &queue), &stage, stall);
            threads.push(std::thread::Builder::new().name(format!("ring {index}")).spawn(work)?);
        }
        Ok(threads)
    }
}

/// One ring's thread: records to batches, batches to the recorder. Returns how many records made no sense.
pub fn drain(
    mut source: impl EventSource,
    mut batcher: Batcher,
    (to, queue): (&SyncSender<Message>, &Arc<Gauge>),
    stage: &Stage,
    stall: Option<Duration>,
) -> u64 {
    // A recorder that is gone has stopped the session already; what it cannot take, it has counted.
    let send = |sealed: Sealed| {
        let permit = queue.admit(sealed.bytes());
        _ = to.send(Message::Sealed(sealed, permit));
    };
    if let Some(stall) = stall {
        std::thread::sleep(stall);
    }
    let mut pause = POLL;
    loop {
        let last = stage.is_over();
        batcher.prepare();
        let bytes = source.drain(&mut |record| {
            if batcher.push(record) {
                batcher.seal(false, send);
            }
        });
        batcher.looked();
        batcher.seal(last, send);
        if last && bytes == 0 {
            return batcher.malformed();
        }
        if !last {
            let quiet = bytes == 0 && !batcher.is_waiting();
            pause = if quiet { (2 * pause).min(IDLE_POLL) } else { POLL };
            source.wait(stage.pause(pause));
        }
    }
}

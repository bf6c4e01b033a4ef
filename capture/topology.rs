//! Which processors share a ring, where there are more processors than rings.
//!
//! Two processors that write to one ring take turns at its lock and pass its cache lines on. That costs least between
//! threads of one core, more between cores behind one cache, most between sockets: so neighbours share.

use super::host::possible_cpus;
use std::fs;

/// Processors that the programs know of; `ring_of` in `bpf/common.bpf.h` has as many places.
const PROCESSORS: usize = 4096;

/// Where a processor is, from the coarsest to the finest: socket, last cache, core, its own number.
type Place = (u32, u32, u32, u32);

/// The ring of each processor, by its number. With as many rings as processors each has one of its own.
#[must_use]
pub fn ring_of_each(rings: u32) -> Vec<u8> {
    let cpus = u32::try_from(possible_cpus()).unwrap_or(1);
    let places: Vec<Place> = (0..cpus).map(place).collect();
    let mut shared = share(&places, rings);
    // A number beyond the table wraps around in the programs.
    shared.resize(PROCESSORS, 0);
    shared
}

fn share(places: &[Place], rings: u32) -> Vec<u8> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    if places.len() > rings as usize {
        order.sort_by_key(|&cpu| places[cpu]);
    }
    let mut shared = vec![0; places.len()];
    for (position, &cpu) in order.iter().enumerate() {
        let ring = position * rings as usize / places.len().max(rings as usize);
        shared[cpu] = u8::try_from(ring).unwrap_or(0);
    }
    shared
}

/// A processor that is switched off tells nothing of its place: it comes last.
fn place(cpu: u32) -> Place {
    let read = |file: &str| fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/{file}")).ok();
    let number = |text: String| text.trim().split([',', '-']).next().and_then(|word| word.parse().ok());
    let known = |file: &str| read(file).and_then(number).unwrap_or(u32::MAX);
    // The first processor behind a cache stands for the cache.
    let caches = (0..8).map_while(|index| read(&format!("cache/index{index}/shared_cpu_list")));
    let last = caches.last().and_then(number).unwrap_or(u32::MAX);
    (known("topology/physical_package_id"), last, known("topology/core_id"), cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as firmware gives them: first one thread of each core of each socket, then the others.
    fn two_sockets(cores: u32) -> Vec<Place> {
        let place = |cpu: u32| {
            let core = cpu % (2 * cores);
            (core / cores, core / 8 * 8, core % cores, cpu)
        };
        (0..4 * cores).map(place).collect()
    }

    #[test]
    fn each_has_its_own_while_there_are_enough() {
        assert_eq!(share(&two_sockets(2), 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(share(&two_sockets(2)[..3], 4), [0, 1, 2]);
    }

    #[test]
    fn threads_of_a_core_share_before_cores_and_no_two_sockets_do() {
        let places = two_sockets(32);
        let shared = share(&places, 64);
        for (cpu, ring) in shared.iter().enumerate() {
            let with: Vec<usize> = (0..places.len()).filter(|&other| shared[other] == *ring).collect();
            assert_eq!(with, [cpu % 64, cpu % 64 + 64], "both threads of a core, and nobody else");
        }
        let fewer = share(&places, 16);
        for ring in 0..16 {
            let of_ring: Vec<Place> =
                (0..places.len()).filter(|&cpu| fewer[cpu] == ring).map(|cpu| places[cpu]).collect();
            assert_eq!(of_ring.len(), 8);
            assert!(
                of_ring.iter().all(|place| (place.0, place.1) == (of_ring[0].0, of_ring[0].1)),
                "{of_ring:?}"
            );
        }
    }

    #[test]
    fn this_machine_s_processors_have_rings() {
        let rings = ring_of_each(2);
        assert_eq!(rings.len(), PROCESSORS);
        assert!(rings.iter().all(|&ring| ring < 2));
    }
}

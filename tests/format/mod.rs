//! The trace file from outside: what comes back, from whole files and from damaged ones.

mod content;
mod corpus;
mod damage;
mod hostile;
mod made;
mod newer;
mod round_trip;
mod stock;
mod versions;

#[path = "../fuzz/targets.rs"]
mod targets;

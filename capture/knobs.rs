//! The knobs of the programs: constants that are set before load, so that the verifier drops the
//! branches that a recording does not need.

use anyhow::{Context as _, Result, bail};
use libbpf_rs::OpenObject;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{DataSec, Func, FuncProto, Var};
use std::collections::HashMap;

/// Values for the knobs of `bpf/common.bpf.h`, by name, as their bytes.
pub type Knobs = HashMap<&'static str, Vec<u8>>;

/// A knob of the maps: entries of a hash, if it had more, and places of threads (`bpf/thread.bpf.h`).
pub const STATE_LIMIT: &str = "state_limit";

/// A knob of this name followed by that of a kernel function is set to the number of its parameters.
const PARAMS_OF: &str = "params_of_";

/// Global variables of an object: offset in their section, and size.
pub(crate) struct Variables(HashMap<String, (usize, usize)>);

impl Variables {
    /// Of a compiled object.
    pub fn of(group: &str, object: &[u8]) -> Result<Self> {
        let btf = Btf::from_raw(group, object)?.context("the object has no BTF")?;
        let mut variables = HashMap::new();
        for section in btf.type_by_kind::<DataSec>() {
            for info in section.iter() {
                let name = btf
                    .type_by_id::<Var>(info.ty)
                    .and_then(|var| Some(var.name()?.to_string_lossy().into_owned()));
                if let Some(name) = name {
                    variables.insert(name, (info.offset as usize, info.size));
                }
            }
        }
        Ok(Self(variables))
    }

    /// Where a variable is in its section.
    pub fn offset(&self, name: &str) -> Option<usize> {
        self.0.get(name).map(|at| at.0)
    }

    /// Values of the knobs that the kernel's own type information answers.
    pub fn kernel_facts(&self) -> Vec<Fact> {
        let asked = || self.0.keys().filter_map(|name| Some((name, name.strip_prefix(PARAMS_OF)?)));
        if asked().next().is_none() {
            return Vec::new(); // reading the kernel's types takes some milliseconds
        }
        let Ok(kernel) = Btf::from_vmlinux() else { return Vec::new() };
        let parameters = |function: &str| {
            let prototype = FuncProto::try_from(kernel.type_by_name::<Func>(function)?.next_type()?).ok()?;
            u32::try_from(prototype.len()).ok()
        };
        let fact = |(name, function): (&String, &str)| {
            Some((name.clone(), parameters(function)?.to_ne_bytes().to_vec()))
        };
        asked().filter_map(fact).collect()
    }
}

/// The name of a knob, and its value.
pub(crate) type Fact = (String, Vec<u8>);

/// Writes values into an object that is open and not yet loaded; a knob that it lacks is left out.
pub(crate) fn set_knobs<'a>(
    open: &mut OpenObject,
    variables: &Variables,
    knobs: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<()> {
    let mut maps = open.maps_mut();
    let Some(mut map) = maps.find(|map| map.name().to_string_lossy().ends_with(".rodata")) else {
        return Ok(());
    };
    let memory = map.initial_value_mut().context("knobs have initial values")?;
    for (name, value) in knobs {
        let Some(&(offset, size)) = variables.0.get(name) else { continue };
        if value.len() > size {
            bail!("the knob {name} takes {size} bytes, not {}", value.len());
        }
        memory[offset..offset + value.len()].copy_from_slice(value);
    }
    Ok(())
}

//! Where and how a trace was recorded: its first message.

use super::error::Result;
use super::message;
use super::trace_capnp::host;

/// The newest format that this build writes and reads.
pub const FORMAT: u32 = super::frame::REQUIRED_READER as u32;

/// The machine and the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The lowest format number that a reader must implement.
    pub required_reader: u32,
    /// Program and version that wrote the file.
    pub recorder: String,
    /// Name of the machine.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture as uname prints it.
    pub machine: String,
    /// Processors that the kernel could bring up.
    pub cpus: u32,
    /// How the recorder was called.
    pub command: Vec<String>,
    /// `CLOCK_MONOTONIC` at time zero of the trace, ns.
    pub start_mono: u64,
    /// `CLOCK_REALTIME` of the same moment, ns.
    pub start_real: u64,
    /// Time zone of the machine.
    pub zone: String,
    /// Seconds east of UTC.
    pub zone_offset: i32,
    /// What limits the recording; empty: everything.
    pub filters: Vec<String>,
    /// Probe groups.
    pub groups: Vec<String>,
    /// Bytes.
    pub page_size: u32,
    /// Changes with every boot.
    pub boot_id: String,
    /// Random, the same in all files of one recording: what makes them a set.
    pub recording: String,
    /// Number of this file in its set, from 1; 0: the recording is this one file.
    pub part: u32,
    /// What the recorder made unreadable before writing, and how; empty: nothing.
    pub hidden: Vec<String>,
}

impl Host {
    pub(super) fn write(&self, mut to: host::Builder) {
        to.set_required_reader(self.required_reader);
        to.set_recorder(&self.recorder);
        to.set_hostname(&self.hostname);
        to.set_kernel(&self.kernel);
        to.set_machine(&self.machine);
        to.set_cpus(self.cpus);
        to.set_start_mono(self.start_mono);
        to.set_start_real(self.start_real);
        to.set_zone(&self.zone);
        to.set_zone_offset(self.zone_offset);
        to.set_page_size(self.page_size);
        to.set_boot_id(&self.boot_id);
        to.set_recording(&self.recording);
        to.set_part(self.part);
        write_list(&self.hidden, to.reborrow().init_hidden(message::count(self.hidden.len())));
        write_list(&self.command, to.reborrow().init_command(message::count(self.command.len())));
        write_list(&self.filters, to.reborrow().init_filters(message::count(self.filters.len())));
        write_list(&self.groups, to.reborrow().init_groups(message::count(self.groups.len())));
    }

    pub(super) fn read(from: host::Reader) -> Result<Self> {
        Ok(Self {
            required_reader: from.get_required_reader(),
            recorder: from.get_recorder()?.to_string()?,
            hostname: from.get_hostname()?.to_string()?,
            kernel: from.get_kernel()?.to_string()?,
            machine: from.get_machine()?.to_string()?,
            cpus: from.get_cpus(),
            command: read_list(from.get_command()?)?,
            start_mono: from.get_start_mono(),
            start_real: from.get_start_real(),
            zone: from.get_zone()?.to_string()?,
            zone_offset: from.get_zone_offset(),
            filters: read_list(from.get_filters()?)?,
            groups: read_list(from.get_groups()?)?,
            page_size: from.get_page_size(),
            boot_id: from.get_boot_id()?.to_string()?,
            recording: from.get_recording()?.to_string()?,
            part: from.get_part(),
            hidden: read_list(from.get_hidden()?)?,
        })
    }
}

fn write_list(from: &[String], mut to: capnp::text_list::Builder) {
    for (index, text) in from.iter().enumerate() {
        to.set(message::count(index), text);
    }
}

fn read_list(from: capnp::text_list::Reader) -> Result<Vec<String>> {
    from.iter().map(|text| Ok(text?.to_string()?)).collect()
}

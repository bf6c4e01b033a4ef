//! The host's load average, as the live tools print it above each screen. Group `stat` records it with each snapshot.

use super::compat::Line;
use super::report::Context;
use super::table::TIME;

/// All of a recording.
pub(crate) struct LoadAverage<'a> {
    context: &'a Context<'a>,
    /// Moments, and what /proc/loadavg said, but for the newest process.
    said: Vec<(u64, String)>,
}

impl<'a> LoadAverage<'a> {
    /// Of a recording; none where it does not have them.
    pub fn of(context: &'a Context<'a>) -> Self {
        Self { context, said: read(context).unwrap_or_default() }
    }

    /// The head of a screen: its time, and what the load was at its end, where that is known.
    pub fn head(&self, line: &Line) -> String {
        let clock = &self.context.trace.clock;
        let time = line.time(clock);
        let default = self.context.report.defaults.interval;
        let length = self.context.options.interval(default).ok().flatten().unwrap_or(0);
        let end = clock.mono(line.int(TIME).saturating_add_unsigned(length));
        match self.said.partition_point(|(moment, _)| *moment < end).checked_sub(1) {
            Some(last) => format!("{time} loadavg: {}", self.said[last].1),
            None => time,
        }
    }
}

fn read(context: &Context) -> Option<Vec<(u64, String)>> {
    let rows = context.trace.gather("load")?;
    let column = |name| rows.def.column(name);
    let averages = [column("load1")?, column("load5")?, column("load15")?];
    let (runnable, tasks) = (column("runnable")?, column("tasks")?);
    let said = |row| {
        let hundredths = averages.map(|column| format!("{:.2}", rows.raw(column, row) as f64 / 100.0));
        format!("{} {}/{}", hundredths.join(" "), rows.raw(runnable, row), rows.raw(tasks, row))
    };
    let mut all: Vec<(u64, String)> = (0..rows.len()).map(|row| (rows.moment(row), said(row))).collect();
    all.sort_unstable();
    Some(all)
}

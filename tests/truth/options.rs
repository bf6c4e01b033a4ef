//! The command line.

use std::fmt::Display;
use std::str::FromStr;

use crate::net::Family;

/// Every option of every command; a command takes no notice of those that are not its own.
pub struct Options {
    pub family: Family,
    pub count: u64,
    pub size: usize,
    pub reply: usize,
    pub delay_ms: u64,
    pub ms: u64,
    /// Of `execs`: how many more that fail.
    pub missing: u64,
    /// Of the server; 0 lets the kernel choose.
    pub port: u16,
    /// Of `odd`: these cases alone, separated by commas.
    pub case: Option<String>,
    /// Of `files`: where.
    pub dir: Option<String>,
    /// Where the JSON goes instead of standard output.
    pub output: Option<String>,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            family: Family::V4,
            count: 10,
            size: 1000,
            reply: 100,
            delay_ms: 0,
            ms: 100,
            missing: 0,
            port: 0,
            case: None,
            dir: None,
            output: None,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--family" => self.family = Family::parse(value).ok_or("--family is v4, v6 or mapped")?,
            "--count" => self.count = number(name, value)?,
            "--size" => self.size = number(name, value)?,
            "--reply" => self.reply = number(name, value)?,
            "--delay-ms" => self.delay_ms = number(name, value)?,
            "--ms" => self.ms = number(name, value)?,
            "--missing" => self.missing = number(name, value)?,
            "--port" => self.port = number(name, value)?,
            "--case" => self.case = Some(value.to_owned()),
            "--dir" => self.dir = Some(value.to_owned()),
            "--output" => self.output = Some(value.to_owned()),
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }
}

fn number<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{name} {value}: {error}"))
}

//! Just enough JSON to print one object: text in, text out.

use std::fmt::{Display, Write};

/// An object under construction; every method takes it and gives it back, so that they chain.
#[derive(Clone)]
pub struct Object(String);

impl Object {
    pub fn new() -> Self {
        Self(String::from("{"))
    }

    /// A number, a boolean, or anything else that prints as JSON by itself.
    pub fn value(mut self, key: &str, value: impl Display) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{comma}\"{key}\":{value}");
        self
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.value(key, quote(value))
    }

    pub fn object(self, key: &str, value: Object) -> Self {
        self.value(key, value.end())
    }

    pub fn list<T: Display>(self, key: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.value(key, array(values))
    }

    pub fn objects(self, key: &str, values: impl IntoIterator<Item = Object>) -> Self {
        self.list(key, values.into_iter().map(Object::end))
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn array<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(","))
}

/// A JSON string, quotes included.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

//! Options that one report has.

/// An option of one report.
#[derive(Clone, Copy)]
pub(crate) struct Flag {
    /// Without the dashes; of one letter: an option of the live tool.
    pub name: &'static str,
    /// What the live tool calls it.
    pub letter: Option<char>,
    /// Name of its value; `None`: a switch.
    pub value: Option<&'static str>,
    /// Help text.
    pub doc: &'static str,
    /// The report refuses without it, or another one that is needed too.
    pub needed: bool,
}

impl Flag {
    /// One that is given or not.
    pub const fn switch(name: &'static str, doc: &'static str) -> Self {
        Self { name, letter: None, value: None, doc, needed: false }
    }

    /// One with a value.
    pub const fn valued(name: &'static str, value: &'static str, doc: &'static str) -> Self {
        Self { name, letter: None, value: Some(value), doc, needed: false }
    }

    /// The same, as one without which the report does not know what is asked.
    pub const fn needed(self) -> Self {
        Self { needed: true, ..self }
    }

    /// The same, known by a letter too.
    pub const fn letter(self, letter: char) -> Self {
        Self { letter: Some(letter), ..self }
    }
}

//! Text with each distinct value once.

use super::column::Text;
use super::error::{FormatError, Result};
use std::collections::HashMap;

/// Text with each distinct value once; `None` where that would not be shorter.
#[must_use]
pub fn dictionary(text: &Text) -> Option<(Vec<u32>, Text)> {
    let mut numbers: HashMap<&[u8], u32> = HashMap::new();
    let mut entries = Text::default();
    let mut codes = Vec::with_capacity(text.lengths.len());
    let limit = text.lengths.len() / 2;
    for value in text.iter() {
        let next = u32::try_from(numbers.len()).ok()?;
        let code = *numbers.entry(value).or_insert_with(|| {
            entries.push(value);
            next
        });
        codes.push(code);
        if numbers.len() > limit {
            return None;
        }
    }
    Some((codes, entries))
}

/// Undoes [`dictionary`].
///
/// # Errors
/// When a code has no entry, or the text would be longer than `room`.
pub fn expand(codes: &[u32], entries: &Text, room: usize) -> Result<Text> {
    let values: Vec<&[u8]> = entries.iter().collect();
    let length = |&code: &u32| values.get(code as usize).map_or(0, |value| value.len());
    let bytes = codes.iter().map(length).sum::<usize>().min(room);
    let mut text = Text { lengths: Vec::with_capacity(codes.len()), bytes: Vec::with_capacity(bytes) };
    for &code in codes {
        let value = values.get(code as usize);
        let value = value
            .ok_or_else(|| FormatError::Batch(format!("code {code} in a dictionary of {}", values.len())))?;
        if text.bytes.len() + value.len() > room {
            return Err(FormatError::Batch(format!("text of one batch exceeds its {room} bytes")));
        }
        text.push(value);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..60)) {
            let mut text = Text::default();
            for value in &values {
                text.push(value);
            }
            if let Some((codes, entries)) = dictionary(&text) {
                let room = text.bytes.len();
                prop_assert_eq!(expand(&codes, &entries, room).expect("own dictionary"), text);
            }
        }
    }
}

//! Arguments of static probes: how the assembler wrote where they are (`-4@%edi`, `8@-16(%rbp)`, `4@$1`).
//!
//! `SIZE@PLACE`, the size in bytes and negative for signed numbers; see `UserSpaceProbeImplementation` of
//! the `SystemTap` project.

use super::fetch::{Fetch, FetchKind};
use super::regs;

/// The argument's place; `None`: a kind of address that the interpreter does not compute (an index register, or
/// one relative to the program counter).
#[must_use]
pub fn parse(text: &str) -> Option<Fetch> {
    let (size, place) = text.split_once('@').unwrap_or(("8", text));
    let size: i32 = size.trim_end_matches('f').parse().ok()?;
    let fetch =
        Fetch { size: size.unsigned_abs().try_into().ok()?, sign: size < 0, user: true, ..Fetch::default() };
    if !matches!(fetch.size, 1 | 2 | 4 | 8) {
        return None;
    }
    if let Some(value) = place.strip_prefix('$').or(Some(place)).and_then(|value| value.parse().ok()) {
        return Some(Fetch { kind: FetchKind::Constant, offset: vec![value], ..fetch });
    }
    let offset = memory(place).or_else(|| Some(vec![register(place)?]))?;
    Some(Fetch { offset, ..fetch })
}

fn register(name: &str) -> Option<i32> {
    regs::register(name.trim_start_matches('%'))
}

/// `-16(%rbp)` on x86-64, `[sp, 16]` on arm64.
fn memory(place: &str) -> Option<Vec<i32>> {
    if let Some(inside) = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let (base, offset) = inside.split_once(',').unwrap_or((inside, "0"));
        return Some(vec![register(base.trim())?, offset.trim().parse().ok()?]);
    }
    let (offset, base) = place.strip_suffix(')')?.split_once('(')?;
    let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    Some(vec![register(base)?, offset])
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let of = |text: &str| parse(text).map(|fetch| (fetch.offset, fetch.size, fetch.sign));
        assert_eq!(of("-4@%edi"), Some((vec![112], 4, true)));
        assert_eq!(of("8@-16(%rbp)"), Some((vec![32, -16], 8, false)));
        assert_eq!(of("8@(%r12)"), Some((vec![24, 0], 8, false)));
        assert_eq!(of("4@$-5"), Some((vec![-5], 4, false)));
        assert_eq!(parse("4@$1").map(|fetch| fetch.kind), Some(FetchKind::Constant));
        assert_eq!(of("2@%r10w"), Some((vec![56], 2, false)));
        assert_eq!((of("8@foo(%rip)"), of("8@(%rax,%rbx,8)")), (None, None));
    }
}

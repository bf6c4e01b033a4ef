//! Names of the kernel's functions, modules' and BPF programs' included, as `/proc/kallsyms` has them.
//!
//! It names some 200,000, of which a recording wants some hundred. So nothing of it is kept but what lies nearest to each
//! wanted address so far: the whole list, in memory, would be the largest thing that a recorder ever has there.

use std::io::BufRead;

/// The names of what some addresses are in; none for what lies before all of them.
#[must_use]
pub fn names(symbols: impl BufRead, addresses: &[u64]) -> Vec<Option<String>> {
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_by_key(|&index| addresses[index]);
    let mut nearest = vec![None; order.len()];
    for line in symbols.lines().map_while(Result::ok) {
        let Some((start, name)) = symbol(&line) else { continue };
        // Of what lies between two addresses, the last matters, and only to the second and what follows it.
        let at = order.partition_point(|&index| addresses[index] < start);
        let Some(known) = nearest.get_mut(at) else { continue };
        if known.as_ref().is_none_or(|(begin, _)| *begin < start) {
            *known = Some((start, demangled(name)));
        }
    }
    let mut names = vec![None; order.len()];
    let mut last = None;
    for (index, found) in order.into_iter().zip(nearest) {
        last = found.map(|(_, name)| name).or(last);
        names[index].clone_from(&last);
    }
    names
}

/// Start and name. All starts are 0 for who may not know them.
fn symbol(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok().filter(|&start| start != 0)?;
    Some((start, words.nth(1)?))
}

fn demangled(name: &str) -> String {
    rustc_demangle::try_demangle(name).map_or_else(|_| name.to_owned(), |name| format!("{name:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &[u8] = b"\
0000000000000000 A hidden
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000200 t second
ffffffff81000100 t first
ffffffffc0000000 t of_a_module\t[nf_tables]
ffffffffc0000800 t _RNvCskwGfYPst2Cb_3foo3bar
nonsense
";

    #[test]
    fn a_name_is_that_of_the_last_symbol_before() {
        let at = |offset: u64| 0xffff_ffff_8100_0000 + offset;
        let module = 0xffff_ffff_c000_0010;
        let asked = [module, at(0x1ff), at(0x200), at(0), at(0xff), 5, at(0x1ff), u64::MAX];
        let found = names(SYMBOLS, &asked);
        let found: Vec<_> = found.iter().map(|name| name.as_deref().unwrap_or("-")).collect();
        let expected = ["of_a_module", "first", "second", "_text", "_text", "-", "first", "foo::bar"];
        assert_eq!(found, expected);
        assert!(names(SYMBOLS, &[]).is_empty());
    }
}

//! A set of ids, asked for in every row.

use crate::schema::hash::FastSet;

/// Ids from here on are not in the list.
const DENSE: u64 = 1 << 23;

/// Ids; those that are given out one by one are found without hashing.
#[derive(Debug, Default)]
pub(crate) struct Members {
    list: Vec<bool>,
    others: FastSet<u64>,
}

impl Members {
    /// Whether an id is one of them.
    #[inline]
    pub fn has(&self, id: u64) -> bool {
        self.list.get(id as usize).copied().unwrap_or_else(|| self.others.contains(&id))
    }
}

impl FromIterator<u64> for Members {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        let mut members = Self::default();
        for id in ids {
            if id >= DENSE {
                members.others.insert(id);
                continue;
            }
            let at = id as usize;
            if at >= members.list.len() {
                members.list.resize(at + 1, false);
            }
            members.list[at] = true;
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_members_however_large_they_are() {
        let ids = [0, 7, DENSE - 1, DENSE, u64::MAX];
        let members = Members::from_iter(ids);
        assert!(ids.iter().all(|&id| members.has(id)));
        assert!([1, 6, 8, DENSE - 2, DENSE + 1, u64::MAX - 1].iter().all(|&id| !members.has(id)));
        assert!(!Members::default().has(0));
    }
}

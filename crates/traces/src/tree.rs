//! Nested-set numbers of a trace: the tree as intervals, so that structure can be asked in SQL.
//!
//! A span's interval `left..right` encloses the intervals of its descendants, and `parent` is the
//! `left` of its parent: -1 for a root. Spans that hang on nothing (their parent is not here, or
//! they form a ring) have the numbers 0, 0, 0.

use hashbrown::HashMap;
use model::SpanId;

/// The numbers of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Nested {
    /// Number given on the way down, from 1.
    pub left: i32,
    /// Number given on the way up.
    pub right: i32,
    /// The parent's `left`, -1 for a root, 0 if unknown.
    pub parent: i32,
}

/// Numbers the spans of one trace, given as (span id, parent span id) in row order.
/// Siblings are numbered in row order. Of spans that share an id the first is the parent of children.
pub(crate) fn number(spans: &[(SpanId, SpanId)]) -> Vec<Nested> {
    const NONE: u32 = u32::MAX;
    let mut by_id = HashMap::with_capacity(spans.len());
    for (row, (id, _)) in spans.iter().enumerate() {
        by_id.entry(*id).or_insert(row as u32);
    }
    // Children as linked lists: built backwards, so that each list is in row order.
    let mut first_child = vec![NONE; spans.len()];
    let mut next_sibling = vec![NONE; spans.len()];
    let mut roots = Vec::new();
    for (row, (_, parent)) in spans.iter().enumerate().rev() {
        if parent.is_zero() {
            roots.push(row as u32);
        } else if let Some(&parent) = by_id.get(parent) {
            next_sibling[row] = std::mem::replace(&mut first_child[parent as usize], row as u32);
        }
    }
    let mut numbers = vec![Nested::default(); spans.len()];
    let mut counter = 0;
    let mut next = || {
        counter += 1;
        counter
    };
    let mut path: Vec<usize> = Vec::new();
    for root in roots.into_iter().rev() {
        let root = root as usize;
        numbers[root] = Nested { left: next(), right: 0, parent: -1 };
        path.push(root);
        while let Some(&row) = path.last() {
            // Each child is taken off its parent's list, so that the walk comes back to what is left.
            let child = first_child[row] as usize;
            if first_child[row] == NONE {
                numbers[row].right = next();
                path.pop();
            } else {
                first_child[row] = next_sibling[child];
                numbers[child] = Nested { left: next(), right: 0, parent: numbers[row].left };
                path.push(child);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spans: &[(u8, u8)], expect: &[(i32, i32, i32)]) {
        let id = |n: u8| SpanId([0, 0, 0, 0, 0, 0, 0, n]);
        let spans: Vec<_> = spans.iter().map(|(own, parent)| (id(*own), id(*parent))).collect();
        let got: Vec<_> = number(&spans).iter().map(|n| (n.left, n.right, n.parent)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn numbers() {
        check(&[], &[]);
        check(&[(1, 0)], &[(1, 2, -1)]);
        // R(A(C(D)), B), rows not in tree order
        check(
            &[(1, 0), (2, 1), (5, 1), (3, 2), (4, 3)],
            &[(1, 10, -1), (2, 7, 1), (8, 9, 1), (3, 6, 2), (4, 5, 3)],
        );
        // two roots, an orphan with a child
        check(&[(1, 0), (2, 0), (3, 9), (4, 3)], &[(1, 2, -1), (3, 4, -1), (0, 0, 0), (0, 0, 0)]);
        // its own parent; a ring of two
        check(&[(1, 1), (2, 3), (3, 2)], &[(0, 0, 0); 3]);
        // a shared id: the child hangs on the first
        check(&[(1, 0), (1, 0), (2, 1)], &[(1, 4, -1), (5, 6, -1), (2, 3, 1)]);
    }
}

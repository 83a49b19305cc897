//! The tree of spans of a trace: nested-set numbers and relations.
//!
//! A depth-first walk from the roots numbers each span when it is entered (left) and left (right). Spans that
//! no root leads to keep 0 and relate to nothing.

use hashbrown::HashMap;

use crate::batch::SpanBatch;
use crate::value::Kind;

/// No parent among the rows of the trace.
const NONE: u32 = u32::MAX;

/// The tree of one trace; spans are numbered by their row within the trace.
#[derive(Debug)]
pub(crate) struct Tree {
    parent: Vec<u32>,
    /// Reachable spans, parents before children.
    order: Vec<u32>,
    pub(crate) left: Vec<i32>,
    pub(crate) right: Vec<i32>,
    pub(crate) children: Vec<u32>,
    root: Vec<bool>,
}

impl Tree {
    pub(crate) fn new(batch: &SpanBatch, trace: usize) -> Self {
        let rows = batch.trace_rows(trace);
        let n = rows.len();
        // A client and the server it called may share one id, as Zipkin has it; the server is then the child
        // of the client and the parent of whatever else names the id.
        let mut by_id: HashMap<&[u8], [u32; 2]> = HashMap::with_capacity(n);
        for (i, row) in rows.clone().enumerate() {
            let slot = by_id.entry(batch.span_id.value(row)).or_insert([NONE; 2]);
            let server = usize::from(Kind::from_otlp(batch.kind.value(row)) == Kind::Server);
            if slot[server] == NONE {
                slot[server] = i as u32;
            }
        }
        let mut tree = Self {
            parent: vec![NONE; n],
            order: Vec::with_capacity(n),
            left: vec![0; n],
            right: vec![0; n],
            children: vec![0; n],
            root: vec![false; n],
        };
        for (i, row) in rows.enumerate() {
            let [other, server] = by_id[batch.span_id.value(row)];
            if server == i as u32 && other != NONE {
                tree.parent[i] = other;
            } else if batch.is_root(row) {
                tree.root[i] = true;
            } else if let Some([other, server]) = by_id.get(batch.parent_span_id.value(row)) {
                tree.parent[i] = if *server == NONE { *other } else { *server };
            }
        }
        tree.number();
        tree
    }

    fn number(&mut self) {
        let n = self.parent.len();
        // Children in row order, as a linked list per parent.
        let (mut first, mut next) = (vec![NONE; n], vec![NONE; n]);
        for i in (0..n).rev() {
            let parent = self.parent[i];
            if parent != NONE {
                next[i] = first[parent as usize];
                first[parent as usize] = i as u32;
                self.children[parent as usize] += 1;
            }
        }
        let mut number = 0;
        for root in 0..n {
            if !self.root[root] {
                continue;
            }
            let mut at = root;
            loop {
                if self.left[at] == 0 {
                    number += 1;
                    self.left[at] = number;
                    self.order.push(at as u32);
                }
                if first[at] != NONE {
                    let child = first[at] as usize;
                    first[at] = next[child];
                    at = child;
                } else {
                    number += 1;
                    self.right[at] = number;
                    if at == root {
                        break;
                    }
                    at = self.parent[at] as usize;
                }
            }
        }
    }

    /// The left number of the parent: −1 for a root, 0 if unknown.
    pub(crate) fn parent_number(&self, i: usize) -> i32 {
        match self.parent[i] {
            _ if self.root[i] => -1,
            NONE => 0,
            parent => self.left[parent as usize],
        }
    }

    fn parent_of(&self, i: usize) -> Option<usize> {
        (self.parent[i] != NONE && self.left[i] != 0).then_some(self.parent[i] as usize)
    }

    /// Marks spans that are a child (descendant, …) of a marked one.
    pub(crate) fn related(&self, relation: crate::ast::Relation, marked: &[bool]) -> Vec<bool> {
        use crate::ast::Relation;
        let n = self.parent.len();
        let mut out = vec![false; n];
        match relation {
            Relation::Child => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = self.parent_of(i).is_some_and(|p| marked[p]);
                }
            }
            Relation::Descendant => {
                for &i in &self.order {
                    let i = i as usize;
                    out[i] = self.parent_of(i).is_some_and(|p| marked[p] || out[p]);
                }
            }
            Relation::Parent => {
                for (i, marked) in marked.iter().enumerate() {
                    if *marked && let Some(p) = self.parent_of(i) {
                        out[p] = true;
                    }
                }
            }
            Relation::Ancestor => {
                for &i in self.order.iter().rev() {
                    let i = i as usize;
                    if (marked[i] || out[i])
                        && let Some(p) = self.parent_of(i)
                    {
                        out[p] = true;
                    }
                }
            }
            Relation::Sibling => {
                // Marked children of each parent; roots are siblings of each other.
                let mut counts = vec![0u32; n + 1];
                let group = |i: usize| match self.parent_number(i) {
                    -1 => Some(n),
                    _ => self.parent_of(i),
                };
                for (i, marked) in marked.iter().enumerate() {
                    if *marked && let Some(g) = group(i) {
                        counts[g] += 1;
                    }
                }
                for (i, out) in out.iter_mut().enumerate() {
                    *out = group(i).is_some_and(|g| counts[g] > u32::from(marked[i]));
                }
            }
        }
        out
    }
}

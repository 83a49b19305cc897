//! The structures of lines seen so far, as a tree of literals: recognises a line of a known structure in one walk.
//!
//! A node stands before a literal; an edge holds a literal and what follows it, a gap or the end of the line. Parsers are
//! deterministic and look at a literal's bytes and at the gap's content only, so a line that walks along an edge would be parsed to
//! the same literal: the walk gives what [`parse`] gives, without keeping track of keys.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::Syntax;
use crate::scan::{Content, parse};

/// Edges of a node, at most.
const MAX_EDGES: usize = 96;
/// Structures, at most.
const MAX_SKELETONS: usize = 16_384;
/// Bytes of all literals, at most.
const MAX_BYTES: usize = 8 << 20;
/// Names of values, at most, and bytes of a name.
const MAX_PATHS: usize = 8192;
const MAX_NAME: usize = 200;

/// The structure of a line: a shape whose gaps have names, but no columns yet.
#[derive(Debug)]
pub(crate) struct Skeleton {
    pub(crate) syntax: Syntax,
    pub(crate) literals: Vec<Arc<str>>,
    contents: Vec<Content>,
    /// The path of each gap; `None` if there are too many of them.
    pub(crate) paths: Vec<Option<u32>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    pub(crate) skeletons: Vec<Skeleton>,
    /// Names of values, by the numbers in [`Skeleton::paths`].
    pub(crate) paths: Vec<Arc<str>>,
    path_numbers: HashMap<Arc<str>, u32>,
    literals: HashMap<Arc<str>, ()>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Node {
    edges: Vec<Edge>,
}

#[derive(Debug)]
struct Edge {
    /// The first bytes of the literal, eight at most, and which they are: tells most other texts without a call.
    first: u64,
    mask: u64,
    literal: Arc<str>,
    next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Gap(Content, u32),
    End(u32),
}

impl Node {
    /// Adds an edge in the middle, from where it moves to the front if it is used, and else to the end and out.
    fn add(&mut self, edge: Edge) {
        self.edges.insert(self.edges.len().min(MAX_EDGES / 2), edge);
        self.edges.truncate(MAX_EDGES);
    }
}

impl Edge {
    fn new(literal: &Arc<str>, next: Next) -> Self {
        let mask = match literal.len() {
            length @ 0..8 => (1 << (8 * length)) - 1,
            _ => u64::MAX,
        };
        Self { first: first_bytes(literal.as_bytes()), mask, literal: literal.clone(), next }
    }
}

#[inline]
fn first_bytes(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    match bytes.first_chunk() {
        Some(chunk) => first = *chunk,
        None => first[..bytes.len()].copy_from_slice(bytes),
    }
    u64::from_le_bytes(first)
}

impl Trie {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()], ..Self::default() }
    }

    /// Whether there is hardly room for further structures.
    pub(crate) fn is_crowded(&self) -> bool {
        self.skeletons.len() > MAX_SKELETONS / 2 || self.bytes > MAX_BYTES / 2
    }

    /// The structure of a line and its gaps; `None` if the line has none or there is no room for another one.
    #[inline]
    pub(crate) fn find(&mut self, line: &str, gaps: &mut Vec<(u32, u32)>) -> Option<u32> {
        match self.walk(line.as_bytes(), gaps) {
            Ok(skeleton) => Some(skeleton),
            Err(()) if self.skeletons.len() >= MAX_SKELETONS || self.bytes > MAX_BYTES => None,
            Err(()) => self.learn(line, gaps),
        }
    }

    /// Follows known edges to the end of the line, if they lead there.
    fn walk(&mut self, line: &[u8], gaps: &mut Vec<(u32, u32)>) -> Result<u32, ()> {
        gaps.clear();
        let (mut at, mut node) = (0, 0);
        'node: loop {
            let first = first_bytes(&line[at..]);
            for (i, edge) in self.nodes[node].edges.iter().enumerate() {
                if (first ^ edge.first) & edge.mask != 0 || !line[at..].starts_with(edge.literal.as_bytes()) {
                    continue;
                }
                let start = at + edge.literal.len();
                let next = match edge.next {
                    Next::End(skeleton) if start == line.len() => return Ok(skeleton),
                    Next::End(_) => continue,
                    Next::Gap(content, next) => {
                        let Some(end) = content.end(line, start) else { continue };
                        gaps.push((start as u32, end as u32));
                        at = end;
                        next as usize
                    }
                };
                if i > 3 {
                    // What was found late moves halfway to the front.
                    self.nodes[node].edges.swap(i, i / 2);
                }
                node = next;
                continue 'node;
            }
            return Err(());
        }
    }

    #[cold]
    fn learn(&mut self, line: &str, gaps: &mut Vec<(u32, u32)>) -> Option<u32> {
        if u32::try_from(line.len()).is_err() {
            return None;
        }
        let parsed = parse(line)?;
        gaps.clear();
        gaps.extend(parsed.pieces.iter().map(|p| (p.start as u32, p.end as u32)));
        let ends = parsed.pieces.iter().map(|p| p.end);
        let starts = parsed.pieces.iter().map(|p| p.start).chain([line.len()]);
        let literals =
            std::iter::once(0).chain(ends).zip(starts).map(|(from, to)| self.literal(&line[from..to]));
        let literals: Vec<Arc<str>> = literals.collect();
        let contents = parsed.pieces.iter().map(|p| p.content).collect();
        let mut names: HashMap<&str, u32> = HashMap::new();
        let paths = parsed.pieces.iter().map(|piece| {
            // A name that comes again gets a number.
            let again = names.entry(&piece.name).or_default();
            *again += 1;
            self.path(&piece.name, *again)
        });
        let paths = paths.collect();
        Some(self.insert(Skeleton { syntax: parsed.syntax, literals, contents, paths }))
    }

    /// Adds a structure that is not known.
    fn insert(&mut self, skeleton: Skeleton) -> u32 {
        let mut node = 0;
        for (literal, content) in skeleton.literals.iter().zip(&skeleton.contents) {
            let known = self.nodes[node].edges.iter().find_map(|edge| match edge.next {
                Next::Gap(of, next) if of == *content && edge.literal == *literal => Some(next),
                _ => None,
            });
            node = match known {
                Some(next) => next as usize,
                None => {
                    let next = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.bytes += size_of::<Node>() + size_of::<Edge>();
                    self.nodes[node].add(Edge::new(literal, Next::Gap(*content, next as u32)));
                    next
                }
            };
        }
        let number = self.skeletons.len() as u32;
        if let Some(last) = skeleton.literals.last() {
            self.nodes[node].add(Edge::new(last, Next::End(number)));
        }
        self.bytes += skeleton.literals.len() * 32;
        self.skeletons.push(skeleton);
        number
    }

    /// The same with some of the structures only, and their old numbers.
    pub(crate) fn retain(mut self, keep: impl Fn(usize) -> bool) -> (Self, Vec<usize>) {
        let (mut kept, mut numbers) = (Self::new(), Vec::new());
        for (number, skeleton) in std::mem::take(&mut self.skeletons).into_iter().enumerate() {
            if keep(number) {
                skeleton.literals.iter().for_each(|literal| drop(kept.literal(literal)));
                kept.insert(skeleton);
                numbers.push(number);
            }
        }
        (Self { paths: self.paths, path_numbers: self.path_numbers, ..kept }, numbers)
    }

    fn literal(&mut self, text: &str) -> Arc<str> {
        if let Some((literal, ())) = self.literals.get_key_value(text) {
            return literal.clone();
        }
        let literal: Arc<str> = text.into();
        self.bytes += literal.len() + 64;
        self.literals.insert(literal.clone(), ());
        literal
    }

    fn path(&mut self, name: &str, again: u32) -> Option<u32> {
        let numbered;
        let name = match again {
            1 => name,
            again => {
                numbered = format!("{name}#{again}");
                &numbered
            }
        };
        if let Some(path) = self.path_numbers.get(name) {
            return Some(*path);
        }
        if self.paths.len() >= MAX_PATHS || name.is_empty() || name.len() > MAX_NAME {
            return None;
        }
        let name: Arc<str> = name.into();
        self.path_numbers.insert(name.clone(), self.paths.len() as u32);
        self.paths.push(name);
        Some(self.paths.len() as u32 - 1)
    }
}

//! Clusters the lines of one stream and level, in the way of Drain: lines of one shape that agree in most of their words are of one
//! pattern, and the words in which they differ become `<_>`.

use hashbrown::HashMap;

use crate::patterns::tokens::{Word, Words, json_text};

/// Clusters of one shape; beyond it a line joins the nearest however far it is.
const MAX_OF_SHAPE: usize = 16;
/// Share of the words that tell something in which a line must agree with a cluster, in percent.
const ALIKE: usize = 60;
/// What a cluster costs beside its text, words and counts.
const CLUSTER_BYTES: usize = 160;

/// Nanoseconds of a count's time slot.
pub(super) const SLOT: i64 = 10_000_000_000;

/// The clusters of a stream and level.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// By shape.
    shapes: HashMap<u64, Vec<Cluster>>,
    clusters: usize,
}

/// Lines that are alike.
#[derive(Debug)]
struct Cluster {
    /// The text of the first.
    text: Box<str>,
    words: Box<[Word]>,
    /// Where the text is cut off.
    cut: Option<u16>,
    /// The text is a part of a JSON line.
    is_part: bool,
    /// Slot and lines, ascending.
    counts: Vec<(i64, u32)>,
}

/// A hash that no word has: the words differ here.
const ANY: u32 = 0;

impl Drain {
    /// Counts a line for `weight` lines in a time slot. Returns by how many bytes the clusters grew.
    pub(super) fn add(
        &mut self,
        line: &str,
        fields: &[String],
        words: &mut Words,
        slot: i64,
        weight: u32,
        max_clusters: usize,
    ) -> isize {
        let part = json_text(line, fields);
        let is_part = part.is_some();
        let text = part.map_or(line, |place| &line[place]);
        words.read(text);
        let shape = words.shape ^ u64::from(is_part);
        let clusters = self.shapes.entry(shape).or_default();
        let full = clusters.len() >= MAX_OF_SHAPE;
        let best = clusters
            .iter_mut()
            .filter_map(|cluster| cluster.likeness(words, is_part).map(|alike| (alike, cluster)))
            .filter(|(alike, _)| full || *alike >= ALIKE)
            .max_by_key(|(alike, _)| *alike);
        if let Some((_, cluster)) = best {
            cluster.join(words);
            return cluster.count(slot, weight);
        }
        let mut grown = 0;
        if full || self.clusters >= max_clusters.max(1) {
            grown -= self.evict(shape);
        }
        let cluster = Cluster::new(text, words, is_part, slot, weight);
        grown += cluster.bytes() as isize;
        self.shapes.entry(shape).or_default().push(cluster);
        self.clusters += 1;
        grown
    }

    /// Lets go of the cluster that was seen longest ago.
    fn evict(&mut self, kept: u64) -> isize {
        let last = |cluster: &Cluster| cluster.counts.last().map_or(i64::MIN, |c| c.0);
        let oldest = self
            .shapes
            .iter()
            .flat_map(|(shape, list)| list.iter().enumerate().map(move |(at, c)| (last(c), *shape, at)))
            .min();
        let Some((_, shape, at)) = oldest else { return 0 };
        let Some(list) = self.shapes.get_mut(&shape) else { return 0 };
        let gone = list.swap_remove(at);
        if list.is_empty() && shape != kept {
            self.shapes.remove(&shape);
        }
        self.clusters -= 1;
        gone.bytes() as isize
    }

    /// Forgets what was counted before a slot. Returns how many bytes that freed.
    pub(super) fn forget(&mut self, before: i64) -> usize {
        let mut freed = 0;
        self.shapes.retain(|_, list| {
            list.retain_mut(|cluster| {
                let held = cluster.bytes();
                let old = cluster.counts.partition_point(|c| c.0 < before);
                cluster.counts.drain(..old);
                if cluster.counts.is_empty() {
                    freed += held;
                    return false;
                }
                freed += held - cluster.bytes();
                true
            });
            !list.is_empty()
        });
        self.clusters = self.shapes.values().map(Vec::len).sum();
        freed
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.clusters == 0
    }

    /// Bytes of all clusters.
    pub(super) fn bytes(&self) -> usize {
        self.shapes.values().flatten().map(Cluster::bytes).sum()
    }

    /// Each pattern with its counts by slot.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (String, &[(i64, u32)])> {
        self.shapes.values().flatten().map(|cluster| (cluster.pattern(), cluster.counts.as_slice()))
    }
}

impl Cluster {
    fn new(text: &str, words: &Words, is_part: bool, slot: i64, weight: u32) -> Self {
        let end = words.cut.map_or(text.len(), usize::from);
        let mut list: Box<[Word]> = words.list.as_slice().into();
        // What would be misread in a pattern is never shown.
        for word in &mut list {
            let shown = &text.as_bytes()[word.start.into()..word.end.into()];
            if shown.contains(&b'<') || shown.contains(&b'>') {
                word.hash = ANY;
            }
        }
        Self { text: text[..end].into(), words: list, cut: words.cut, is_part, counts: vec![(slot, weight)] }
    }

    fn bytes(&self) -> usize {
        CLUSTER_BYTES
            + self.text.len()
            + self.words.len() * size_of::<Word>()
            + self.counts.len() * size_of::<(i64, u32)>()
    }

    /// In how many of a hundred telling words a line of the same shape agrees; `None` if the hash of the shape deceives.
    fn likeness(&self, words: &Words, is_part: bool) -> Option<usize> {
        if self.words.len() != words.list.len()
            || self.is_part != is_part
            || self.cut.is_some() != words.cut.is_some()
        {
            return None;
        }
        let (mut telling, mut same) = (0, 0);
        for (own, word) in self.words.iter().zip(&words.list) {
            if own.is_value || word.is_value || own.hash == ANY {
                continue;
            }
            telling += 1;
            same += usize::from(own.hash == word.hash);
        }
        Some((same * 100).checked_div(telling).unwrap_or(100))
    }

    fn join(&mut self, words: &Words) {
        for (own, word) in self.words.iter_mut().zip(&words.list) {
            if own.hash != word.hash {
                own.hash = ANY;
            }
        }
    }

    /// Returns by how many bytes it grew.
    fn count(&mut self, slot: i64, weight: u32) -> isize {
        let at = self.counts.partition_point(|c| c.0 < slot);
        match self.counts.get_mut(at) {
            Some(count) if count.0 == slot => {
                count.1 = count.1.saturating_add(weight);
                0
            }
            _ => {
                self.counts.insert(at, (slot, weight));
                size_of::<(i64, u32)>() as isize
            }
        }
    }

    /// The pattern, which `|>` takes.
    fn pattern(&self) -> String {
        const PLACEHOLDER: &str = "<_>";
        let mut out = String::with_capacity(self.text.len() + 8);
        let place = |out: &mut String| {
            if !out.ends_with(PLACEHOLDER) {
                out.push_str(PLACEHOLDER);
            }
        };
        if self.is_part {
            place(&mut out);
        }
        let mut at = 0;
        for word in &self.words {
            out.push_str(&self.text[at..word.start.into()]);
            if word.hash == ANY {
                place(&mut out);
            } else {
                out.push_str(&self.text[word.start.into()..word.end.into()]);
            }
            at = word.end.into();
        }
        out.push_str(&self.text[at..]);
        if self.is_part || self.cut.is_some() {
            place(&mut out);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> Vec<String> {
        vec!["msg".to_owned()]
    }

    fn drain(lines: &[&str]) -> Drain {
        let (mut drain, mut words) = (Drain::default(), Words::default());
        let mut bytes = 0;
        for line in lines {
            bytes += drain.add(line, &fields(), &mut words, 7, 2, 100);
        }
        assert_eq!(bytes, drain.bytes() as isize);
        drain
    }

    fn patterns(lines: &[&str]) -> Vec<(String, u32)> {
        let drain = drain(lines);
        let mut found: Vec<_> =
            drain.patterns().map(|(p, counts)| (p, counts.iter().map(|c| c.1).sum())).collect();
        found.sort();
        found
    }

    #[test]
    fn patterns_of_lines() {
        let check = |lines: &[&str], expect: &[(&str, u32)]| {
            let expect: Vec<_> = expect.iter().map(|(p, n)| ((*p).to_owned(), *n)).collect();
            assert_eq!(patterns(lines), expect, "{lines:?}");
        };
        check(&["listening on port 3100"], &[("listening on port 3100", 2)]);
        check(&["user 17 logged in", "user bob logged in"], &[("user <_> logged in", 4)]);
        check(
            &["GET /api/users/1 200 5ms", "GET /api/users/2 404 6ms", "connection refused"],
            &[("GET /api/users/<_> <_> <_>", 4), ("connection refused", 2)],
        );
        check(
            &["level=info msg=\"saved it\" id=1", "level=info msg=\"saved it\" id=2"],
            &[("level=info msg=\"saved it\" id=<_>", 4)],
        );
        check(
            &[r#"{"ts":1,"msg":"job 5 done"}"#, r#"{"x":[],"msg":"job 6 done","y":2}"#],
            &[("<_>job <_> done<_>", 4)],
        );
        check(&[r#"{"msg":"5 jobs"}"#, r#"{"msg":"6 jobs"}"#], &[("<_> jobs<_>", 4)]);
        check(&["start <b> of 5"], &[("start <_> of 5", 2)]);
        check(
            &["alpha beta gamma", "delta epsilon zeta"],
            &[("alpha beta gamma", 2), ("delta epsilon zeta", 2)],
        );
        check(&["", "= ="], &[("", 2), ("= =", 2)]);
    }

    #[test]
    fn clusters_are_bounded() {
        let (mut drain, mut words) = (Drain::default(), Words::default());
        let mut bytes = 0;
        let word =
            |n: usize| (0..5).map(|i| char::from(b'a' + ((n >> (i * 3)) & 7) as u8)).collect::<String>();
        for n in 0..2000 {
            // Few of one shape, many shapes.
            let line = format!("{}{}{}", word(n), " ".repeat(1 + n % 50), word(n * 7));
            bytes += drain.add(&line, &[], &mut words, n as i64, 1, 40);
        }
        assert!(drain.clusters <= 40, "{}", drain.clusters);
        assert_eq!(bytes, drain.bytes() as isize);
        let freed = drain.forget(1990);
        assert_eq!(bytes - freed as isize, drain.bytes() as isize);
        drain.forget(i64::MAX);
        assert!(drain.is_empty());
    }

    proptest! {
        /// Every line is matched by a pattern of its cluster.
        #[test]
        fn patterns_match_their_lines(lines in prop::collection::vec(r#"[ab1<>=_" {}:/é-]{0,24}|(GET|PUT) /(a|b1|c)/[0-9]{1,3} (ok|no)"#, 1..12)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let drain = drain(&lines);
            let patterns: Vec<String> = drain.patterns().map(|p| p.0).collect();
            for line in &lines {
                prop_assert!(patterns.iter().any(|p| matches(p, line)), "{line:?} by none of {patterns:?}");
            }
            let total: u32 = drain.patterns().flat_map(|(_, counts)| counts.iter().map(|c| c.1)).sum();
            prop_assert_eq!(total as usize, 2 * lines.len());
        }
    }

    /// What `|>` does with a pattern whose placeholders are all `<_>`.
    fn matches(pattern: &str, line: &str) -> bool {
        let literals: Vec<&str> = pattern.split("<_>").collect();
        let Some(mut rest) = line.strip_prefix(literals[0]) else { return false };
        for (i, literal) in literals.iter().enumerate().skip(1) {
            let last = i + 1 == literals.len();
            if last && literal.is_empty() {
                return !rest.is_empty();
            }
            match rest.find(literal) {
                Some(at) if at > 0 => rest = &rest[at + literal.len()..],
                _ => return false,
            }
        }
        rest.is_empty()
    }
}

//! Regular expressions over shredded lines: an automaton walks over the literals of a shape, and over what its gaps can hold.
//!
//! For most shapes the answer is then known of all lines, or depends on the values of one gap or two; only those are read. Where a
//! value is read, the automaton goes on from where the text in front has brought it.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef};
use hashbrown::HashMap;
use model::regex::{Automaton, State};
use shred::{Shape, ShreddedLines, Source, Table, Values};

use super::Tri;
use super::cells::gap_text;
use super::language::Language;
use super::occurs::Wants;

/// States of all gaps of a shape together, at most.
const MAX_STATES: usize = 2048;

/// Where the walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// The answer.
    Sure(bool),
    /// A [`Node`] of the path.
    Node(u32),
}

/// A gap whose value matters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// Place of the gap in the shape.
    gap: usize,
    /// In front of the value.
    from: State,
    /// By the state behind the value, ascending.
    goals: Vec<(State, Goal)>,
}

/// The walk over lines of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Path {
    start: Goal,
    nodes: Vec<Node>,
}

/// Where values can lead, by what values can be.
type Ends = HashMap<(Language, State), Arc<[State]>>;

impl Path {
    /// `None` if there are too many ways.
    fn new(automaton: &Automaton, table: &Table, shape: &Shape, known: &mut Ends) -> Option<Self> {
        let literal = |at: usize| shape.literals.get(at).map_or(&b""[..], |l| l.as_bytes());
        let start = automaton.run(automaton.start(), literal(0));
        // By gap: the states in front of it, and for each those behind the value.
        let mut fronts: Vec<Vec<(State, Arc<[State]>)>> = Vec::with_capacity(shape.gaps.len());
        let (mut states, mut count) = (vec![start], 0);
        for at in 0..shape.gaps.len() {
            if states == [State::MATCHED] {
                break;
            }
            let language = Language::of(table, shape, at);
            let mut next: Vec<State> = Vec::new();
            let front = states.iter().map(|from| {
                let key = (language.clone(), *from);
                let ends = known.entry(key).or_insert_with_key(|(l, from)| l.ends(automaton, *from).into());
                next.extend(ends.iter().map(|end| automaton.run(*end, literal(at + 1))));
                count += ends.len();
                (*from, ends.clone())
            });
            let front = front.collect();
            fronts.push(front);
            next.sort_unstable();
            next.dedup();
            if count > MAX_STATES {
                return None;
            }
            states = next;
        }
        let mut nodes: Vec<Node> = Vec::new();
        let end = |state: &State| (*state, Goal::Sure(automaton.matches_at_end(*state)));
        let mut goals: Vec<(State, Goal)> = states.iter().map(end).collect();
        for (gap, front) in fronts.into_iter().enumerate().rev() {
            let before = front.into_iter().map(|(from, ends)| {
                let behind = ends.iter().filter_map(|end| {
                    let next = automaton.run(*end, literal(gap + 1));
                    let at = goals.binary_search_by_key(&next, |(state, _)| *state).ok()?;
                    Some((*end, goals[at].1))
                });
                let behind: Vec<(State, Goal)> = behind.collect();
                let goal = match behind.split_first() {
                    Some(((_, first), rest)) if rest.iter().all(|(_, goal)| goal == first) => *first,
                    _ => {
                        nodes.push(Node { gap, from, goals: behind });
                        Goal::Node(nodes.len() as u32 - 1)
                    }
                };
                (from, goal)
            });
            goals = before.collect();
        }
        Some(Self { start: goals.first()?.1, nodes })
    }

    /// The gaps that are looked at.
    fn gaps(&self) -> impl Iterator<Item = usize> + '_ {
        let mut reached = vec![false; self.nodes.len()];
        let mut stack = vec![self.start];
        while let Some(goal) = stack.pop() {
            if let Goal::Node(at) = goal
                && !std::mem::replace(&mut reached[at as usize], true)
            {
                stack.extend(self.nodes[at as usize].goals.iter().map(|(_, goal)| *goal));
            }
        }
        self.nodes.iter().zip(reached).filter(|(_, reached)| *reached).map(|(node, _)| node.gap)
    }
}

/// By shape and node: the dictionary looked at last, and where its entries lead.
type Dictionaries = HashMap<(u32, u32), (ArrayRef, Vec<Followed>)>;

/// Where an entry leads, if it was asked for; that may be nowhere.
type Followed = Option<Option<Goal>>;

/// What an automaton has found out that other batches can use.
#[derive(Debug, Clone, Default)]
pub(crate) struct WalkState {
    /// The table that `paths` is of.
    table: Option<Arc<Table>>,
    /// By shape; `None` if not asked yet.
    paths: Vec<Option<Option<Arc<Path>>>>,
    known: Ends,
    dictionaries: Dictionaries,
}

impl WalkState {
    fn fit(&mut self, table: &Arc<Table>) {
        if !self.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, table)) {
            *self = Self {
                table: Some(table.clone()),
                paths: vec![None; table.shapes.len()],
                known: HashMap::new(),
                dictionaries: HashMap::new(),
            };
        }
    }

    fn path(&mut self, automaton: &Automaton, table: &Table, shape: usize) -> Option<Arc<Path>> {
        let path = self.paths.get_mut(shape)?;
        let known = &mut self.known;
        let make = || Path::new(automaton, table, table.shapes.get(shape)?, known).map(Arc::new);
        path.get_or_insert_with(make).clone()
    }
}

/// Adds the columns that tell which lines match.
pub(crate) fn walk_columns(automaton: &Automaton, table: &Table, wants: &mut Wants) {
    let mut known = Ends::new();
    for shape in &table.shapes {
        if let Some(path) = Path::new(automaton, table, shape, &mut known) {
            path.gaps().for_each(|gap| wants.add(shape.gaps[gap].source));
        }
    }
}

/// Which of the rows match. [`Tri::Odd`] where not enough was read, or where the line must be put together.
pub(crate) fn walk(
    automaton: &Automaton,
    lines: &ShreddedLines,
    rows: &[u32],
    state: &mut WalkState,
) -> Vec<Tri> {
    state.fit(&lines.table);
    let sure = |matches: bool| if matches { Tri::Pass } else { Tri::Drop };
    let (mut last, mut path): (Option<usize>, Option<Arc<Path>>) = (None, None);
    let mut text = String::new();
    let mut tris = Vec::with_capacity(rows.len());
    for row in rows {
        let row = *row as usize;
        if lines.shapes.is_null(row) {
            tris.push(match &lines.raw {
                Some(raw) if raw.is_valid(row) => {
                    let end = automaton.run(automaton.start(), raw.value(row).as_bytes());
                    sure(automaton.matches_at_end(end))
                }
                _ => Tri::Odd,
            });
            continue;
        }
        let shape = lines.shapes.value(row) as usize;
        if last != Some(shape) {
            (last, path) = (Some(shape), state.path(automaton, &lines.table, shape));
        }
        let Some(path) = &path else {
            tris.push(Tri::Odd);
            continue;
        };
        let mut goal = Some(path.start);
        tris.push(loop {
            match goal {
                None => break Tri::Odd,
                Some(Goal::Sure(matches)) => break sure(matches),
                Some(Goal::Node(number)) => {
                    let node = &path.nodes[number as usize];
                    let memos = &mut state.dictionaries;
                    goal = node.follow(automaton, lines, (shape as u32, number), row, memos, &mut text);
                }
            }
        });
    }
    tris
}

impl Node {
    /// Where the value of the row leads; `None` if it was not read, or if it is none that was expected.
    fn follow(
        &self,
        automaton: &Automaton,
        lines: &ShreddedLines,
        key: (u32, u32),
        row: usize,
        memos: &mut Dictionaries,
        buffer: &mut String,
    ) -> Option<Goal> {
        let goal = |text: &str| {
            let end = automaton.run(self.from, text.as_bytes());
            let at = self.goals.binary_search_by_key(&end, |(state, _)| *state).ok()?;
            Some(self.goals[at].1)
        };
        let gap = lines.table.shapes[key.0 as usize].gaps[self.gap];
        if let Source::Field(field) = gap.source
            && let Some(Values::Dictionary(array)) = lines.fields.get(field.0 as usize)?
        {
            let code = array.keys().is_valid(row).then(|| array.keys().value(row) as usize)?;
            let (values, found) = memos.entry(key).or_insert_with(|| (array.values().clone(), Vec::new()));
            if found.is_empty() || !Arc::ptr_eq(values, array.values()) {
                *values = array.values().clone();
                *found = vec![None; values.len()];
            }
            return match found.get(code)? {
                Some(goal) => *goal,
                None => {
                    let found_goal = goal(array.values().as_string::<i32>().value(code));
                    found[code] = Some(found_goal);
                    found_goal
                }
            };
        }
        goal(gap_text(lines, gap, row, buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;
    use model::regex::Regex;
    use proptest::prelude::*;

    fn columns(lines: &ShreddedLines, pattern: &str) -> Vec<String> {
        let mut wants = Wants::new(&lines.table);
        walk_columns(&Automaton::new(pattern).unwrap(), &lines.table, &mut wants);
        let shred::Columns::Some { fields, .. } = wants.into_columns() else { panic!() };
        fields.iter().map(|id| lines.table.fields[id.0 as usize].name.to_string()).collect()
    }

    #[test]
    fn few_columns_are_read() {
        let lines = (0..60).map(|i| {
            let (method, path) = (["GET", "POST"][i % 2], ["jobs", "tracks"][i / 2 % 2]);
            format!(
                r#"10.0.0.{i} - - [17{i:03}] "{method} /api/v1/{path}/{i} HTTP/1.1" {} rt=0.{i:03}"#,
                200 + i
            )
        });
        let lines = shred::shred_all(&StringArray::from_iter_values(lines));
        assert!(columns(&lines, r"(POST|PUT) /api/v1/(jobs|tracks)/[0-9]+").is_empty());
        assert!(columns(&lines, "connection refused").is_empty());
        assert_eq!(columns(&lines, r#"" 5\d\d "#), ["text.HTTP+1"]);
        assert_eq!(columns(&lines, r#"^10\.0\.0\.5 .*POST"#), ["text.start"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn answers_as_the_engine(
            lines in proptest::collection::vec(
                prop_oneof![
                    "\\{\"a\":\"[abé ]{0,3}\",\"b\":-?[1-9][0-9]?,\"c\":\"[0-9a-f]{8}\"\\}",
                    "a=[ab]{0,2} b=[0-9]{1,2}\\.[0-9] c=\"[ab =]{0,3}\"",
                    "[ab]{1,2}[0-9]{1,2} - [0-9]b? [a\"]{0,2}",
                    "[ab1 ]{0,4}",
                ],
                1..20,
            ),
            pattern in "(\\(\\?i\\))?(\\^|\\\\b)?(a|b|A|1|é| |\"|=|:|-|\\\\.|\\\\d+|\\\\w|\\[ab\\]+|\\[\\^a\\]|\\.\\*|\\.|(a=|b1)|\\\\b){1,5}(\\$)?",
        ) {
            let (Ok(regex), Some(automaton)) = (Regex::new(&pattern), Automaton::new(&pattern)) else { return Ok(()) };
            let shredded = shred::shred_all(&StringArray::from_iter_values(&lines));
            let rows: Vec<u32> = (0..lines.len() as u32).collect();
            let mut wants = Wants::new(&shredded.table);
            walk_columns(&automaton, &shredded.table, &mut wants);
            let shred::Columns::Some { fields, rest, .. } = wants.into_columns() else { panic!() };
            let mut few = shredded.clone();
            for (at, values) in few.fields.iter_mut().enumerate() {
                *values = values.take().filter(|_| fields.iter().any(|field| field.0 as usize == at));
            }
            few.rest = few.rest.filter(|_| rest);
            for (lines_of, state) in [(&shredded, &mut WalkState::default()), (&few, &mut WalkState::default())] {
                let tris = walk(&automaton, lines_of, &rows, state);
                for (line, tri) in lines.iter().zip(tris) {
                    let want = if regex.is_match(line) { Tri::Pass } else { Tri::Drop };
                    prop_assert_eq!(tri, want, "{} in {:?} of {:?}", pattern, line, lines);
                }
            }
        }
    }
}

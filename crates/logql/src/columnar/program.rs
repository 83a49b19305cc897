//! The part of a pipeline that runs over columns: parsers as plans per shape, and label filters.
//!
//! A plan says where each label that matters comes from. Shapes with equal plans form a class; rows are decided class by class.
//! A shape of which the plan would depend on values is odd: its rows take the ordinary path.

use std::sync::Arc;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use shred::{Gap, Shape, Table};

use super::decide::read;
use super::occurs::Wants;
use super::pattern::Tokens;
use super::sample::{Member, Origin, Pair, Sample};
use crate::names::{NameId, Names, PRESERVE_ERROR};
use crate::row::{BatchView, Wanted};
use crate::stages::{LabelFilter, Stage, Verdict};

/// What the text of a gap means to the label made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    /// The inside of a JSON string.
    JsonString,
    /// A JSON number or word: null and arrays make no label.
    JsonToken,
    /// The same, chosen by a path: null is empty text.
    JsonChosen,
    /// A logfmt value; an empty one makes no label unless empties are kept, nor does a quoted one with a broken escape.
    Logfmt { quoted: bool, keep_empty: bool },
    /// The same, chosen by its key: what makes no label is empty text.
    LogfmtChosen { quoted: bool },
    /// As it stands.
    Plain,
}

/// Where a label comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origins {
    /// No parser makes it: the metadata's or the stream's, if they have it.
    Ambient,
    Text(Arc<str>),
    Gap(Gap, Reading),
}

/// What the stages do to the lines of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    /// It depends on more than this can tell.
    Odd,
    /// The labels by the program's names, after each parser (first: before all), and whether parsing has failed by then.
    Known(Vec<(Vec<Origins>, bool)>),
}

/// Whether entries have a label before parsing, which makes parsers use another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    No,
    Yes,
    /// Some entries do.
    Perhaps,
}

/// Where the value of an [`Origins::Ambient`] label is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ambient<'b> {
    Nowhere,
    Stream(&'b str),
    /// In this column of the metadata.
    Column(usize),
    /// In the map of rare metadata, in some entries.
    Unknown,
}

/// A name that a parser may find.
#[derive(Debug, Clone)]
struct Found {
    id: NameId,
    /// The place in the program's names if the label is not taken, and if it is.
    plain: Option<usize>,
    extracted: Option<usize>,
}

/// A pipeline's beginning, as far as it can run over columns.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// How many of the pipeline's stages it covers.
    pub(super) length: usize,
    /// Whether no later stage drops entries.
    pub(crate) decides: bool,
    /// Whether it is the whole pipeline.
    pub(crate) whole: bool,
    /// Whether a filter looks at errors: then nothing is known of an entry that has one.
    pub(super) looks_at_errors: bool,
    pub(super) names: Vec<NameId>,
    found: Vec<Found>,
}

/// The plans for the shapes of a table, for streams and metadata of some names.
#[derive(Debug, Clone)]
pub(crate) struct Plans {
    table: Arc<Table>,
    taken: Vec<Taken>,
    /// By shape; `NONE` if not asked yet.
    of_shape: Vec<u32>,
    pub(super) classes: Vec<Class>,
}

const NONE: u32 = u32::MAX;

/// What of a batch decides on plans and on labels that no parser makes.
#[derive(Debug, Clone)]
pub(super) struct Context<'b> {
    taken: Vec<Taken>,
    /// By the program's names.
    pub(super) ambient: Vec<Ambient<'b>>,
}

impl Program {
    /// The program for a pipeline of which the rest of the query looks at the `wanted` labels.
    pub(crate) fn new(
        stages: &[Stage],
        wanted: &Wanted,
        looks_at_errors: bool,
        names: &mut Names,
    ) -> Option<Self> {
        let wanted = match wanted {
            Wanted::All => return None,
            Wanted::Nothing => Vec::new(),
            Wanted::Names(wanted) => wanted.clone(),
        };
        let covered = |stage: &Stage| {
            matches!(
                stage,
                Stage::Json
                    | Stage::JsonPaths(_)
                    | Stage::Logfmt(_)
                    | Stage::Pattern(_)
                    | Stage::LabelFilter(_)
            )
        };
        let length = stages.iter().position(|stage| !covered(stage)).unwrap_or(stages.len());
        let rest = &stages[length..];
        let mut found: Vec<Found> = Vec::new();
        let mut add = |id: NameId, plain: Option<usize>, extracted: Option<usize>| match found
            .iter_mut()
            .find(|f| f.id == id)
        {
            Some(f) => (f.plain, f.extracted) = (f.plain.or(plain), f.extracted.or(extracted)),
            None => found.push(Found { id, plain, extracted }),
        };
        for (at, id) in wanted.iter().enumerate() {
            add(*id, Some(at), None);
            let base = names.text(*id).strip_suffix("_extracted").map(str::to_owned);
            if let Some(base) = base {
                add(names.id(&base), None, Some(at));
            }
        }
        let errors = |stage: &Stage| matches!(stage, Stage::LabelFilter(f) if f.depends_on_errors());
        Some(Self {
            length,
            decides: !rest.iter().any(|s| matches!(s, Stage::LineFilter(_) | Stage::LabelFilter(_))),
            whole: rest.is_empty(),
            looks_at_errors: looks_at_errors || stages[..length].iter().any(errors),
            names: wanted,
            found,
        })
    }

    /// The names that entries must show, so that it is known which labels parsers make.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = NameId> {
        self.found.iter().map(|found| found.id)
    }

    /// Whether it has anything to say.
    pub(crate) fn is_useful(&self, stages: &[Stage]) -> bool {
        self.whole || self.has_filters(stages)
    }

    /// Whether it drops entries.
    pub(crate) fn has_filters(&self, stages: &[Stage]) -> bool {
        stages[..self.length].iter().any(|stage| matches!(stage, Stage::LabelFilter(_)))
    }

    pub(super) fn context<'b>(&self, view: &BatchView<'b>, names: &mut Names) -> Context<'b> {
        // Names in the map of rare metadata, as entries have them.
        let mut rare: Vec<NameId> = Vec::new();
        if view.reads_rest()
            && let Some(map) = &view.batch.metadata.rest
            && let (Some(from), Some(to)) = (map.value_offsets().first(), map.value_offsets().last())
        {
            let keys = map.keys().as_string::<i32>();
            for at in *from as usize..*to as usize {
                let Some(id) = names.find(keys.value(at)) else { continue };
                let id = if view.stream_label(id).is_some() { names.extracted(id) } else { id };
                if !rare.contains(&id) && self.found.iter().any(|f| f.id == id) {
                    rare.push(id);
                }
            }
        }
        let column = |id: NameId| view.columns().iter().find(|(n, _)| *n == id).map(|(_, column)| *column);
        let taken = self.found.iter().map(|f| {
            if view.stream_label(f.id).is_some() {
                return Taken::Yes;
            }
            let nulls = column(f.id).map(|at| {
                let values = &view.batch.metadata.columns[at].1;
                (values.null_count(), values.len())
            });
            match nulls {
                Some((0, 1..)) => Taken::Yes,
                Some((nulls, all)) if nulls < all => Taken::Perhaps,
                _ if rare.contains(&f.id) => Taken::Perhaps,
                _ => Taken::No,
            }
        });
        let ambient = self.names.iter().map(|id| {
            if *id <= PRESERVE_ERROR {
                return Ambient::Nowhere;
            }
            match (column(*id), view.stream_label(*id)) {
                (Some(column), _) => Ambient::Column(column),
                (None, _) if rare.contains(id) => Ambient::Unknown,
                (None, Some(value)) => Ambient::Stream(value),
                (None, None) => Ambient::Nowhere,
            }
        });
        Context { taken: taken.collect(), ambient: ambient.collect() }
    }

    /// Which of the classes of `plans` a shape belongs to.
    pub(super) fn class(
        &self,
        stages: &[Stage],
        plans: &mut Plans,
        shape: usize,
        names: &mut Names,
    ) -> usize {
        match plans.of_shape.get(shape) {
            None => return 0,
            Some(&class) if class != NONE => return class as usize,
            Some(_) => {}
        }
        let class = match plans.table.shapes.get(shape) {
            Some(of) => {
                self.plan(stages, &plans.table, of, &plans.taken, names).map_or(Class::Odd, Class::Known)
            }
            None => Class::Odd,
        };
        let at = plans.classes.iter().position(|c| *c == class).unwrap_or_else(|| {
            plans.classes.push(class);
            plans.classes.len() - 1
        });
        plans.of_shape[shape] = at as u32;
        at
    }

    /// What the stages do to lines of the shape; `None` if that depends on values.
    fn plan(
        &self,
        stages: &[Stage],
        table: &Table,
        shape: &Shape,
        taken: &[Taken],
        names: &mut Names,
    ) -> Option<Vec<(Vec<Origins>, bool)>> {
        let mut states = self.origins(stages, shape, taken, names)?;
        // Values that are the same in all lines need not be read.
        for origin in states.iter_mut().flat_map(|(labels, _)| labels) {
            if let Origins::Gap(gap, reading) = origin
                && let Some(text) = table.constant(*gap)
                && let Some(text) = read(*reading, &text, &mut String::new())
            {
                *origin = Origins::Text(text.into());
            }
        }
        Some(states)
    }

    fn origins(
        &self,
        stages: &[Stage],
        shape: &Shape,
        taken: &[Taken],
        names: &mut Names,
    ) -> Option<Vec<(Vec<Origins>, bool)>> {
        let sample = Sample::new(shape);
        let mut labels = vec![Origins::Ambient; self.names.len()];
        let mut failed = false;
        let mut states = vec![(labels.clone(), failed)];
        for stage in &stages[..self.length] {
            match stage {
                Stage::LabelFilter(_) => continue,
                // Parsers do nothing once all labels are made.
                Stage::Json | Stage::Logfmt(_) | Stage::Pattern(_) if self.names.is_empty() => {}
                Stage::Pattern(pattern) => {
                    let tokens = Tokens::new(shape)?;
                    let ends = pattern.captures().map(|(_, end)| end);
                    let ranges = tokens.captures(pattern.prefix(), ends)?;
                    for ((name, _), range) in pattern.captures().zip(ranges) {
                        let Some(name) = name else { continue };
                        let Some(at) = self.target(name, taken)? else { continue };
                        match &labels[at] {
                            Origins::Ambient => labels[at] = tokens.origin(range)?,
                            Origins::Gap(_, Reading::JsonToken | Reading::Logfmt { .. }) => return None,
                            Origins::Text(_) | Origins::Gap(..) => {}
                        }
                    }
                }
                Stage::Json if sample.is_no_object() => {
                    if labels.iter().any(|l| *l != Origins::Ambient) {
                        return None;
                    }
                    failed = true;
                }
                Stage::Json => {
                    for member in sample.members()? {
                        let mut raw = Vec::new();
                        for key in &member.path {
                            if !raw.is_empty() {
                                raw.push(0);
                            }
                            raw.extend_from_slice(&sample.line.as_bytes()[key.clone()]);
                        }
                        let Some(at) = self.place(&raw, taken, names)? else { continue };
                        let reading = if member.quoted { Reading::JsonString } else { Reading::JsonToken };
                        self.add(&mut labels, at, member.value, reading)?;
                    }
                }
                Stage::JsonPaths(_) if sample.is_no_object() => failed = true,
                Stage::JsonPaths(paths) => {
                    let members = sample.members()?;
                    for (name, path) in paths.keys() {
                        let Some(at) = self.target(name, taken)? else { continue };
                        labels[at] = chosen(&sample, &members, path.as_deref()?)?;
                    }
                }
                Stage::Logfmt(logfmt) => {
                    let pairs = sample.pairs()?;
                    if logfmt.is_strict() {
                        return None;
                    }
                    if logfmt.extractions().is_empty() {
                        for pair in &pairs {
                            let keep_empty = logfmt.keeps_empty();
                            let reading = Reading::Logfmt { quoted: pair.quoted, keep_empty };
                            let key = &sample.line.as_bytes()[pair.key.clone()];
                            if matches!(&pair.value, Origin::Literal(range) if range.is_empty())
                                && !keep_empty
                            {
                                continue;
                            }
                            let Some(at) = self.place(key, taken, names)? else { continue };
                            self.add(&mut labels, at, pair.value.clone(), reading)?;
                        }
                    }
                    // None of these if all keys are wanted.
                    for (name, key) in logfmt.extractions() {
                        let Some(at) = self.target(*name, taken)? else { continue };
                        let mut matching = pairs.iter().filter(|pair| sample.line[pair.key.clone()] == **key);
                        labels[at] = match (matching.next(), matching.next()) {
                            (None, _) => Origins::Text("".into()),
                            (Some(Pair { value: Origin::Gap(gap), quoted, .. }), None) => {
                                Origins::Gap(*gap, Reading::LogfmtChosen { quoted: *quoted })
                            }
                            (Some(Pair { value: Origin::Literal(range), .. }), _) if range.is_empty() => {
                                Origins::Text("".into())
                            }
                            _ => return None,
                        };
                    }
                }
                _ => return None,
            }
            states.push((labels.clone(), failed));
        }
        Some(states)
    }

    /// Which of the program's names a parser's raw key fills: `Some(None)` for none, `None` if it depends on the entry.
    fn place(&self, raw: &[u8], taken: &[Taken], names: &mut Names) -> Option<Option<usize>> {
        match names.sanitized(raw) {
            Some(id) => self.target(id, taken),
            None => Some(None),
        }
    }

    fn target(&self, id: NameId, taken: &[Taken]) -> Option<Option<usize>> {
        let Some(at) = self.found.iter().position(|f| f.id == id) else { return Some(None) };
        match taken.get(at)? {
            Taken::No => Some(self.found[at].plain),
            Taken::Yes => Some(self.found[at].extracted),
            Taken::Perhaps => None,
        }
    }

    /// Makes a label unless there is one; `None` if there is one in some entries.
    fn add(&self, labels: &mut [Origins], at: usize, value: Origin, reading: Reading) -> Option<()> {
        match &labels[at] {
            Origins::Ambient => {}
            Origins::Text(_)
            | Origins::Gap(
                _,
                Reading::JsonString | Reading::JsonChosen | Reading::LogfmtChosen { .. } | Reading::Plain,
            ) => {
                return Some(());
            }
            Origins::Gap(_, Reading::JsonToken | Reading::Logfmt { .. }) => return None,
        }
        match value {
            Origin::Gap(gap) => labels[at] = Origins::Gap(gap, reading),
            Origin::Literal(range) if range.is_empty() && matches!(reading, Reading::Logfmt { .. }) => {
                labels[at] = Origins::Text("".into());
            }
            Origin::Literal(_) | Origin::Mixed => return None,
        }
        Some(())
    }

    /// Adds the columns that hold labels of lines of any shape, and of lines that can pass those that tell their length if they are
    /// to be `measured`.
    pub(crate) fn columns(
        &self,
        stages: &[Stage],
        measured: bool,
        table: &Table,
        names: &mut Names,
        wants: &mut Wants,
    ) {
        // Whether a name is taken changes which label a value becomes, but not that it is looked at.
        for shape in &table.shapes {
            for taken in [Taken::No, Taken::Yes] {
                let plan = self.plan(stages, table, shape, &vec![taken; self.found.len()], names);
                for origin in plan.iter().flatten().flat_map(|(labels, _)| labels) {
                    if let Origins::Gap(gap, _) = origin {
                        wants.add(gap.source);
                    }
                }
                if measured && plan.is_some_and(|states| self.can_pass(stages, &states)) {
                    let gaps = shape.gaps.iter().filter(|gap| table.constant_len(**gap).is_none());
                    gaps.for_each(|gap| wants.add(gap.source));
                }
            }
        }
    }

    /// Whether lines of the shape can pass, if no label comes from elsewhere. Reading too little is not wrong, only slower.
    fn can_pass(&self, stages: &[Stage], states: &[(Vec<Origins>, bool)]) -> bool {
        let mut parsers = 0;
        let mut passes = !states.last().is_some_and(|(_, failed)| *failed);
        for stage in &stages[..self.length] {
            match stage {
                Stage::LabelFilter(filter) => {
                    let label = |id: NameId| {
                        let at = self.names.iter().position(|name| *name == id);
                        at.and_then(|at| states.get(parsers)?.0.get(at))
                    };
                    passes &= can_hold(filter, &label);
                }
                _ => parsers += 1,
            }
        }
        passes
    }
}

/// Whether a filter can let labels pass of which some are known.
fn can_hold<'o>(filter: &LabelFilter, label: &impl Fn(NameId) -> Option<&'o Origins>) -> bool {
    match filter {
        LabelFilter::And(a, b) => can_hold(a, label) && can_hold(b, label),
        LabelFilter::Or(a, b) => can_hold(a, label) || can_hold(b, label),
        LabelFilter::Match(name, _) | LabelFilter::Compare(name, ..) | LabelFilter::Ip { name, .. } => {
            match label(*name) {
                Some(Origins::Text(text)) => filter.test(Some(text)) != Verdict::Drop,
                Some(Origins::Ambient) => filter.test(None) != Verdict::Drop,
                Some(Origins::Gap(..)) | None => true,
            }
        }
    }
}

/// What a path of keys chooses among the members; `None` if that is more than a value.
fn chosen(sample: &Sample<'_>, members: &[Member], path: &[&str]) -> Option<Origins> {
    for member in members {
        let same =
            member.path.iter().zip(path).take_while(|(key, want)| sample.line[(*key).clone()] == ***want);
        let same = same.count();
        if same == path.len() && member.path.len() > path.len() {
            // An object.
            return None;
        }
        if same == member.path.len() {
            if path.len() > same {
                // The path goes on where the value ends.
                return Some(Origins::Text("".into()));
            }
            let reading = if member.quoted { Reading::JsonString } else { Reading::JsonChosen };
            return match member.value {
                Origin::Gap(gap) => Some(Origins::Gap(gap, reading)),
                Origin::Literal(_) | Origin::Mixed => None,
            };
        }
    }
    // It may be an object without members.
    let empty = sample.line.split('{').any(|rest| rest.trim_start().starts_with('}'));
    (!empty).then(|| Origins::Text("".into()))
}

/// More sets of plans than this are not kept.
const MAX_PLANS: usize = 16;

impl Plans {
    /// The class of a shape, if it was asked for before.
    #[inline]
    pub(super) fn known_class(&self, shape: usize) -> Option<usize> {
        self.of_shape.get(shape).filter(|class| **class != NONE).map(|class| *class as usize)
    }

    /// The plans made so far that fit the batch, or none yet.
    pub(super) fn fit<'p>(
        plans: &'p mut Vec<Plans>,
        table: &Arc<Table>,
        context: &Context<'_>,
    ) -> &'p mut Plans {
        let fits = |p: &Plans| Arc::ptr_eq(&p.table, table) && p.taken == context.taken;
        let at = match plans.iter().position(fits) {
            Some(at) => at,
            None => {
                if plans.len() >= MAX_PLANS {
                    plans.remove(0);
                }
                plans.push(Plans {
                    table: table.clone(),
                    taken: context.taken.clone(),
                    of_shape: vec![NONE; table.shapes.len()],
                    classes: vec![Class::Odd],
                });
                plans.len() - 1
            }
        };
        &mut plans[at]
    }
}

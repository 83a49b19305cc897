//! One log line on its way through the agent.

use std::ops::Range;
use std::sync::Arc;

use model::{Labels, LabelsBuilder, Timestamp};

use crate::extracted::Extracted;
use crate::progress::{Progress, Ticket};
use crate::source::Ranges;
use crate::tail::Stream;

/// A line with everything that stages may look at and change.
#[derive(Debug)]
pub struct Entry {
    /// When it happened; the time of reading until a stage knows better.
    pub timestamp: Timestamp,
    /// The text, without its line end.
    pub line: String,
    /// Its stream. `__tenant_id__` among them says whose line it is.
    pub labels: Labels,
    /// Structured metadata in the order in which it was set.
    pub metadata: Vec<(Arc<str>, String)>,
    /// What stages have taken out of the line for later ones.
    pub extracted: Extracted,
    /// Whose line it is; empty leaves it to the client.
    pub tenant: String,
    /// The output that Docker's record named, where the reader has taken the line out of it already.
    pub docker: Option<Stream>,
    /// Acknowledges the lines that it was made of to where they were read, and knows where that was.
    pub tickets: Tickets,
}

/// The label that names the tenant; it is not sent.
pub const TENANT_LABEL: &str = "__tenant_id__";

impl Entry {
    /// A line just read.
    pub fn new(timestamp: Timestamp, line: String, labels: Labels) -> Self {
        Self {
            timestamp,
            line,
            labels,
            metadata: Vec::new(),
            extracted: Extracted::default(),
            tenant: String::new(),
            docker: None,
            tickets: Tickets::default(),
        }
    }

    /// Changes the labels.
    pub fn edit_labels(&mut self, edit: impl FnOnce(&mut LabelsBuilder)) {
        let mut labels = self.labels.to_builder();
        edit(&mut labels);
        self.labels = labels.build();
    }

    /// Sets a piece of structured metadata; a name is there once.
    pub fn set_metadata(&mut self, name: &Arc<str>, value: &str) {
        match self.metadata.iter_mut().find(|(n, _)| **n == **name) {
            Some((_, old)) => value.clone_into(old),
            None => self.metadata.push((name.clone(), value.to_owned())),
        }
    }

    /// Moves the tenant out of the labels.
    pub fn settle_tenant(&mut self) {
        if let Some(tenant) = self.labels.get(TENANT_LABEL) {
            self.tenant = tenant.to_owned();
            self.edit_labels(|labels| {
                labels.remove(TENANT_LABEL);
            });
        }
    }
}

/// What is told to the files when an entry is done: each line that went into it counts one. And which bytes of them the entry was
/// made of.
#[derive(Debug, Default)]
pub struct Tickets {
    held: Held,
    ranges: Ranges,
}

#[derive(Debug, Default)]
enum Held {
    #[default]
    None,
    /// The usual case, which needs no memory of its own.
    One(Arc<Ticket>, u32),
    Many(Vec<(Arc<Ticket>, u32)>),
}

impl Tickets {
    /// Counts one line more on the ticket.
    pub fn open(ticket: &Arc<Ticket>) -> Self {
        Self::of_bytes(ticket, Ranges::None)
    }

    /// Counts one line more on the ticket, which was these bytes.
    pub fn of_bytes(ticket: &Arc<Ticket>, ranges: Ranges) -> Self {
        ticket.add(1);
        Self { held: Held::One(ticket.clone(), 1), ranges }
    }

    /// Takes over the lines of another entry, which comes behind.
    pub fn join(&mut self, other: Self) {
        self.ranges.join(&other.ranges);
        for (ticket, count) in other.iter() {
            match &mut self.held {
                Held::None => self.held = Held::One(ticket.clone(), count),
                Held::One(last, lines) if Arc::ptr_eq(last, ticket) => *lines += count,
                Held::One(last, lines) => {
                    self.held = Held::Many(vec![(last.clone(), *lines), (ticket.clone(), count)]);
                }
                Held::Many(all) => match all.last_mut() {
                    Some((last, lines)) if Arc::ptr_eq(last, ticket) => *lines += count,
                    _ => all.push((ticket.clone(), count)),
                },
            }
        }
    }

    /// The bytes of one source that the entry was made of. `None` if they are not known, or are of several.
    pub fn origin(&self) -> Option<(&Arc<Progress>, &[Range<u64>])> {
        let ranges = self.ranges.as_slice();
        let mut all = self.iter().map(|(ticket, _)| ticket.progress());
        let first = all.next().filter(|progress| !ranges.is_empty() && progress.source().is_some())?;
        all.all(|other| Arc::ptr_eq(first, other)).then_some((first, ranges))
    }

    /// So many clients must take the entry, rather than one.
    pub fn share(&self, clients: usize) {
        match u32::try_from(clients).unwrap_or(u32::MAX) {
            0 => self.done(),
            1 => {}
            clients => self.iter().for_each(|(ticket, lines)| ticket.add(lines * (clients - 1))),
        }
    }

    /// One client has taken the entry, or it was dropped on purpose.
    pub fn done(&self) {
        self.iter().for_each(|(ticket, lines)| ticket.done(lines));
    }

    /// Tickets with the lines that count on each.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Ticket>, u32)> {
        let (one, many) = match &self.held {
            Held::None => (None, &[][..]),
            Held::One(ticket, lines) => (Some((ticket, *lines)), &[][..]),
            Held::Many(all) => (None, &all[..]),
        };
        one.into_iter().chain(many.iter().map(|(ticket, lines)| (ticket, *lines)))
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "ranges are what is compared")]
mod tests {
    use super::*;
    use crate::source::{Source, Unsaved};

    #[test]
    fn joined_lines_are_done_together() {
        let progress = Progress::new(0);
        let (first, second) = (progress.open(10), progress.open(20));
        let mut tickets = Tickets::open(&first);
        tickets.join(Tickets::open(&first));
        tickets.join(Tickets::open(&second));
        first.done(1);
        second.done(1);
        tickets.share(2);
        tickets.done();
        assert_eq!(progress.acknowledged(), 0);
        tickets.done();
        assert_eq!(progress.acknowledged(), 20);
    }

    #[test]
    fn an_entry_has_the_bytes_of_one_source() {
        let file = || Progress::of_source(0, Source::new(), Arc::<Unsaved>::default());
        let (one, other) = (file(), file());
        let (first, second) = (one.open(10), one.open(20));
        let mut tickets = Tickets::of_bytes(&first, Ranges::one(0, 10));
        tickets.join(Tickets::of_bytes(&second, Ranges::one(10, 20)));
        assert_eq!(tickets.origin().unwrap().1, [0..20]);
        tickets.join(Tickets::of_bytes(&other.open(5), Ranges::one(0, 5)));
        assert!(tickets.origin().is_none());
        assert!(Tickets::open(&first).origin().is_none(), "its bytes are not known");
        let unnamed = Progress::new(0).open(5);
        assert!(Tickets::of_bytes(&unnamed, Ranges::one(0, 5)).origin().is_none());
    }

    #[test]
    fn tenants_leave_the_labels() {
        let labels = Labels::from_pairs([(TENANT_LABEL, "t1"), ("job", "j")]);
        let mut entry = Entry::new(Timestamp(1), String::new(), labels);
        entry.settle_tenant();
        assert_eq!((entry.tenant.as_str(), entry.labels.to_string().as_str()), ("t1", "{job=\"j\"}"));
    }
}

//! One log line on its way through the agent.

use std::sync::Arc;

use model::{Labels, LabelsBuilder, Timestamp};

use crate::extracted::Extracted;
use crate::progress::Ticket;
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
    /// Acknowledges the lines that it was made of to where they were read.
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

/// What is told to the files when an entry is done: each line that went into it counts one.
#[derive(Debug, Default)]
pub struct Tickets(Held);

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
        ticket.add(1);
        Self(Held::One(ticket.clone(), 1))
    }

    /// Takes over the lines of another entry.
    pub fn join(&mut self, other: Self) {
        for (ticket, count) in other.iter() {
            match &mut self.0 {
                Held::None => self.0 = Held::One(ticket.clone(), count),
                Held::One(last, lines) if Arc::ptr_eq(last, ticket) => *lines += count,
                Held::One(last, lines) => {
                    self.0 = Held::Many(vec![(last.clone(), *lines), (ticket.clone(), count)]);
                }
                Held::Many(all) => match all.last_mut() {
                    Some((last, lines)) if Arc::ptr_eq(last, ticket) => *lines += count,
                    _ => all.push((ticket.clone(), count)),
                },
            }
        }
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
        let (one, many) = match &self.0 {
            Held::None => (None, &[][..]),
            Held::One(ticket, lines) => (Some((ticket, *lines)), &[][..]),
            Held::Many(all) => (None, &all[..]),
        };
        one.into_iter().chain(many.iter().map(|(ticket, lines)| (ticket, *lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

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
    fn tenants_leave_the_labels() {
        let labels = Labels::from_pairs([(TENANT_LABEL, "t1"), ("job", "j")]);
        let mut entry = Entry::new(Timestamp(1), String::new(), labels);
        entry.settle_tenant();
        assert_eq!((entry.tenant.as_str(), entry.labels.to_string().as_str()), ("t1", "{job=\"j\"}"));
    }
}

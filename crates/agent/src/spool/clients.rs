//! How far each client has taken what a spool holds: kept in the spool's own folder, so that numbers of lines and the id they go
//! out under live and die with the lines.
//!
//! All clients read under one id: what tells them apart at a store is in the id on the wire ([`Source::id_on_wire`]), so a client
//! that is called something else from now on repeats nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use disk::{Files, atomic};
use serde::{Deserialize, Serialize};

use crate::progress::Progress;
use crate::source::{Source, Unsaved};

/// A client that a configuration has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpoolClient {
    /// The name that its position is kept under.
    pub(crate) name: String,
    /// Names that it may have had.
    pub(crate) aliases: Vec<String>,
}

/// Clients by the name that positions are kept under.
#[derive(Debug)]
pub(super) struct Clients {
    source: u128,
    known: BTreeMap<String, Client>,
    written: Saved,
    unsaved: Arc<Unsaved>,
}

#[derive(Debug)]
struct Client {
    offset: u64,
    /// While it reads.
    progress: Option<Arc<Progress>>,
}

impl Client {
    fn offset(&self) -> u64 {
        self.progress.as_ref().map_or(self.offset, |progress| progress.acknowledged())
    }
}

/// What is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    /// The id, hexadecimal.
    source: String,
    /// The number of the first line that a client has not taken.
    clients: BTreeMap<String, u64>,
}

impl Clients {
    /// What they are kept in.
    pub(super) const FILE: &str = "clients.json";

    /// Reads what was kept in a folder; where there is nothing that can be read, everything begins anew, under a new id that is on
    /// disk when this returns.
    pub(super) fn load(files: &dyn Files, dir: &Path) -> io::Result<Self> {
        let read = atomic::read_on(files, &dir.join(Self::FILE))?;
        let saved = read.as_ref().and_then(|bytes| serde_json::from_slice::<Saved>(bytes).ok());
        let source = saved.as_ref().and_then(|saved| u128::from_str_radix(&saved.source, 16).ok());
        let known = |saved: &Saved| {
            let client =
                |(name, offset): (&String, &u64)| (name.clone(), Client { offset: *offset, progress: None });
            saved.clients.iter().map(client).collect()
        };
        let (Some(saved), Some(source)) = (saved, source) else {
            if read.is_some() {
                tracing::warn!(
                    folder = %dir.display(),
                    "what was kept of a spool's clients cannot be read: lines in it may be sent twice"
                );
            }
            let mut new = Self {
                source: rand::random(),
                known: BTreeMap::new(),
                written: Saved::default(),
                unsaved: Arc::default(),
            };
            new.save(files, dir)?;
            return Ok(new);
        };
        Ok(Self { source, known: known(&saved), written: saved, unsaved: Arc::default() })
    }

    /// The progress of a client that is about to read.
    pub(super) fn open(&mut self, name: &str) -> Arc<Progress> {
        let offset = self.known.get(name).map(Client::offset).or_else(|| self.lowest()).unwrap_or(0);
        let saved = self.written.clients.get(name).copied().unwrap_or(0);
        let source = Source::known(self.source, Some(saved));
        let progress = Progress::of_lines(offset, source, self.unsaved.clone());
        self.known.insert(name.to_owned(), Client { offset, progress: Some(progress.clone()) });
        progress
    }

    /// Forgets all clients but these; what it forgot, with its position. One of them that has no position of its own takes over
    /// the one that is known under an alias, then the lowest of those that are forgotten, then the lowest of all.
    pub(super) fn keep(&mut self, clients: &[SpoolClient]) -> Vec<(String, u64)> {
        let is_gone = |name: &str| !clients.iter().any(|client| client.name == name);
        let lowest_gone = self.offsets().filter(|(name, _)| is_gone(name)).map(|(_, offset)| offset).min();
        let lowest = lowest_gone.or_else(|| self.lowest()).unwrap_or(0);
        for client in
            clients.iter().filter(|client| !self.known.contains_key(&client.name)).collect::<Vec<_>>()
        {
            let known = client.aliases.iter().find_map(|alias| self.known.get(alias));
            let offset = known.map_or(lowest, Client::offset);
            self.known.insert(client.name.clone(), Client { offset, progress: None });
        }
        let gone = self.known.extract_if(.., |name, _| is_gone(name));
        gone.map(|(name, client)| (name, client.offset())).collect()
    }

    /// Every client and its position.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (&str, u64)> {
        self.known.iter().map(|(name, client)| (name.as_str(), client.offset()))
    }

    /// Below this every client is done; `None` if there is no client.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.known.values().map(Client::offset).min()
    }

    /// What tells that it is time to save.
    pub(super) fn unsaved(&self) -> Arc<Unsaved> {
        self.unsaved.clone()
    }

    /// Writes what is acknowledged now, if there is anything new.
    pub(super) fn save(&mut self, files: &dyn Files, dir: &Path) -> io::Result<()> {
        let clients = self.offsets().map(|(name, offset)| (name.to_owned(), offset)).collect();
        let saved = Saved { source: format!("{:032x}", self.source), clients };
        if saved == self.written {
            return Ok(());
        }
        self.unsaved.clear();
        atomic::write_on(files, &dir.join(Self::FILE), &serde_json::to_vec(&saved)?)?;
        for (name, client) in &self.known {
            if let Some(source) = client.progress.as_ref().and_then(|progress| progress.source()) {
                source.set_saved(saved.clients[name]);
            }
        }
        self.written = saved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use disk::sim::SimFiles;

    use super::*;

    #[test]
    fn positions_and_id_come_back() {
        let (files, dir) = (SimFiles::new(), Path::new("spool"));
        let mut clients = Clients::load(&files, dir).unwrap();
        let progress = clients.open("a");
        let source = progress.source().unwrap();
        assert_eq!((progress.acknowledged(), source.is_durable(), source.low()), (0, true, 0));
        progress.open(7).done(1);
        clients.save(&files, dir).unwrap();
        assert_eq!(source.low(), 7);
        let files = files.restart(1);
        let again = Clients::load(&files, dir).unwrap().open("a");
        assert_eq!((again.acknowledged(), again.source().unwrap().id()), (7, source.id()));
        files.corrupt(&dir.join(Clients::FILE), 0, 0xff);
        let new = Clients::load(&files, dir).unwrap().open("a");
        assert_eq!(new.acknowledged(), 0);
        assert_ne!(new.source().unwrap().id(), source.id(), "numbers may be given again");
    }

    #[test]
    fn new_clients_take_over() {
        let (files, dir) = (SimFiles::new(), Path::new("spool"));
        let reached = |clients: &mut Clients, name: &str, offset: u64| {
            let progress = clients.open(name);
            progress.open(offset).done(1);
        };
        let mut clients = Clients::load(&files, dir).unwrap();
        reached(&mut clients, "http://a", 50);
        reached(&mut clients, "http://b", 20);
        clients.save(&files, dir).unwrap();
        // Clients with aliases, where each begins, and who is forgotten.
        let check = |wanted: &[(&str, &[&str])], want: &[u64], gone: &[(&str, u64)]| {
            // Whether at a start, or at a reload when all have read.
            for mut clients in [Clients::load(&files, dir).unwrap(), {
                let mut clients = Clients::load(&files, dir).unwrap();
                clients.open("http://a");
                clients.open("http://b");
                clients
            }] {
                let of = |(name, aliases): &(&str, &[&str])| SpoolClient {
                    name: (*name).to_owned(),
                    aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
                };
                let forgotten = clients.keep(&wanted.iter().map(of).collect::<Vec<_>>());
                let gone: Vec<_> = gone.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
                assert_eq!(forgotten, gone);
                assert_eq!(clients.lowest(), want.iter().min().copied());
                let begin = wanted.iter().map(|(name, _)| clients.open(name).acknowledged());
                assert_eq!(begin.collect::<Vec<_>>(), want);
            }
        };
        check(&[("http://a", &[]), ("http://b", &[])], &[50, 20], &[]);
        // The only one that is left has no name; it is known by its address.
        check(&[("", &["http://a", "x"])], &[50], &[("http://a", 50), ("http://b", 20)]);
        // Renamed: it goes on where the one that is gone was, be that the first or the last of all.
        check(&[("http://a", &[]), ("http://c", &["c"])], &[50, 20], &[("http://b", 20)]);
        check(&[("http://c", &["c"]), ("http://b", &[])], &[50, 20], &[("http://a", 50)]);
        // One more.
        check(&[("http://a", &[]), ("http://b", &[]), ("http://c", &["c"])], &[50, 20, 20], &[]);
    }
}

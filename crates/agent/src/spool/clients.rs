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

    /// The progress of a client that is about to read. One without a position of its own takes over the one that is known under
    /// an alias, then the lowest of clients that do not read, then the lowest of all.
    pub(super) fn open(&mut self, name: &str, aliases: &[&str]) -> Arc<Progress> {
        let of = |name: &str| self.known.get(name).map(Client::offset);
        let lowest = |reads: bool| {
            let clients = self.known.values().filter(|client| reads || client.progress.is_none());
            clients.map(Client::offset).min()
        };
        let offset = of(name).or_else(|| aliases.iter().find_map(|alias| of(alias)));
        let offset = offset.or_else(|| lowest(false)).or_else(|| lowest(true)).unwrap_or(0);
        let saved = self.written.clients.get(name).copied().unwrap_or(0);
        let source = Source::known(self.source, Some(saved));
        let progress = Progress::of_lines(offset, source, self.unsaved.clone());
        self.known.insert(name.to_owned(), Client { offset, progress: Some(progress.clone()) });
        progress
    }

    /// Forgets all clients but these; what it forgot, with its position.
    pub(super) fn keep(&mut self, names: &[String]) -> Vec<(String, u64)> {
        let gone = self.known.extract_if(.., |name, _| !names.contains(name));
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
        let progress = clients.open("a", &[]);
        let source = progress.source().unwrap();
        assert_eq!((progress.acknowledged(), source.is_durable(), source.low()), (0, true, 0));
        progress.open(7).done(1);
        clients.save(&files, dir).unwrap();
        assert_eq!(source.low(), 7);
        let files = files.restart(1);
        let again = Clients::load(&files, dir).unwrap().open("a", &[]);
        assert_eq!((again.acknowledged(), again.source().unwrap().id()), (7, source.id()));
        files.corrupt(&dir.join(Clients::FILE), 0, 0xff);
        let new = Clients::load(&files, dir).unwrap().open("a", &[]);
        assert_eq!(new.acknowledged(), 0);
        assert_ne!(new.source().unwrap().id(), source.id(), "numbers may be given again");
    }

    #[test]
    fn new_clients_take_over() {
        let (files, dir) = (SimFiles::new(), Path::new("spool"));
        let reached = |clients: &mut Clients, name: &str, offset: u64| {
            let progress = clients.open(name, &[]);
            progress.open(offset).done(1);
        };
        let mut clients = Clients::load(&files, dir).unwrap();
        reached(&mut clients, "http://a", 50);
        reached(&mut clients, "http://b", 20);
        clients.save(&files, dir).unwrap();
        let load = || Clients::load(&files, dir).unwrap();

        // The only one that is left has no name; it is known by its address.
        let mut clients = load();
        assert_eq!(clients.open("", &["http://a", "x"]).acknowledged(), 50);
        assert_eq!(clients.lowest(), Some(20), "nothing is forgotten yet");
        assert_eq!(
            clients.keep(&[String::new()]),
            [("http://a".to_owned(), 50), ("http://b".to_owned(), 20)]
        );
        assert_eq!(clients.lowest(), Some(50));

        // Renamed: it goes on where the one that is gone was.
        let mut clients = load();
        assert_eq!(clients.open("http://a", &[]).acknowledged(), 50);
        assert_eq!(clients.open("http://c", &["c"]).acknowledged(), 20);
        // Opened again, as by a reload.
        assert_eq!(clients.open("http://a", &[]).acknowledged(), 50);

        // One more.
        let mut clients = load();
        clients.open("http://a", &[]);
        clients.open("http://b", &[]);
        assert_eq!(clients.open("http://c", &["c"]).acknowledged(), 20);
    }
}

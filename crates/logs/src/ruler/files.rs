//! Rules in files: `<directory>/<tenant>/<namespace>`, each file with `groups: [...]`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use model::TenantId;

use crate::ruler::group::{CheckedGroup, Namespaces, RuleGroup, parse_file};

/// Largest file.
const MAX_FILE: u64 = 16 << 20;

/// A folder of rules, and what was last read of it.
#[derive(Debug)]
pub(crate) struct RuleFiles {
    dir: PathBuf,
    external_url: String,
    known: BTreeMap<PathBuf, Known>,
}

#[derive(Debug)]
struct Known {
    text: String,
    /// Of the last text that was good.
    groups: Vec<RuleGroup>,
    good: bool,
}

impl RuleFiles {
    pub(crate) fn new(dir: &str, external_url: &str) -> Self {
        Self { dir: dir.into(), external_url: external_url.to_owned(), known: BTreeMap::new() }
    }

    /// Reads what has changed; the rules of all tenants. Of a file that is not good the last good rules stay, and an error is
    /// logged once. Blocks.
    pub(crate) fn read(&mut self) -> BTreeMap<TenantId, Namespaces> {
        let mut seen = BTreeMap::new();
        let mut all: BTreeMap<TenantId, Namespaces> = BTreeMap::new();
        for (name, path) in entries(&self.dir) {
            if !path.is_dir() {
                continue;
            }
            let Ok(tenant) = TenantId::parse(&name) else {
                tracing::warn!(folder = %path.display(), "a folder of rules whose name is no tenant is passed over");
                continue;
            };
            for (namespace, path) in entries(&path) {
                if !path.is_file() {
                    continue;
                }
                let known = self.file(&path);
                all.entry(tenant.clone()).or_default().insert(namespace, known.groups.clone());
                seen.insert(path, known);
            }
        }
        self.known = seen;
        all
    }

    /// Whether every file was good when last read, by tenant folder.
    pub(crate) fn is_good(&self, tenant: &TenantId) -> bool {
        let folder = self.dir.join(tenant.as_str());
        self.known.iter().filter(|(path, _)| path.starts_with(&folder)).all(|(_, known)| known.good)
    }

    fn file(&mut self, path: &Path) -> Known {
        let before = self.known.remove(path);
        let text = match text(path) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a file of rules cannot be read");
                return before.unwrap_or_else(|| Known {
                    text: String::new(),
                    groups: Vec::new(),
                    good: false,
                });
            }
        };
        let before = match before {
            Some(known) if known.text == text => return known,
            before => before,
        };
        match self.parse(&text) {
            Ok(groups) => Known { text, groups, good: true },
            Err(error) => {
                tracing::error!(file = %path.display(), error, "a file of rules is not good: what it held before stays");
                Known { text, groups: before.map(|known| known.groups).unwrap_or_default(), good: false }
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Vec<RuleGroup>, String> {
        let groups = parse_file(text)?;
        for group in &groups {
            CheckedGroup::check(group.clone(), &self.external_url)?;
        }
        Ok(groups)
    }
}

/// Names and paths in a folder, sorted; nothing if there is no folder. What begins with a dot is not meant.
fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let read = fs::read_dir(dir).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>());
    let mut entries: Vec<_> = read
        .unwrap_or_default()
        .iter()
        .filter_map(|entry| Some((entry.file_name().to_str()?.to_owned(), entry.path())))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    entries.sort();
    entries
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("the file has more than {MAX_FILE} bytes: split it")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let mut files = RuleFiles::new(dir.path().to_str().unwrap(), "");
        assert!(files.read().is_empty());
        put("fake/a.yaml", "groups: [{name: one}]");
        put("fake/b.yaml", "groups: [{name: two}, {name: three}]");
        put("fake/..data/c.yaml", "groups: [{name: hidden}]");
        put("other/a.yaml", "groups: []");
        put("top.yaml", "groups: [{name: none}]");
        let shown = |files: &mut RuleFiles| {
            let mut shown = Vec::new();
            for (tenant, namespaces) in files.read() {
                for (namespace, groups) in namespaces {
                    let names: Vec<_> = groups.into_iter().map(|g| g.name).collect();
                    shown.push(format!("{tenant}/{namespace}: {}", names.join(",")));
                }
            }
            shown
        };
        assert_eq!(shown(&mut files), ["fake/a.yaml: one", "fake/b.yaml: two,three", "other/a.yaml: "]);
        let fake = TenantId::parse("fake").unwrap();
        assert!(files.is_good(&fake));
        put("fake/a.yaml", "groups: [{name: one, rules: [{alert: x, expr: nonsense}]}]");
        assert_eq!(shown(&mut files)[0], "fake/a.yaml: one");
        assert!(!files.is_good(&fake));
        put("fake/a.yaml", "groups: [{name: four}]");
        fs::remove_file(dir.path().join("fake/b.yaml")).unwrap();
        assert_eq!(shown(&mut files), ["fake/a.yaml: four", "other/a.yaml: "]);
        assert!(files.is_good(&fake));
    }
}

//! Which parts of a process are up: the source of `/ready`, `/healthz` and the gRPC health service.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

/// State of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", content = "reason", rename_all = "lowercase")]
pub enum State {
    /// Not serving yet, and why.
    Starting(String),
    /// Serving.
    Ready,
    /// Not serving though it should, and why.
    Failing(String),
    /// On its way out.
    Stopping,
}

#[derive(Debug)]
struct Shared {
    components: Mutex<BTreeMap<String, State>>,
    changed: watch::Sender<u64>,
}

/// All components of a process, or those of one [`scope`](Health::scope). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
    scope: String,
}

impl Default for Health {
    fn default() -> Health {
        let shared = Shared { components: Mutex::default(), changed: watch::Sender::new(0) };
        Health { shared: Arc::new(shared), scope: String::new() }
    }
}

impl Health {
    /// A view that names its components `name/…` and answers for them alone: each service of the all-in-one takes one.
    pub fn scope(&self, name: &str) -> Health {
        Health { shared: self.shared.clone(), scope: format!("{}{name}/", self.scope) }
    }

    /// Adds a component, starting. It leaves the list when the handle is dropped.
    pub fn component(&self, name: &str) -> ComponentHealth {
        let component = ComponentHealth { health: self.clone(), name: format!("{}{name}", self.scope) };
        component.set(State::Starting("starting".to_owned()));
        component
    }

    /// Names and states, sorted by name.
    pub fn states(&self) -> Vec<(String, State)> {
        let components = self.shared.components.lock();
        components
            .iter()
            .filter(|(name, _)| name.starts_with(&self.scope))
            .map(|(name, state)| (name[self.scope.len()..].to_owned(), state.clone()))
            .collect()
    }

    /// Why we are not ready, one line per component; empty when ready.
    pub fn obstacles(&self) -> Vec<String> {
        let line = |(name, state): (String, State)| match state {
            State::Ready => None,
            State::Starting(reason) => Some(format!("{name} is starting: {reason}")),
            State::Failing(reason) => Some(format!("{name} is failing: {reason}")),
            State::Stopping => Some(format!("{name} is stopping")),
        };
        self.states().into_iter().filter_map(line).collect()
    }

    /// Whether every component is ready.
    pub fn is_ready(&self) -> bool {
        self.states().iter().all(|(_, state)| *state == State::Ready)
    }

    /// Sees every later change: the number counts changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Waits until every component is ready.
    pub async fn ready(&self) {
        let mut changes = self.changes();
        while !self.is_ready() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Puts every component in [`State::Stopping`]; the first thing a shutdown does.
    pub(crate) fn stop_all(&self) {
        for state in self.shared.components.lock().values_mut() {
            *state = State::Stopping;
        }
        self.shared.changed.send_modify(|n| *n += 1);
    }
}

/// One component's hand on its own state.
#[derive(Debug)]
pub struct ComponentHealth {
    health: Health,
    name: String,
}

impl ComponentHealth {
    fn set(&self, state: State) {
        self.health.shared.components.lock().insert(self.name.clone(), state);
        self.health.shared.changed.send_modify(|n| *n += 1);
    }

    /// Not serving yet, because of `reason`.
    pub fn starting(&self, reason: impl Into<String>) {
        self.set(State::Starting(reason.into()));
    }

    /// Serving.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// Not serving, because of `reason`.
    pub fn failing(&self, reason: impl Into<String>) {
        self.set(State::Failing(reason.into()));
    }

    /// Going away.
    pub fn stopping(&self) {
        self.set(State::Stopping);
    }
}

impl Drop for ComponentHealth {
    fn drop(&mut self) {
        self.health.shared.components.lock().remove(&self.name);
        self.health.shared.changed.send_modify(|n| *n += 1);
    }
}

//! A state that one task changes and others read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::State;

/// A state that one task changes and others read; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) state: State,
    /// The reason why events do not come, if they do not.
    pub(crate) lost: Option<String>,
}

impl Shared {
    /// Calls `look` with the state, and with the reason why events do not come, if they do not.
    pub fn look<R>(&self, look: impl FnOnce(&State, Option<&str>) -> R) -> R {
        let inner = self.lock();
        look(&inner.state, inner.lost.as_deref())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Numbers for show: still good after a panic elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

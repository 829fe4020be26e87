//! The cache of environments is kept within its size.

use super::cache::to_evict;
use super::environments::Environments;
use crate::blocking::spawn;

impl Environments {
    /// Keeps the cache within `environment_cache_bytes`. Nobody waits for it.
    pub(super) fn evict_in_background(&self) {
        let (cache, names, most) = (self.cache.clone(), self.names.clone(), self.settings.environment_cache_bytes);
        drop(spawn(move || {
            let all: Vec<_> = match cache.list() {
                Ok(all) => {
                    all.into_iter().map(|(ready, used)| (ready.id, ready.marker.bytes.unwrap_or(0), used)).collect()
                }
                Err(error) => return tracing::warn!(%error, "the environments can not be listed"),
            };
            // The names are read after the lease was looked for: what is just being made has its name before it loses
            // its lease. Names that can not be read keep everything.
            let is_named = |id: &str| names.all().map_or(true, |all| all.iter().any(|named| named.id == id));
            let kept = |id: &str| cache.is_leased(id) || is_named(id);
            if let Err(error) = cache.tidy_locks() {
                tracing::warn!(%error, "locks of the environment cache that nobody holds stay");
            }
            for id in to_evict(&all, kept, most) {
                match cache.evict(&id) {
                    Ok(_) => tracing::info!(environment = id, "evicted"),
                    Err(error) => tracing::warn!(environment = id, %error, "could not be evicted"),
                }
            }
        }));
    }
}

//! Who turns a specification into a command: [`Environments`], and something simpler in tests of the dispatcher.

use std::fmt::Debug;

use futures::future::{BoxFuture, FutureExt};

use crate::environment::{EnvironmentError, Environments, Lease, Preparation, Prepared};

pub trait Preparer: Debug + Send + Sync {
    /// Everything that has to be there before a job can start. Dropping the future ends what it has begun.
    fn prepare(&self, preparation: Preparation) -> BoxFuture<'_, Result<Prepared, EnvironmentError>>;

    /// Keeps the environment of this id from being evicted, for a job that an earlier daemon started in it.
    fn lease(&self, id: &str) -> Option<Lease>;
}

impl Preparer for Environments {
    fn prepare(&self, preparation: Preparation) -> BoxFuture<'_, Result<Prepared, EnvironmentError>> {
        Environments::prepare(self, preparation).boxed()
    }

    fn lease(&self, id: &str) -> Option<Lease> {
        Some(Environments::lease(self, id))
    }
}

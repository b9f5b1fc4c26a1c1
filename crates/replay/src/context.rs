//! What all parts of the service share.

use runcast_bus::Bus;
use runcast_runtime::Shutdown;

use crate::archive::Archive;
use crate::metrics::Metrics;
use crate::readmodel::Catalog;

/// What all parts of the service share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Commands to Redis.
    pub bus: Bus,
    /// What Redis has let go, or will.
    pub archive: Archive,
    /// What is known of each run as a whole.
    pub catalog: Catalog,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Tells when to stop.
    pub shutdown: Shutdown,
}

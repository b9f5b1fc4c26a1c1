//! Where a viewer reads what its view no longer holds.

use std::sync::Arc;

use runcast_bus::Bus;
use runcast_protocol::RunId;

use crate::view::View;

/// Where a viewer reads what its view no longer holds.
#[derive(Debug, Clone)]
pub struct Past {
    /// Commands to Redis.
    pub bus: Bus,
    /// The run.
    pub run: RunId,
    /// The view, which says how far the past goes.
    pub view: Arc<View>,
}

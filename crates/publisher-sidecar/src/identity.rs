//! For whom this sidecar speaks.

use runcast_protocol::{Channel, Lane, RunId, VariationId};

/// One variation of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The run.
    pub run: RunId,
    /// The variation.
    pub variation: VariationId,
}

impl Identity {
    /// The variation's lane on `channel`.
    pub fn lane(&self, channel: Channel) -> Lane {
        Lane::of(channel, &self.variation)
    }
}

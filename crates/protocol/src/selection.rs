//! What viewers of a run may ask for.

use std::collections::BTreeSet;

use crate::{Channel, Cursor, Lane, VariationId};

/// Channels that a viewer gets who names none.
const DEFAULT_CHANNELS: [Channel; 4] = [Channel::Output, Channel::Logs, Channel::Status, Channel::Metrics];

/// What a group of viewers have asked for alike; they share a view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selection {
    channels: BTreeSet<Channel>,
    /// None means all, also those that come later.
    variations: Option<BTreeSet<VariationId>>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { channels: DEFAULT_CHANNELS.into(), variations: None }
    }
}

impl Selection {
    /// A selection of channels, and of variations unless all are meant.
    pub fn new(channels: BTreeSet<Channel>, variations: Option<BTreeSet<VariationId>>) -> Self {
        Self { channels, variations }
    }

    /// The channels, in the cursor's order.
    pub fn channels(&self) -> impl Iterator<Item = Channel> + '_ {
        self.channels.iter().copied()
    }

    /// The variations that were named; none if all are meant.
    pub fn variations(&self) -> Option<&BTreeSet<VariationId>> {
        self.variations.as_ref()
    }

    /// Whether a lane belongs to the view. The control-plane's lanes always do: what it writes on
    /// behalf of a variation stands there, see [`Selection::has_variation`].
    pub fn has_lane(&self, lane: &Lane) -> bool {
        self.channels.contains(&lane.channel)
            && lane.writer.variation().is_none_or(|own| self.has_variation(own))
    }

    /// The positions of the lanes that belong to the view.
    pub fn restrict(&self, cursor: &Cursor) -> Cursor {
        cursor.lanes().filter(|(lane, _)| self.has_lane(lane)).collect()
    }

    /// Whether messages about a variation belong to the view.
    pub fn has_variation(&self, variation: &VariationId) -> bool {
        self.variations.as_ref().is_none_or(|chosen| chosen.contains(variation))
    }
}

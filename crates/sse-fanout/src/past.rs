//! Where a viewer reads what its view no longer holds.

use std::sync::Arc;

use crate::pages::RunPages;
use crate::view::View;

/// Where a viewer reads what its view no longer holds.
#[derive(Debug, Clone)]
pub struct Past {
    /// The run's streams.
    pub pages: Arc<RunPages>,
    /// The view, which says how far the past goes.
    pub view: Arc<View>,
    /// Whether adjacent messages are told as one.
    pub merges: bool,
}

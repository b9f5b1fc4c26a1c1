//! What the service counts.

/// The service's instruments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics;

impl Metrics {
    /// The instruments, from the global meter.
    #[expect(clippy::new_without_default, reason = "a stand-in")]
    pub fn new() -> Self {
        Self
    }
}

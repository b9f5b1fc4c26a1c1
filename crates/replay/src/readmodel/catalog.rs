//! All runs that Redis or the archive know, with their read models.

/// All runs, with their read models. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog;

impl Catalog {
    /// One that knows nothing yet.
    #[expect(clippy::new_without_default, reason = "a stand-in")]
    pub fn new() -> Self {
        Self
    }
}

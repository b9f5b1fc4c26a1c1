//! S7: how much one publisher gets into Redis.

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Shorter, for a try.
    #[arg(long)]
    pub quick: bool,
}

/// Measures, and prints.
///
/// # Errors
/// If a server does not come up.
pub fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("publishing is not measured yet")
}

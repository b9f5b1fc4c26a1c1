//! The floor: the least that a server can do.

/// Where it listens, and which Redis it reads.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Loopback port to listen on.
    #[arg(long)]
    pub port: u16,
    /// Address of Redis.
    #[arg(long)]
    pub redis: String,
}

/// Serves until killed.
///
/// # Errors
/// If it cannot listen, or loses Redis.
pub fn run(_options: &Options) -> anyhow::Result<()> {
    anyhow::bail!("the floor is not there yet")
}

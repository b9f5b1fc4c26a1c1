//! `runcast-control`: see the library.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use runcast_control_plane::config::Config;
use runcast_runtime::{Admin, Health, Shutdown, Telemetry};
use tokio::net::TcpListener;

/// Carries commands to agents over gRPC, and tells when a run is over.
///
/// Every option is in the configuration file and, as RUNCAST__SECTION__OPTION, in the environment:
/// `RUNCAST__REDIS__URL=redis://redis:6379 runcast-control`. See --defaults.
#[derive(Parser)]
#[command(name = "runcast-control", bin_name = "runcast-control", version)]
struct Arguments {
    /// Configuration file (TOML); what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration with its defaults and explanations, and exit.
    #[arg(long)]
    defaults: bool,
}

#[tokio::main]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "before telemetry there is only the terminal")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.defaults {
        print!("{}", runcast_control_plane::config::DEFAULTS);
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("runcast-control: {error}");
            return ExitCode::from(runcast_runtime::config::EXIT_CODE);
        }
    };
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runcast-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = Telemetry::init("runcast-control", &config.telemetry)?;
    let shutdown = Shutdown::on_signals()?;
    let health = Health::default();
    health.set("redis", false, "not asked yet");
    let admin = Admin::bind(&config.admin, health.clone(), &telemetry).await?;
    let listen = &config.grpc.listen;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("grpc.listen {listen:?} cannot be bound"))?;
    tracing::info!(grpc = %listener.local_addr()?, admin = ?admin.as_ref().map(Admin::local_addr), "serving");
    let admin_task = admin.map(|admin| tokio::spawn(admin.run(Shutdown::new())));
    let result = runcast_control_plane::run(config, listener, health, shutdown).await;
    if let Some(task) = admin_task {
        task.abort();
    }
    telemetry.shutdown();
    result
}

//! `runcast-sidecar`: see the library.

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use runcast_publisher_sidecar::arguments::{Arguments, Mode};
use runcast_publisher_sidecar::config::{Config, DEFAULTS};
use runcast_publisher_sidecar::{Error, run};
use runcast_runtime::{Admin, Health, Shutdown, Telemetry};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "before telemetry there is only the terminal")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.defaults {
        print!("{DEFAULTS}");
        return ExitCode::SUCCESS;
    }
    let overrides = arguments.overrides();
    let Some(mode) = arguments.mode else {
        let missing = clap::error::ErrorKind::MissingSubcommand;
        Arguments::command().error(missing, "say how: exec -- CMD…, pipe or serve").exit();
    };
    let config = match Config::load(arguments.config.as_deref(), &overrides) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("runcast-sidecar: {error}");
            return ExitCode::from(runcast_runtime::config::EXIT_CODE);
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads and timers are to be had");
    let code = runtime.block_on(start(config, mode)).unwrap_or_else(|error| {
        eprintln!("runcast-sidecar: {error}");
        error.exit_code()
    });
    // A write to a standard output that nobody reads would hold the process for ever.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ExitCode::from(code)
}

async fn start(config: Config, mode: Mode) -> Result<u8, Error> {
    let telemetry = Telemetry::init("runcast-sidecar", &config.telemetry)?;
    let shutdown = Shutdown::on_signals().map_err(anyhow::Error::from)?;
    let health = Health::default();
    let admin = Admin::bind(&config.admin, health.clone(), &telemetry).await?;
    let admin = admin.map(|admin| tokio::spawn(admin.run(Shutdown::new())));
    let result = Box::pin(run(config, mode, health, shutdown)).await;
    if let Some(admin) = admin {
        admin.abort();
    }
    telemetry.shutdown();
    result
}

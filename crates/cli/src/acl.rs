//! `runcast acl`: the Redis users of runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use runcast_bus::AclUser;
use runcast_protocol::RunId;
use runcast_protocol::grpc::control as proto;
use serde_json::json;

use crate::arguments::Format;
use crate::control::{self, ControlPlane, signed};
use crate::table::{self, Side};

/// Look after the Redis users of runs, which their sidecars log in as.
///
/// For control planes that manage them (acl.manage). Where none does, `rules` prints what to tell Redis by hand.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  runcast acl create my-run var-1 var-2 --password-file my-run.password
  runcast acl list
  runcast acl rotate my-run --password-file my-run.password
  runcast acl revoke my-run
  runcast acl rules control >> users.acl"
)]
pub(crate) struct AclOptions {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    /// Create a run, and get its sidecars' user name and password; this once.
    Create {
        /// The run.
        #[arg(value_name = "RUN")]
        run: RunId,
        /// Its variations.
        #[arg(value_name = "VARIATION", required = true)]
        variations: Vec<String>,
        #[command(flatten)]
        shown: Shown,
    },
    /// List which runs have a user, and until when.
    List {
        /// How to print them.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Give a run's sidecars another password; the one before stays good for a while (acl.overlap).
    Rotate {
        /// The run.
        #[arg(value_name = "RUN")]
        run: RunId,
        #[command(flatten)]
        shown: Shown,
    },
    /// Take a run's sidecars their way into Redis, at once.
    Revoke {
        /// The run.
        #[arg(value_name = "RUN")]
        run: RunId,
    },
    /// Print the rules of a user, as they stand in redis.conf or an ACL file; a password is to be added.
    Rules {
        /// Of a service: fanout, control or replay.
        #[arg(value_name = "SERVICE", required_unless_present = "run", conflicts_with = "run")]
        service: Option<Service>,
        /// Of a run's sidecars.
        #[arg(long, value_name = "RUN")]
        run: Option<RunId>,
        /// Of a control plane that manages the users of runs.
        #[arg(long, conflicts_with = "run")]
        manage: bool,
        /// For Redis before 7.2.
        #[arg(long)]
        before_7_2: bool,
    },
}

#[derive(Debug, Args)]
struct Shown {
    /// Write the password to this file, which only you can read, instead of printing it.
    #[arg(long, value_name = "PATH")]
    password_file: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    Fanout,
    Control,
    Replay,
}

/// Runs the command.
///
/// # Errors
/// If the control plane cannot be reached, or refuses.
pub(crate) async fn run(options: AclOptions, url: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match options.command {
        AclCommand::Rules { service, run, manage, before_7_2 } => {
            let user = user(service, run.as_ref(), manage);
            let user = if before_7_2 { user.before_7_2() } else { user };
            writeln!(out, "{user}")?;
        }
        AclCommand::Create { run, variations, shown } => {
            let plane = ControlPlane::connect(url).await?;
            let request = proto::CreateRunRequest {
                run_id: run.to_string(),
                variation_ids: variations,
                ..Default::default()
            };
            let created = plane.runs().create_run(signed(request)).await;
            let created = created.map_err(|status| plane.refused(&status))?.into_inner();
            let credential =
                created.credential.context("the run is created; this control plane manages no users")?;
            show(&shown, &credential, None)?;
        }
        AclCommand::Rotate { run, shown } => {
            let plane = ControlPlane::connect(url).await?;
            let request = proto::RotateCredentialRequest { name: format!("runs/{run}") };
            let rotated = plane.runs().rotate_credential(signed(request)).await;
            let rotated = rotated.map_err(|status| plane.refused(&status))?.into_inner();
            let credential = rotated.credential.context("the control plane answers without a credential")?;
            show(&shown, &credential, rotated.previous_expire_time.as_ref())?;
        }
        AclCommand::Revoke { run } => {
            let plane = ControlPlane::connect(url).await?;
            let request = proto::RevokeCredentialRequest { name: format!("runs/{run}") };
            plane.runs().revoke_credential(signed(request)).await.map_err(|status| plane.refused(&status))?;
            writeln!(out, "{} is no Redis user any more", AclUser::name_of(&run))?;
        }
        AclCommand::List { output } => {
            let plane = ControlPlane::connect(url).await?;
            let listed = plane.runs().list_credentials(signed(proto::ListCredentialsRequest {})).await;
            let listed = listed.map_err(|status| plane.refused(&status))?.into_inner().credentials;
            match output {
                Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&as_json(&listed))?)?,
                Format::Table => out.write_all(as_table(&listed).as_bytes())?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn user(service: Option<Service>, run: Option<&RunId>, manage: bool) -> AclUser {
    match (service, run) {
        (None, Some(run)) => AclUser::run(run),
        (Some(Service::Fanout), _) => AclUser::fanout(),
        (Some(Service::Replay), _) => AclUser::replay(),
        (Some(Service::Control) | None, _) if manage => AclUser::control().managing_users(),
        (Some(Service::Control) | None, _) => AclUser::control(),
    }
}

fn show(
    shown: &Shown,
    credential: &proto::Credential,
    previous: Option<&prost_types::Timestamp>,
) -> anyhow::Result<()> {
    if let Some(path) = &shown.password_file {
        write(path, &credential.password).with_context(|| format!("--password-file {}", path.display()))?;
    }
    let password = shown.password_file.is_none().then_some(credential.password.as_str());
    let (until, previous) =
        (time(credential.expire_time.as_ref()), previous.map(|time| self::time(Some(time))));
    let mut out = std::io::stdout();
    if shown.output == Format::Json {
        let json = json!({
            "username": credential.username, "password": password, "expire_time": until,
            "previous_expire_time": previous,
        });
        writeln!(out, "{json}")?;
        return Ok(());
    }
    writeln!(out, "RUNCAST__REDIS__USERNAME={}", credential.username)?;
    if let Some(password) = password {
        writeln!(out, "RUNCAST__REDIS__PASSWORD={password}")?;
    }
    eprintln!("good until {until}, or soon after the run is over");
    if let Some(previous) = previous {
        eprintln!("the password before is good until {previous}");
    }
    Ok(())
}

/// Whole or not at all: a sidecar may be reading it. Readable only for us, as temporary files are.
fn write(path: &Path, password: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(password.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn time(time: Option<&prost_types::Timestamp>) -> String {
    control::time(time).map(|time| time.to_string()).unwrap_or_default()
}

fn as_json(listed: &[proto::CredentialInfo]) -> serde_json::Value {
    let listed = listed.iter().map(|known| {
        json!({
            "run_id": known.run.trim_start_matches("runs/"),
            "username": known.username,
            "expire_time": time(known.expire_time.as_ref()),
            "previous_expire_time": known.previous_expire_time.as_ref().map(|before| time(Some(before))),
        })
    });
    listed.collect()
}

fn as_table(listed: &[proto::CredentialInfo]) -> String {
    if listed.is_empty() {
        return "No run has a Redis user.\n".to_owned();
    }
    let columns = [("USER", Side::Left), ("UNTIL", Side::Left), ("PASSWORD BEFORE UNTIL", Side::Left)];
    let cells = |known: &proto::CredentialInfo| {
        [&known.expire_time, &known.previous_expire_time].map(|at| time(at.as_ref()))
    };
    let rows = listed.iter().map(|known| {
        let [until, before] = cells(known);
        [known.username.clone(), until, before]
    });
    table::table(columns, &rows.collect::<Vec<_>>())
}

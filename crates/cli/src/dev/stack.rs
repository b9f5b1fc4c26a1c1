//! All that `runcast dev` started, in order.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, select_all};
use runcast_bus::{Bus, RedisConfig};
use tokio::time::sleep;

use crate::dev::banner::say;
use crate::dev::service::{Service, command};
use crate::programs;
use crate::server::Server;

/// How long a service may take to come up, and to end.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);
/// Pause between two looks at a service that comes up.
const LOOK: Duration = Duration::from_millis(30);
/// Ports tried: somebody else may take one between our look and the service's.
const PORTS: usize = 5;

/// Where the fan-out is, the control plane, and the replay service.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) admin: u16,
    pub(crate) control: u16,
    pub(crate) replay: u16,
}

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Programs {
    redis_server: PathBuf,
    fanout: PathBuf,
    control: PathBuf,
    replay: PathBuf,
    /// The sidecar and the sample agent, if they are wanted.
    pub(crate) demo: Option<(PathBuf, PathBuf)>,
}

impl Programs {
    /// Looks for all of them before anything is started.
    ///
    /// # Errors
    /// If one is missing.
    pub(crate) fn find(demo: bool) -> anyhow::Result<Self> {
        let (redis_server, fanout) = (programs::redis_server()?, programs::own("runcast-fanout")?);
        let pair = || anyhow::Ok((programs::own("runcast-sidecar")?, programs::own("sample-agent")?));
        let demo = demo.then(pair).transpose()?;
        let (control, replay) = (programs::own("runcast-control")?, programs::own("runcast-replay")?);
        Ok(Self { redis_server, fanout, control, replay, demo })
    }
}

/// All that was started.
#[derive(Debug)]
pub(crate) struct Stack {
    programs: Programs,
    folder: PathBuf,
    verbose: bool,
    services: Vec<Service>,
}

/// A service that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) service: Service,
    pub(crate) status: ExitStatus,
}

impl Stack {
    pub(crate) fn new(programs: Programs, folder: &Path, verbose: bool) -> Self {
        Self { programs, folder: folder.to_owned(), verbose, services: Vec::new() }
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a Redis that keeps nothing on disk, and waits until it answers; its address.
    ///
    /// # Errors
    /// If there is none, or it does not come up.
    pub(crate) async fn start_redis(&mut self) -> anyhow::Result<String> {
        for attempt in 1.. {
            let port = free_port()?;
            let mut command = command(&self.programs.redis_server);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]);
            command.arg(&self.folder);
            let mut service = self.spawn("redis", command)?;
            let url = format!("redis://127.0.0.1:{port}");
            let pid = service.pid();
            tokio::select! {
                status = service.ended() => {
                    if attempt == PORTS {
                        return Err(service.obituary(status).await);
                    }
                }
                up = answers(&url, pid) => {
                    self.services.push(service);
                    up?;
                    return Ok(url);
                }
            }
        }
        bail!("no port for redis")
    }

    /// Starts the fan-out on `port`, or a free one if that is taken, and a control plane and a replay service
    /// that its pages may call, with its archive in `archive`; waits until all are ready.
    ///
    /// # Errors
    /// If one does not come up.
    pub(crate) async fn start_services(
        &mut self,
        redis: &str,
        port: u16,
        archive: &Path,
    ) -> anyhow::Result<Ports> {
        let http = if is_free(port) { port } else { free_port()? };
        if http != port {
            say(&format!("Port {port} is taken; the fan-out uses {http}."));
        }
        let http = if http == 0 { free_port()? } else { http };
        let ports = Ports { http, admin: free_port()?, control: free_port()?, replay: free_port()? };

        let control_admin = free_port()?;
        let mut control = command(&self.programs.control);
        control.env("RUNCAST__REDIS__URL", redis);
        control.env("RUNCAST__GRPC__LISTEN", format!("127.0.0.1:{}", ports.control));
        control.env("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{control_admin}"));
        let origins = ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{http}")).join(",");
        control.env("RUNCAST__CORS__ORIGINS", &origins);
        self.start_service("control", control, control_admin).await?;

        let replay_admin = free_port()?;
        let mut replay = command(&self.programs.replay);
        replay.env("RUNCAST__REDIS__URL", redis).env("RUNCAST__HTTP__DRAIN", "1s");
        replay.env("RUNCAST__HTTP__LISTEN", format!("127.0.0.1:{}", ports.replay));
        replay.env("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{replay_admin}"));
        replay.env("RUNCAST__CORS__ORIGINS", origins);
        replay.env("RUNCAST__ARCHIVE__URL", format!("file://{}", archive.display()));
        // A run that is over is to be seen in the archive at once.
        for (name, value) in
            [("INTERVAL", "1s"), ("SEGMENT_AGE", "10s"), ("SEGMENT_BYTES", "1MiB"), ("PROTECT", "1h")]
        {
            replay.env(format!("RUNCAST__ARCHIVE__{name}"), value);
        }
        self.start_service("replay", replay, replay_admin).await?;

        let mut fanout = command(&self.programs.fanout);
        fanout.env("RUNCAST__REDIS__URL", redis).env("RUNCAST__DRAIN__TIME", "1s");
        fanout.env("RUNCAST__HTTP__LISTEN", format!("127.0.0.1:{http}"));
        fanout.env("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{}", ports.admin));
        fanout.env("RUNCAST__PAGE__CONTROL_URL", format!("http://127.0.0.1:{}", ports.control));
        fanout.env("RUNCAST__PAGE__REPLAY_URL", format!("http://127.0.0.1:{}", ports.replay));
        self.start_service("fanout", fanout, ports.admin).await?;
        Ok(ports)
    }

    /// Starts a service, and waits until its admin port says that it is ready.
    async fn start_service(
        &mut self,
        name: &str,
        command: tokio::process::Command,
        admin: u16,
    ) -> anyhow::Result<()> {
        let mut service = self.spawn(name, command)?;
        tokio::select! {
            status = service.ended() => Err(service.obituary(status).await),
            up = ready(name, admin) => {
                self.services.push(service);
                up
            }
        }
    }

    /// Starts a sidecar with its agent; it may end by itself.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start_agent(&mut self, name: &str, command: tokio::process::Command) -> anyhow::Result<()> {
        let service = self.spawn(name, command)?.into_agent();
        self.services.push(service);
        Ok(())
    }

    fn spawn(&self, name: &str, command: tokio::process::Command) -> anyhow::Result<Service> {
        Service::start(name, command, &self.folder, self.verbose)
    }

    pub(crate) fn has_agents(&self) -> bool {
        self.services.iter().any(Service::is_agent)
    }

    /// The next service that ends by itself; it is no longer part of the stack.
    pub(crate) async fn ended(&mut self) -> Ended {
        let ends = self.services.iter_mut().map(|service| Box::pin(service.ended()));
        let (status, index, _) = select_all(ends).await;
        Ended { service: self.services.remove(index), status }
    }

    /// Stops everything, the last started first: agents say their last words, the fan-out passes them on.
    pub(crate) async fn stop(&mut self) {
        let agents = self.services.iter_mut().filter(|service| service.is_agent());
        join_all(agents.map(|agent| agent.stop(STOP))).await;
        for service in self.services.iter_mut().rev().filter(|service| !service.is_agent()) {
            service.stop(STOP).await;
        }
        self.services.clear();
    }

    /// Ends everything at once.
    pub(crate) async fn kill(&mut self) {
        join_all(self.services.iter_mut().map(|service| service.stop(Duration::ZERO))).await;
        self.services.clear();
    }
}

impl Ended {
    pub(crate) async fn into_error(self) -> anyhow::Error {
        self.service.obituary(self.status).await
    }
}

/// Waits until the Redis with this process id answers.
async fn answers(url: &str, pid: Option<u32>) -> anyhow::Result<()> {
    let bus = Bus::connect(&RedisConfig::new(url))?;
    let pid = pid.map(|pid| pid.to_string());
    let look = async {
        // Another server may answer where ours found the port taken and is about to end.
        while bus.server_info().await.ok().and_then(|mut info| info.remove("process_id")) != pid {
            sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START, look).await.with_context(|| format!("redis does not answer within {START:?}"))
}

async fn ready(name: &str, admin: u16) -> anyhow::Result<()> {
    let address: Server = format!("http://127.0.0.1:{admin}").parse()?;
    let look = async {
        while !address.get("/readyz", &[]).await.is_ok_and(|answer| answer.status == 200) {
            sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START, look).await.with_context(|| format!("{name} is not ready within {START:?}"))
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?.port())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

//! What the tests of the control-plane share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "this is test code, and not all tests use all of it"
)]

use std::time::Duration;

use runcast_bus::{Bus, EntryId};
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command_service_client::CommandServiceClient;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_protocol::{
    Ack, Batch, Channel, CommandId, Control as Entry, Issued, Json, Lane, Message, RunId, State, Status,
    Step, VariationId, Writer,
};
use runcast_testkit::{Control, Pen, eventually};
use tonic::transport::Channel as Connection;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Stubs of both services.
#[derive(Clone)]
pub struct Client {
    pub commands: CommandServiceClient<Connection>,
    pub runs: RunServiceClient<Connection>,
}

impl Client {
    pub async fn of(control: &Control) -> Self {
        let connection = Connection::from_shared(control.url()).unwrap().connect_lazy();
        Self {
            commands: CommandServiceClient::new(connection.clone()),
            runs: RunServiceClient::new(connection),
        }
    }

    pub async fn create(&mut self, run: &str, variations: &[&str]) -> proto::Run {
        let request = proto::CreateRunRequest {
            run_id: run.into(),
            variation_ids: variations.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        self.runs.create_run(request).await.unwrap().into_inner().run.unwrap()
    }

    pub async fn get(&mut self, name: &str) -> proto::Command {
        let request = proto::GetCommandRequest { name: name.to_owned() };
        self.commands.get_command(request).await.unwrap().into_inner().command.unwrap()
    }

    pub async fn run(&mut self, name: &str) -> proto::Run {
        let request = proto::GetRunRequest { name: name.to_owned() };
        self.runs.get_run(request).await.unwrap().into_inner().run.unwrap()
    }
}

/// A request to pause.
pub fn pause(run: &str, ttl: Duration) -> proto::SendCommandRequest {
    order(run, proto::command::Action::Pause(proto::PauseAction {}), ttl)
}

pub fn order(run: &str, action: proto::command::Action, ttl: Duration) -> proto::SendCommandRequest {
    let ttl = prost_types::Duration { seconds: ttl.as_secs() as i64, nanos: ttl.subsec_nanos() as i32 };
    proto::SendCommandRequest {
        parent: format!("runs/{run}"),
        command: Some(proto::Command { action: Some(action), ..Default::default() }),
        expiration: Some(proto::send_command_request::Expiration::Ttl(ttl)),
        ..Default::default()
    }
}

/// As much of a sidecar as the control-plane sees of one.
pub struct Agent {
    pub bus: Bus,
    pub run: RunId,
    pub variation: VariationId,
    pen: Pen,
    after: EntryId,
}

impl Agent {
    pub fn new(url: &str, run: &str, variation: &str) -> Self {
        let pen = Pen::new(url, run, variation);
        let (run, variation) = (RunId::new(run).unwrap(), VariationId::new(variation).unwrap());
        Self { bus: pen.bus().clone(), run, variation, pen, after: EntryId::default() }
    }

    /// Says that it runs, and holds its lease for so long.
    pub async fn start(&mut self, lease: Duration) {
        self.renew(lease).await;
        self.say(&Status::new(State::Running)).await;
    }

    pub async fn renew(&self, lease: Duration) {
        self.bus.renew_lease(&self.run, &self.variation, "test", lease).await.unwrap();
    }

    pub async fn say(&mut self, status: &Status) {
        self.pen.status(status).await;
    }

    pub async fn ack(&mut self, command: &CommandId, step: Step) {
        let ack = Ack { command: command.clone(), step, reason: None, result: None };
        self.pen.write(Channel::Acks, &[Json::of(&ack)]).await;
    }

    /// The commands for it that are new.
    pub async fn receive(&mut self) -> Vec<Issued> {
        let entries = entries(&self.bus, &self.run, Channel::Control, &mut self.after).await;
        let own = entries.into_iter().filter(|message| message.variation_id == self.variation);
        own.filter_map(|message| match message.content.read::<Entry>() {
            Ok(Entry::Issued(issued)) => Some(issued),
            _ => None,
        })
        .collect()
    }

    /// Waits for the next command.
    pub async fn next(&mut self) -> Issued {
        eventually("a command comes", PATIENCE, async || self.receive().await.into_iter().next()).await
    }
}

/// What the control-plane and the sidecars wrote to a channel that they share, after `after`.
pub async fn entries(bus: &Bus, run: &RunId, channel: Channel, after: &mut EntryId) -> Vec<Message> {
    let lane = Lane { channel, writer: Writer::Control };
    let mut messages = Vec::new();
    loop {
        let page = bus.read(run, &lane, *after, 1000).await.unwrap();
        *after = page.end;
        for batch in page.batches {
            let batch = Batch::parse(batch).unwrap();
            messages.extend(batch.entries.iter().map(|entry| Message::parse(&entry.line).unwrap()));
        }
        if page.is_last {
            return messages;
        }
    }
}

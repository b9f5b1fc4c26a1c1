//! Commands, from the call to their end, with a real Redis and the real service.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::time::Duration;

use runcast_bus::EntryId;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::CommandState;
use runcast_protocol::{Channel, CommandId, Control as Entry, Step};
use runcast_testkit::{Control, Redis, eventually};
use tonic::Code;

use support::{Agent, Client, PATIENCE, entries, order, pause};

const LONG: Duration = Duration::from_secs(60);

fn states(command: &proto::Command) -> Vec<CommandState> {
    command.outcomes[0].steps.iter().map(proto::CommandStep::state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_followed_from_the_call_to_its_end() {
    let redis = Redis::start().await;
    let (here, there) = (Control::start(&redis.url()).await, Control::start(&redis.url()).await);
    let (mut client, mut other) = (Client::of(&here).await, Client::of(&there).await);
    client.create("r", &["v"]).await;
    let mut agent = Agent::new(&redis.url(), "r", "v");
    agent.start(LONG).await;

    let executed = tokio::spawn({
        let mut client = client.clone();
        async move {
            let request = proto::ExecuteCommandRequest { request: Some(pause("r", LONG)) };
            client.commands.execute_command(request).await.unwrap().into_inner().command.unwrap()
        }
    });
    let issued = agent.next().await;
    let name = format!("runs/r/commands/{}", issued.command);
    // Another replica watches what this one issued.
    let request = proto::WatchCommandRequest { name: name.clone() };
    let mut watched = other.commands.watch_command(request).await.unwrap().into_inner();
    for step in [Step::Delivered, Step::Accepted, Step::Applied] {
        agent.ack(&issued.command, step).await;
    }
    let command = executed.await.unwrap();
    assert_eq!(command.name, name);
    assert_eq!(command.state(), CommandState::Applied);
    let expected =
        [CommandState::Issued, CommandState::Delivered, CommandState::Accepted, CommandState::Applied];
    assert_eq!(states(&command), expected);
    assert_eq!(command.caller, "127.0.0.1");
    let mut last = None;
    while let Some(step) = watched.message().await.unwrap() {
        last = step.command;
    }
    assert_eq!(last.as_ref(), Some(&command), "the stream ends with the command");
    assert_eq!(other.get(&name).await, command);
    let listed = other
        .commands
        .list_commands(proto::ListCommandsRequest { parent: "runs/r".into(), ..Default::default() });
    assert_eq!(listed.await.unwrap().into_inner().commands, [command]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reports_for_each_variation_and_a_repeat_is_the_same_command() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["a", "b", "c"]).await;
    let request = proto::SendCommandRequest { request_id: "once".into(), ..pause("r", LONG) };
    let first = client.commands.send_command(request.clone()).await.unwrap().into_inner().command.unwrap();
    assert_eq!(first.outcomes.len(), 3);
    let again = client.commands.send_command(request.clone()).await.unwrap().into_inner().command.unwrap();
    assert_eq!(again.name, first.name);
    let other = proto::SendCommandRequest {
        request_id: "once".into(),
        ..order("r", proto::command::Action::Resume(proto::ResumeAction {}), LONG)
    };
    assert_eq!(client.commands.send_command(other).await.unwrap_err().code(), Code::AlreadyExists);

    let fewer = proto::SendCommandRequest { variation_ids: vec!["a".into()], ..request };
    assert_eq!(client.commands.send_command(fewer.clone()).await.unwrap_err().code(), Code::AlreadyExists);
    let named = |ids: &[&str]| proto::SendCommandRequest {
        request_id: "named".into(),
        variation_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..fewer.clone()
    };
    let two = client.commands.send_command(named(&["a", "b"])).await.unwrap().into_inner().command;
    assert_eq!(client.commands.send_command(named(&["b", "a"])).await.unwrap().into_inner().command, two);
    for others in [&["a"][..], &["a", "b", "c"], &[]] {
        let refused = client.commands.send_command(named(others)).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{others:?}");
    }

    let mut agents: Vec<_> = ["a", "b", "c"].map(|id| Agent::new(&redis.url(), "r", id)).into();
    for (agent, steps) in
        agents.iter_mut().zip([&[Step::Delivered, Step::Applied][..], &[Step::Rejected], &[Step::Delivered]])
    {
        let issued = agent.next().await;
        for step in steps {
            agent.ack(&issued.command, *step).await;
        }
    }
    let command = eventually("all acks are seen", PATIENCE, async || {
        let command = client.clone().get(&first.name).await;
        (command.outcomes[2].state() == CommandState::Delivered).then_some(command)
    })
    .await;
    let outcomes: Vec<_> = command.outcomes.iter().map(proto::CommandOutcome::state).collect();
    assert_eq!(outcomes, [CommandState::Applied, CommandState::Rejected, CommandState::Delivered]);
    assert_eq!(command.state(), CommandState::Delivered, "one is under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_can_be_called_back_until_it_is_delivered() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v"]).await;
    let mut agent = Agent::new(&redis.url(), "r", "v");
    let mut send = async || {
        let sent = client.commands.send_command(pause("r", LONG)).await.unwrap().into_inner();
        (sent.command.unwrap().name, agent.next().await.command)
    };
    let (early, _) = send().await;
    let (late, id) = send().await;
    let cancel =
        |name: &str| proto::CancelCommandRequest { name: name.to_owned(), reason: "a mistake".into() };
    let cancelled =
        client.commands.cancel_command(cancel(&early)).await.unwrap().into_inner().command.unwrap();
    assert_eq!(cancelled.state(), CommandState::Cancelled);
    assert_eq!(cancelled.outcomes[0].steps[1].reason, "a mistake");
    agent.ack(&id, Step::Delivered).await;
    let refused = client.commands.cancel_command(cancel(&late)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    // What the sidecar says of a command that was called back comes too late.
    agent.ack(&CommandId::new(early.rsplit('/').next().unwrap()).unwrap(), Step::Applied).await;
    agent.ack(&id, Step::Applied).await;
    eventually("the other is applied", PATIENCE, async || {
        (client.clone().get(&late).await.state() == CommandState::Applied).then_some(())
    })
    .await;
    assert_eq!(client.get(&early).await.state(), CommandState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_expires_once_although_two_replicas_watch() {
    let redis = Redis::start().await;
    let (here, there) = (Control::start(&redis.url()).await, Control::start(&redis.url()).await);
    let (mut client, mut other) = (Client::of(&here).await, Client::of(&there).await);
    client.create("r", &["v", "w"]).await;
    other.run("runs/r").await;
    let mut names = Vec::new();
    for number in 0..20 {
        let ttl = if number == 0 { Duration::from_secs(2) } else { Duration::from_millis(300) };
        let sent = client.commands.send_command(pause("r", ttl)).await.unwrap();
        names.push(sent.into_inner().command.unwrap().name);
    }
    let mut agent = Agent::new(&redis.url(), "r", "v");
    let first = agent.next().await;
    agent.ack(&first.command, Step::Applied).await;
    for name in &names {
        eventually("it expires", PATIENCE, async || {
            (client.clone().get(name).await.state() == CommandState::Expired).then_some(())
        })
        .await;
    }
    let messages = entries(&agent.bus, &agent.run, Channel::Control, &mut EntryId::default()).await;
    let ends =
        messages.iter().filter(|message| matches!(message.content.read(), Ok(Entry::Expired(_)))).count();
    assert_eq!(ends, 2 * 20 - 1, "each once for each variation, but for the one that was applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancellation_and_a_delivery_at_the_same_time_one_is_first_and_the_caller_knows_which() {
    let redis = Redis::start().await;
    let (here, there) = (Control::start(&redis.url()).await, Control::start(&redis.url()).await);
    let (mut client, other) = (Client::of(&here).await, Client::of(&there).await);
    client.create("r", &["v"]).await;
    let mut agent = Agent::new(&redis.url(), "r", "v");
    let (mut cancelled, mut delivered) = (0, 0);
    for round in 0..60 {
        let sent = client.commands.send_command(pause("r", LONG)).await.unwrap().into_inner();
        let name = sent.command.unwrap().name;
        let issued = agent.next().await;
        let cancelling = tokio::spawn({
            let (mut other, name) = (other.clone(), name.clone());
            async move {
                let request = proto::CancelCommandRequest { name, reason: String::new() };
                other.commands.cancel_command(request).await
            }
        });
        if round % 3 > 0 {
            tokio::task::yield_now().await;
        }
        agent.ack(&issued.command, Step::Delivered).await;
        let outcome = cancelling.await.unwrap();
        let command = client.get(&name).await;
        match outcome {
            Ok(answer) => {
                assert_eq!(answer.into_inner().command.unwrap().state(), CommandState::Cancelled);
                assert_eq!(command.state(), CommandState::Cancelled);
                cancelled += 1;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                assert_eq!(command.state(), CommandState::Delivered);
                delivered += 1;
            }
        }
    }
    assert_eq!(cancelled + delivered, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_command_is_not_for_has_no_say_in_it() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    client.create("r", &["v", "w"]).await;
    let only = proto::SendCommandRequest { variation_ids: vec!["v".into()], ..pause("r", LONG) };
    let name = client.commands.send_command(only).await.unwrap().into_inner().command.unwrap().name;
    let id = CommandId::new(name.rsplit('/').next().unwrap()).unwrap();
    Agent::new(&redis.url(), "r", "w").ack(&id, Step::Failed).await;
    Agent::new(&redis.url(), "r", "v").ack(&id, Step::Applied).await;
    let command = eventually("it ends", PATIENCE, async || {
        let command = client.clone().get(&name).await;
        (command.state() == CommandState::Applied).then_some(command)
    });
    assert_eq!(command.await.outcomes.len(), 1);
}

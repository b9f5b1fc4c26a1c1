//! Watching the sentinels: the client library learns of a new primary only when the old one's
//! connection breaks, and would go on writing to a demoted one.

use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::prelude::Builder;
use fred::types::config::{Server, ServerConfig};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;

use crate::BusError;
use crate::client::supervise;

/// What a sentinel publishes when a new primary has taken over: `<name> <old host> <old port> <new …>`.
const SWITCH: &str = "+switch-master";

/// Calls `on_switch` whenever one of the sentinels in `builder`'s configuration tells of a new
/// primary. Does nothing for other topologies.
pub(crate) fn watch(
    builder: &Builder,
    on_switch: impl Fn() + Clone + Send + Sync + 'static,
) -> Result<Vec<AbortOnDropHandle<()>>, BusError> {
    let mut tasks = Vec::new();
    for (host, service_name, builder) in each(builder) {
        let client = builder.build_subscriber_client()?;
        let connection = client.connect();
        tasks.push(AbortOnDropHandle::new(tokio::spawn(supervise(client.clone(), connection))));
        let watch = listen(client, host, service_name, on_switch.clone());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(watch)));
    }
    Ok(tasks)
}

/// The sentinels of a configuration, each with the name of what it watches and how to connect to it; none for other
/// topologies.
pub(crate) fn each(builder: &Builder) -> Vec<(Server, String, Builder)> {
    let server = builder.get_config().map(|config| config.server.clone());
    let Some(ServerConfig::Sentinel { hosts, service_name, username, password }) = server else {
        return Vec::new();
    };
    let sentinels = hosts.into_iter().map(|host| {
        let mut builder = builder.clone();
        builder.with_config(|config| {
            config.server = ServerConfig::Centralized { server: host.clone() };
            (config.username, config.password) = (username.clone(), password.clone());
            config.credential_provider = None;
            config.database = None;
        });
        (host, service_name.clone(), builder)
    });
    sentinels.collect()
}

async fn listen(client: SubscriberClient, host: Server, name: String, on_switch: impl Fn()) {
    let (mut messages, mut reconnects) = (client.message_rx(), client.reconnect_rx());
    loop {
        tokio::select! {
            reconnected = reconnects.recv() => match reconnected {
                Err(RecvError::Closed) => return,
                _ => if let Err(error) = client.subscribe(SWITCH).await {
                    tracing::debug!(%error, sentinel = %host, "could not listen for failovers");
                }
            },
            message = messages.recv() => match message {
                Ok(message) => {
                    let text = message.value.into_string().unwrap_or_default();
                    if text.split(' ').next() == Some(name.as_str()) {
                        tracing::info!(sentinel = %host, switch = text, "a new primary took over; reconnecting");
                        on_switch();
                    }
                }
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) => on_switch(),
            },
        }
    }
}

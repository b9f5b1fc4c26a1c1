//! Talking gRPC to a control plane.

use std::time::Duration;

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use runcast_protocol::grpc::control::command_service_client::CommandServiceClient;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_protocol::grpc::control::token_service_client::TokenServiceClient;
use runcast_protocol::grpc::control::{CommandState, RunState};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::token;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a control plane.
#[derive(Debug, Clone)]
pub(crate) struct ControlPlane {
    url: String,
    channel: Channel,
}

impl ControlPlane {
    /// Connects.
    ///
    /// # Errors
    /// If the address is none, or nobody answers there.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        const EXAMPLE: &str = "expected a URL such as http://127.0.0.1:50051";
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| format!("--control {url}: {EXAMPLE}"))?
            .connect_timeout(PATIENCE);
        if url.starts_with("https://") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let channel = endpoint.connect().await.with_context(|| {
            format!(
                "the control plane {url} cannot be reached; say where it is with --control or RUNCAST_CONTROL"
            )
        })?;
        Ok(Self { url: url.to_owned(), channel })
    }

    pub(crate) fn commands(&self) -> CommandServiceClient<Channel> {
        CommandServiceClient::new(self.channel.clone())
    }

    pub(crate) fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel.clone())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
    }

    /// What a refusal says to people.
    pub(crate) fn refused(&self, status: &Status) -> anyhow::Error {
        match status.code() {
            Code::Unavailable if status.message().is_empty() => {
                anyhow!("the control plane {} is not there", self.url)
            }
            Code::Unimplemented => {
                anyhow!("{} is no control plane of this version: {}", self.url, status.message())
            }
            _ => anyhow!("{}", status.message()),
        }
    }
}

/// A request that says who we are, and shows our token if we have one.
pub(crate) fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let name = user.and_then(|user| format!("{user} (runcast)").parse().ok());
    if let Some(name) = name {
        request.metadata_mut().insert("runcast-caller", name);
    }
    if let Some(bearer) = token::bearer().and_then(|bearer| bearer.parse().ok()) {
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

/// A command's state as people and programs read it.
pub(crate) fn command_state(state: CommandState) -> String {
    word(state.as_str_name(), "COMMAND_STATE_")
}

/// A run's state as people and programs read it.
pub(crate) fn run_state(state: RunState) -> String {
    word(state.as_str_name(), "RUN_STATE_")
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// A time, if one was given.
pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// A value as JSON.
pub(crate) fn json(value: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    use serde_json::Value;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 1e15 => {
            (*number as i64).into()
        }
        Some(Kind::NumberValue(number)) => (*number).into(),
        Some(Kind::StringValue(text)) => text.clone().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::StructValue(fields)) => {
            Value::Object(fields.fields.iter().map(|(name, value)| (name.clone(), json(value))).collect())
        }
    }
}

/// JSON as a protobuf value.
pub(crate) fn value(json: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    use serde_json::Value;
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(value).collect() })
        }
        Value::Object(fields) => Kind::StructValue(object(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A JSON object as protobuf's.
pub(crate) fn object(fields: &serde_json::Map<String, serde_json::Value>) -> prost_types::Struct {
    let fields = fields.iter().map(|(name, json)| (name.clone(), value(json)));
    prost_types::Struct { fields: fields.collect() }
}

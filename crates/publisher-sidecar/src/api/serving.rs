//! The servers of the local API.

use std::time::Duration;

use runcast_runtime::Shutdown;
use runcast_runtime::http::{ServeOptions, serve};
use tokio::task::JoinSet;

use super::Api;
use crate::config::ApiConfig;
use crate::error::Error;
use crate::listen::{self, Sockets};

/// Bound sockets, not answered yet.
pub(crate) struct Listening(Sockets);

/// Running servers; they end when this is dropped.
pub(crate) struct Serving {
    servers: JoinSet<()>,
    _sockets: Sockets,
}

impl Listening {
    /// Binds what is configured.
    pub(crate) async fn bind(config: &ApiConfig) -> Result<Self, Error> {
        listen::bind(config).await.map(Self)
    }

    /// Answers, until `shutdown` and then for at most `drain`.
    pub(crate) fn serve(mut self, api: &Api, drain: Duration, shutdown: &Shutdown) -> Serving {
        let options = ServeOptions { drain, ..ServeOptions::default() };
        let mut servers = JoinSet::new();
        for listener in std::mem::take(&mut self.0.listeners) {
            let api = api.clone();
            let answer = move |request| api.clone().answer(request);
            servers.spawn(serve(listener, answer, options.clone(), shutdown.clone()));
        }
        Serving { servers, _sockets: self.0 }
    }
}

impl Serving {
    /// Waits until all answers are given.
    pub(crate) async fn ended(&mut self) {
        while self.servers.join_next().await.is_some() {}
    }
}

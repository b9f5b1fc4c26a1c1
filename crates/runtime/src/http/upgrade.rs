//! Answers that switch protocols (RFC 9110 §7.8).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use http::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::clients::Place;

/// What speaks the new protocol reads from and writes to. Writes that make no progress for
/// [`ServeOptions::write_stall`](super::ServeOptions::write_stall) are an error.
pub type UpgradedIo = TokioIo<Upgraded>;

/// Stands among the extensions of a 101 whose sender speaks another protocol from there on, over HTTP/1.1.
/// The connection counts as open, and shutdown waits for it, until that has ended.
#[derive(Clone)]
pub struct Upgrade(Arc<Mutex<Option<Then>>>);

type Then = Box<dyn FnOnce(UpgradedIo) -> BoxFuture<'static, ()> + Send>;

impl Upgrade {
    /// Has `then` go on with the connection once the 101 is sent.
    pub fn new<F>(then: impl FnOnce(UpgradedIo) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(Mutex::new(Some(Box::new(move |io| Box::pin(then(io)))))))
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

/// Where a connection finds, once HTTP is through with it, what goes on.
#[derive(Debug, Default)]
pub(super) struct Switch(Mutex<Option<(OnUpgrade, Upgrade, Place)>>);

impl Switch {
    /// Keeps an upgrade here if the response is one; else gives the place back.
    pub(super) fn offer<B>(&self, on: OnUpgrade, response: &mut Response<B>, place: Place) -> Option<Place> {
        let Some(upgrade) = response.extensions_mut().remove::<Upgrade>() else { return Some(place) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((on, upgrade, place));
        None
    }

    /// Speaks the other protocol, if an answer switched to one.
    pub(super) async fn go_on(&self) -> hyper::Result<()> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((on, Upgrade(then), _place)) = kept else { return Ok(()) };
        let io = TokioIo::new(on.await?);
        let then = then.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then(io).await;
        }
        Ok(())
    }
}

//! Who may see and do what: tokens, what they grant, and until when.
//!
//! A service opens a [`Gate`] at start, admits each request, asks the [`Access`] that it gets before it looks
//! anything up, and lays [`watched`] around what streams:
//!
//! ```ignore
//! let gate = Gate::open(&config.auth, listener.local_addr()?, bus, subscriber)?;
//! // for each request below /v1, before anything else:
//! let access = match gate.admit(request.method(), request.headers()).await {
//!     Ok(access) => access,
//!     Err(denied) => return refuse(denied),
//! };
//! access.may(Operation::View, &run)?;           // 403, whether there is such a run or not
//! let query = access.narrow(query)?;            // only the channels that the token allows
//! watched(response, access)                     // or: select on `access.ends()`, or its lease's end
//! ```
//!
//! A run that a token does not cover is refused by its name alone: the same answer, after the same work,
//! whether there is such a run or not.

mod access;
pub mod config;
mod denied;
mod gate;
mod grant;
pub mod jwks;
mod key;
mod key_source;
mod lease;
mod leases;
mod pem;
mod ticket;
mod token;
mod verifier;
mod warden;
mod watched;

pub use access::Access;
pub use config::{AuthConfig, Mode};
pub use denied::Denied;
pub use gate::Gate;
pub use grant::{Grant, Operation};
pub use key::Key;
pub use lease::Lease;
pub use ticket::{Ticket, TicketRequest};
pub use token::Token;
pub use verifier::Verifier;
pub use watched::{refuse, watched};

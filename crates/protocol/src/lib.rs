//! Runcast's words on the wire, shared by every service: identifiers, lanes, messages, batches,
//! cursors, Server-Sent Events frames and the names of things in Redis. Pure values, no I/O.

mod batch;
mod command;
mod cursor;
mod event;
#[cfg(feature = "grpc")]
pub mod grpc;
mod id;
mod json;
pub mod keys;
mod lane;
pub mod merge;
mod message;
mod past;
mod placement;
mod run_state;
mod secret;
mod selection;
mod sequence;
pub mod snapshot_text;
pub mod sse;
mod status;
pub mod websocket;

pub use batch::{Batch, BatchError, BatchWriter, Entry};
pub use command::{Ack, Action, Control, Ended, Issued, Letter, Step, merge_patch};
pub use cursor::{Cursor, CursorError};
pub use event::{Dismissed, End, EventName, Gap, GapReason, Snapshot, Start};
pub use id::{CommandId, InvalidId, RunId, VariationId};
pub use json::{InvalidJson, Json};
pub use lane::{Channel, InvalidLane, Lane, Writer};
pub use message::{Message, MessageError, MessageHead, MessageType, timestamp};
pub use past::{PastRequest, PastRequestError, PastRun};
pub use placement::{Placement, place};
pub use run_state::RunState;
pub use secret::Secret;
pub use selection::Selection;
pub use sequence::{InvalidSequence, Sequence};
pub use status::{State, Status};

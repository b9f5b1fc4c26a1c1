//! The only crate that speaks Redis: append, read, subscribe. Everything about the client library
//! stays in here, so that another one could take its place.

mod acl;
mod append;
mod client;
mod config;
mod connection;
mod dead;
mod decide;
mod error;
mod fence;
mod keeper;
mod lane_reader;
mod lanes;
mod lease;
mod lifecycle;
mod parsed_page;
mod password_file;
mod past;
mod read;
mod registry;
mod revoked;
mod sentinel;
mod server;
mod snapshots;
mod subscriber;
mod summaries;
mod tls;
mod turns;

pub use acl::AclUser;
pub use append::{APPEND_SCRIPT, Append, Appended, Limits};
pub use client::Bus;
pub use config::RedisConfig;
pub use dead::DeadLetter;
pub use decide::{Decided, Decision};
pub use error::BusError;
pub use fence::{Durability, Fenced};
pub use lane_reader::{FIRST_ENTRIES, Found, Item, LaneReader, PAUSE, Scan, entries_of};
pub use lanes::LaneState;
pub use parsed_page::{ParsedBatch, ParsedPage};
pub use past::{Asking, PastRequests};
pub use read::{EntryId, Page};
pub use snapshots::{SnapshotAppended, SnapshotEntry};
pub use subscriber::{Inbox, Incoming, Subscriber};
pub use summaries::SummaryStored;

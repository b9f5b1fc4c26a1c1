//! A run's history, over archive and Redis as one: pages, the agent's words as text, and replays in the
//! original rhythm.

mod backwards;
mod filter;
mod lane_history;
mod merge;
mod pace;
mod page;
mod player;
mod reading;
mod replay;
mod run_history;
mod text;

pub use filter::{Filter, Said};
pub use lane_history::{Chunk, LaneHistory};
pub use merge::{Merge, Timed};
pub use pace::Pace;
pub use page::messages;
pub use reading::{Next, Reading, Span};
pub use replay::replay;
pub use run_history::RunHistory;

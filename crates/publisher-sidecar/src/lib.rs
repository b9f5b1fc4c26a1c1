//! Takes what an agent says and appends it to its run's lanes in Redis.

pub mod lane_queue;
pub mod lines;
pub mod record;
pub mod splitter;
pub mod utf8;

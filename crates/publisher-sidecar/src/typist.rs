//! Text for the agent's standard input, when that is ours to write to (`exec.input`).

use std::sync::Arc;

use jiff::Timestamp;
use runcast_protocol::{CommandId, Step};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;

use crate::commands::desk::Desk;

/// Texts that may wait for the agent to read.
pub(crate) const TEXTS: usize = 64;

/// A text to be written, byte for byte.
#[derive(Debug)]
pub(crate) struct Text {
    /// The command that brought it.
    pub(crate) command: CommandId,
    pub(crate) text: String,
    /// It is not begun after this.
    pub(crate) deadline: Timestamp,
}

/// Writes what comes, one text after the other, each whole: half a line would be worse than none.
pub(crate) async fn run(mut stdin: ChildStdin, mut texts: mpsc::Receiver<Text>, desk: Arc<Desk>) {
    while let Some(Text { command, text, deadline }) = texts.recv().await {
        if Timestamp::now() > deadline {
            let reason = "its deadline passed while the agent did not read what came before it";
            desk.tell(&command, Step::Rejected, Some(reason.into()), None).await;
            continue;
        }
        let written = async {
            stdin.write_all(text.as_bytes()).await?;
            stdin.flush().await
        };
        match written.await {
            Ok(()) => desk.tell(&command, Step::Applied, None, Some(json!({ "bytes": text.len() }))).await,
            Err(error) => {
                let reason = format!("the agent does not take any more input: {error}");
                desk.tell(&command, Step::Failed, Some(reason), None).await;
            }
        }
    }
}

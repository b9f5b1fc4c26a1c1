//! `runcast tail`: follows a run in the terminal.

pub(crate) mod follow;
mod note;
mod screen;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context, bail};
use runcast_protocol::sse::Event;
use runcast_protocol::{
    Channel, Dismissed, End, Gap, Lane, Message, MessageType, RunId, Snapshot, State, Status, VariationId,
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::arguments::{From, TailOptions};
use crate::server::Server;
use crate::tail::follow::{Follow, Step};
use crate::tail::screen::{Piece, Screen, Terminal};

/// What is needed of `GET /v1/runs/{run}`.
#[derive(Debug, Deserialize)]
struct RunInfo {
    state: State,
    variations: BTreeMap<VariationId, VariationInfo>,
}

#[derive(Debug, Deserialize)]
struct VariationInfo {
    state: Option<State>,
}

impl RunInfo {
    /// The state of the run, or of those of its variations that were chosen.
    fn state_of(&self, chosen: &[VariationId]) -> State {
        if chosen.is_empty() {
            return self.state;
        }
        let state = |variation| self.variations.get(variation).and_then(|info| info.state);
        State::of_run(chosen.iter().map(|variation| state(variation).unwrap_or(State::Lost)))
    }
}

/// Runs the command.
///
/// # Errors
/// If the fan-out refuses, or what it says cannot be understood.
pub(crate) async fn run(options: TailOptions, fanout: Server) -> anyhow::Result<ExitCode> {
    let mut tail = Tail::new(fanout, &options.run, &options.variations, options.raw);
    if !tail.learn().await {
        tail.note(&format!("nothing is known of run {} yet; waiting for it", options.run));
    }
    let state = tail.follow(events_path(&options)).await?;
    Ok(if state == State::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn events_path(options: &TailOptions) -> String {
    let chosen = choice(&options.channels, &options.variations);
    format!("/v1/runs/{}/events?{chosen}", options.run)
        + match options.from {
            From::Start => "",
            From::Now => "&from=now",
            From::Snapshot => "&from=snapshot",
        }
}

/// The parameters that choose channels and variations.
pub(crate) fn choice(channels: &[Channel], variations: &[VariationId]) -> String {
    let list = |items: &mut dyn Iterator<Item = &str>| items.collect::<Vec<_>>().join(",");
    let channels = list(&mut channels.iter().map(|channel| channel.as_str()));
    // Neither channels nor identifiers have characters that must be escaped.
    let mut chosen = format!("channels={channels}");
    if !variations.is_empty() {
        chosen += "&variations=";
        chosen += &list(&mut variations.iter().map(VariationId::as_str));
    }
    chosen
}

async fn run_info(server: &Server, run: &RunId) -> anyhow::Result<Option<RunInfo>> {
    let answer = server.get(&format!("/v1/runs/{run}"), &[]).await?;
    match answer.status.as_u16() {
        200 => Ok(Some(serde_json::from_str(&answer.text().await?)?)),
        404 => Ok(None),
        _ => bail!("{server}: {}", answer.problem().await),
    }
}

/// A run that is shown: what has come, and the screen that it goes to.
pub(crate) struct Tail {
    server: Server,
    run: RunId,
    variations: Vec<VariationId>,
    screen: Screen,
    seen: BTreeSet<VariationId>,
}

impl Tail {
    /// A run, or some variations of it, that `server` tells of. What agents write reaches a terminal as it is
    /// only if it is to be `raw`.
    pub(crate) fn new(server: Server, run: &RunId, variations: &[VariationId], raw: bool) -> Self {
        let colour = |choice| choice != ColorChoice::Never;
        let terminal = Terminal {
            words_in_colour: colour(AutoStream::choice(&io::stdout())),
            notes_in_colour: colour(AutoStream::choice(&io::stderr())),
            shared: io::stdout().is_terminal() && io::stderr().is_terminal(),
            guarded: io::stdout().is_terminal() && !raw,
        };
        let mut screen = Screen::new(terminal);
        screen.expect(variations.len());
        let (run, variations) = (run.clone(), variations.to_vec());
        Self { server, run, variations, screen, seen: BTreeSet::new() }
    }

    /// Asks how many variations there are, if all are wanted; false if the run is not known.
    pub(crate) async fn learn(&mut self) -> bool {
        let info = run_info(&self.server, &self.run).await;
        if let Ok(Some(info)) = &info
            && self.variations.is_empty()
        {
            self.screen.expect(info.variations.len());
        }
        // If it cannot be asked, the stream's own attempts tell what is wrong.
        !matches!(info, Ok(None)) || !self.variations.is_empty()
    }

    /// Shows a stream of events up to its end; the state that it ends with.
    ///
    /// # Errors
    /// If the server refuses, or what it says cannot be understood.
    pub(crate) async fn follow(&mut self, path: String) -> anyhow::Result<State> {
        let mut follow = Follow::new(self.server.clone(), path);
        loop {
            self.show()?;
            let step = {
                let mut next = pin!(follow.next());
                loop {
                    let due = self.screen.due();
                    tokio::select! {
                        step = &mut next => break step?,
                        () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                            self.screen.tick(Instant::now());
                            self.show()?;
                        }
                    }
                }
            };
            let ended = match step {
                Step::Event(event) => self.take(&event)?,
                Step::Lost { why, delay } => {
                    let seconds = delay.as_secs_f32();
                    self.note(&format!("{why}; reconnecting in {seconds:.1} s"));
                    None
                }
                Step::Back => {
                    self.note("connected again");
                    None
                }
                // Everything was seen, but the connection was cut before the end could be told.
                Step::Over => {
                    let info = run_info(&self.server, &self.run).await?;
                    Some(info.map_or(State::Lost, |info| info.state_of(&self.variations)))
                }
            };
            if let Some(state) = ended {
                self.screen.finish();
                self.show()?;
                return Ok(state);
            }
        }
    }

    /// Takes in an event; the run's outcome if it was the end.
    fn take(&mut self, event: &Event) -> anyhow::Result<Option<State>> {
        let data = event.data.as_str();
        match event.event.as_str() {
            "end" => {
                if let Ok(Dismissed { reason }) = serde_json::from_str(data) {
                    bail!("the server ended the stream: the token is {reason}");
                }
                let end: End = serde_json::from_str(data).context("the server's `end` cannot be read")?;
                self.note(&note::end(&end));
                return Ok(Some(end.state));
            }
            "gap" => {
                let gap: Gap = serde_json::from_str(data).context("the server's `gap` cannot be read")?;
                self.note(&note::gap(&gap));
            }
            "snapshot" => {
                let snapshot: Snapshot =
                    serde_json::from_str(data).context("the server's `snapshot` cannot be read")?;
                self.snapshot(snapshot);
            }
            "output" | "log" | "status" | "metric" | "control" | "ack" => {
                let message = Message::parse(data.as_bytes()).context("the server sent")?;
                self.message(&message);
            }
            // `start`, and what later versions add.
            _ => {}
        }
        Ok(None)
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        let Snapshot { lane: Lane { channel, writer }, text, message, .. } = snapshot;
        if let (Channel::Output, Some(variation), Some(text)) = (channel, writer.variation(), text) {
            self.words(variation, &text);
        }
        if let Some(message) = message.and_then(|message| message.read::<Message>().ok()) {
            self.message(&message);
        }
    }

    fn message(&mut self, message: &Message) {
        match (message.kind, message.content.to_text()) {
            (MessageType::Output, Some(text)) => self.words(&message.variation_id, &text),
            _ => {
                if let Ok(status) = message.content.read::<Status>()
                    && message.kind == MessageType::Status
                    && self.variations.is_empty()
                {
                    self.screen.expect(status.variations.unwrap_or(0) as usize);
                }
                self.screen.note_of(&message.variation_id, &note::message(message), Instant::now());
            }
        }
    }

    fn words(&mut self, variation: &VariationId, text: &str) {
        if !self.seen.contains(variation) {
            self.seen.insert(variation.clone());
            self.screen.expect(self.seen.len());
        }
        self.screen.words(variation, text, Instant::now());
    }

    /// Says something about the run or the connection.
    pub(crate) fn note(&mut self, text: &str) {
        self.screen.note(text, Instant::now());
    }

    /// Writes what the screen has ready.
    fn show(&mut self) -> io::Result<()> {
        for piece in self.screen.take() {
            match piece {
                Piece::Words(text) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(text.as_bytes())?;
                    stdout.flush()?;
                }
                Piece::Note(text) => io::stderr().lock().write_all(text.as_bytes())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_that_of_the_chosen_variations() {
        let info: RunInfo = serde_json::from_str(
            r#"{"run_id":"r","state":"failed","cursor":"a:1","variations":{
                "a":{"state":"succeeded","positions":{}},"b":{"state":"failed"},"c":{"state":null}}}"#,
        )
        .unwrap();
        for (chosen, state) in
            [("", State::Failed), ("a", State::Succeeded), ("a,b", State::Failed), ("a,c", State::Lost)]
        {
            let chosen: Vec<_> = chosen.split(',').filter_map(|name| VariationId::new(name).ok()).collect();
            assert_eq!(info.state_of(&chosen), state, "{chosen:?}");
        }
    }
}

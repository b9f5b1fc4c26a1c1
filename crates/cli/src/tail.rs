//! `runcast tail`: follows a run in the terminal.

mod follow;
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
    Channel, End, Gap, Lane, Message, MessageType, RunId, Snapshot, State, Status, VariationId,
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::arguments::{From, TailOptions};
use crate::fanout::Fanout;
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
pub(crate) async fn run(options: TailOptions, fanout: Fanout) -> anyhow::Result<ExitCode> {
    let mut tail = Tail::new(&options);
    let info = run_info(&fanout, &options.run).await;
    if options.variations.is_empty() {
        match &info {
            Ok(Some(info)) => tail.screen.expect(info.variations.len()),
            Ok(None) => tail.note(&format!("nothing is known of run {} yet; waiting for it", options.run)),
            // The stream's own attempts tell what is wrong.
            Err(_) => {}
        }
    }
    let mut follow = Follow::new(fanout.clone(), events_path(&options));
    loop {
        tail.show()?;
        let step = {
            let mut next = pin!(follow.next());
            loop {
                let due = tail.screen.due();
                tokio::select! {
                    step = &mut next => break step?,
                    () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                        tail.screen.tick(Instant::now());
                        tail.show()?;
                    }
                }
            }
        };
        let ended = match step {
            Step::Event(event) => tail.take(&event)?,
            Step::Lost { why, delay } => {
                let seconds = delay.as_secs_f32();
                tail.note(&format!("{why}; reconnecting in {seconds:.1} s"));
                None
            }
            Step::Back => {
                tail.note("connected again");
                None
            }
            // Everything was seen, but the connection was cut before the end could be told.
            Step::Over => {
                let info = run_info(&fanout, &options.run).await?;
                Some(info.map_or(State::Lost, |info| info.state_of(&options.variations)))
            }
        };
        if let Some(state) = ended {
            tail.screen.finish();
            tail.show()?;
            return Ok(if state == State::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
}

fn events_path(options: &TailOptions) -> String {
    let list = |items: &mut dyn Iterator<Item = &str>| items.collect::<Vec<_>>().join(",");
    let channels = list(&mut options.channels.iter().map(|channel| channel.as_str()));
    // Neither channels nor identifiers have characters that must be escaped.
    let mut path = format!("/v1/runs/{}/events?channels={channels}", options.run);
    if !options.variations.is_empty() {
        path += "&variations=";
        path += &list(&mut options.variations.iter().map(VariationId::as_str));
    }
    path + match options.from {
        From::Start => "",
        From::Now => "&from=now",
        From::Snapshot => "&from=snapshot",
    }
}

async fn run_info(fanout: &Fanout, run: &RunId) -> anyhow::Result<Option<RunInfo>> {
    let answer = fanout.get(&format!("/v1/runs/{run}"), &[]).await?;
    match answer.status.as_u16() {
        200 => Ok(Some(serde_json::from_str(&answer.text().await?)?)),
        404 => Ok(None),
        _ => bail!("{fanout}: {}", answer.problem().await),
    }
}

/// What has come, and the screen that it goes to.
struct Tail {
    screen: Screen,
    seen: BTreeSet<VariationId>,
    named: bool,
}

impl Tail {
    fn new(options: &TailOptions) -> Self {
        let colour = |choice| choice != ColorChoice::Never;
        let terminal = Terminal {
            words_in_colour: colour(AutoStream::choice(&io::stdout())),
            notes_in_colour: colour(AutoStream::choice(&io::stderr())),
            shared: io::stdout().is_terminal() && io::stderr().is_terminal(),
        };
        let mut screen = Screen::new(terminal);
        screen.expect(options.variations.len());
        Self { screen, seen: BTreeSet::new(), named: !options.variations.is_empty() }
    }

    /// Takes in an event; the run's outcome if it was the end.
    fn take(&mut self, event: &Event) -> anyhow::Result<Option<State>> {
        let data = event.data.as_str();
        match event.event.as_str() {
            "end" => {
                let end: End = serde_json::from_str(data).context("the fan-out's `end` cannot be read")?;
                self.note(&note::end(&end));
                return Ok(Some(end.state));
            }
            "gap" => {
                let gap: Gap = serde_json::from_str(data).context("the fan-out's `gap` cannot be read")?;
                self.note(&note::gap(&gap));
            }
            "snapshot" => {
                let snapshot: Snapshot =
                    serde_json::from_str(data).context("the fan-out's `snapshot` cannot be read")?;
                self.snapshot(snapshot);
            }
            "output" | "log" | "status" | "metric" | "control" | "ack" => {
                let message = Message::parse(data.as_bytes()).context("the fan-out sent")?;
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
                    && !self.named
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

    fn note(&mut self, text: &str) {
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

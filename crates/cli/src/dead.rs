//! `runcast dead`: messages that could never be stored, and what becomes of them.

mod file;
mod letters;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail, ensure};
use jiff::Timestamp;
use runcast_bus::{Bus, BusError, DeadLetter, EntryId, RedisConfig};
use runcast_protocol::{RunId, State, Status, VariationId};

use crate::arguments::{
    DeadCommand, DeadDropOptions, DeadListOptions, DeadOptions, DeadRequeueOptions, DeadShowOptions, Format,
};
use crate::confirm::confirmed;
use crate::dead::letters::{Kept, Letters};
use crate::runs::statuses;

/// Names a dead letter: an entry of the run's stream, or a line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetterId {
    Entry(EntryId),
    Line(usize),
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(id) => id.fmt(f),
            Self::Line(number) => number.fmt(f),
        }
    }
}

impl FromStr for LetterId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let entry = || text.parse().ok().map(Self::Entry);
        let line = || text.parse().ok().map(Self::Line);
        entry().or_else(line).ok_or("use an ID as `runcast dead list` shows it, e.g. 1768040000000-0")
    }
}

impl LetterId {
    fn entry(self) -> anyhow::Result<EntryId> {
        match self {
            Self::Entry(id) => Ok(id),
            Self::Line(number) => {
                bail!(
                    "{number} is the number of a file's line; in Redis use an ID as `runcast dead list RUN` shows it"
                )
            }
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If Redis or the file cannot be asked, or there is no such letter.
pub(crate) async fn run(options: DeadOptions, redis: &str) -> anyhow::Result<ExitCode> {
    match options.command {
        DeadCommand::List(options) => list(options, redis).await,
        DeadCommand::Show(options) => show(options, redis).await,
        DeadCommand::Requeue(options) => requeue(options, redis).await,
        DeadCommand::Drop(options) => drop_letters(options, redis).await,
    }
}

async fn list(options: DeadListOptions, redis: &str) -> anyhow::Result<ExitCode> {
    let mut kept = Vec::new();
    let place = match (options.run, options.file) {
        (Some(run), _) => {
            let mut letters = Letters::of(redis, run.clone()).await?;
            while let Some(page) = letters.next_page().await? {
                kept.extend(page.into_iter().map(|(id, letter)| Kept::new(LetterId::Entry(id), letter)));
            }
            format!("run {run}")
        }
        (None, file) => {
            let path = file.context("a run, or --file")?;
            let lines = file::read(&path)?;
            kept.extend(lines.into_iter().map(|(number, letter)| Kept::new(LetterId::Line(number), letter)));
            path.display().to_string()
        }
    };
    let text = match options.output {
        Format::Json => serde_json::to_string_pretty(&kept)? + "\n",
        Format::Table if kept.is_empty() => format!("No dead letters in {place}.\n"),
        Format::Table => text::table(&kept, Timestamp::now()),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn show(options: DeadShowOptions, redis: &str) -> anyhow::Result<ExitCode> {
    let letter = match (options.run, options.file) {
        (Some(run), _) => {
            let id = options.id.entry()?;
            let bus = Bus::connect(&RedisConfig::new(redis))?;
            match bus.dead_letter(&run, id).await.context(DOCTOR)? {
                Some(letter) => letter,
                None => return Err(unknown(&bus, &run, id).await?),
            }
        }
        (None, file) => {
            let path = file.context("a run, or --file")?;
            let lines = file::read(&path)?;
            let found = lines.into_iter().find(|(number, _)| LetterId::Line(*number) == options.id);
            let path = path.display();
            let (_, letter) = found.with_context(|| {
                format!(
                    "{path} has no dead letter on line {}; `runcast dead list --file {path}` lists them",
                    options.id
                )
            })?;
            letter
        }
    };
    let text = match options.output {
        Format::Json => text::json(options.id, letter)? + "\n",
        Format::Table => text::whole(options.id, &letter, Timestamp::now()),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn requeue(options: DeadRequeueOptions, redis: &str) -> anyhow::Result<ExitCode> {
    let chosen = Chosen::of(redis, &options.run, &options.ids, options.all).await?;
    if !options.force {
        let writers = chosen.letters.iter().map(|(_, letter)| letter.lane.writer.variation().cloned());
        let writers: BTreeSet<_> = writers.collect();
        refuse_running(&chosen.bus, &options.run, writers).await?;
    }
    chosen
        .each(&options.run, async |bus, run, id, letter| {
            let number = bus.requeue_dead_letter(run, id).await?;
            Ok(number.map(|number| format!("{id} is message {number} of {} now", letter.lane)))
        })
        .await
}

/// Requeueing takes the lane from its sidecar, which would stop.
async fn refuse_running(
    bus: &Bus,
    run: &RunId,
    variations: BTreeSet<Option<VariationId>>,
) -> anyhow::Result<()> {
    let mut states: BTreeMap<VariationId, State> = BTreeMap::new();
    for message in statuses(bus, run).await.context(DOCTOR)? {
        if let Ok(status) = message.content.read::<Status>() {
            states.insert(message.variation_id, status.state);
        }
    }
    for variation in variations {
        let Some(variation) = variation else {
            bail!(
                "one of them is the control plane's, which would lose its lane: nothing was done; use --force if it is gone"
            );
        };
        let said = match states.get(&variation) {
            Some(state) if state.is_terminal() => continue,
            Some(state) => format!("its last status is {state}"),
            None => "it has no status".to_owned(),
        };
        bail!(
            "variation {variation} has not ended ({said}): its sidecar would lose the lane, and stop; nothing was done. \
             Wait until it has ended, or use --force if its sidecar is gone"
        );
    }
    Ok(())
}

async fn drop_letters(options: DeadDropOptions, redis: &str) -> anyhow::Result<ExitCode> {
    let chosen = Chosen::of(redis, &options.run, &options.ids, options.all).await?;
    if options.all && !options.yes && !chosen.letters.is_empty() {
        ensure!(io::stdin().is_terminal(), "there is nobody to ask whether to drop them all: use --yes");
        let all = match chosen.letters.len() {
            1 => "the one dead letter".to_owned(),
            count => format!("all {count} dead letters"),
        };
        if !confirmed(&format!("Drop {all} of run {}? There is no way back.", options.run))? {
            println!("Nothing was dropped.");
            return Ok(ExitCode::FAILURE);
        }
    }
    chosen
        .each(&options.run, async |bus, run, id, _| {
            let was_there = bus.drop_dead_letter(run, id).await?;
            Ok(was_there.then(|| format!("{id} is dropped")))
        })
        .await
}

/// The letters that a command is about. Their originals are not kept: there may be many.
struct Chosen {
    bus: Bus,
    letters: Vec<(EntryId, DeadLetter)>,
}

impl Chosen {
    /// All of a run's, or those with these IDs; each of them is there.
    async fn of(redis: &str, run: &RunId, ids: &[LetterId], all: bool) -> anyhow::Result<Self> {
        let mut letters = Vec::new();
        let bus = if all {
            let mut pages = Letters::of(redis, run.clone()).await?;
            while let Some(page) = pages.next_page().await? {
                letters.extend(page);
            }
            pages.into_bus()
        } else {
            let bus = Bus::connect(&RedisConfig::new(redis))?;
            for id in ids {
                let id = id.entry()?;
                match bus.dead_letter(run, id).await.context(DOCTOR)? {
                    Some(letter) => letters.push((id, letter)),
                    None => return Err(unknown(&bus, run, id).await?.context("nothing was done")),
                }
            }
            bus
        };
        letters.iter_mut().for_each(|(_, letter)| letter.original.clear());
        Ok(Self { bus, letters })
    }

    /// Does something with each, and tells what. One that cannot be helped does not keep the others.
    async fn each(
        self,
        run: &RunId,
        act: impl AsyncFn(&Bus, &RunId, EntryId, &DeadLetter) -> Result<Option<String>, BusError>,
    ) -> anyhow::Result<ExitCode> {
        if self.letters.is_empty() {
            println!("No dead letters in run {run}.");
        }
        let mut outcome = ExitCode::SUCCESS;
        for (id, letter) in &self.letters {
            match act(&self.bus, run, *id, letter).await {
                Ok(Some(done)) => writeln!(io::stdout(), "{done}")?,
                Ok(None) => writeln!(io::stdout(), "{id} is gone: somebody else was faster")?,
                Err(error @ BusError::Rejected(_)) => {
                    eprintln!("runcast: {id} stays: {error}");
                    outcome = ExitCode::FAILURE;
                }
                Err(error) => return Err(anyhow!(error).context(format!("stopped at {id}"))),
            }
        }
        Ok(outcome)
    }
}

/// What is said about Redis that cannot be asked.
const DOCTOR: &str = "`runcast doctor` tells more";

/// The error for an ID that the run does not have.
async fn unknown(bus: &Bus, run: &RunId, id: EntryId) -> anyhow::Result<anyhow::Error> {
    letters::must_be_known(bus, run).await?;
    Ok(anyhow!("run {run} has no dead letter {id}; `runcast dead list {run}` lists them"))
}

//! How several agents share one terminal. Pure: events and the time in, pieces to write out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::take;
use std::time::Duration;

use anstyle::{AnsiColor, Color, Style};
use runcast_protocol::VariationId;
use tokio::time::Instant;

use crate::terminal::Words;

/// Words that end in the middle of a line are held until their agent pauses for so long …
const PAUSE: Duration = Duration::from_millis(100);
/// … or talks for so long without a line end, so that agents do not interrupt each other mid-word.
const PATIENCE: Duration = Duration::from_secs(1);
/// A note waits so long for the end of a line it would break.
const NOTE_PATIENCE: Duration = Duration::from_millis(500);

const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::Blue,
    AnsiColor::Red,
];

/// What the screen looks like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terminal {
    /// Standard output takes colours.
    pub(crate) words_in_colour: bool,
    /// Standard error takes colours.
    pub(crate) notes_in_colour: bool,
    /// Both are the same terminal: a note must not break a line.
    pub(crate) shared: bool,
    /// A person reads: of what agents write, only text and colours are shown.
    pub(crate) guarded: bool,
}

/// Something to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// To standard output.
    Words(String),
    /// To standard error.
    Note(String),
}

/// Agents' words, and notes about them, on their way to one terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: Terminal,
    /// Whether more than one variation is watched: then lines begin with their variation's name.
    several: bool,
    pens: BTreeMap<VariationId, Pen>,
    guards: BTreeMap<VariationId, Words>,
    /// Whose line the cursor is in; none at the beginning of one.
    open: Option<VariationId>,
    notes: Vec<String>,
    notes_since: Option<Instant>,
    ready: Vec<Piece>,
}

#[derive(Debug)]
struct Pen {
    colour: AnsiColor,
    held: String,
    first: Instant,
    last: Instant,
}

impl Screen {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            several: false,
            pens: BTreeMap::new(),
            guards: BTreeMap::new(),
            open: None,
            notes: Vec::new(),
            notes_since: None,
            ready: Vec::new(),
        }
    }

    /// Learns that there are at least so many variations. With one, words go out as they come.
    pub(crate) fn expect(&mut self, variations: usize) {
        self.several |= variations > 1;
    }

    /// An agent said something.
    pub(crate) fn words(&mut self, variation: &VariationId, text: &str, now: Instant) {
        let mut text = Cow::Borrowed(text);
        if self.terminal.guarded {
            text = self.guards.entry(variation.clone()).or_default().take(&text).into();
        }
        if text.is_empty() {
            return;
        }
        if !self.several {
            self.open = (!text.ends_with('\n')).then(|| variation.clone());
            self.ready.push(Piece::Words(text.into_owned()));
            return self.tick(now);
        }
        let colour = COLOURS[self.pens.len() % COLOURS.len()];
        let pen = self.pens.entry(variation.clone()).or_insert_with(|| Pen {
            colour,
            held: String::new(),
            first: now,
            last: now,
        });
        if pen.held.is_empty() {
            pen.first = now;
        }
        pen.last = now;
        pen.held.push_str(&text);
        if let Some(end) = pen.held.rfind('\n') {
            let rest = pen.held.split_off(end + 1);
            let lines = std::mem::replace(&mut pen.held, rest);
            pen.first = now;
            for line in lines.split_inclusive('\n') {
                self.emit(variation, line);
            }
        }
        self.tick(now);
    }

    /// Something about the run or the connection.
    pub(crate) fn note(&mut self, text: &str, now: Instant) {
        self.push_note(format!("-- {text}"), now);
    }

    /// Something about a variation.
    pub(crate) fn note_of(&mut self, variation: &VariationId, text: &str, now: Instant) {
        let width = self.width();
        let line =
            if self.several { format!("{:width$} | {text}", variation.as_str()) } else { text.to_owned() };
        self.push_note(line, now);
    }

    fn push_note(&mut self, line: String, now: Instant) {
        self.notes.push(line);
        if self.terminal.shared && self.open.is_some() {
            self.notes_since.get_or_insert(now);
        } else {
            self.flush_notes();
        }
    }

    /// When [`Screen::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let held = self.pens.values().filter(|pen| !pen.held.is_empty());
        let words = held.map(|pen| (pen.last + PAUSE).min(pen.first + PATIENCE));
        words.chain(self.notes_since.map(|since| since + NOTE_PATIENCE)).min()
    }

    /// Lets go of what was held for long enough.
    pub(crate) fn tick(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (variation, pen) in self.pens.iter_mut().filter(|(_, pen)| !pen.held.is_empty()) {
            let end = if now >= pen.last + PAUSE {
                pen.held.len()
            } else if now >= pen.first + PATIENCE {
                // Up to the last whole word.
                pen.held.rfind(' ').map_or(pen.held.len(), |space| space + 1)
            } else {
                continue;
            };
            let rest = pen.held.split_off(end);
            due.push((variation.clone(), std::mem::replace(&mut pen.held, rest)));
            pen.first = now;
        }
        for (variation, text) in due {
            self.emit(&variation, &text);
        }
        if self.open.is_none() || self.notes_since.is_some_and(|since| now >= since + NOTE_PATIENCE) {
            self.flush_notes();
        }
    }

    /// Lets go of everything, and of the line.
    pub(crate) fn finish(&mut self) {
        let held = self.pens.iter_mut().filter(|(_, pen)| !pen.held.is_empty());
        let held: Vec<_> = held.map(|(variation, pen)| (variation.clone(), take(&mut pen.held))).collect();
        for (variation, text) in held {
            self.emit(&variation, &text);
        }
        if self.several && self.open.take().is_some() {
            self.ready.push(Piece::Words("\n".to_owned()));
        }
        self.flush_notes();
    }

    /// What is ready to be written.
    pub(crate) fn take(&mut self) -> Vec<Piece> {
        take(&mut self.ready)
    }

    /// Writes a piece of a variation's line, at most one line end, at its end.
    fn emit(&mut self, variation: &VariationId, text: &str) {
        let mut words = String::new();
        let (style, width) = (self.style(variation), self.width());
        let name = format!("{style}{:width$} |{style:#} ", variation.as_str());
        if self.open.as_ref() != Some(variation) {
            if self.open.is_some() {
                words.push('\n');
            }
            words += &name;
        }
        if self.terminal.guarded {
            // Who begins the line again must not write another's name there.
            words += &text.replace('\r', &format!("\r{name}"));
        } else {
            words += text;
        }
        self.open = (!text.ends_with('\n')).then(|| variation.clone());
        // Colours that the agent left on must not reach the next one's lines.
        if self.terminal.words_in_colour && text.contains('\x1b') {
            words.push_str("\x1b[0m");
        }
        self.ready.push(Piece::Words(words));
    }

    fn flush_notes(&mut self) {
        self.notes_since = None;
        if self.notes.is_empty() {
            return;
        }
        let mut text = String::new();
        if self.terminal.shared && self.open.take().is_some() {
            text.push('\n');
        }
        let dim = if self.terminal.notes_in_colour { Style::new().dimmed() } else { Style::new() };
        for line in take(&mut self.notes) {
            text += &format!("{dim}{line}{dim:#}\n");
        }
        self.ready.push(Piece::Note(text));
    }

    fn style(&self, variation: &VariationId) -> Style {
        let pen = self.pens.get(variation).filter(|_| self.terminal.words_in_colour);
        pen.map_or(Style::new(), |pen| Style::new().fg_color(Some(Color::Ansi(pen.colour))))
    }

    fn width(&self) -> usize {
        self.pens.keys().map(|variation| variation.as_str().len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variation(name: &str) -> VariationId {
        VariationId::new(name).unwrap()
    }

    fn words(screen: &mut Screen) -> String {
        let pieces = screen.take().into_iter();
        pieces.map(|piece| if let Piece::Words(text) = piece { text } else { String::new() }).collect()
    }

    #[test]
    fn one_variation_is_written_as_it_comes() {
        let mut screen = Screen::new(Terminal { words_in_colour: true, ..Terminal::default() });
        let now = Instant::now();
        for text in ["a \r\n\n", "b\x1b[31m", " c"] {
            screen.words(&variation("v"), text, now);
            assert_eq!(words(&mut screen), text);
        }
        screen.finish();
        assert_eq!(words(&mut screen), "");
    }

    #[test]
    fn on_a_terminal_nobody_steers_or_takes_another_name() {
        let mut screen = Screen::new(Terminal { guarded: true, ..Terminal::default() });
        let now = Instant::now();
        screen.words(&variation("a"), "\x1b]0;tit", now);
        screen.words(&variation("a"), "le\x07 x\x1b[1m\x1b[2", now);
        screen.words(&variation("a"), "Jy\n", now);
        assert_eq!(words(&mut screen), " x\x1b[1my\n");
        screen.expect(2);
        screen.words(&variation("a"), "10 %\rb | done\r\n", now);
        assert_eq!(words(&mut screen), "a | 10 %\ra | b | done\ra | \n");
    }

    #[test]
    fn several_variations_do_not_interrupt_each_other() {
        let mut screen = Screen::new(Terminal::default());
        screen.expect(2);
        let now = Instant::now();
        screen.words(&variation("a"), "one tw", now);
        screen.words(&variation("bb"), "uno\ndos", now);
        screen.words(&variation("a"), "o\n", now);
        assert_eq!(words(&mut screen), "bb | uno\na  | one two\n");
        assert_eq!(screen.due(), Some(now + PAUSE));
        screen.tick(now + PAUSE);
        assert_eq!(words(&mut screen), "bb | dos");
        screen.words(&variation("bb"), " tres\n", now + PAUSE);
        assert_eq!(words(&mut screen), " tres\n", "it goes on in its own line");
        assert_eq!(screen.due(), None);
    }

    #[test]
    fn who_talks_without_a_pause_is_shown_up_to_the_last_whole_word() {
        let mut screen = Screen::new(Terminal::default());
        screen.expect(2);
        let begun = Instant::now();
        for step in 0..=PATIENCE.as_millis() / 50 {
            screen.words(
                &variation("a"),
                "x yy",
                begun + Duration::from_millis(50) * u32::try_from(step).unwrap(),
            );
        }
        let shown = words(&mut screen);
        assert!(shown.starts_with("a | x yyx") && shown.ends_with("yyx "), "{shown}");
        screen.words(&variation("b"), "z\n", begun + PATIENCE);
        screen.finish();
        assert_eq!(words(&mut screen), "\nb | z\na | yy\n", "a broken line is ended, and gone on with");
    }

    #[test]
    fn a_note_waits_for_the_end_of_the_line_but_not_for_ever() {
        let mut screen = Screen::new(Terminal { shared: true, ..Terminal::default() });
        let now = Instant::now();
        screen.words(&variation("v"), "half", now);
        screen.note("first", now);
        assert_eq!(words(&mut screen), "half");
        screen.words(&variation("v"), " a line\n", now);
        let pieces = [Piece::Words(" a line\n".into()), Piece::Note("-- first\n".into())];
        assert_eq!(screen.take(), pieces);
        screen.words(&variation("v"), "half", now);
        screen.note("second", now);
        let due = screen.due().unwrap();
        screen.tick(due);
        assert_eq!(screen.take(), [Piece::Words("half".into()), Piece::Note("\n-- second\n".into())]);
    }

    #[test]
    fn notes_elsewhere_do_not_wait() {
        let mut screen = Screen::new(Terminal { notes_in_colour: true, ..Terminal::default() });
        let now = Instant::now();
        screen.words(&variation("v"), "half", now);
        screen.note_of(&variation("v"), "said", now);
        assert_eq!(screen.take(), [Piece::Words("half".into()), Piece::Note("\x1b[2msaid\x1b[0m\n".into())]);
    }
}

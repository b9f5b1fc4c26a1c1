//! The list of what was checked.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// Writes the list as it grows, and counts what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    wrong: usize,
    hints: usize,
}

impl Report {
    pub(crate) fn section(&mut self, title: &str) -> io::Result<()> {
        let bold = Style::new().bold();
        line(&format!("{bold}{title}{bold:#}"))
    }

    /// Something is as it should be.
    pub(crate) fn good(&mut self, what: &str) -> io::Result<()> {
        entry('✓', AnsiColor::Green, what)
    }

    /// Something works, but may not be what one wants.
    pub(crate) fn hint(&mut self, what: &str, mend: &str) -> io::Result<()> {
        self.hints += 1;
        entry('!', AnsiColor::Yellow, what)?;
        line(&format!("    {mend}"))
    }

    /// Something is wrong.
    pub(crate) fn bad(&mut self, what: &str, mend: &str) -> io::Result<()> {
        self.wrong += 1;
        entry('✗', AnsiColor::Red, what)?;
        line(&format!("    {mend}"))
    }

    /// Sums up; whether all is well.
    pub(crate) fn conclude(self) -> io::Result<bool> {
        let hints = match self.hints {
            0 => String::new(),
            1 => "; 1 hint".to_owned(),
            hints => format!("; {hints} hints"),
        };
        match self.wrong {
            0 => line(&format!("All is well{hints}.")),
            1 => line(&format!("1 thing is wrong{hints}.")),
            wrong => line(&format!("{wrong} things are wrong{hints}.")),
        }?;
        Ok(self.wrong == 0)
    }
}

fn entry(mark: char, colour: AnsiColor, what: &str) -> io::Result<()> {
    let style = colour.on_default();
    line(&format!("  {style}{mark}{style:#} {what}"))
}

fn line(text: &str) -> io::Result<()> {
    writeln!(anstream::stdout(), "{text}")
}

/// To three digits, as people read it.
pub(crate) fn rounded(duration: Duration) -> Duration {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(if micros >= 10_000 { micros / 100 * 100 } else { micros })
}

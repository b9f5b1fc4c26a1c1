//! Asking before something is deleted.

use std::io::{self, BufRead, Write};

/// Asks on the terminal; no is the default.
///
/// # Errors
/// If nobody can be asked.
pub(crate) fn confirmed(question: &str) -> io::Result<bool> {
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

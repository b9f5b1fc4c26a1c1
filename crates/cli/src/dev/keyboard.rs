//! The Enter key.

use std::io::{self, BufRead, IsTerminal};

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use tokio::sync::mpsc;

/// Hears the Enter key, if there is a terminal to press it at.
#[derive(Debug)]
pub(crate) struct Keyboard(Option<mpsc::Receiver<()>>);

impl Keyboard {
    pub(crate) fn listen() -> Self {
        if !is_ours() {
            return Self(None);
        }
        let (pressed, presses) = mpsc::channel(1);
        // A plain thread: reading a terminal cannot be called off, and must not hold up our end.
        std::thread::spawn(move || {
            for _ in io::stdin().lock().lines().map_while(Result::ok) {
                // A full channel has heard it already.
                let _ = pressed.try_send(());
            }
        });
        Self(Some(presses))
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Forgets what was pressed up to now.
    pub(crate) fn forget(&mut self) {
        if let Some(presses) = &mut self.0 {
            while presses.try_recv().is_ok() {}
        }
    }

    /// Waits until Enter is pressed; for ever if nobody can.
    pub(crate) async fn enter(&mut self) {
        if let Some(presses) = &mut self.0
            && presses.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// A process in the background that reads its terminal is stopped by the kernel.
fn is_ours() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(|foreground| foreground == getpgrp())
}

//! The terminal, from the first picture until it is as it was.

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::screen::{Asked, Screen};
use crate::shared::Shared;

/// The time between two pictures, if no key is pressed.
const PICTURE: Duration = Duration::from_millis(250);
/// The time after which the thread that reads keys looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(100);
/// Keys that wait.
const KEYS: usize = 64;

/// Tells why the screen was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Somebody pressed a key for it.
    Key,
    /// It was cancelled.
    Cancelled,
}

/// Shows the state on the terminal at standard output until a key or `cancel` ends it, and
/// leaves the terminal as it was; after a panic too. Standard error must be silent meanwhile.
/// `stops_scan` says that the caller ends the scan with it.
///
/// # Errors
/// If standard output and input are no terminal, or cannot be used as one.
pub async fn show(
    shared: &Shared,
    stops_scan: bool,
    cancel: &CancellationToken,
) -> std::io::Result<End> {
    if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            "standard input and output must be a terminal",
        ));
    }
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let mut keys = read_keys();
    let mut screen = Screen::new(stops_scan);
    let mut ticks = tokio::time::interval(PICTURE);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(End::Cancelled),
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    let asked = shared.look(|state, _| screen.key(key, state));
                    if asked == Asked::Quit {
                        return Ok(End::Key);
                    }
                }
                // A new size, for example: only the picture changes.
                Some(_) => {}
                // The terminal is gone.
                None => return Ok(End::Cancelled),
            },
            _ = ticks.tick() => {}
        }
        shared.look(|state, lost| {
            terminal
                .draw(|frame| screen.draw(frame, state, lost))
                .map(|_| ())
        })?;
    }
}

/// Leaves the terminal as it was when dropped.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Reads keys on a thread of its own, as long as somebody receives them.
fn read_keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(LOOK) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => return,
            }
            let Ok(event) = event::read() else { return };
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

//! The terminal while `weir top` shows something live: another screen, keys without Enter. Both end when it
//! is dropped.

use anyhow::Context as _;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};
use std::io::{self, Write as _};
use tokio::sync::mpsc;

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Sort,
    Change,
    // Any other, or another size of the terminal: shown again at once.
    Other,
}

/// The screen.
pub(super) struct Screen {
    out: io::Stdout,
    keys: mpsc::Receiver<io::Result<Key>>,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        enable_raw_mode().context("the terminal cannot be set: --plain prints a table")?;
        // From here on, dropping it sets the terminal back.
        let (keys, receiver) = mpsc::channel(1);
        let mut screen = Self { out: io::stdout(), keys: receiver };
        execute!(screen.out, EnterAlternateScreen, Hide)?;
        // It waits for a key when the program ends, and ends with it.
        std::thread::spawn(move || {
            loop {
                let key = event::read().map(|event| meaning(&event));
                let failed = key.is_err();
                if keys.blocking_send(key).is_err() || failed {
                    return;
                }
            }
        });
        Ok(screen)
    }

    /// Waits for a key.
    pub(super) async fn key(&mut self) -> io::Result<Key> {
        self.keys.recv().await.unwrap_or(Ok(Key::Quit))
    }

    /// Shows a title, and lines for so many rows and columns.
    pub(super) fn show(
        &mut self,
        title: &str,
        lines: impl FnOnce(usize, usize) -> Vec<String>,
    ) -> io::Result<()> {
        let (columns, rows) = size()?;
        let mut out = self.out.lock();
        queue!(out, MoveTo(0, 0), Clear(ClearType::UntilNewLine))?;
        out.write_all(title.as_bytes().get(..columns.into()).unwrap_or(title.as_bytes()))?;
        // The head is a line too.
        let lines = lines(usize::from(rows).saturating_sub(3), columns.into());
        for (row, line) in (2..rows).zip(&lines) {
            queue!(out, MoveTo(0, row), Clear(ClearType::UntilNewLine))?;
            out.write_all(line.as_bytes())?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell of an error.
        let _ = execute!(self.out, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

fn meaning(event: &Event) -> Key {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
        return Key::Other;
    };
    match code {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('s') => Key::Sort,
        KeyCode::Tab => Key::Change,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_meanings() {
        let key = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Key::Quit);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Key::Quit);
        assert_eq!(key(KeyCode::Char('c'), none), Key::Other);
        assert_eq!(key(KeyCode::Tab, none), Key::Change);
        assert_eq!(key(KeyCode::Char('s'), none), Key::Sort);
        assert_eq!(meaning(&Event::Resize(80, 24)), Key::Other);
    }
}

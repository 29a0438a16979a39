//! How far it is, on standard error: one line, rewritten in place on a terminal, else a line for each step.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

pub struct Progress {
    steps: usize,
    done: usize,
    began: Instant,
    is_terminal: bool,
}

impl Progress {
    pub fn new(steps: usize) -> Progress {
        Progress {
            steps,
            done: 0,
            began: now(),
            is_terminal: stderr().is_terminal(),
        }
    }

    /// A step begins.
    pub fn show(&mut self, what: &str) {
        let left = left(now() - self.began, self.done, self.steps);
        let left = left.map_or_else(String::new, |left| format!(", {left} left"));
        let line = format!("{what}{left}");
        match self.is_terminal {
            // What a longer line left behind is erased.
            true => eprint!("\r{line}\x1b[K"),
            false => eprintln!("{line}"),
        }
        self.done += 1;
    }

    /// Something that stays to be read.
    pub fn say(&self, text: &str) {
        self.end();
        eprintln!("{text}");
    }

    /// Makes room for what else is printed.
    pub fn end(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

#[allow(clippy::disallowed_methods)] // No switch runs in this program whose time could be stopped.
fn now() -> Instant {
    Instant::now()
}

/// What is left of so many steps when these took so long; nothing before the first.
fn left(took: Duration, done: usize, steps: usize) -> Option<String> {
    let each = took.checked_div(u32::try_from(done).ok()?)?;
    let seconds = (each * u32::try_from(steps - done).ok()?).as_secs();
    Some(match seconds {
        0..60 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_was() {
        let left = |s, done, steps| left(Duration::from_secs(s), done, steps);
        assert_eq!(left(0, 0, 10), None);
        assert_eq!(left(8, 2, 10).as_deref(), Some("32 s"));
        assert_eq!(left(100, 10, 19).as_deref(), Some("2 min"));
    }
}

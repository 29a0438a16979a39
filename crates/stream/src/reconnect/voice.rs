//! What a machine of reconnection says in the log. The machine tells what happened ([`News`]); a [`Voice`] has the
//! words, because each kind of connection has its own.

use std::io;
use std::time::Duration;

use ferrovs_runtime::vlog::{self, Level, modules};

use crate::error_text;

/// What happened to a connection. `passive`: the owner listens instead of connecting.
#[derive(Debug)]
pub enum News<'a> {
    /// The machine enters the state of this name.
    Entering(&'static str),
    Connecting {
        passive: bool,
    },
    Listening,
    Connected,
    /// An attempt to connect failed; without an error it timed out. `hushed`: such news are old by now.
    AttemptFailed {
        error: Option<&'a io::Error>,
        passive: bool,
        hushed: bool,
    },
    ListenFailed(Option<&'a io::Error>),
    /// A connection that stood is over; without an error this side ended it.
    Dropped(Option<&'a io::Error>),
    /// The next attempt comes after `wait`. `first`: the attempt before did not have to wait.
    Waiting {
        wait: Duration,
        passive: bool,
        first: bool,
    },
    /// From now on waits are at their longest, and the log goes quiet.
    Hushing {
        passive: bool,
    },
    Probing {
        idle: Duration,
    },
    NoAnswer {
        waited: Duration,
    },
}

/// Tells news of connection `name` in the log.
pub trait Voice: Sync {
    fn tell(&self, name: &str, news: &News<'_>);
}

/// The voice of JSON-RPC sessions and packet streams: progress goes to the log at the level.
pub(super) struct Session(pub Level);

impl Voice for Session {
    fn tell(&self, name: &str, news: &News<'_>) {
        let say = |text: std::fmt::Arguments<'_>| {
            if modules::RECONNECT.enabled(self.0) {
                vlog::write(&modules::RECONNECT, self.0, text);
            }
        };
        match news {
            News::Entering(state) => vlog::dbg!(modules::RECONNECT, "{name}: entering {state}"),
            News::Connecting { passive: false } => say(format_args!("{name}: connecting...")),
            News::Connecting { passive: true } | News::Listening => {
                say(format_args!("{name}: listening..."));
            }
            News::Connected => say(format_args!("{name}: connected")),
            News::AttemptFailed { hushed: true, .. } | News::Waiting { first: true, .. } => {}
            News::AttemptFailed { error, passive, .. } => {
                let what = if *passive { "listen" } else { "connection" };
                match error.map(error_text) {
                    Some(text) => say(format_args!("{name}: {what} attempt failed ({text})")),
                    None => say(format_args!("{name}: {what} attempt timed out")),
                }
            }
            News::ListenFailed(None) => {
                say(format_args!("{name}: error listening for connections"))
            }
            News::ListenFailed(Some(e)) => {
                let text = error_text(e);
                vlog::warn!(
                    modules::RECONNECT,
                    "{name}: error listening for connections ({text})"
                );
            }
            News::Dropped(None) => say(format_args!("{name}: connection dropped")),
            News::Dropped(Some(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                say(format_args!("{name}: connection closed by peer"));
            }
            News::Dropped(Some(e)) => {
                let text = error_text(e);
                vlog::warn!(modules::RECONNECT, "{name}: connection dropped ({text})");
            }
            News::Waiting { wait, passive, .. } => {
                let wait = crate::json::format_real(wait.as_secs_f64());
                let what = match passive {
                    true => "trying to listen again",
                    false => "reconnect",
                };
                say(format_args!("{name}: waiting {wait} seconds before {what}"));
            }
            News::Hushing { passive } => {
                let what = match passive {
                    true => "try to listen",
                    false => "reconnect",
                };
                say(format_args!(
                    "{name}: continuing to {what} in the background but suppressing further logging"
                ));
            }
            News::Probing { idle } => vlog::dbg!(
                modules::RECONNECT,
                "{name}: idle {} ms, sending inactivity probe",
                idle.as_millis()
            ),
            News::NoAnswer { waited } => vlog::err!(
                modules::RECONNECT,
                "{name}: no response to inactivity probe after {} seconds, disconnecting",
                three_digits(waited.as_secs_f64())
            ),
        }
    }
}

/// A number as C's `%.3g` writes it, for the range that waits have.
fn three_digits(x: f64) -> String {
    let decimals = match x {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

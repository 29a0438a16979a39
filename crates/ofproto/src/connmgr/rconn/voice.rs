//! What OpenFlow connections say in the log about how they get on.

use std::io;

use ferrovs_runtime::vlog::{self, modules};
use ferrovs_stream::error_text;
use ferrovs_stream::reconnect::{News, Voice};

/// A connection that this side makes.
pub struct Made;

/// A connection that a peer made: its coming and going is no news.
pub struct Accepted;

impl Voice for Made {
    fn tell(&self, name: &str, news: &News<'_>) {
        match news {
            News::Connecting { .. } => vlog::info!(modules::RCONN, "{name}: connecting..."),
            News::Connected => vlog::info!(modules::RCONN, "{name}: connected"),
            News::AttemptFailed { error: Some(e), .. } => {
                let text = error_text(e);
                vlog::warn!(modules::RCONN, "{name}: connection failed ({text})");
            }
            News::Dropped(Some(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                vlog::info!(modules::RCONN, "{name}: connection closed by peer");
            }
            News::Waiting { wait, .. } => vlog::info!(
                modules::RCONN,
                "{name}: waiting {} seconds before reconnect",
                wait.as_secs()
            ),
            News::Hushing { .. } => vlog::info!(
                modules::RCONN,
                "{name}: continuing to retry connections in the background but suppressing further logging"
            ),
            _ => tell_any(name, news),
        }
    }
}

impl Voice for Accepted {
    fn tell(&self, name: &str, news: &News<'_>) {
        match news {
            News::Connecting { .. } | News::Connected => {}
            News::AttemptFailed { error, .. } if error.is_some() => {
                tell_any(name, &News::Dropped(*error));
            }
            _ => tell_any(name, news),
        }
    }
}

/// What both say in the same words.
fn tell_any(name: &str, news: &News<'_>) {
    match news {
        News::Entering(state) => vlog::dbg!(modules::RCONN, "{name}: entering {state}"),
        News::AttemptFailed {
            error: None,
            hushed: false,
            ..
        } => vlog::info!(modules::RCONN, "{name}: connection timed out"),
        News::Dropped(Some(e)) if e.kind() != io::ErrorKind::UnexpectedEof => {
            let text = error_text(e);
            vlog::warn!(modules::RCONN, "{name}: connection dropped ({text})");
        }
        News::Probing { idle } => vlog::dbg!(
            modules::RCONN,
            "{name}: idle {} seconds, sending inactivity probe",
            idle.as_secs()
        ),
        News::NoAnswer { waited } => vlog::err!(
            modules::RCONN,
            "{name}: no response to inactivity probe after {} seconds, disconnecting",
            waited.as_secs()
        ),
        _ => {}
    }
}

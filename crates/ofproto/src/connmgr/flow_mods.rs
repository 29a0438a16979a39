//! How many flow mods a connection made, for the log: told some time after the first, and when it ends.

use std::time::{Duration, Instant};

use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_runtime::{Poller, vlog};

/// A report comes so long after the first flow mod, and the next not sooner than a minute later.
const DELAY: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct FlowMods {
    adds: u32,
    deletes: u32,
    modifies: u32,
    first: Option<Instant>,
    last: Option<Instant>,
    due: Option<Instant>,
    not_before: Option<Instant>,
}

impl FlowMods {
    /// Counts one.
    pub fn count(&mut self, command: FlowModCommand, now: Instant) {
        match command {
            FlowModCommand::Add => self.adds += 1,
            FlowModCommand::Delete | FlowModCommand::DeleteStrict => self.deletes += 1,
            FlowModCommand::Modify | FlowModCommand::ModifyStrict => self.modifies += 1,
        }
        if self.first.is_none() {
            self.first = Some(now);
            let due = self
                .not_before
                .map_or(now + DELAY, |at| at.max(now + DELAY));
            self.due = Some(due);
            self.not_before = Some(due + PAUSE);
        }
        self.last = Some(now);
    }

    /// Logs and forgets what was counted, if it is time or the connection has ended.
    pub fn report(&mut self, name: &str, ended: bool, now: Instant) {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return;
        };
        if !ended && self.due.is_some_and(|due| now < due) {
            return;
        }
        let secs = |since: Instant| now.saturating_duration_since(since).as_secs();
        let (begun, over) = (secs(first), secs(last));
        let when = if over == 0 {
            format!("in the last {begun} s")
        } else if begun == over {
            format!("{begun} s ago")
        } else {
            format!("in the {} s starting {begun} s ago", begun - over)
        };
        let kinds = [
            (self.adds, "adds"),
            (self.deletes, "deletes"),
            (self.modifies, "modifications"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, kind)| format!("{n} {kind}"))
            .collect();
        vlog::info!(
            vlog::modules::CONNMGR,
            "{name}: {} flow_mods {when} ({})",
            self.adds + self.deletes + self.modifies,
            kinds.join(", ")
        );
        *self = FlowMods {
            not_before: self.not_before,
            ..FlowMods::default()
        };
    }

    pub fn wait(&self, poller: &mut Poller) {
        if let Some(due) = self.due {
            poller.wait_until(due);
        }
    }
}

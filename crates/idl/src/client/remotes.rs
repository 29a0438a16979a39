//! Where the database is: the list of remotes, and changes to it while the program runs.

use super::Idl;
use ferrovs_ovsdb::Uuid;
use ferrovs_stream::jsonrpc::Session;
use std::time::{Duration, Instant};

/// The remotes in a text, in random order if they are to be shuffled.
pub(super) fn list(remote: &str, shuffle: bool) -> Vec<String> {
    let mut remotes: Vec<String> = split(remote).into_iter().map(str::to_string).collect();
    if shuffle {
        for i in (1..remotes.len()).rev() {
            remotes.swap(i, random_below(i + 1));
        }
    }
    remotes
}

/// Any source of disorder will do: the order decides only who is asked first.
fn random_below(n: usize) -> usize {
    let n = n as u128;
    usize::try_from((Uuid::new_v4().as_u128() >> 64) % n).unwrap_or(0)
}

/// Splits at commas that begin a new remote ("unix:a,tcp:b" but not inside one).
fn split(remotes: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (i, _) in remotes.match_indices(',') {
        let rest = &remotes[i + 1..];
        let word = rest.split(':').next().unwrap_or_default();
        if rest.contains(':') && ["tcp", "ssl", "unix", "ptcp", "pssl", "punix"].contains(&word) {
            parts.push(&remotes[start..i]);
            start = i + 1;
        }
    }
    parts.push(&remotes[start..]);
    parts
}

impl Idl {
    /// Uses other remotes from now on. A connection to one of them stays; any other is dropped, and
    /// the contents stay until a new one brings what was missed.
    pub fn set_remote(&mut self, remote: &str, now: Instant) {
        if self.remote == remote {
            return;
        }
        self.remote = remote.to_string();
        let remotes = list(remote, self.options.shuffle);
        if remotes.iter().any(|r| r == self.session.name()) {
            self.session.replace_remotes(remotes);
            return;
        }
        self.session = Session::open_multiple(remotes, self.options.retry, now);
        if let Some(interval) = self.probe_interval {
            self.session.set_probe_interval(interval);
        }
        self.sync.forget_session();
    }

    /// The remote in use.
    pub fn remote(&self) -> &str {
        self.session.name()
    }

    /// How long the server may be silent before it is probed; `None`: for ever.
    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.probe_interval = Some(interval);
        self.session.set_probe_interval(interval);
    }

    /// Of a cluster, uses only the leader from now on, or any server.
    pub fn set_leader_only(&mut self, leader_only: bool, now: Instant) {
        self.leader_only = leader_only;
        if leader_only && self.sync.is_monitoring() {
            self.judge_server_again(now);
        }
    }

    /// Whether the server, asked to, tells of conversions instead of dropping the connection.
    /// Programs that end soon need not.
    pub fn set_db_change_aware(&mut self, aware: bool) {
        self.change_aware = aware;
    }

    pub fn force_reconnect(&mut self, now: Instant) {
        self.session.force_reconnect(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_comma_before_a_remote_splits() {
        assert_eq!(
            split("unix:/a,b,tcp:[::1]:6640,ssl:1.2.3.4:1"),
            ["unix:/a,b", "tcp:[::1]:6640", "ssl:1.2.3.4:1"]
        );
    }

    #[test]
    fn shuffling_reaches_every_order_and_loses_none() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            seen.insert(list("unix:a,unix:b,unix:c", true));
        }
        assert_eq!(seen.len(), 6);
        assert_eq!(list("unix:a,unix:b", false), ["unix:a", "unix:b"]);
    }
}

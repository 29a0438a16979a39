//! What came into a datapath, and what became of it.
//!
//! A packet ends in one of these ways, so that the account is even whenever nothing is under way:
//!
//! ```text
//!   received + executed + copied = sent + taken up + held + dropped, each for a reason
//! ```
//!
//! Copies are those that actions made, but for originals that end because a copy has gone where they should. What is
//! taken up is what whoever answers questions keeps (for a controller, a collector). What a device loses before the
//! datapath sees it counts as received and dropped.

use std::fmt::Write;

use ferrovs_datapath::conntrack::Conntrack;
use serde_json::{Map, Value, json};

use crate::class::open_datapaths;
use crate::counters::Count;
use crate::datapath::Datapath;
use crate::drops::{Dropped, Reason};

/// What came into a datapath and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// By ports, with what their devices lost.
    pub received: u64,
    /// Given to the datapath from above.
    pub executed: u64,
    /// Copies that actions made, less what ended for them; may be less than 0, as `u64` wraps.
    pub copied: u64,
    pub sent: u64,
    pub taken_up: u64,
    /// Fragments that wait for others.
    pub held: u64,
    pub dropped: Vec<Dropped>,
}

impl Account {
    /// Of the datapath of that name, if it is open.
    pub fn of(name: &str) -> Option<Account> {
        let dp = open_datapaths().into_iter().find(|d| d.is_called(name))?;
        Some(Account::new(&dp))
    }

    pub(crate) fn new(dp: &Datapath) -> Account {
        let total = |count| dp.threads.total(count);
        let mut dropped = dp.shared.drops.dropped();
        let fragments = dp.shared.conntrack.frag_status();
        let expired = fragments.v4.counters.purged + fragments.v6.counters.purged;
        if expired > 0 {
            dropped.push(Dropped {
                reason: Reason::FragmentExpired,
                port: None,
                packets: expired,
            });
            dropped.sort_by_key(|d| d.reason as usize);
        }
        let sum = |reasons: &[Reason]| -> u64 {
            let those = dropped.iter().filter(|d| reasons.contains(&d.reason));
            those.map(|d| d.packets).sum()
        };
        let unseen = sum(&[Reason::RxMalformed, Reason::RxQueueFull]);
        let unsent = sum(&[
            Reason::TxQueueFull,
            Reason::TxDown,
            Reason::TxOverMtu,
            Reason::TxMalformed,
            Reason::TxError,
        ]);
        Account {
            received: total(Count::Recv) + unseen,
            executed: total(Count::Executed),
            copied: total(Count::Copied),
            sent: total(Count::SentPackets) - unsent,
            taken_up: total(Count::TakenUp),
            held: fragments.frags.into(),
            dropped,
        }
    }

    /// All packets that were dropped.
    pub fn n_dropped(&self) -> u64 {
        self.dropped.iter().map(|d| d.packets).sum()
    }

    /// Whether every packet that came is where a packet can end: true when nothing is under way.
    pub fn is_even(&self) -> bool {
        let came = self
            .received
            .wrapping_add(self.executed)
            .wrapping_add(self.copied);
        came == self.sent + self.taken_up + self.held + self.n_dropped()
    }

    /// The drops of each reason that has some, which lie together.
    fn by_reason(&self) -> impl Iterator<Item = &[Dropped]> {
        self.dropped.chunk_by(|a, b| a.reason == b.reason)
    }

    /// Its parts but for the drops, with the names that programs know them by.
    fn parts(&self) -> [(&'static str, i64); 7] {
        [
            ("received", self.received as i64),
            ("executed", self.executed as i64),
            ("copied", self.copied as i64),
            ("sent", self.sent as i64),
            ("taken_up", self.taken_up as i64),
            ("held", self.held as i64),
            ("dropped", self.n_dropped() as i64),
        ]
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (name, n) in self.parts() {
            _ = writeln!(out, "{:<10}{n:>20}", format!("{}:", name.replace('_', " ")));
        }
        if !self.dropped.is_empty() {
            _ = writeln!(out, "\n{:<28}{:<16}{:>20}", "Reason", "Port", "Packets");
        }
        for drops in self.by_reason() {
            let (reason, sum) = (drops[0].reason, packets(drops));
            _ = writeln!(
                out,
                "{:<28}{:<16}{sum:>20}  {}",
                reason.name(),
                "",
                reason.text()
            );
            for d in drops {
                _ = writeln!(out, "{:<28}{:<16}{:>20}", "", port(d), d.packets);
            }
        }
        out
    }

    pub(crate) fn json(&self) -> Value {
        let reasons = self.by_reason().map(|drops| {
            let reason = drops[0].reason;
            let ports: Map<_, _> = drops
                .iter()
                .map(|d| (port(d).to_owned(), d.packets.into()))
                .collect();
            let row = json!({
                "packets": packets(drops),
                "coverage": reason.coverage(),
                "text": reason.text(),
                "ports": ports,
            });
            (reason.name().to_owned(), row)
        });
        let reasons: Map<_, _> = reasons.collect();
        let parts = self.parts().map(|(name, n)| (name.to_owned(), n.into()));
        let mut all: Map<_, _> = parts.into_iter().collect();
        all.insert("reasons".to_owned(), reasons.into());
        all.into()
    }
}

fn packets(drops: &[Dropped]) -> u64 {
    drops.iter().map(|d| d.packets).sum()
}

fn port(d: &Dropped) -> &str {
    d.port.as_ref().map_or("-", |(_, name)| name)
}

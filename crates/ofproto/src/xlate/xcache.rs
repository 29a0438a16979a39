//! What a translation touched, so that packets which the datapath forwards by itself are credited to it later.
//!
//! There may be hundreds of thousands of flows, and most of them went the same few ways: flows that touched the same
//! share one ([`Records::share`]).

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use ferrovs_datapath::action::Action as DpAction;
use ferrovs_datapath::dpif::FlowStats;
use ferrovs_openflow::flow::FlowMod;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::Flow;
use ferrovs_packet::hash::mix;
use ferrovs_packet::types::MacAddr;

use ferrovs_protocols::mac_learning::GratuitousArp;
use ferrovs_tunnel::neigh;
use foldhash::fast::FixedState;

use super::snapshot::{BundleId, PortCounters, XBridge};
use crate::groups::Group;
use crate::rule::Rule;
use crate::tables::Tables;
use crate::time::to_ms;

/// TCP flags that end a connection.
pub const TCP_FIN_RST: u16 = 0x5;

/// Rules of one bridge that lookups found.
#[derive(Clone)]
pub struct Way {
    pub tables: Arc<Tables>,
    pub rules: Box<[Arc<Rule>]>,
}

/// One more thing to credit.
pub enum Credit {
    /// A table lookup that found nothing.
    Miss {
        tables: Arc<Tables>,
        table_id: u8,
    },
    /// Packets through a group, and which of its buckets took them; none: all did.
    Group {
        group: Arc<Group>,
        bucket: Option<usize>,
    },
    PortRx(Arc<PortCounters>),
    PortTx(Arc<PortCounters>),
    /// `learn` made this flow: each packet refreshes it.
    Learn {
        tables: Arc<Tables>,
        flow_mod: Arc<FlowMod>,
        limit: u32,
    },
    /// `fin_timeout` of a rule, for packets that end a connection.
    FinTimeout {
        tables: Arc<Tables>,
        rule: Arc<Rule>,
        idle: u16,
        hard: u16,
    },
    /// A tunnel's packets leave by this bridge to that next hop.
    Neighbour {
        bridge: neigh::Bridge,
        address: IpAddr,
    },
    /// NORMAL saw this address behind that bundle.
    Mac {
        bridge: Arc<XBridge>,
        mac: MacAddr,
        vlan: u16,
        bundle: BundleId,
        arp: GratuitousArp,
    },
}

/// The record of one translation.
#[derive(Default)]
pub struct XCache {
    pub ways: Vec<Way>,
    pub credits: Vec<Credit>,
    /// What came of the first translation that had this record.
    actions: OnceLock<Arc<[DpAction]>>,
}

/// A record in the making.
#[derive(Default)]
pub struct Draft {
    pub record: XCache,
    /// What the record will be if this packet goes the way of the last one like it.
    pub guess: Option<Arc<XCache>>,
    /// The rules are those of the guess, and not written down.
    pub is_guess: bool,
}

impl Draft {
    /// Begins one that likely will be like `guess`.
    pub fn guessing(guess: Option<Arc<XCache>>) -> Draft {
        Draft {
            guess,
            ..Draft::default()
        }
    }
}

/// Records that were made lately, for as long as flows have them.
pub struct Records {
    /// By their hash.
    by_hash: [Mutex<Weak<XCache>>; 256],
    /// The last for each kind of packet.
    by_kind: [Mutex<Weak<XCache>>; 256],
}

impl Default for Records {
    fn default() -> Records {
        Records {
            by_hash: [const { Mutex::new(Weak::new()) }; 256],
            by_kind: [const { Mutex::new(Weak::new()) }; 256],
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hash of what packets have in common that likely go the same way: where they came from, and their protocols.
pub fn kind_of(flow: &Flow) -> usize {
    let from = u64::from(flow.in_port) << 32 | u64::from(flow.recirc_id);
    let what = u64::from(flow.dl_type.get()) << 8 | u64::from(flow.nw_proto);
    mix(from, what) as usize
}

impl Records {
    /// Begins the record of a packet with this key.
    pub fn begin(&self, flow: &Flow) -> Draft {
        Draft::guessing(lock(self.last_like(flow)).upgrade())
    }

    /// The record of the last packet of that kind.
    fn last_like(&self, flow: &Flow) -> &Mutex<Weak<XCache>> {
        &self.by_kind[kind_of(flow) % self.by_kind.len()]
    }

    /// Ends the record that was begun for a packet with this key.
    pub fn end(&self, draft: Draft, flow: &Flow) -> Arc<XCache> {
        let guess = draft.guess.clone();
        let record = self.share(draft);
        if guess.is_none_or(|guess| !Arc::ptr_eq(&guess, &record)) {
            *lock(self.last_like(flow)) = Arc::downgrade(&record);
        }
        record
    }

    /// The record to keep: that of other flows if theirs is the same.
    pub fn share(&self, draft: Draft) -> Arc<XCache> {
        let mut record = draft.record;
        if let Some(guess) = draft.guess.filter(|_| draft.is_guess) {
            if record.credits_same(&guess) {
                return guess;
            }
            record.ways = guess.ways.clone();
        }
        let place = &self.by_hash[record.hash() as usize % self.by_hash.len()];
        let mut recent = lock(place);
        let other = recent.upgrade();
        if let Some(same) = other.as_ref().filter(|other| other.is_same(&record)) {
            return same.clone();
        }
        record.ways.shrink_to_fit();
        record.credits.shrink_to_fit();
        let new = Arc::new(record);
        *recent = Arc::downgrade(&new);
        drop(recent);
        new
    }
}

/// Packets to credit.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketCount {
    pub packets: u64,
    pub bytes: u64,
    pub tcp_flags: u16,
}

impl PacketCount {
    pub fn one(packet: &Packet, tcp_flags: u16) -> PacketCount {
        PacketCount {
            packets: 1,
            bytes: packet.size() as u64,
            tcp_flags,
        }
    }

    /// What a flow of the datapath met between two looks at its counters.
    pub fn since(before: &FlowStats, now: &FlowStats) -> PacketCount {
        PacketCount {
            packets: now.n_packets.saturating_sub(before.n_packets),
            bytes: now.n_bytes.saturating_sub(before.n_bytes),
            tcp_flags: now.tcp_flags,
        }
    }
}

/// Kind of a [`Credit`], where in memory lies what it is about, and data.
type Identity = (u8, [usize; 2], u128, Option<(neigh::Bridge, IpAddr)>);

impl XCache {
    /// Credits `count`, as of `used`, to everything that the translation touched.
    pub fn push(&self, count: PacketCount, used: Instant) {
        let used_ms = to_ms(used);
        for way in &self.ways {
            way.push(count, used_ms);
        }
        for credit in &self.credits {
            credit.push(count, used);
        }
    }

    /// The actions to keep: those of other flows if theirs are the same.
    pub fn share_actions(&self, actions: Vec<DpAction>) -> Arc<[DpAction]> {
        match self.actions.get() {
            Some(first) if **first == *actions => first.clone(),
            Some(_) => actions.into(),
            None => self.actions.get_or_init(|| actions.into()).clone(),
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        for way in &self.ways {
            way.identity().for_each(|at| hasher.write_usize(at));
        }
        for credit in &self.credits {
            credit.identity().hash(&mut hasher);
        }
        hasher.finish()
    }

    fn is_same(&self, other: &XCache) -> bool {
        self.ways.len() == other.ways.len()
            && std::iter::zip(&self.ways, &other.ways).all(|(a, b)| a.identity().eq(b.identity()))
            && self.credits_same(other)
    }

    /// Whether what there is to credit besides rules is the same.
    fn credits_same(&self, other: &XCache) -> bool {
        let (credits, others) = (self.credits.iter(), other.credits.iter());
        credits
            .map(Credit::identity)
            .eq(others.map(Credit::identity))
    }
}

/// Credits `count` to a rule, and to the lookup that found it.
pub fn credit_found(tables: &Tables, rule: &Rule, count: PacketCount, used_ms: i64) {
    tables.credit_lookup(rule.table_id, count.packets, true);
    rule.credit(count.packets, count.bytes, used_ms);
}

impl Way {
    fn push(&self, count: PacketCount, used_ms: i64) {
        for rule in &self.rules {
            credit_found(&self.tables, rule, count, used_ms);
        }
    }

    /// What tells it from others, as long as it is there.
    fn identity(&self) -> impl Iterator<Item = usize> {
        let rules = self.rules.iter().map(|rule| Arc::as_ptr(rule).addr());
        rules.chain([Arc::as_ptr(&self.tables).addr()])
    }
}

impl Credit {
    /// Credits `count` to this one thing.
    pub fn push(&self, count: PacketCount, used: Instant) {
        match self {
            Credit::Miss { tables, table_id } => {
                tables.credit_lookup(*table_id, count.packets, false);
            }
            Credit::Group { group, bucket } => {
                group.credit(*bucket, count.packets, count.bytes);
                if bucket.is_none() {
                    for bucket in &group.buckets {
                        bucket.counters.credit(count.packets, count.bytes);
                    }
                }
            }
            Credit::PortRx(counters) => counters.rx(count.packets, count.bytes),
            Credit::PortTx(counters) => counters.tx(count.packets, count.bytes),
            Credit::Learn {
                tables,
                flow_mod,
                limit,
            } => {
                if count.packets > 0 {
                    tables.learn(flow_mod, *limit, to_ms(used));
                }
            }
            Credit::FinTimeout {
                tables,
                rule,
                idle,
                hard,
            } => {
                if count.tcp_flags & TCP_FIN_RST != 0 {
                    tables.reduce_timeouts(rule, *idle, *hard);
                }
            }
            Credit::Neighbour { bridge, address } => {
                // An entry that is used stays.
                let _ = neigh::lookup(*bridge, *address);
            }
            Credit::Mac {
                bridge,
                mac,
                vlan,
                bundle,
                arp,
            } => {
                super::normal::learn(bridge, *mac, *vlan, *bundle, *arp, used);
            }
        }
    }

    /// What tells it from others, as long as it is there.
    fn identity(&self) -> Identity {
        fn at<T: ?Sized>(what: &Arc<T>) -> usize {
            Arc::as_ptr(what).addr()
        }
        let (what, places, data) = match self {
            Credit::Miss { tables, table_id } => (0, [at(tables), 0], (*table_id).into()),
            Credit::Group { group, bucket } => (1, [at(group), bucket.unwrap_or(usize::MAX)], 0),
            Credit::PortRx(counters) => (2, [at(counters), 0], 0),
            Credit::PortTx(counters) => (3, [at(counters), 0], 0),
            Credit::Learn {
                tables,
                flow_mod,
                limit,
            } => (4, [at(tables), at(flow_mod)], (*limit).into()),
            Credit::FinTimeout {
                tables,
                rule,
                idle,
                hard,
            } => {
                let timeouts = u32::from(*idle) << 16 | u32::from(*hard);
                (5, [at(tables), at(rule)], timeouts.into())
            }
            Credit::Neighbour { bridge, address } => {
                let neighbour = Some((*bridge, *address));
                return (6, [0; 2], 0, neighbour);
            }
            Credit::Mac {
                bridge,
                mac,
                vlan,
                bundle,
                arp,
            } => {
                let bytes = mac.0.iter().fold(0, |all, b| all << 8 | u128::from(*b));
                let rest = u128::from(*vlan) << 8 | *arp as u128;
                (7, [at(bridge), *bundle as usize], bytes << 32 | rest)
            }
        };
        (what, places, data, None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recirc::RecircTable;
    use super::super::snapshot::{XBridge, XlateSnapshot};
    use super::super::{Start, XlateIn, tests, translate};
    use super::*;
    use crate::tables::Criteria;

    const COUNT: PacketCount = PacketCount {
        packets: 5,
        bytes: 300,
        tcp_flags: 0,
    };

    fn record(
        snapshot: &XlateSnapshot,
        bridge: &Arc<XBridge>,
        flow: Flow,
        mut draft: Draft,
    ) -> Draft {
        translate(XlateIn {
            snapshot,
            recircs: &RecircTable::default(),
            bridge,
            flow: &flow,
            packet: None,
            start: Start::Tables,
            version: None,
            side_effects: false,
            count: None,
            xcache: Some(&mut draft),
            trace: None,
            now: ferrovs_runtime::clock::now(),
        });
        draft
    }

    #[test]
    fn flows_that_touched_the_same_share_their_record() {
        let records = Records::default();
        let (snapshot, bridge) = tests::bridge(&[
            "in_port=1,actions=resubmit(,1)",
            "in_port=2,actions=NORMAL",
            "in_port=3,actions=output:9",
            "table=1,priority=1,actions=output:2",
            "table=1,priority=2,tcp,actions=resubmit(,9),output:2",
            "br1:actions=output:3",
        ]);
        let flow = |in_port, source: u8, dl_type: u16, nw_proto| Flow {
            in_port,
            dl_src: MacAddr([2, 0, 0, 0, 0, source]),
            dl_type: dl_type.into(),
            nw_proto,
            ..Flow::default()
        };
        let from = |in_port, source, dl_type, nw_proto| {
            let flow = flow(in_port, source, dl_type, nw_proto);
            // Whatever it was that was guessed.
            let draft = records.begin(&flow);
            records.end(record(&snapshot, &bridge, flow, draft), &flow)
        };
        // Two packets each; what does not matter may differ.
        let kinds = [
            [from(1, 1, 0x800, 17), from(1, 9, 0x1234, 0)],
            [from(1, 1, 0x800, 6), from(1, 9, 0x800, 6)],
            [from(2, 1, 0x800, 6), from(2, 1, 0x1234, 0)],
            [from(2, 2, 0x800, 6), from(2, 2, 0x800, 17)],
            [from(3, 1, 0x800, 6), from(3, 2, 0x800, 17)],
        ];
        for (i, [a, b]) in kinds.iter().enumerate() {
            assert!(Arc::ptr_eq(a, b), "{i}");
            let same = kinds.iter().flatten().filter(|b| Arc::ptr_eq(a, b));
            assert_eq!(same.count(), 2, "{i}");
        }
        // A wrong guess costs time and nothing else.
        let first = [(1, 1, 17), (1, 1, 6), (2, 1, 6), (2, 2, 6), (3, 1, 6)];
        for (i, guess) in kinds.iter().enumerate() {
            for (j, (in_port, source, proto)) in first.into_iter().enumerate() {
                let draft = Draft::guessing(Some(guess[0].clone()));
                let flow = flow(in_port, source, 0x800, proto);
                let again = record(&snapshot, &bridge, flow, draft);
                assert!(again.is_guess || i != j);
                assert!(records.share(again).is_same(&kinds[j][0]), "{i} {j}");
            }
        }
        kinds[1][0].push(COUNT, ferrovs_runtime::clock::now());
        let looked = |id: usize| {
            let table = &bridge.tables.tables()[id];
            (table.n_matched.sum(), table.n_missed.sum())
        };
        assert_eq!([0, 1, 9].map(looked), [(5, 0), (5, 0), (0, 5)]);
        // Nobody keeps a rule through which no flow goes any more.
        let rules = bridge.tables.collect_rules(&Criteria::all());
        let counts = || rules.iter().map(Arc::strong_count).collect::<Vec<_>>();
        let held = counts();
        drop(kinds);
        let released = std::iter::zip(held, counts());
        assert_eq!(released.map(|(a, b)| a - b).sum::<usize>(), 2 + 2 + 3);
    }

    #[test]
    fn every_rule_of_a_long_way_is_credited_once() {
        let mut flows: Vec<_> = (0..99)
            .map(|t| format!("table={t},actions=resubmit(,{})", t + 1))
            .collect();
        flows.push("table=99,actions=output:9,output:2".into());
        flows.push("br1:actions=output:3".into());
        let flows: Vec<_> = flows.iter().map(String::as_str).collect();
        let (snapshot, bridge) = tests::bridge(&flows);
        let flow = Flow {
            in_port: 1,
            dl_type: 0x1234.into(),
            ..Flow::default()
        };
        let record = record(&snapshot, &bridge, flow, Draft::default()).record;
        record.push(COUNT, ferrovs_runtime::clock::now());
        let rules = bridge.tables.collect_rules(&Criteria::all());
        assert_eq!(rules.len(), 100);
        for rule in rules {
            let stats = rule.stats();
            assert_eq!((stats.n_packets, stats.n_bytes), (5, 300));
        }
        let lens: Vec<_> = record.ways.iter().map(|way| way.rules.len()).collect();
        assert_eq!(lens, [100, 1]);
    }
}

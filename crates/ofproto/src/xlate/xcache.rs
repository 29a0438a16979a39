//! What a translation touched, so that packets which the datapath forwards by itself are credited to it later.

use std::sync::Arc;
use std::time::Instant;

use ferrovs_datapath::dpif::FlowStats;
use ferrovs_openflow::flow::FlowMod;
use ferrovs_packet::buffer::Packet;
use ferrovs_packet::types::MacAddr;

use ferrovs_protocols::mac_learning::GratuitousArp;

use super::snapshot::{BundleId, PortCounters, XBridge};
use crate::groups::Group;
use crate::rule::Rule;
use crate::tables::Tables;
use crate::time::to_ms;

/// TCP flags that end a connection.
pub const TCP_FIN_RST: u16 = 0x5;

/// One thing to credit.
pub enum Credit {
    /// A table lookup, and the rule that it found (none: a miss).
    Lookup {
        bridge: Arc<XBridge>,
        table_id: u8,
        rule: Option<Arc<Rule>>,
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
        bridge: ferrovs_tunnel::neigh::Bridge,
        address: std::net::IpAddr,
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
    pub credits: Vec<Credit>,
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

impl XCache {
    /// Credits `count`, as of `used`, to everything that the translation touched.
    pub fn push(&self, count: PacketCount, used: Instant) {
        for credit in &self.credits {
            credit.push(count, used);
        }
    }
}

impl Credit {
    /// Credits `count` to this one thing.
    pub fn push(&self, count: PacketCount, used: Instant) {
        match self {
            Credit::Lookup {
                bridge,
                table_id,
                rule,
            } => {
                bridge
                    .tables
                    .credit_lookup(*table_id, count.packets, rule.is_some());
                if let Some(rule) = rule {
                    rule.credit(count.packets, count.bytes, used);
                }
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
                let _ = ferrovs_tunnel::neigh::lookup(*bridge, *address);
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
}

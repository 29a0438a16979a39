//! The action `ct`: the packet goes to the connection tracker and, if a table is given, a copy of it comes back there
//! with what the tracker found.
//!
//! Nested actions set mark, label and translation of the connection that is committed; they do not show in the packet
//! that goes on. Without a table the packet goes on as if it had not been tracked.

use std::net::IpAddr;

use ferrovs_datapath::action::{Action as DpAction, Ct as DpCt, Masked, Nat as DpNat, NatKind};
use ferrovs_openflow::action::{CT_NO_RECIRC, Ct, CtZone, Nat, NatRange};
use ferrovs_packet::flow::Flow;
use ferrovs_packet::types::OfPort;

use super::ctx::Ctx;
use super::recirc::{FrozenMetadata, FrozenState};

/// Where a packet comes back from the connection tracker, for traces.
#[derive(Debug)]
pub struct CtResume {
    pub recirc_id: u32,
    pub zone: u16,
    pub nat: Option<DpNat>,
    pub flow: Flow,
}

fn bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut out = [0; 16];
            out[12..].copy_from_slice(&ip.octets());
            out
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn nat(nat: &Nat) -> DpNat {
    let (min, max) = match nat.range {
        NatRange::None => (None, None),
        NatRange::V4 { min, max } => (Some(min.into()), max.map(IpAddr::from)),
        NatRange::V6 { min, max } => (Some(min.into()), max.map(IpAddr::from)),
    };
    let range = min.map(|min: IpAddr| (bytes(min), bytes(max.unwrap_or(min))));
    let (ip_min, ip_max) = range.unwrap_or_default();
    DpNat {
        kind: match (nat.snat, nat.dnat) {
            (true, _) => NatKind::Src,
            (_, true) => NatKind::Dst,
            _ => NatKind::Existing,
        },
        ipv6: min.is_some_and(|ip| ip.is_ipv6()),
        ip_min,
        ip_max,
        port_min: nat.proto_min,
        port_max: nat.proto_max.max(nat.proto_min),
        persistent: nat.persistent,
        hash: nat.proto_hash,
        random: nat.proto_random,
    }
}

impl Ctx<'_> {
    pub fn ct(&mut self, ct: &Ct) {
        let zone = match &ct.zone {
            CtZone::Immediate(zone) => *zone,
            CtZone::Field(src) => self.read(src).to_u64() as u16,
        };
        self.commit();
        let flow_before = (self.flow.ct_mark, self.flow.ct_label);
        let wc_before = (self.wc.masks.ct_mark, self.wc.masks.ct_label);
        (self.wc.masks.ct_mark, self.wc.masks.ct_label) = (0, [0; 16]);
        self.ct_nat = None;
        self.depth += 1;
        self.do_actions(&ct.actions, true);
        self.depth -= 1;
        let (mark, label) = (self.wc.masks.ct_mark, self.wc.masks.ct_label);
        let label_value = std::array::from_fn(|i| self.flow.ct_label[i] & label[i]);
        let action = DpCt {
            commit: ct.commit,
            force: ct.commit && ct.force,
            zone,
            mark: (mark != 0).then_some(Masked {
                value: self.flow.ct_mark & mark,
                mask: mark,
            }),
            labels: (label != [0; 16]).then_some(Masked {
                value: label_value,
                mask: label,
            }),
            helper: match ct.alg {
                21 => Some("ftp".into()),
                69 => Some("tftp".into()),
                _ => None,
            },
            timeout: match ct.commit && self.snapshot.features.ct_timeout {
                true => self.snapshot.zone_policies.get(&zone).map(u32::to_string),
                false => None,
            },
            nat: self.ct_nat.take(),
        };
        let nat = action.nat.clone().filter(|_| self.trace.is_some());
        (self.flow.ct_mark, self.flow.ct_label) = flow_before;
        (self.wc.masks.ct_mark, self.wc.masks.ct_label) = wc_before;
        self.actions.push(DpAction::Ct(Box::new(action)));
        if ct.recirc_table != CT_NO_RECIRC {
            self.report(&format!(
                "A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table {}.",
                ct.recirc_table
            ));
            self.fork_at(ct.recirc_table, zone, nat);
        }
        self.report("Sets the packet to an untracked state, and clears all the conntrack fields.");
        self.clear_conntrack();
        self.conntracked = false;
    }

    pub fn ct_nat(&mut self, action: &Nat) {
        self.ct_nat = Some(nat(action));
    }

    /// A copy of the packet comes back and goes on in `table_id`.
    fn fork_at(&mut self, table_id: u8, zone: u16, nat: Option<DpNat>) {
        let recirc = self.recirc_table.alloc(FrozenState {
            bridge: self.bridge.id,
            table_id,
            metadata: FrozenMetadata::of(&self.flow),
            stack: self.stack.clone(),
            actions: Vec::new(),
            action_set: self.action_set.clone(),
            conntracked: true,
            userdata: Vec::new(),
            rule_cookie: u64::MAX,
            ingress: OfPort(self.flow.in_port as u16),
        });
        if self.trace.is_some() {
            self.ct_resumes.push(CtResume {
                recirc_id: recirc.id,
                zone,
                nat,
                flow: self.flow,
            });
        }
        self.actions.push(DpAction::Recirc(recirc.id));
        self.recircs.push(recirc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translation_ranges_have_both_ends() {
        let one = Nat {
            snat: true,
            range: NatRange::V4 {
                min: [1, 2, 3, 4].into(),
                max: None,
            },
            proto_min: 80,
            ..Nat::default()
        };
        let dp = nat(&one);
        assert_eq!((dp.kind, dp.ipv6), (NatKind::Src, false));
        assert_eq!((dp.ip_min, dp.ip_max), (dp.ip_max, dp.ip_min));
        assert_eq!(
            (dp.ip_min[12..].to_vec(), dp.port_min, dp.port_max),
            (vec![1, 2, 3, 4], 80, 80)
        );
        assert_eq!(nat(&Nat::default()).kind, NatKind::Existing);
    }
}

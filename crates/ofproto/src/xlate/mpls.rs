//! Actions that change the stack of MPLS labels.

use ferrovs_datapath::action::DropReason;
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::flow::{FLOW_MAX_MPLS_LABELS, Flow, IP_DSCP_MASK, MPLS_BOS_MASK};
use ferrovs_packet::types::{Be16, Be32, MacAddr, eth_type};

use super::commit::{is_bottom, is_mpls, mpls_count, pop_label, push_label};
use super::ctx::{Ctx, is_ip_any};

impl Ctx<'_> {
    pub(super) fn set_mpls(&mut self, mask: u32, value: u32) {
        if !is_mpls(self.flow.dl_type) {
            return;
        }
        self.wc.masks.mpls_lse[0] = (self.wc.masks.mpls_lse[0].get() | mask).into();
        self.flow.mpls_lse[0] = (self.flow.mpls_lse[0].get() & !mask | value & mask).into();
    }

    pub(super) fn dec_mpls_ttl(&mut self) {
        if !is_mpls(self.flow.dl_type) {
            return;
        }
        let ttl = self.flow.mpls_lse[0].get() & 0xff;
        self.wc.masks.mpls_lse[0] = (self.wc.masks.mpls_lse[0].get() | 0xff).into();
        if ttl > 1 {
            self.set_mpls(0xff, ttl - 1);
        } else {
            self.send_to_controller(u16::MAX, PacketInReason::InvalidTtl, 0, &[]);
            self.warn("MPLS decrement TTL exception");
            self.stop = true;
        }
    }

    pub(super) fn push_mpls(&mut self, ethertype: Be16) {
        let n = self.count_mpls();
        if n >= FLOW_MAX_MPLS_LABELS {
            let text = (self.packet.is_some()).then(|| {
                format!(
                    "dropping packet on which an MPLS push action can't be performed as it would have more MPLS LSEs than the {FLOW_MAX_MPLS_LABELS} supported."
                )
            });
            self.fail_with(DropReason::TooManyMplsLabels, text.as_deref());
            return;
        }
        if n == 0 {
            // What is above the network layer can be changed no more: the datapath must have it first.
            self.commit();
            let lse = self.first_label();
            push_label(&mut self.flow, 0, lse, ethertype);
            clear_above_mpls(&mut self.flow);
            return;
        }
        for mask in &mut self.wc.masks.mpls_lse[..n] {
            *mask = u32::MAX.into();
        }
        let lse = self.flow.mpls_lse[0].get() & !MPLS_BOS_MASK;
        push_label(&mut self.flow, n, lse.into(), ethertype);
    }

    /// The label for a packet that has none: explicit null of its protocol, with the packet's TTL and as much of
    /// its class as fits.
    fn first_label(&mut self) -> Be32 {
        let f = &self.flow;
        let (mut tc, mut ttl) = (0, 64);
        if is_ip_any(f) {
            self.wc.masks.nw_tos |= IP_DSCP_MASK;
            self.wc.masks.nw_ttl = 0xff;
            tc = u32::from(f.nw_tos & IP_DSCP_MASK) >> 2 & 7;
            if f.nw_ttl != 0 {
                ttl = u32::from(f.nw_ttl);
            }
        }
        let label = match f.dl_type.get() {
            eth_type::IPV6 => 2,
            _ => 0,
        };
        (label << 12 | tc << 9 | MPLS_BOS_MASK | ttl).into()
    }

    /// Number of labels; the bottom-of-stack bits that tell it matter.
    fn count_mpls(&mut self) -> usize {
        if !is_mpls(self.flow.dl_type) {
            return 0;
        }
        let labels = &self.flow.mpls_lse[..FLOW_MAX_MPLS_LABELS];
        for (lse, mask) in labels.iter().zip(&mut self.wc.masks.mpls_lse) {
            *mask = (mask.get() | MPLS_BOS_MASK).into();
            if is_bottom(*lse) {
                break;
            }
        }
        mpls_count(&self.flow)
    }

    pub(super) fn pop_mpls(&mut self, ethertype: Be16) {
        let n = self.count_mpls();
        // The labels below become visible.
        for mask in &mut self.wc.masks.mpls_lse[n.min(1)..n] {
            *mask = u32::MAX.into();
        }
        if pop_label(&mut self.flow, ethertype) {
            self.was_mpls |= !is_mpls(ethertype) && self.snapshot.features.recirc;
        } else if n >= FLOW_MAX_MPLS_LABELS {
            let text = (self.packet.is_some()).then(|| {
                format!(
                    "dropping packet on which an MPLS pop action can't be performed as it has more MPLS LSEs than the {FLOW_MAX_MPLS_LABELS} supported."
                )
            });
            self.fail_with(DropReason::TooManyMplsLabels, text.as_deref());
        }
    }
}

fn clear_above_mpls(f: &mut Flow) {
    f.nw_src = 0.into();
    f.nw_dst = 0.into();
    f.ipv6_src = [0; 16];
    f.ipv6_dst = [0; 16];
    f.ipv6_label = 0.into();
    (f.nw_frag, f.nw_tos, f.nw_ttl, f.nw_proto) = (0, 0, 0, 0);
    f.nd_target = [0; 16];
    f.arp_sha = MacAddr::ZERO;
    f.arp_tha = MacAddr::ZERO;
    f.tcp_flags = Be16::ZERO;
    f.tp_src = Be16::ZERO;
    f.tp_dst = Be16::ZERO;
    f.igmp_group_ip4 = 0.into();
}

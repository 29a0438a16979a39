//! Actions that change fields and headers of the packet.

use ferrovs_openflow::action::{Action, SetField};
use ferrovs_openflow::packet_in::PacketInReason;
use ferrovs_packet::field::{FieldId, FieldValue, Prereq, SubField};
use ferrovs_packet::flow::{
    FLOW_MAX_VLAN_HEADERS, IP_DSCP_MASK, IP_ECN_MASK, VLAN_CFI, VLAN_PCP_MASK, VLAN_PCP_SHIFT,
    VLAN_VID_MASK, VlanHdr,
};
use ferrovs_packet::types::{Be16, MacAddr, eth_type};

use super::commit::vlan_count;
use super::ctx::{Ctx, is_ip_any};

impl Ctx<'_> {
    /// Does what such an action says; others are none of its business.
    pub(super) fn change_headers(&mut self, action: &Action) {
        match action {
            Action::SetField(set) => self.set_field(set),
            Action::RegMove { src, dst, .. } => self.reg_move(src, dst),
            Action::SetVlanVid {
                vid,
                push_if_needed,
                ..
            } => {
                self.set_vlan_tci(VLAN_VID_MASK, *vid, *push_if_needed);
            }
            Action::SetVlanPcp {
                pcp,
                push_if_needed,
                ..
            } => {
                self.set_vlan_tci(
                    VLAN_PCP_MASK,
                    u16::from(*pcp) << VLAN_PCP_SHIFT,
                    *push_if_needed,
                );
            }
            Action::StripVlan { .. } => self.pop_vlan(),
            Action::PushVlan(tpid) => self.push_vlan(*tpid),
            Action::SetEthSrc(mac) => {
                self.wc.masks.dl_src = MacAddr::BROADCAST;
                self.flow.dl_src = *mac;
            }
            Action::SetEthDst(mac) => {
                self.wc.masks.dl_dst = MacAddr::BROADCAST;
                self.flow.dl_dst = *mac;
            }
            Action::SetIpv4Src(_)
            | Action::SetIpv4Dst(_)
            | Action::SetIpDscp(_)
            | Action::SetIpEcn(_)
            | Action::SetIpTtl(_)
            | Action::SetL4SrcPort { .. }
            | Action::SetL4DstPort { .. } => self.set_ip(action),
            Action::DecTtl { ids, .. } => self.dec_ttl(ids),
            Action::SetMplsLabel(label) => self.set_mpls(0xffff_f000, label << 12),
            Action::SetMplsTc(tc) => self.set_mpls(0x0000_0e00, u32::from(*tc) << 9),
            Action::SetMplsTtl(ttl) => self.set_mpls(0x0000_00ff, u32::from(*ttl)),
            Action::DecMplsTtl => self.dec_mpls_ttl(),
            Action::PushMpls(ethertype) => self.push_mpls(*ethertype),
            Action::PopMpls(ethertype) => self.pop_mpls(*ethertype),
            Action::DecNshTtl => self.dec_nsh_ttl(),
            Action::DeleteField(field) => {
                self.set_field_value(*field, &FieldValue::ZERO);
                if let Some(i) = field.tun_metadata_index() {
                    self.flow.tunnel.metadata.present &= !(1 << i);
                }
            }
            Action::SetTunnel { id, .. } => self.flow.tunnel.tun_id = (*id).into(),
            _ => {}
        }
    }

    /// The same of those that change an IP header or what lies in it, if the packet has that.
    fn set_ip(&mut self, action: &Action) {
        match action {
            Action::SetIpv4Src(ip) if self.flow.dl_type.get() == eth_type::IP => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_src = u32::MAX.into();
                self.flow.nw_src = u32::from(*ip).into();
            }
            Action::SetIpv4Dst(ip) if self.flow.dl_type.get() == eth_type::IP => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_dst = u32::MAX.into();
                self.flow.nw_dst = u32::from(*ip).into();
            }
            Action::SetIpDscp(dscp) if is_ip_any(&self.flow) => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_tos |= IP_DSCP_MASK;
                self.flow.nw_tos = self.flow.nw_tos & !IP_DSCP_MASK | dscp & IP_DSCP_MASK;
            }
            Action::SetIpEcn(ecn) if is_ip_any(&self.flow) => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_tos |= IP_ECN_MASK;
                self.flow.nw_tos = self.flow.nw_tos & !IP_ECN_MASK | ecn & IP_ECN_MASK;
            }
            Action::SetIpTtl(ttl) if is_ip_any(&self.flow) => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.nw_ttl = 0xff;
                self.flow.nw_ttl = *ttl;
            }
            Action::SetL4SrcPort { port, .. } if self.has_ports() => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.tp_src = 0xffff.into();
                self.flow.tp_src = (*port).into();
            }
            Action::SetL4DstPort { port, .. } if self.has_ports() => {
                self.wc.masks.nw_proto = 0xff;
                self.wc.masks.tp_dst = 0xffff.into();
                self.flow.tp_dst = (*port).into();
            }
            _ => {}
        }
    }

    fn set_field_value(&mut self, field: FieldId, value: &FieldValue) {
        let bridge = self.bridge;
        let field = field.field();
        field.set_value_in(value, &mut self.flow, &bridge.tun_table);
    }

    fn prereqs_ok(&mut self, field: FieldId) -> bool {
        let field = field.field();
        field.prereq.mask(&mut self.wc);
        field.prereqs_ok(&self.flow)
    }

    fn set_field(&mut self, set: &SetField) {
        let (bridge, field) = (self.bridge, set.field.field());
        if field.prereq != Prereq::None {
            if !self.prereqs_ok(set.field) {
                self.warn(&format!(
                    "unmet prerequisites for {}, set_field ignored",
                    field.name
                ));
                return;
            }
            self.mask_protocol_of(set.field);
        }
        let (flow, wc) = (&mut self.flow, &mut self.wc);
        field.set_bits_in(&set.value, &set.mask, flow, wc, &bridge.tun_table);
    }

    fn reg_move(&mut self, src: &SubField, dst: &SubField) {
        if !(self.prereqs_ok(src.field) && self.prereqs_ok(dst.field)) {
            self.warn("unmet prerequisites for move, move ignored");
            return;
        }
        let value = self.read(src);
        self.mask_subfield(dst);
        self.write(dst, &value);
        self.report_subfield(dst);
    }

    /// The protocol decides which checksum follows a change of an IP header, the opcode what ARP says.
    fn mask_protocol_of(&mut self, field: FieldId) {
        if matches!(
            field.field().prereq,
            Prereq::Ipv4 | Prereq::Ipv6 | Prereq::IpAny | Prereq::Arp
        ) {
            self.wc.masks.nw_proto = 0xff;
        }
    }

    /// Whether there is something in the place of ports; what it is does not matter, so that the type of an ICMP
    /// message can be set like a port.
    fn has_ports(&self) -> bool {
        is_ip_any(&self.flow) && self.flow.nw_frag & ferrovs_packet::flow::NW_FRAG_LATER == 0
    }

    fn set_vlan_tci(&mut self, mask: u16, value: u16, push_if_needed: bool) {
        self.mask_outer_vlan();
        let have = self.flow.vlans[0].tci.get() & VLAN_CFI != 0;
        if !have && !push_if_needed {
            return;
        }
        let vlan = &mut self.flow.vlans[0];
        if !have {
            vlan.tpid = eth_type::VLAN_8021Q.into();
        }
        vlan.tci = (vlan.tci.get() & !mask | value & mask | VLAN_CFI).into();
    }

    fn mask_outer_vlan(&mut self) {
        self.wc.masks.vlans[0].tci = 0xffff.into();
    }

    /// The headers below become visible; that the first goes is for the commit to say.
    fn pop_vlan(&mut self) {
        let n = vlan_count(&self.flow);
        self.mask_vlans(n.min(1)..n);
        let vlans = &mut self.flow.vlans;
        vlans.copy_within(1.., 0);
        vlans[FLOW_MAX_VLAN_HEADERS - 1] = VlanHdr::default();
    }

    fn mask_vlans(&mut self, range: std::ops::Range<usize>) {
        self.wc.masks.vlans[range].fill(VlanHdr {
            tpid: 0xffff.into(),
            tci: 0xffff.into(),
        });
    }

    /// Where a key shows no more headers, the innermost gives way.
    fn push_vlan(&mut self, tpid: Be16) {
        self.mask_vlans(0..vlan_count(&self.flow));
        self.flow.vlans.copy_within(..FLOW_MAX_VLAN_HEADERS - 1, 1);
        self.flow.vlans[0] = VlanHdr {
            tpid,
            tci: VLAN_CFI.into(),
        };
    }

    fn dec_ttl(&mut self, ids: &[u16]) {
        if !is_ip_any(&self.flow) {
            return;
        }
        self.wc.masks.nw_ttl = 0xff;
        self.wc.masks.nw_proto = 0xff;
        if self.flow.nw_ttl > 1 {
            self.flow.nw_ttl -= 1;
            return;
        }
        for &id in ids {
            self.send_to_controller(u16::MAX, PacketInReason::InvalidTtl, id, &[]);
        }
        self.warn("IPv4 decrement TTL exception");
        self.stop = true;
    }

    fn dec_nsh_ttl(&mut self) {
        if self.flow.dl_type.get() == eth_type::NSH {
            self.wc.masks.nsh.ttl = 0xff;
            if self.flow.nsh.ttl > 1 {
                self.flow.nsh.ttl -= 1;
            } else {
                self.send_to_controller(u16::MAX, PacketInReason::InvalidTtl, 0, &[]);
                self.stop = true;
            }
        }
    }
}

//! Turning "what the packet shall look like" into datapath actions.
//!
//! Translation changes a flow key freely; only when a packet leaves (or goes up, or is recirculated) must the
//! datapath bring the real packet to that state. [`commit`] compares the key with `base`, the packet as the
//! datapath has it at this point, appends the actions that make up the difference, and moves `base` along.
//!
//! A masked set touches only bits that translation read or wrote (`wc`): those are exact in the megaflow, so
//! that an action without effect is never emitted.

use ferrovs_datapath::action::{
    Action, ArpKey, EthernetKey, IcmpKey, Ipv4Key, Ipv6Key, Masked, NdExtensionsKey, NdKey, NshKey,
    PortsKey, Set,
};
use ferrovs_packet::flow::{
    FLOW_MAX_MPLS_LABELS, FLOW_MAX_VLAN_HEADERS, Flow, FlowWildcards, MPLS_BOS_MASK, NW_FRAG_LATER,
    NW_FRAG_MASK, VLAN_CFI,
};
use ferrovs_packet::types::{Be16, Be32, MacAddr, eth_type, ip_proto};

/// Appends to `out` what turns a packet that looks like `base` into one that looks like `flow`. True if that takes
/// an action that not every datapath has, so that packets of the flow go through userspace. Without `masked` the
/// datapath sets whole headers only.
pub fn commit(
    flow: &Flow,
    base: &mut Flow,
    out: &mut Vec<Action>,
    wc: &mut FlowWildcards,
    masked: bool,
) -> bool {
    let mut c = Commit {
        flow,
        base,
        out,
        wc,
        masked,
        slow: false,
    };
    c.packet_type();
    c.ethernet();
    let leaves_mpls = is_mpls(c.base.dl_type) && !is_mpls(flow.dl_type);
    if leaves_mpls {
        c.mpls();
    }
    c.nsh();
    c.network();
    c.ports();
    c.icmp();
    if !leaves_mpls {
        c.mpls();
    }
    c.vlans();
    c.metadata();
    c.slow
}

/// Number of VLAN headers in the key.
pub fn vlan_count(flow: &Flow) -> usize {
    flow.vlans
        .iter()
        .take_while(|v| v.tci.get() & VLAN_CFI != 0)
        .count()
}

/// Whether the EtherType is one of MPLS.
pub fn is_mpls(dl_type: Be16) -> bool {
    matches!(dl_type.get(), eth_type::MPLS | eth_type::MPLS_MCAST)
}

/// Number of MPLS labels in the key: up to the bottom of the stack, or those that are not zero if it lies deeper.
pub fn mpls_count(flow: &Flow) -> usize {
    if !is_mpls(flow.dl_type) {
        return 0;
    }
    let labels = &flow.mpls_lse[..FLOW_MAX_MPLS_LABELS];
    match labels.iter().position(|lse| is_bottom(*lse)) {
        Some(bottom) => bottom + 1,
        None => labels.iter().filter(|lse| lse.get() != 0).count(),
    }
}

/// Whether the label is the last of its stack.
pub fn is_bottom(lse: Be32) -> bool {
    lse.get() & MPLS_BOS_MASK != 0
}

/// Takes the outermost label off; the packet is then of `dl_type`. The label below a full stack without bottom
/// is not known: false, and nothing changes.
pub fn pop_label(flow: &mut Flow, dl_type: Be16) -> bool {
    let n = mpls_count(flow);
    if n == 0 || n == FLOW_MAX_MPLS_LABELS && !is_bottom(flow.mpls_lse[n - 1]) {
        return false;
    }
    flow.mpls_lse.copy_within(1..n, 0);
    flow.mpls_lse[n - 1] = 0.into();
    flow.dl_type = dl_type;
    true
}

/// Puts a label in front of the `n` that the flow has.
pub fn push_label(flow: &mut Flow, n: usize, lse: Be32, dl_type: Be16) {
    flow.mpls_lse.copy_within(..n, 1);
    flow.mpls_lse[0] = lse;
    flow.dl_type = dl_type;
}

struct Commit<'a> {
    flow: &'a Flow,
    base: &'a mut Flow,
    out: &'a mut Vec<Action>,
    wc: &'a mut FlowWildcards,
    masked: bool,
    slow: bool,
}

/// Mask of a member to set: what translation looked at, and in any case what differs.
trait MaskOf: Copy + PartialEq {
    /// The mask of all bits.
    const ALL: Self;

    fn or_diff(self, a: Self, b: Self) -> Self;

    /// The value under a mask: what lies outside belongs to the packet and differs between packets of a flow.
    fn under(self, mask: Self) -> Self;
}

macro_rules! mask_of_int {
    ($($t:ty),*) => {$(
        impl MaskOf for $t {
            const ALL: Self = <$t>::MAX;

            fn or_diff(self, a: Self, b: Self) -> Self {
                self | (a ^ b)
            }

            fn under(self, mask: Self) -> Self {
                self & mask
            }
        }
    )*};
}
mask_of_int!(u8, u16, u32);

impl MaskOf for Be16 {
    const ALL: Self = Be16::MAX_VALUE;

    fn or_diff(self, a: Self, b: Self) -> Self {
        (self.get() | (a.get() ^ b.get())).into()
    }

    fn under(self, mask: Self) -> Self {
        (self.get() & mask.get()).into()
    }
}

impl MaskOf for Be32 {
    const ALL: Self = Be32::MAX_VALUE;

    fn or_diff(self, a: Self, b: Self) -> Self {
        (self.get() | (a.get() ^ b.get())).into()
    }

    fn under(self, mask: Self) -> Self {
        (self.get() & mask.get()).into()
    }
}

impl<const N: usize> MaskOf for [u8; N] {
    const ALL: Self = [0xff; N];

    fn or_diff(self, a: Self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] | (a[i] ^ b[i]))
    }

    fn under(self, mask: Self) -> Self {
        std::array::from_fn(|i| self[i] & mask[i])
    }
}

impl MaskOf for MacAddr {
    const ALL: Self = MacAddr([0xff; 6]);

    fn or_diff(self, a: Self, b: Self) -> Self {
        MacAddr(self.0.or_diff(a.0, b.0))
    }

    fn under(self, mask: Self) -> Self {
        MacAddr(self.0.under(mask.0))
    }
}

/// All bits, if `all`.
fn all_or<T: MaskOf>(mask: T, all: bool) -> T {
    if all { T::ALL } else { mask }
}

/// Builds the masked set for the listed members of one header if any differs, and updates base and wildcards.
macro_rules! set_members {
    ($c:ident, $variant:ident, $key:ident { $($member:ident = $field:ident),* $(,)? }) => {
        if $( $c.flow.$field != $c.base.$field )||* {
            let mut value = $key::default();
            let mut mask = $key::default();
            $(
                if !$c.masked || $c.flow.$field != $c.base.$field {
                    mask.$member = match $c.masked {
                        true => $c.wc.masks.$field.or_diff($c.flow.$field, $c.base.$field),
                        false => MaskOf::ALL,
                    };
                    value.$member = $c.flow.$field.under(mask.$member);
                    $c.wc.masks.$field = mask.$member;
                    $c.base.$field = $c.flow.$field;
                }
            )*
            $c.out.push(Action::Set(Set::$variant(Masked { value, mask })));
        }
    };
}

impl Commit<'_> {
    fn packet_type(&mut self) {
        if self.flow.packet_type == self.base.packet_type {
            return;
        }
        if self.flow.packet_type.get() == 0 {
            self.out.push(Action::PushEth {
                src: self.flow.dl_src,
                dst: self.flow.dl_dst,
            });
            self.base.packet_type = self.flow.packet_type;
            self.base.dl_src = self.flow.dl_src;
            self.base.dl_dst = self.flow.dl_dst;
        } else if self.base.packet_type.get() == 0 {
            self.out.push(Action::PopEth);
            self.base.packet_type = self.flow.packet_type;
            self.base.dl_src = MacAddr::ZERO;
            self.base.dl_dst = MacAddr::ZERO;
        }
    }

    fn ethernet(&mut self) {
        if self.flow.packet_type.get() == 0 {
            set_members!(self, Ethernet, EthernetKey { src = dl_src, dst = dl_dst });
        }
    }

    fn nsh(&mut self) {
        let (have, want) = (self.base.nsh, self.flow.nsh);
        if self.flow.dl_type.get() != eth_type::NSH || have == want {
            return;
        }
        let key = |n: &ferrovs_packet::flow::FlowNsh| NshKey {
            flags: n.flags,
            ttl: n.ttl,
            mdtype: n.mdtype,
            np: n.np,
            path_hdr: n.path_hdr,
            context: n.context,
        };
        let m = &mut self.wc.masks.nsh;
        if !self.masked {
            (m.flags, m.ttl, m.path_hdr, m.context) = (0xff, 0xff, MaskOf::ALL, [MaskOf::ALL; 4]);
        }
        m.flags = m.flags.or_diff(have.flags, want.flags);
        m.ttl = m.ttl.or_diff(have.ttl, want.ttl);
        m.path_hdr = m.path_hdr.or_diff(have.path_hdr, want.path_hdr);
        for i in 0..4 {
            m.context[i] = m.context[i].or_diff(have.context[i], want.context[i]);
        }
        let mut mask = key(m);
        (mask.mdtype, mask.np) = (0, 0);
        self.out.push(Action::Set(Set::Nsh(Box::new(Masked {
            value: key(&want),
            mask,
        }))));
        self.base.nsh = want;
    }

    fn network(&mut self) {
        // A protocol of 0 says that there is no such header to change.
        if self.flow.nw_proto == 0 {
            return;
        }
        let n = self.out.len();
        match self.base.dl_type.get() {
            eth_type::IP => {
                set_members!(self, Ipv4, Ipv4Key { src = nw_src, dst = nw_dst, tos = nw_tos, ttl = nw_ttl });
                self.whole_header(n);
            }
            eth_type::IPV6 => {
                set_members!(
                    self,
                    Ipv6,
                    Ipv6Key { src = ipv6_src, dst = ipv6_dst, label = ipv6_label, tclass = nw_tos, hlimit = nw_ttl }
                );
                self.whole_header(n);
                self.neighbour_discovery();
            }
            eth_type::ARP | eth_type::RARP => self.arp(),
            _ => {}
        }
    }

    /// A header that is set as a whole says what cannot change as well; action `n` is the one that sets it, if any.
    fn whole_header(&mut self, n: usize) {
        if self.masked {
            return;
        }
        let (proto, frag) = (self.flow.nw_proto, self.flow.nw_frag);
        match self.out.get_mut(n) {
            Some(Action::Set(Set::Ipv4(Masked { value, mask }))) => {
                (value.proto, value.frag) = (proto, frag);
                (mask.proto, mask.frag) = (0xff, NW_FRAG_MASK);
            }
            Some(Action::Set(Set::Ipv6(Masked { value, mask }))) => {
                (value.proto, value.frag) = (proto, frag);
                (mask.proto, mask.frag) = (0xff, NW_FRAG_MASK);
            }
            _ => {}
        }
    }

    fn arp(&mut self) {
        let (f, b) = (self.flow, &mut *self.base);
        if (f.nw_src, f.nw_dst, f.nw_proto, f.arp_sha, f.arp_tha)
            == (b.nw_src, b.nw_dst, b.nw_proto, b.arp_sha, b.arp_tha)
        {
            return;
        }
        // Only what differs is set.
        let m = &mut self.wc.masks;
        let (mut value, mut mask) = (ArpKey::default(), ArpKey::default());
        if f.nw_src != b.nw_src {
            m.nw_src = m.nw_src.or_diff(f.nw_src, b.nw_src);
            (value.sip, mask.sip) = (f.nw_src.under(m.nw_src), m.nw_src);
        }
        if f.nw_dst != b.nw_dst {
            m.nw_dst = m.nw_dst.or_diff(f.nw_dst, b.nw_dst);
            (value.tip, mask.tip) = (f.nw_dst.under(m.nw_dst), m.nw_dst);
        }
        if f.nw_proto != b.nw_proto {
            m.nw_proto = 0xff;
            (value.op, mask.op) = (u16::from(f.nw_proto).into(), 0xffff.into());
        }
        if f.arp_sha != b.arp_sha {
            m.arp_sha = m.arp_sha.or_diff(f.arp_sha, b.arp_sha);
            (value.sha, mask.sha) = (f.arp_sha.under(m.arp_sha), m.arp_sha);
        }
        if f.arp_tha != b.arp_tha {
            m.arp_tha = m.arp_tha.or_diff(f.arp_tha, b.arp_tha);
            (value.tha, mask.tha) = (f.arp_tha.under(m.arp_tha), m.arp_tha);
        }
        self.slow = true;
        self.out.push(Action::Set(Set::Arp(Masked { value, mask })));
        (b.nw_src, b.nw_dst, b.nw_proto, b.arp_sha, b.arp_tha) =
            (f.nw_src, f.nw_dst, f.nw_proto, f.arp_sha, f.arp_tha);
    }

    fn neighbour_discovery(&mut self) {
        let icmp_type = self.flow.tp_src.get();
        if self.flow.nw_proto != ip_proto::ICMPV6 || !(icmp_type == 135 || icmp_type == 136) {
            return;
        }
        let n = self.out.len();
        set_members!(self, Nd, NdKey { target = nd_target, sll = arp_sha, tll = arp_tha });
        self.slow |= self.out.len() > n;
        if self.flow.igmp_group_ip4 != self.base.igmp_group_ip4
            || self.flow.tcp_flags != self.base.tcp_flags
        {
            let m = &mut self.wc.masks;
            m.igmp_group_ip4 = m
                .igmp_group_ip4
                .or_diff(self.flow.igmp_group_ip4, self.base.igmp_group_ip4);
            m.tcp_flags = m
                .tcp_flags
                .or_diff(self.flow.tcp_flags, self.base.tcp_flags);
            let key = |x: &Flow| NdExtensionsKey {
                reserved: x.igmp_group_ip4,
                options_type: x.tcp_flags.get() as u8,
            };
            self.slow = true;
            self.out.push(Action::Set(Set::NdExtensions(Masked {
                value: key(self.flow),
                mask: key(m),
            })));
            self.base.igmp_group_ip4 = self.flow.igmp_group_ip4;
            self.base.tcp_flags = self.flow.tcp_flags;
        }
    }

    fn has_transport(&self) -> bool {
        matches!(self.flow.dl_type.get(), eth_type::IP | eth_type::IPV6)
            && self.flow.nw_frag & NW_FRAG_LATER == 0
    }

    fn ports(&mut self) {
        if !self.has_transport() {
            return;
        }
        match self.flow.nw_proto {
            ip_proto::TCP => set_members!(self, Tcp, PortsKey { src = tp_src, dst = tp_dst }),
            ip_proto::UDP => set_members!(self, Udp, PortsKey { src = tp_src, dst = tp_dst }),
            ip_proto::SCTP => set_members!(self, Sctp, PortsKey { src = tp_src, dst = tp_dst }),
            _ => {}
        }
    }

    fn icmp(&mut self) {
        let v6 = match (self.flow.dl_type.get(), self.flow.nw_proto) {
            (eth_type::IP, ip_proto::ICMP) => false,
            (eth_type::IPV6, ip_proto::ICMPV6) => true,
            _ => return,
        };
        let (f, b) = (self.flow, &mut *self.base);
        if !(f.nw_frag & NW_FRAG_LATER == 0 && (f.tp_src != b.tp_src || f.tp_dst != b.tp_dst)) {
            return;
        }
        let m = &mut self.wc.masks;
        m.tp_src = m.tp_src.or_diff(f.tp_src, b.tp_src);
        m.tp_dst = m.tp_dst.or_diff(f.tp_dst, b.tp_dst);
        let key = |x: &Flow| IcmpKey {
            icmp_type: x.tp_src.get() as u8,
            code: x.tp_dst.get() as u8,
        };
        // Never under a mask: the whole of it is set, and matters.
        m.tp_src = (m.tp_src.get() | 0xff).into();
        m.tp_dst = (m.tp_dst.get() | 0xff).into();
        let masked = Masked {
            value: key(f),
            mask: key(m),
        };
        self.slow = true;
        self.out.push(Action::Set(if v6 {
            Set::Icmpv6(masked)
        } else {
            Set::Icmp(masked)
        }));
        (b.tp_src, b.tp_dst) = (f.tp_src, f.tp_dst);
    }

    /// Pops the labels of `base` that `flow` does not keep, rewrites the one that only differs, and pushes the others.
    ///
    /// What lies above the labels stays in `base`: when translation goes back to the packet without labels (behind
    /// a bucket, a clone or a patch port), popping them is all that there is to do.
    fn mpls(&mut self) {
        let (mut have, want) = (mpls_count(self.base), mpls_count(self.flow));
        let mut common = (0..have.min(want))
            .take_while(|i| self.base.mpls_lse[have - 1 - i] == self.flow.mpls_lse[want - 1 - i])
            .count();
        while have > common {
            if have - 1 == common && want > common {
                self.set_label(self.flow.mpls_lse[want - have]);
                common += 1;
                continue;
            }
            let dl_type = match is_mpls(self.flow.dl_type) || have == 1 {
                true => self.flow.dl_type,
                false => eth_type::MPLS.into(),
            };
            self.out.push(Action::PopMpls {
                eth_type: dl_type.get(),
            });
            if !pop_label(self.base, dl_type) {
                break;
            }
            have -= 1;
        }
        for n in have..want {
            let (lse, dl_type) = (self.flow.mpls_lse[want - n - 1], self.flow.dl_type);
            // A label that is put back is that of this packet.
            self.wc.masks.mpls_lse[want - n - 1] = u32::MAX.into();
            self.out.push(Action::PushMpls {
                lse,
                eth_type: dl_type.get(),
            });
            push_label(self.base, n, lse, dl_type);
        }
        if self.base.dl_type != self.flow.dl_type {
            // Labels came and went, and left another type behind: so they do in the datapath.
            let lse = MPLS_BOS_MASK.into();
            self.out.push(Action::PushMpls {
                lse,
                eth_type: eth_type::MPLS,
            });
            self.out.push(Action::PopMpls {
                eth_type: self.flow.dl_type.get(),
            });
            self.base.dl_type = self.flow.dl_type;
        }
    }

    /// Rewrites the outermost label of `base`. Only bits that matter are set: other packets of the megaflow keep
    /// theirs. The value is told whole.
    fn set_label(&mut self, lse: Be32) {
        let mask = self.wc.masks.mpls_lse[0].or_diff(lse, self.base.mpls_lse[0]);
        let mask = all_or(mask, !self.masked);
        if !self.masked {
            self.wc.masks.mpls_lse[0] = mask;
        }
        self.out.push(Action::Set(Set::Mpls(Masked {
            value: lse.get(),
            mask: mask.get(),
        })));
        self.base.mpls_lse[0] = lse;
    }

    /// Pops VLAN headers down to the inner ones that are the same, then pushes the new ones.
    fn vlans(&mut self) {
        let (have, want) = (vlan_count(self.base), vlan_count(self.flow));
        let same = (0..have.min(want))
            .take_while(|i| self.base.vlans[have - 1 - i] == self.flow.vlans[want - 1 - i])
            .count();
        for i in 0..have - same {
            self.out.push(Action::PopVlan);
            self.wc.masks.vlans[i] = ferrovs_packet::flow::VlanHdr {
                tpid: 0xffff.into(),
                tci: 0xffff.into(),
            };
        }
        for vlan in self.flow.vlans[..want - same].iter().rev() {
            self.out.push(Action::PushVlan {
                tpid: vlan.tpid.get(),
                tci: vlan.tci.get(),
            });
        }
        debug_assert!(want <= FLOW_MAX_VLAN_HEADERS);
        self.base.vlans = self.flow.vlans;
    }

    fn metadata(&mut self) {
        if self.flow.skb_priority != self.base.skb_priority {
            let value = self.flow.skb_priority;
            self.wc.masks.skb_priority = u32::MAX;
            self.out.push(Action::Set(Set::SkbPriority(Masked {
                value,
                mask: u32::MAX,
            })));
            self.base.skb_priority = value;
        }
        if self.flow.pkt_mark != self.base.pkt_mark {
            let value = self.flow.pkt_mark;
            let mask = self.wc.masks.pkt_mark.or_diff(value, self.base.pkt_mark);
            let mask = all_or(mask, !self.masked);
            self.wc.masks.pkt_mark = mask;
            let value = value & mask;
            self.out
                .push(Action::Set(Set::SkbMark(Masked { value, mask })));
            self.base.pkt_mark = self.flow.pkt_mark;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_packet::flow::VlanHdr;

    fn ip() -> Flow {
        Flow {
            dl_type: eth_type::IP.into(),
            nw_proto: ip_proto::TCP,
            nw_ttl: 64,
            ..Flow::default()
        }
    }

    #[test]
    fn equal_flows_need_no_action() {
        let (flow, mut base, mut out) = (ip(), ip(), vec![]);
        commit(
            &flow,
            &mut base,
            &mut out,
            &mut FlowWildcards::default(),
            true,
        );
        assert_eq!(out, []);
    }

    #[test]
    fn a_masked_set_covers_just_the_bits_that_matter() {
        let (mut base, mut out, mut wc) = (ip(), vec![], FlowWildcards::default());
        let mut flow = base;
        flow.nw_ttl = 63;
        wc.masks.nw_ttl = 0xff;
        commit(&flow, &mut base, &mut out, &mut wc, true);
        let value = Ipv4Key {
            ttl: 63,
            ..Default::default()
        };
        let mask = Ipv4Key {
            ttl: 0xff,
            ..Default::default()
        };
        assert_eq!(out, [Action::Set(Set::Ipv4(Masked { value, mask }))]);
        assert!(base == flow);
    }

    #[test]
    fn without_masks_whole_headers_are_set_and_matter() {
        let (mut base, mut out, mut wc) = (ip(), vec![], FlowWildcards::default());
        let mut flow = base;
        flow.nw_ttl = 63;
        commit(&flow, &mut base, &mut out, &mut wc, false);
        let mut text = String::new();
        ferrovs_datapath::text::format_actions(&mut text, &out, None);
        let whole = "set(ipv4(src=0.0.0.0,dst=0.0.0.0,proto=6,tos=0,ttl=63,frag=no))";
        assert_eq!(text, whole);
        assert_eq!((wc.masks.nw_src.get(), wc.masks.nw_tos), (u32::MAX, 0xff));
    }

    #[test]
    fn vlan_headers_are_popped_down_to_the_common_ones() {
        let tag = |vid: u16| VlanHdr {
            tpid: 0x8100.into(),
            tci: (VLAN_CFI | vid).into(),
        };
        let (mut base, mut out) = (ip(), vec![]);
        base.vlans = [tag(1), tag(2)];
        let mut flow = base;
        flow.vlans = [tag(3), tag(2)];
        commit(
            &flow,
            &mut base,
            &mut out,
            &mut FlowWildcards::default(),
            true,
        );
        assert_eq!(
            out,
            [
                Action::PopVlan,
                Action::PushVlan {
                    tpid: 0x8100,
                    tci: 0x1003
                }
            ]
        );
        flow.vlans = [VlanHdr::default(); 2];
        out.clear();
        commit(
            &flow,
            &mut base,
            &mut out,
            &mut FlowWildcards::default(),
            true,
        );
        assert_eq!(out, [Action::PopVlan, Action::PopVlan]);
    }
}

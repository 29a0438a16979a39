//! Whether actions suit the match of their flow and the switch.
//!
//! An action on a header that the match does not promise is refused; for OpenFlow 1.0, where no such rule was,
//! some are let through and only the newer protocols are ruled out. Actions that push or pop headers change what
//! is known for those that follow. Checking also notes in actions what later encoding needs to know about the
//! packet (whether it has a VLAN tag, which L4 protocol it is).
//!
//! Whether actions may stand together at all is checked before, in [`verify`](super::verify).

use ferrovs_packet::field::{FieldId, FieldValue, Prereq, SubField};
use ferrovs_packet::flow::{Flow, Match, NW_FRAG_LATER, PT_ETH, VLAN_CFI};
use ferrovs_packet::types::{Be16, Be32, OfPort, eth_type, ip_proto};

use super::*;
use crate::error::OfpErr;
use crate::version::Protocol;
use crate::warn::{Topic, warn};

/// What a switch allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Port numbers from this on that are not reserved do not exist.
    pub max_ports: OfPort,
    /// The table of the flow; 255 if none.
    pub table_id: u8,
    pub n_tables: u8,
}

impl Limits {
    /// What holds of every switch, for actions in this table.
    pub fn any_switch(table_id: u8) -> Limits {
        Limits {
            max_ports: OfPort::MAX,
            table_id,
            n_tables: 255,
        }
    }
}

/// A packet type of which nothing is known.
const PT_UNKNOWN: u32 = 0xffff_ffff;
const PT_NSH: u32 = 1 << 16 | eth_type::NSH as u32;

const OF11_UP: Protocol = Protocol::OF11_STD
    .union(Protocol::OF12_OXM)
    .union(Protocol::OF13_OXM)
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);

/// Checks actions of a flow mod that came from a connection with this protocol.
pub fn check_for_protocol(
    actions: &mut [Action],
    m: &Match,
    limits: Limits,
    protocol: Protocol,
) -> Result<(), OfpErr> {
    let mut usable = Protocol::all();
    check(actions, m, limits, &mut usable)?;
    if usable.intersects(protocol) {
        Ok(())
    } else {
        Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
    }
}

/// Checks actions, and takes from `usable` the protocols that would refuse them.
pub fn check(
    actions: &mut [Action],
    m: &Match,
    limits: Limits,
    usable: &mut Protocol,
) -> Result<(), OfpErr> {
    let mut c = Checker {
        m: *m,
        limits,
        usable,
    };
    actions.iter_mut().try_for_each(|a| c.one(a))
}

/// Whether `port` can be sent to.
pub fn check_out_port(port: OfPort, max_ports: OfPort) -> Result<(), OfpErr> {
    match port {
        OfPort::IN_PORT
        | OfPort::TABLE
        | OfPort::NORMAL
        | OfPort::FLOOD
        | OfPort::ALL
        | OfPort::CONTROLLER
        | OfPort::LOCAL => Ok(()),
        p if p < max_ports => Ok(()),
        _ => Err(OfpErr::OFPBAC_BAD_OUT_PORT),
    }
}

struct Checker<'a> {
    m: Match,
    limits: Limits,
    usable: &'a mut Protocol,
}

fn is_ip_any(flow: &Flow) -> bool {
    [eth_type::IP, eth_type::IPV6].contains(&flow.ether_type())
}

fn is_mpls(flow: &Flow) -> bool {
    [eth_type::MPLS, eth_type::MPLS_MCAST].contains(&flow.ether_type())
}

fn has_vlan(flow: &Flow) -> bool {
    flow.vlans[0].tci.get() & VLAN_CFI != 0
}

impl Checker<'_> {
    /// OpenFlow 1.0 does not mind an action that does not `fit`; later versions do.
    fn legacy(&mut self, fits: bool) {
        if !fits {
            *self.usable &= !OF11_UP;
        }
    }

    fn src(&self, sf: &SubField) -> Result<(), OfpErr> {
        self.prereqs(sf, "source")
    }

    fn dst(&self, sf: &SubField) -> Result<(), OfpErr> {
        self.prereqs(sf, "destination")?;
        super::check_writable(sf)
    }

    fn prereqs(&self, sf: &SubField, role: &str) -> Result<(), OfpErr> {
        prereqs_in(sf, role, &self.m)
    }

    /// Checks a nested list; what it does to the packet is undone behind it.
    fn nested(&mut self, list: &mut [Action]) -> Result<(), OfpErr> {
        check(list, &self.m, self.limits, self.usable)
    }

    fn one(&mut self, a: &mut Action) -> Result<(), OfpErr> {
        let max_ports = self.limits.max_ports;
        match a {
            Action::Output { port, .. } | Action::OutputTrunc { port, .. } => {
                check_out_port(*port, max_ports)
            }
            Action::Enqueue { port, .. } => {
                if *port < max_ports || [OfPort::IN_PORT, OfPort::LOCAL].contains(port) {
                    Ok(())
                } else {
                    Err(OfpErr::OFPBAC_BAD_OUT_PORT)
                }
            }
            Action::OutputReg { src, .. } => self.src(src),
            Action::Bundle(b) => {
                b.dst.as_ref().map_or(Ok(()), |d| self.dst(d))?;
                let mut ports = b.members.iter().filter(|p| **p != OfPort::NONE);
                ports.try_for_each(|p| check_out_port(*p, max_ports))
            }
            Action::SetVlanVid { .. }
            | Action::SetVlanPcp { .. }
            | Action::StripVlan { .. }
            | Action::PushVlan(_) => self.vlan(a),
            Action::SetIpv4Src(_)
            | Action::SetIpv4Dst(_)
            | Action::SetIpDscp(_)
            | Action::SetIpEcn(_)
            | Action::SetIpTtl(_)
            | Action::DecTtl { .. }
            | Action::SetL4SrcPort { .. }
            | Action::SetL4DstPort { .. }
            | Action::FinTimeout { .. } => {
                self.ip(a);
                Ok(())
            }
            Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::DecNshTtl
            | Action::Encap(_)
            | Action::Decap { .. } => {
                self.layers(a);
                Ok(())
            }
            Action::SetField(sf) => self.set_field(sf),
            Action::RegMove { src, dst, .. } => {
                self.src(src)?;
                self.dst(dst)
            }
            Action::StackPush(sf) => self.src(sf),
            Action::StackPop(sf) => self.dst(sf),
            Action::Multipath(m) => self.dst(&m.dst),
            Action::Resubmit(r) => {
                // The original tuple can only be used where it exists.
                if r.with_ct_orig && !Prereq::Ct.match_ok(&self.m) {
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                Ok(())
            }
            Action::Learn(l) => self.learn(l),
            Action::Ct(c) => self.ct(c),
            Action::Nat(n) => {
                let fits = match n.range {
                    NatRange::None => is_ip_any(&self.m.flow),
                    NatRange::V4 { .. } => self.m.flow.ether_type() == eth_type::IP,
                    NatRange::V6 { .. } => self.m.flow.ether_type() == eth_type::IPV6,
                };
                if fits {
                    Ok(())
                } else {
                    Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
                }
            }
            Action::Clone(list) => self.nested(list),
            Action::WriteActions(list) => {
                // An action set is executed later, on a packet of which nothing is known now.
                let mut any = Protocol::all();
                check(list, &self.m, self.limits, &mut any)
            }
            Action::DeleteField(f) if f.tun_metadata_index().is_none() => {
                Err(OfpErr::OFPBAC_BAD_ARGUMENT)
            }
            Action::Meter(id) => {
                if *id == 0 || *id > crate::meter::METER_MAX {
                    return Err(OfpErr::OFPMMFC_INVALID_METER);
                }
                Ok(())
            }
            Action::GotoTable(t) => {
                let l = &self.limits;
                if l.table_id != 255 && *t <= l.table_id || l.n_tables != 255 && *t >= l.n_tables {
                    return Err(OfpErr::OFPBIC_BAD_TABLE_ID);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn vlan(&mut self, a: &mut Action) -> Result<(), OfpErr> {
        let tagged = has_vlan(&self.m.flow);
        let vlans = &mut self.m.flow.vlans;
        let with_tag = |tci: Be16| Be16::new(tci.get() | VLAN_CFI);
        match a {
            Action::SetVlanVid {
                push_if_needed,
                flow_has_vlan,
                ..
            }
            | Action::SetVlanPcp {
                push_if_needed,
                flow_has_vlan,
                ..
            } => {
                *flow_has_vlan = tagged;
                vlans[0].tci = with_tag(vlans[0].tci);
                self.legacy(tagged || *push_if_needed);
            }
            Action::StripVlan { .. } => {
                vlans.rotate_left(1);
                if let Some(last) = vlans.last_mut() {
                    *last = Default::default();
                }
                self.legacy(tagged);
            }
            _ => {
                if vlans.last().is_some_and(|v| v.tci.get() & VLAN_CFI != 0) {
                    return Err(OfpErr::OFPBAC_BAD_TAG);
                }
                vlans.rotate_right(1);
                vlans[0] = Default::default();
                vlans[0].tci = with_tag(Be16::ZERO);
            }
        }
        Ok(())
    }

    fn ip(&mut self, a: &mut Action) {
        let flow = &self.m.flow;
        let fits = match a {
            Action::SetIpv4Src(_) | Action::SetIpv4Dst(_) => flow.ether_type() == eth_type::IP,
            Action::SetL4SrcPort { flow_ip_proto, .. }
            | Action::SetL4DstPort { flow_ip_proto, .. } => {
                *flow_ip_proto = flow.nw_proto;
                let ports = [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP];
                is_ip_any(flow)
                    && ports.contains(&flow.nw_proto)
                    && flow.nw_frag & NW_FRAG_LATER == 0
            }
            Action::FinTimeout { .. } => flow.nw_proto == ip_proto::TCP,
            _ => is_ip_any(flow),
        };
        self.legacy(fits);
    }

    /// Actions on MPLS and NSH headers, and those that put on or take off whole headers.
    fn layers(&mut self, a: &Action) {
        let flow = &mut self.m.flow;
        let ethernet = flow.packet_type.get() == PT_ETH;
        let fits = match a {
            Action::PushMpls(ty) => {
                // A pushed label hides what is below; a VLAN tag stays before it.
                flow.dl_type = *ty;
                flow.nw_proto = 0;
                ethernet
            }
            Action::PopMpls(ty) => {
                let fits = ethernet && is_mpls(flow);
                flow.dl_type = *ty;
                fits
            }
            Action::DecNshTtl => {
                flow.packet_type.get() == PT_NSH || flow.dl_type.get() == eth_type::NSH
            }
            Action::Encap(e) => {
                flow.packet_type = Be32::new(e.new_packet_type);
                if e.new_packet_type >> 16 == 1 {
                    flow.dl_type = Be16::new(e.new_packet_type as u16);
                }
                if !is_ip_any(flow) {
                    flow.nw_proto = 0;
                }
                true
            }
            Action::Decap { .. } => {
                if ethernet {
                    // Below Ethernet lies what its type says.
                    flow.packet_type = Be32::new(1 << 16 | u32::from(flow.dl_type.get()));
                } else {
                    flow.packet_type = Be32::new(PT_UNKNOWN);
                    flow.dl_type = Be16::MAX_VALUE;
                }
                true
            }
            _ => is_mpls(flow),
        };
        self.legacy(fits);
    }

    fn set_field(&mut self, sf: &mut SetField) -> Result<(), OfpErr> {
        let f = sf.field.field();
        sf.flow_has_vlan = has_vlan(&self.m.flow);
        if !f.match_prereqs_ok(&self.m) || sf.field == FieldId::VlanVid && !sf.flow_has_vlan {
            warn(Topic::Actions, || {
                format!("set_field {} lacks correct prerequisites", f.name)
            });
            return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
        }
        if sf.field == FieldId::VlanTci {
            // The tag itself may be set or cleared.
            self.m.flow.vlans[0].tci = Be16::new(sf.value.to_u64() as u16);
        }
        Ok(())
    }

    fn ct(&mut self, c: &mut Ct) -> Result<(), OfpErr> {
        let proto = self.m.flow.nw_proto;
        let helper = match c.alg {
            ALG_FTP => proto == ip_proto::TCP,
            ALG_TFTP => proto == ip_proto::UDP,
            _ => true,
        };
        if !is_ip_any(&self.m.flow) || !helper {
            return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
        }
        if let CtZone::Field(sf) = &c.zone {
            return self.src(sf);
        }
        self.nested(&mut c.actions)
    }

    fn learn(&self, l: &Learn) -> Result<(), OfpErr> {
        let mut learned = Match::default();
        for s in &l.specs {
            if let LearnSrc::Field(src) = &s.src {
                self.src(src)?;
            }
            match &s.dst {
                LearnDst::Match(dst) => {
                    prereqs_in(dst, "source", &learned)?;
                    if let LearnSrc::Immediate(v) = &s.src {
                        let f = dst.field.field();
                        let (ofs, n_bits) = (dst.ofs.into(), dst.n_bits.into());
                        let mut value = f.value(&learned.flow);
                        value.insert(ofs, n_bits, v);
                        let mut mask = f.mask_of(&learned.wc);
                        mask.insert(ofs, n_bits, &FieldValue::ones(n_bits));
                        f.set_match(&value, &mask, &mut learned);
                    }
                }
                LearnDst::Load(dst) => {
                    prereqs_in(dst, "destination", &learned)?;
                    super::check_writable(dst)?;
                }
                LearnDst::Output => {}
            }
        }
        Ok(())
    }
}

fn prereqs_in(sf: &SubField, role: &str, m: &Match) -> Result<(), OfpErr> {
    let f = sf.field.field();
    if f.match_prereqs_ok(m) {
        return Ok(());
    }
    warn(Topic::MetaFlow, || {
        format!("{role} field {} lacks correct prerequisites", f.name)
    });
    Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
}

//! Whether actions suit the match of their flow and the switch.
//!
//! An action on a header that the match does not promise is refused; for OpenFlow 1.0, where no such rule was,
//! some are let through and only the newer protocols are ruled out. Checking also notes in actions what later
//! encoding needs to know about the packet (whether it has a VLAN tag, which L4 protocol it is).

use ferrovs_packet::field::{FieldId, SubField};
use ferrovs_packet::flow::{Flow, Match, VLAN_CFI};
use ferrovs_packet::types::{Be16, Be32, OfPort, eth_type, ip_proto};

use super::*;
use crate::error::OfpErr;
use crate::version::Protocol;

/// What a switch allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Port numbers from this on that are not reserved do not exist.
    pub max_ports: OfPort,
    /// The table of the flow; 255 if none.
    pub table_id: u8,
    pub n_tables: u8,
}

/// Why actions in text are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    Err(OfpErr),
    Order,
}

/// Checks actions that were read from text.
pub fn check_for_text(
    actions: &mut [Action],
    m: &Match,
    table_id: u8,
    usable: &mut Protocol,
) -> Result<(), TextError> {
    let limits = Limits {
        max_ports: OfPort::MAX,
        table_id,
        n_tables: 255,
    };
    check(actions, m, limits, usable).map_err(TextError::Err)
}

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
    c.list(actions)
}

struct Checker<'a> {
    m: Match,
    limits: Limits,
    usable: &'a mut Protocol,
}

const OF11_UP: Protocol = Protocol::OF11_STD
    .union(Protocol::OF12_OXM)
    .union(Protocol::OF13_OXM)
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);

fn is_ip_any(flow: &Flow) -> bool {
    [eth_type::IP, eth_type::IPV6].contains(&flow.dl_type.get())
}

fn is_mpls(flow: &Flow) -> bool {
    [eth_type::MPLS, eth_type::MPLS_MCAST].contains(&flow.dl_type.get())
}

impl Checker<'_> {
    /// OpenFlow 1.0 does not mind; later versions do.
    fn inconsistent(&mut self) {
        *self.usable &= !OF11_UP;
    }

    fn has_vlan(&self) -> bool {
        self.m.flow.vlans[0].tci.get() & VLAN_CFI != 0
    }

    fn port(&self, p: OfPort) -> Result<(), OfpErr> {
        match p {
            OfPort::IN_PORT
            | OfPort::TABLE
            | OfPort::NORMAL
            | OfPort::FLOOD
            | OfPort::ALL
            | OfPort::CONTROLLER
            | OfPort::LOCAL => Ok(()),
            OfPort::NONE => Err(OfpErr::OFPBAC_BAD_OUT_PORT),
            p if p < self.limits.max_ports => Ok(()),
            _ => Err(OfpErr::OFPBAC_BAD_OUT_PORT),
        }
    }

    fn src(&self, sf: &SubField) -> Result<(), OfpErr> {
        if sf.field.field().match_prereqs_ok(&self.m) {
            Ok(())
        } else {
            Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
        }
    }

    fn dst(&self, sf: &SubField) -> Result<(), OfpErr> {
        if !sf.field.field().writable {
            return Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT);
        }
        self.src(sf)
    }

    fn list(&mut self, actions: &mut [Action]) -> Result<(), OfpErr> {
        for a in actions {
            self.one(a)?;
        }
        Ok(())
    }

    fn one(&mut self, a: &mut Action) -> Result<(), OfpErr> {
        let flow = self.m.flow;
        match a {
            Action::Output { port, .. } => self.port(*port),
            Action::OutputTrunc { port, .. } => self.port(*port),
            Action::Enqueue { port, .. } => {
                if *port < self.limits.max_ports || [OfPort::IN_PORT, OfPort::LOCAL].contains(port)
                {
                    Ok(())
                } else {
                    Err(OfpErr::OFPBAC_BAD_OUT_PORT)
                }
            }
            Action::OutputReg { src, .. } => self.src(src),
            Action::Bundle(b) => {
                for p in &b.members {
                    if *p != OfPort::NONE && *p != OfPort::LOCAL && *p >= self.limits.max_ports {
                        return Err(OfpErr::OFPBAC_BAD_OUT_PORT);
                    }
                }
                b.dst.as_ref().map_or(Ok(()), |d| self.dst(d))
            }
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
                *flow_has_vlan = flow.vlans[0].tci.get() & VLAN_CFI != 0;
                if !*flow_has_vlan && !*push_if_needed {
                    self.inconsistent();
                }
                let tci = self.m.flow.vlans[0].tci.get() | VLAN_CFI;
                self.m.flow.vlans[0].tci = Be16::new(tci);
                Ok(())
            }
            Action::StripVlan { .. } => {
                if !self.has_vlan() {
                    self.inconsistent();
                }
                self.m.flow.vlans[0] = self.m.flow.vlans[1];
                self.m.flow.vlans[1] = Default::default();
                Ok(())
            }
            Action::PushVlan(_) => {
                if flow.vlans[1].tci.get() & VLAN_CFI != 0 {
                    return Err(OfpErr::OFPBAC_BAD_TAG);
                }
                self.m.flow.vlans[1] = self.m.flow.vlans[0];
                let tci = self.m.flow.vlans[0].tci.get() | VLAN_CFI;
                self.m.flow.vlans[0].tci = Be16::new(tci);
                Ok(())
            }
            Action::SetIpv4Src(_) | Action::SetIpv4Dst(_) => {
                if flow.dl_type.get() != eth_type::IP {
                    self.inconsistent();
                }
                Ok(())
            }
            Action::SetIpDscp(_)
            | Action::SetIpEcn(_)
            | Action::SetIpTtl(_)
            | Action::DecTtl { .. } => {
                if !is_ip_any(&flow) {
                    self.inconsistent();
                }
                Ok(())
            }
            Action::SetL4SrcPort { flow_ip_proto, .. }
            | Action::SetL4DstPort { flow_ip_proto, .. } => {
                let l4 = [ip_proto::TCP, ip_proto::UDP, ip_proto::SCTP].contains(&flow.nw_proto)
                    && flow.nw_frag & 2 == 0;
                if !is_ip_any(&flow) || !l4 {
                    self.inconsistent();
                }
                *flow_ip_proto = flow.nw_proto;
                Ok(())
            }
            Action::SetField(sf) => {
                let f = sf.field.field();
                if !f.match_prereqs_ok(&self.m) {
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                sf.flow_has_vlan = self.has_vlan();
                if sf.field == FieldId::VlanTci {
                    // The tag itself may be set or cleared.
                    let tci = sf.value.to_u64() as u16 & VLAN_CFI
                        | self.m.flow.vlans[0].tci.get() & !VLAN_CFI;
                    self.m.flow.vlans[0].tci = Be16::new(tci);
                }
                if matches!(sf.field, FieldId::DlVlan | FieldId::DlVlanPcp) {
                    let tci = self.m.flow.vlans[0].tci.get() | VLAN_CFI;
                    self.m.flow.vlans[0].tci = Be16::new(tci);
                }
                if sf.field == FieldId::VlanVid && !sf.flow_has_vlan {
                    self.inconsistent();
                }
                Ok(())
            }
            Action::RegMove { src, dst } => {
                self.src(src)?;
                self.dst(dst)
            }
            Action::StackPush(sf) => self.src(sf),
            Action::StackPop(sf) => self.dst(sf),
            Action::Multipath(m) => self.dst(&m.dst),
            Action::CheckPktLarger { dst, .. } => self.dst(dst),
            Action::SetMplsLabel(_)
            | Action::SetMplsTc(_)
            | Action::SetMplsTtl(_)
            | Action::DecMplsTtl => {
                if !is_mpls(&flow) {
                    self.inconsistent();
                }
                Ok(())
            }
            Action::DecNshTtl => {
                if flow.dl_type.get() != eth_type::NSH {
                    self.inconsistent();
                }
                Ok(())
            }
            Action::PushMpls(ty) => {
                // A pushed label hides what is below.
                self.m.flow.dl_type = *ty;
                self.m.wc.masks.dl_type = Be16::MAX_VALUE;
                self.m.flow.vlans[0].tci = Be16::new(0);
                Ok(())
            }
            Action::PopMpls(ty) => {
                if !is_mpls(&flow) {
                    self.inconsistent();
                }
                self.m.flow.dl_type = *ty;
                Ok(())
            }
            Action::FinTimeout { .. } => {
                if flow.nw_proto != ip_proto::TCP {
                    self.inconsistent();
                }
                Ok(())
            }
            Action::Resubmit(r) => {
                if r.with_ct_orig && !FieldId::CtNwProto.field().match_prereqs_ok(&self.m) {
                    // The original tuple can only be used where it exists.
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                Ok(())
            }
            Action::Learn(l) => self.learn(l),
            Action::Sample(_) | Action::Conjunction { .. } => Ok(()),
            Action::Ct(c) => {
                if !is_ip_any(&flow) {
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                if let CtZone::Field(sf) = &c.zone {
                    self.src(sf)?;
                }
                if c.alg != 0
                    && !(c.alg == 21 && flow.nw_proto == ip_proto::TCP
                        || c.alg == 69 && flow.nw_proto == ip_proto::UDP)
                {
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                self.list(&mut c.actions)
            }
            Action::Nat(n) => {
                if !is_ip_any(&flow)
                    || matches!(n.range, NatRange::V4 { .. }) && flow.dl_type.get() != eth_type::IP
                    || matches!(n.range, NatRange::V6 { .. })
                        && flow.dl_type.get() != eth_type::IPV6
                {
                    return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                }
                Ok(())
            }
            Action::Clone(list) => {
                let saved = self.m;
                let result = self.list(list);
                self.m = saved;
                result
            }
            Action::WriteActions(list) => {
                let saved = self.m;
                let result = self.list(list);
                self.m = saved;
                result
            }
            Action::Encap(e) => {
                self.m.flow.packet_type = Be32::new(e.new_packet_type);
                self.m.wc.masks.packet_type = Be32::MAX_VALUE;
                if e.new_packet_type >> 16 == 1 {
                    self.m.flow.dl_type = Be16::new(e.new_packet_type as u16);
                    self.m.wc.masks.dl_type = Be16::MAX_VALUE;
                }
                Ok(())
            }
            Action::Decap { .. } => {
                if flow.packet_type.get() == 0 {
                    // Below Ethernet lies what its type says.
                    if self.has_vlan() {
                        return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                    }
                    self.m.flow.packet_type = Be32::new(1 << 16 | u32::from(flow.dl_type.get()));
                } else {
                    self.m.flow.packet_type = Be32::ZERO;
                    self.m.flow.dl_type = Be16::ZERO;
                }
                Ok(())
            }
            Action::Meter(id) => {
                if *id == 0 || *id > crate::meter::METER_MAX {
                    return Err(OfpErr::OFPMMFC_INVALID_METER);
                }
                Ok(())
            }
            Action::Group(_) => Ok(()),
            Action::DeleteField(f) if f.tun_metadata_index().is_none() => {
                Err(OfpErr::OFPBAC_BAD_ARGUMENT)
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

    fn learn(&self, l: &Learn) -> Result<(), OfpErr> {
        let mut learned = Match::default();
        for s in &l.specs {
            if let LearnSrc::Field(src) = &s.src {
                self.src(src)?;
            }
            match &s.dst {
                LearnDst::Match(dst) => {
                    if !dst.field.field().match_prereqs_ok(&learned) {
                        return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                    }
                    if let LearnSrc::Immediate(v) = &s.src {
                        let f = dst.field.field();
                        let mut value = f.value(&learned.flow);
                        value.insert(dst.ofs.into(), dst.n_bits.into(), v);
                        let mut mask = f.mask_of(&learned.wc);
                        mask.insert(
                            dst.ofs.into(),
                            dst.n_bits.into(),
                            &ferrovs_packet::field::FieldValue::ones(dst.n_bits.into()),
                        );
                        f.set_match(&value, &mask, &mut learned);
                    }
                }
                LearnDst::Load(dst) => {
                    if !dst.field.field().writable {
                        return Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT);
                    }
                    if !dst.field.field().match_prereqs_ok(&learned) {
                        return Err(OfpErr::OFPBAC_MATCH_INCONSISTENT);
                    }
                }
                LearnDst::Output => {}
            }
        }
        Ok(())
    }
}

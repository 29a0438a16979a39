//! Actions on VLAN tags.

use std::fmt::Write;

use ferrovs_packet::field::FieldId;
use ferrovs_packet::flow::VLAN_CFI;
use ferrovs_packet::types::{Be16, eth_type};

use super::Action;
use super::check::Checker;
use super::decode::must;
use super::encode::{Encoder, std};
use super::row::{Row, Word, of, word};
use crate::error::OfpErr;
use crate::text::color::{Paint, Part};
use crate::text::cursor::{u8 as num8, u16 as num16};
use crate::text::parse_action::{OF11_UP, Parser};
use crate::version::Version;
use crate::wire::Put;

pub(super) static SET_VLAN_VID: Row = Row {
    name: "set_vlan_vid",
    words: &[
        word("set_vlan_vid", |_, v| parse_vid(v, false)),
        word("mod_vlan_vid", |_, v| parse_vid(v, true)),
    ],
    wires: &[of(1, 0..=5, "OFPAT_SET_VLAN_VID", 8..=8, |d, mut r| {
        let vid = r.u16()?;
        must(vid & !0xfff == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        Ok(Action::SetVlanVid {
            vid,
            push_if_needed: d.version == Version::V10,
            flow_has_vlan: false,
        })
    })
    .deprecated()],
    encode: |a, e, out| {
        let &Action::SetVlanVid {
            vid,
            push_if_needed,
            flow_has_vlan,
        } = a
        else {
            return;
        };
        push_tag(push_if_needed && !flow_has_vlan, e, out);
        if e.version <= Version::V11 {
            std(out, 1, |o| o.put_u16(vid));
        } else {
            e.set_exact(FieldId::VlanVid, (vid | VLAN_CFI).into(), out);
        }
    },
    format: |a, _, out| {
        let Action::SetVlanVid {
            vid,
            push_if_needed,
            ..
        } = a
        else {
            return;
        };
        let verb = if *push_if_needed { "mod" } else { "set" };
        let _ = write!(out, "{verb}_vlan_vid:{vid}");
    },
    check: |a, c| {
        if let Action::SetVlanVid {
            push_if_needed,
            flow_has_vlan,
            ..
        } = a
        {
            *flow_has_vlan = needs_tag(*push_if_needed, c);
        }
        Ok(())
    },
    ..Row::ACTION
};

fn parse_vid(v: &str, push_if_needed: bool) -> Result<Action, String> {
    let vid = num16(v, "VLAN VID")?;
    if vid & !0xfff != 0 {
        return Err(format!("{v}: not a valid VLAN VID"));
    }
    Ok(Action::SetVlanVid {
        vid,
        push_if_needed,
        flow_has_vlan: false,
    })
}

/// What OpenFlow 1.0 does by itself where there is no tag has to be said later.
fn push_tag(needed: bool, e: &Encoder<'_, '_>, out: &mut Vec<u8>) {
    if needed && e.version > Version::V10 {
        std(out, 17, |o| o.put_u16(eth_type::VLAN_8021Q));
    }
}

/// Whether there is a tag already; then, and behind the action, there is one.
fn needs_tag(push_if_needed: bool, c: &mut Checker<'_>) -> bool {
    let tagged = c.has_vlan();
    let tci = &mut c.m.flow.vlans[0].tci;
    *tci = Be16::new(tci.get() | VLAN_CFI);
    c.legacy(tagged || push_if_needed);
    tagged
}

pub(super) static SET_VLAN_PCP: Row = Row {
    name: "set_vlan_pcp",
    words: &[
        word("set_vlan_pcp", |_, v| parse_pcp(v, false)),
        word("mod_vlan_pcp", |_, v| parse_pcp(v, true)),
    ],
    wires: &[of(2, 0..=5, "OFPAT_SET_VLAN_PCP", 8..=8, |d, mut r| {
        let pcp = r.u8()?;
        must(pcp & !7 == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        Ok(Action::SetVlanPcp {
            pcp,
            push_if_needed: d.version == Version::V10,
            flow_has_vlan: false,
        })
    })
    .deprecated()],
    encode: |a, e, out| {
        let &Action::SetVlanPcp {
            pcp,
            push_if_needed,
            flow_has_vlan,
        } = a
        else {
            return;
        };
        push_tag(push_if_needed && !flow_has_vlan, e, out);
        if e.version <= Version::V11 {
            std(out, 2, |o| o.put_u8(pcp));
        } else {
            e.set_exact(FieldId::VlanPcp, pcp.into(), out);
        }
    },
    format: |a, _, out| {
        let Action::SetVlanPcp {
            pcp,
            push_if_needed,
            ..
        } = a
        else {
            return;
        };
        let verb = if *push_if_needed { "mod" } else { "set" };
        let _ = write!(out, "{verb}_vlan_pcp:{pcp}");
    },
    check: |a, c| {
        if let Action::SetVlanPcp {
            push_if_needed,
            flow_has_vlan,
            ..
        } = a
        {
            *flow_has_vlan = needs_tag(*push_if_needed, c);
        }
        Ok(())
    },
    ..Row::ACTION
};

fn parse_pcp(v: &str, push_if_needed: bool) -> Result<Action, String> {
    let pcp = num8(v, "VLAN PCP")?;
    if pcp & !7 != 0 {
        return Err(format!("{v}: not a valid VLAN PCP"));
    }
    Ok(Action::SetVlanPcp {
        pcp,
        push_if_needed,
        flow_has_vlan: false,
    })
}

const fn strip_word(name: &'static str) -> Word {
    word(name, |_, _| Ok(Action::StripVlan { pop: false }))
}

pub(super) static STRIP_VLAN: Row = Row {
    name: "strip_vlan",
    paint: Paint::alone(Part::Value),
    words: &[strip_word("strip_vlan"), strip_word("pop_vlan")],
    wires: &[
        of(3, 0..=0, "OFPAT_STRIP_VLAN", 8..=8, |_, _| {
            Ok(Action::StripVlan { pop: false })
        }),
        of(18, 1..=5, "OFPAT_POP_VLAN", 8..=8, |_, _| {
            Ok(Action::StripVlan { pop: true })
        }),
    ],
    encode: |_, e, out| {
        let type_ = if e.version == Version::V10 { 3 } else { 18 };
        std(out, type_, |_| {});
    },
    format: |a, _, out| {
        let popped = matches!(a, Action::StripVlan { pop: true });
        out.push_str(if popped { "pop_vlan" } else { "strip_vlan" });
    },
    check: |_, c| {
        let tagged = c.has_vlan();
        let vlans = &mut c.m.flow.vlans;
        vlans.rotate_left(1);
        if let Some(last) = vlans.last_mut() {
            *last = Default::default();
        }
        c.legacy(tagged);
        Ok(())
    },
    ..Row::ACTION
};

pub(super) static PUSH_VLAN: Row = Row {
    name: "push_vlan",
    words: &[word("push_vlan", parse_push).only(OF11_UP)],
    wires: &[of(17, 1..=5, "OFPAT_PUSH_VLAN", 8..=8, |_, mut r| {
        let ty = r.u16()?;
        must(is_tag_type(ty), OfpErr::OFPBAC_BAD_ARGUMENT)?;
        Ok(Action::PushVlan(ty.into()))
    })],
    // 1.0 has no push: setting the VLAN ID adds a tag there.
    encode: |a, e, out| match a {
        Action::PushVlan(ty) if e.version > Version::V10 => std(out, 17, |o| o.put_u16(ty.get())),
        _ => {}
    },
    format: |a, _, out| {
        if let Action::PushVlan(ty) = a {
            let _ = write!(out, "push_vlan:{:#06x}", ty.get());
        }
    },
    check: |_, c| {
        let vlans = &mut c.m.flow.vlans;
        if vlans.last().is_some_and(|v| v.tci.get() & VLAN_CFI != 0) {
            return Err(OfpErr::OFPBAC_BAD_TAG);
        }
        vlans.rotate_right(1);
        vlans[0] = Default::default();
        vlans[0].tci = Be16::new(VLAN_CFI);
        Ok(())
    },
    ..Row::ACTION
};

/// Only the standard types.
fn is_tag_type(ty: u16) -> bool {
    ty == eth_type::VLAN_8021Q || ty == eth_type::VLAN_8021AD
}

fn parse_push(_: &mut Parser<'_, '_>, v: &str) -> Result<Action, String> {
    let ty = num16(v, "ethertype")?;
    if !is_tag_type(ty) {
        return Err(format!("{v}: not a valid VLAN ethertype"));
    }
    Ok(Action::PushVlan(Be16::new(ty)))
}

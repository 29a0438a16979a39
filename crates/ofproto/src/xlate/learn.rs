//! Actions that change flows: `learn` and `fin_timeout`.

use std::fmt::Write;
use std::sync::Arc;

use ferrovs_openflow::action::{
    Action, Learn, LearnDst, LearnSpec, LearnSrc, SetField, SetFieldForm,
};
use ferrovs_openflow::flow::{FlowMod, FlowModCommand, FlowModFlags};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::match_::format_match;
use ferrovs_packet::field::{FieldValue, SubField, TunTable};
use ferrovs_packet::flow::{Flow, Match};
use ferrovs_packet::types::{OfPort, ip_proto};

use super::ctx::{Ctx, is_ip_any};
use super::describe;
use super::xcache::{Credit, TCP_FIN_RST};
use crate::time::to_ms;

/// The value that a spec takes from the packet or brings itself.
fn source(spec: &LearnSpec, flow: &Flow, tun: &TunTable) -> FieldValue {
    match &spec.src {
        LearnSrc::Field(src) => src.value_in(flow, tun),
        LearnSrc::Immediate(value) => value.extract(0, usize::from(spec.n_bits)),
    }
}

fn match_bits(m: &mut Match, dst: &SubField, value: &FieldValue, tun: &TunTable) {
    let field = dst.field.field();
    let mut whole = field.value_in(&m.flow, tun);
    whole.insert(usize::from(dst.ofs), usize::from(dst.n_bits), value);
    let mask = field.mask_of_in(&m.wc, tun);
    let mask = mask.with_masked(&dst.mask(), &dst.mask());
    field.set_match_in(&whole, &mask, m, tun);
}

/// The flow that `learn` makes for a packet with key `flow`.
fn flow_mod(learn: &Learn, flow: &Flow, tun: &TunTable) -> FlowMod {
    let mut fm = FlowMod {
        match_: Match::catchall(),
        priority: learn.priority,
        new_cookie: learn.cookie,
        table_id: learn.table_id,
        command: FlowModCommand::ModifyStrict,
        idle_timeout: learn.idle_timeout,
        hard_timeout: learn.hard_timeout,
        ..FlowMod::default()
    };
    if learn.send_flow_rem {
        fm.flags |= FlowModFlags::SEND_FLOW_REM;
    }
    if learn.fin_idle_timeout != 0 || learn.fin_hard_timeout != 0 {
        fm.actions.push(Action::FinTimeout {
            idle: learn.fin_idle_timeout,
            hard: learn.fin_hard_timeout,
        });
    }
    for spec in &learn.specs {
        let value = source(spec, flow, tun);
        match &spec.dst {
            LearnDst::Match(dst) => match_bits(&mut fm.match_, dst, &value, tun),
            LearnDst::Load(dst) => {
                let mut whole = FieldValue::ZERO;
                whole.insert(usize::from(dst.ofs), usize::from(dst.n_bits), &value);
                fm.actions.push(Action::SetField(Box::new(SetField {
                    field: dst.field,
                    value: whole,
                    mask: dst.mask(),
                    form: SetFieldForm::RegLoad,
                    flow_has_vlan: false,
                })));
            }
            LearnDst::Output => {
                let port = value.to_u64();
                // Only ordinary ports and those that make sense in a learned flow.
                let reserved = [OfPort::IN_PORT, OfPort::FLOOD, OfPort::LOCAL, OfPort::ALL];
                let port = OfPort(port as u16);
                if port < OfPort::MAX || reserved.contains(&port) {
                    fm.actions.push(Action::output(port));
                }
            }
        }
    }
    fm
}

/// A flow as traces tell it.
fn describe_learned(fm: &FlowMod, names: &Names<'_>) -> String {
    let mut text = format!("table={}", fm.table_id);
    let mut match_ = String::new();
    format_match(&fm.match_, None, names, &mut match_);
    if !match_.is_empty() {
        let _ = write!(text, " {match_}");
    }
    let _ = write!(text, " priority={}", fm.priority);
    if fm.new_cookie != 0 {
        let _ = write!(text, " cookie={:#x}", fm.new_cookie);
    }
    if fm.idle_timeout != 0 {
        let _ = write!(text, " idle={}", fm.idle_timeout);
    }
    if fm.hard_timeout != 0 {
        let _ = write!(text, " hard={}", fm.hard_timeout);
    }
    if fm.flags.contains(FlowModFlags::SEND_FLOW_REM) {
        text += " send_flow_rem";
    }
    let actions = match fm.actions.is_empty() {
        true => "drop".to_string(),
        false => describe::actions(&fm.actions, names),
    };
    let _ = write!(text, " actions={actions}");
    text
}

impl Ctx<'_> {
    /// Adds or refreshes a flow that is built from the packet.
    pub fn learn(&mut self, learn: &Learn) {
        for spec in &learn.specs {
            if let LearnSrc::Field(src) = &spec.src {
                self.mask_subfield(src);
            }
        }
        if !self.side_effects && self.xcache.is_none() {
            self.warn("suppressing side effects, so learn action ignored");
            return;
        }
        let fm = Arc::new(flow_mod(learn, &self.flow, &self.bridge.tun_table));
        if self.trace.is_some() {
            let text = self.with_names(|names| describe_learned(&fm, names));
            self.report(&text);
        }
        let tables = &self.bridge.tables;
        let learned = if self.side_effects {
            tables.learn(&fm, learn.limit, to_ms(self.now))
        } else if learn.limit != 0 && !tables.has_learned(&fm) {
            // Whether there is room is asked when a packet comes: it must come here.
            self.avoid_caching = true;
            true
        } else {
            true
        };
        if let Some(dst) = &learn.result_dst {
            self.write(dst, &FieldValue::from(u128::from(learned)));
            self.report_subfield(dst);
        }
        if !learned {
            self.report("Limit exceeded, learn failed");
        } else if let Some(cache) = &mut self.xcache {
            cache.record.credits.push(Credit::Learn {
                tables: tables.clone(),
                flow_mod: fm,
                limit: learn.limit,
            });
        }
    }

    /// A connection that ends need not be remembered for long.
    pub fn fin_timeout(&mut self, idle: u16, hard: u16) {
        if !is_ip_any(&self.flow) {
            return;
        }
        self.wc.masks.nw_proto = 0xff;
        let ends = |flags: u16| flags & TCP_FIN_RST != 0;
        if self.flow.nw_proto != ip_proto::TCP {
            return;
        }
        let Some(rule) = self.rule else {
            return;
        };
        let flags = self.count.map_or(0, |c| c.tcp_flags) | self.packet_tcp_flags();
        if self.side_effects && ends(flags) {
            self.bridge.tables.reduce_timeouts(rule, idle, hard);
        }
        if let Some(cache) = &mut self.xcache {
            cache.record.credits.push(Credit::FinTimeout {
                tables: self.bridge.tables.clone(),
                rule: rule.clone(),
                idle,
                hard,
            });
        }
    }

    fn packet_tcp_flags(&self) -> u16 {
        self.packet.map_or(0, |_| self.flow.tcp_flags.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_flow_matches_and_loads_what_the_packet_had() {
        let sub = |text: &str| SubField::parse(text).unwrap();
        let learn = Learn {
            idle_timeout: 10,
            hard_timeout: 0,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            priority: 100,
            table_id: 2,
            cookie: 7,
            send_flow_rem: false,
            delete_learned: false,
            limit: 0,
            second: false,
            result_dst: None,
            specs: vec![
                LearnSpec {
                    n_bits: 12,
                    src: LearnSrc::Field(sub("vlan_tci[0..11]")),
                    dst: LearnDst::Match(sub("vlan_tci[0..11]")),
                },
                LearnSpec {
                    n_bits: 48,
                    src: LearnSrc::Field(sub("eth_src")),
                    dst: LearnDst::Match(sub("eth_dst")),
                },
                LearnSpec {
                    n_bits: 16,
                    src: LearnSrc::Field(sub("in_port")),
                    dst: LearnDst::Output,
                },
            ],
        };
        let mut flow = Flow {
            in_port: 3,
            ..Flow::default()
        };
        flow.dl_src.0[5] = 9;
        flow.vlans[0].tci = 0x7005.into();
        let fm = flow_mod(&learn, &flow, &TunTable::default());
        assert_eq!((fm.table_id, fm.priority, fm.new_cookie), (2, 100, 7));
        assert_eq!(fm.match_.flow.dl_dst.0[5], 9);
        let vlan = (
            fm.match_.flow.vlans[0].tci.get(),
            fm.match_.wc.masks.vlans[0].tci.get(),
        );
        assert_eq!(vlan, (5, 0xfff));
        assert_eq!(fm.actions, [Action::output(OfPort(3))]);
    }
}

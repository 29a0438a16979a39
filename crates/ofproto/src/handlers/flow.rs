//! Flow mods and flow statistics.

use std::sync::Arc;

use ferrovs_openflow::action::{Action, TABLE_ALL};
use ferrovs_openflow::codec::MAX_MSG;
use ferrovs_openflow::flow::{
    AggregateStats, FlowMod, FlowModCommand, FlowModFlags, FlowStats, FlowStatsRequest,
};
use ferrovs_openflow::message::Message;
use ferrovs_openflow::packet_in::NO_BUFFER;
use ferrovs_openflow::version::Version;
use ferrovs_openflow::{Msg, OfpErr};
use ferrovs_packet::field::NO_TUN_TABLE;
use ferrovs_packet::flow::Match;
use ferrovs_runtime::vlog;

use super::check::Check;
use super::{Done, Handled, Request};
use crate::connmgr::{OfConn, Reply};
use crate::ofproto::Ofproto;
use crate::rule::Rule;
use crate::tables::{Criteria, N_TABLES, Requester, TBL_INTERNAL, may_add};
use crate::time::{sec_nsec, to_ms};

static RL: vlog::RateLimit = vlog::RateLimit::new(10, 10);

/// A message of statistics is closed when its flows may take so many bytes.
const PART_SIZE: usize = 48 * 1024;

/// Makes a flow mod ready: its actions are checked, and its table number is what its sender meant. `finds` says whether
/// there is a flow that it means: groups and meters in actions that no flow gets need not be there.
pub(crate) fn prepare(
    ofproto: &Ofproto,
    conn: &OfConn,
    fm: &mut FlowMod,
    finds: impl Fn(&Criteria) -> bool,
) -> Done {
    if conn.version() == Version::V10 {
        fm.fix_table_id(conn.flow_mod_table_id)?;
        if fm.command == FlowModCommand::Add {
            fm.flags |= FlowModFlags::RESET_COUNTS;
        } else if fm.new_cookie == u64::MAX {
            // No cookie was given: flows keep theirs, and one that is added has none.
            fm.new_cookie = 0;
            fm.modify_cookie = false;
        }
    }
    match check(ofproto, conn, fm, true) {
        Err(OfpErr::OFPBAC_BAD_OUT_GROUP | OfpErr::OFPMMFC_INVALID_METER)
            if fm.command != FlowModCommand::Add
                && !may_add(fm)
                && !finds(&Criteria::of_flow_mod(fm)) =>
        {
            check(ofproto, conn, fm, false)
        }
        checked => checked,
    }
}

/// Checks a flow mod as far as that does not depend on what the bridge has at the moment.
pub(super) fn check_alone(ofproto: &Ofproto, conn: &OfConn, fm: &mut FlowMod) -> Done {
    check(ofproto, conn, fm, false)
}

/// Whether a match is on what only the switch itself may match on: how packets come back from the datapath.
fn has_hidden_fields(m: &Match) -> bool {
    let masks = &m.wc.masks;
    masks.dp_hash != 0 || masks.recirc_id != 0 && m.flow.recirc_id != 0
}

fn check(ofproto: &Ofproto, conn: &OfConn, fm: &mut FlowMod, references: bool) -> Done {
    let version = conn.version();
    if version > Version::V10 && fm.command == FlowModCommand::Add && fm.table_id == TABLE_ALL {
        return Err(OfpErr::OFPFMFC_BAD_TABLE_ID);
    }
    if fm.command.is_delete() {
        return Ok(());
    }
    if fm.table_id == TBL_INTERNAL {
        return Err(OfpErr::OFPBRC_EPERM);
    }
    if has_hidden_fields(&fm.match_) {
        vlog::warn_rl!(
            RL,
            vlog::modules::OFPROTO,
            "{}: (add_flow) only internal flows can set non-default values to hidden fields",
            ofproto.name
        );
        return Err(OfpErr::OFPBRC_EPERM);
    }
    if fm.command != FlowModCommand::Add && version > Version::V10 {
        fm.modify_cookie = false;
    }
    let table_id = match fm.table_id {
        TABLE_ALL => 0,
        id => id,
    };
    let check = Check {
        ofproto,
        version,
        table_id,
        references,
    };
    // No flow has a match that is refused, so that a modification that may add one would.
    if fm.command == FlowModCommand::Add || may_add(fm) {
        check.match_(&fm.match_)?;
    }
    check.actions(&mut fm.actions, &fm.match_)
}

fn check_table(table_id: u8) -> Done {
    if table_id != TABLE_ALL && usize::from(table_id) >= N_TABLES {
        return Err(OfpErr::OFPBRC_BAD_TABLE_ID);
    }
    Ok(())
}

impl Request<'_> {
    pub(super) fn requester(&self) -> Requester {
        Requester(Some((self.conn.id, self.xid)))
    }

    pub(super) fn flow_mod(&mut self, mut fm: FlowMod) -> Handled {
        self.conn.flow_mods.count(fm.command, self.now);
        let finds = |criteria: &Criteria| !self.ofproto.tables.collect_rules(criteria).is_empty();
        prepare(self.ofproto, self.conn, &mut fm, finds)?;
        let buffered = fm.buffer_id != NO_BUFFER;
        self.ofproto
            .tables
            .flow_mod(fm, self.requester(), to_ms(self.now))?;
        // There are no buffers, so that none can be known.
        if buffered {
            Err(OfpErr::OFPBRC_BUFFER_UNKNOWN)
        } else {
            Ok(Reply::None)
        }
    }

    pub(super) fn flow_stats(&mut self, request: FlowStatsRequest, nxm: bool) -> Handled {
        check_table(request.table_id)?;
        let rules = self
            .ofproto
            .tables
            .collect_rules(&Criteria::of_request(&request));
        if request.aggregate {
            let mut stats = AggregateStats {
                flow_count: rules.len() as u32,
                ..Default::default()
            };
            for rule in rules {
                let s = rule.stats();
                stats.packet_count += s.n_packets;
                stats.byte_count += s.n_bytes;
            }
            return Ok(Reply::Message(Message::AggregateReply { stats, nxm }));
        }
        let now_ms = to_ms(self.now);
        let version = self.conn.version();
        let fits = move |rule: &Arc<Rule>| {
            size_bound(rule) <= PART_SIZE || fits_a_message(rule, version, nxm)
        };
        let flows = rules.into_iter().filter(fits);
        let flows = flows.map(move |rule| describe(&rule, now_ms));
        let more = false;
        Ok(self.list(flows, move |flows| Message::FlowStatsReply {
            flows,
            nxm,
            more,
        }))
    }
}

/// Bytes that the rule surely does not exceed in a message.
fn size_bound(rule: &Rule) -> usize {
    256 + rule.match_.size_bound() + actions_bound(&rule.actions.actions)
}

/// Whether a message has room for the whole rule.
fn fits_a_message(rule: &Arc<Rule>, version: Version, nxm: bool) -> bool {
    let body = Message::FlowStatsReply {
        flows: vec![describe(rule, 0)],
        nxm,
        more: false,
    };
    let xid = 0;
    let msg = Msg { version, xid, body };
    let fits = crate::codec::encode(&msg, &NO_TUN_TABLE).len() <= MAX_MSG;
    if !fits {
        vlog::warn_rl!(
            RL,
            vlog::modules::OFP_FLOW,
            "Flow exceeded the maximum flow statistics reply size and was excluded from the response set"
        );
    }
    fits
}

fn actions_bound(actions: &[Action]) -> usize {
    actions
        .iter()
        .map(|action| match action {
            Action::Learn(learn) => 64 + learn.specs.len() * 160,
            Action::Bundle(bundle) => 64 + bundle.members.len() * 2,
            Action::Note(bytes) => 32 + bytes.len(),
            Action::Controller(c) => 96 + c.userdata.len(),
            Action::DecTtl { ids, .. } => 32 + ids.len() * 2,
            Action::WriteActions(nested) | Action::Clone(nested) => 32 + actions_bound(nested),
            Action::Ct(ct) => 64 + actions_bound(&ct.actions),
            Action::Encap(_) => 512,
            Action::SetField(_) => 288,
            _ => 96,
        })
        .sum()
}

fn age(ms: i64) -> u16 {
    (ms.max(0) / 1000).min(i64::from(u16::MAX)) as u16
}

/// What is told of a rule.
pub(crate) fn describe(rule: &Arc<Rule>, now_ms: i64) -> FlowStats {
    let stats = rule.stats();
    let (duration_sec, duration_nsec) = sec_nsec(now_ms - rule.created_ms);
    FlowStats {
        match_: rule.match_.expand(),
        cookie: rule.cookie,
        table_id: rule.table_id,
        priority: rule.priority as u16,
        idle_timeout: rule.idle_timeout(),
        hard_timeout: rule.hard_timeout(),
        duration_sec,
        duration_nsec,
        idle_age: Some(age(now_ms - stats.used_ms)),
        hard_age: Some(age(now_ms - rule.modified_ms())),
        packet_count: stats.n_packets,
        byte_count: stats.n_bytes,
        flags: rule.flags,
        importance: rule.importance,
        actions: rule.actions.actions.clone(),
    }
}

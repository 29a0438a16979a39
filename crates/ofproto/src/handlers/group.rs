//! Groups: changes, with the checks that keep the group table sound, statistics and descriptions.

use ferrovs_datapath::action::HashAlg;
use ferrovs_openflow::OfpErr;
use ferrovs_openflow::action::Action;
use ferrovs_openflow::flow::{GROUP_ALL, GROUP_ANY, GROUP_MAX};
use ferrovs_openflow::group::{
    BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, BUCKET_MAX, Bucket, BucketStats, GroupCommand,
    GroupDesc, GroupFeatures, GroupMod, GroupProps, GroupStats, GroupType,
};
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::action_numbers_of;
use ferrovs_openflow::version::Version;
use ferrovs_runtime::vlog::{self, modules::OFPROTO_DPIF};

use super::check::Check;
use super::{Done, Handled, Request};
use crate::connmgr::{Notice, Reply};
use crate::groups::{Group, Selection};
use crate::ofproto::Ofproto;
use crate::tables::Change;
use crate::time::{sec_nsec, to_ms};

/// Checks what a group of this type may look like. Only a whole group is held to that: buckets may be inserted and
/// removed at will.
fn check_shape(kind: GroupType, buckets: &[Bucket]) -> Done {
    if kind == GroupType::Indirect && buckets.len() != 1 {
        return Err(OfpErr::OFPGMFC_INVALID_GROUP);
    }
    for (i, bucket) in buckets.iter().enumerate() {
        if kind != GroupType::Select && bucket.weight != 0 && kind != GroupType::All {
            return Err(OfpErr::OFPGMFC_INVALID_GROUP);
        }
        if kind == GroupType::FastFailover && !bucket.has_watch() {
            return Err(OfpErr::OFPGMFC_INVALID_GROUP);
        }
        if bucket.bucket_id <= BUCKET_MAX
            && buckets[..i].iter().any(|b| b.bucket_id == bucket.bucket_id)
        {
            return Err(OfpErr::OFPGMFC_BUCKET_EXISTS);
        }
    }
    Ok(())
}

fn check_actions(ofproto: &Ofproto, buckets: &[Bucket], version: Version) -> Done {
    for bucket in buckets {
        // A bucket may name any group, even its own: translation ends such loops.
        let groups = |a: &Action| matches!(a, Action::Group(_));
        let checked: Vec<Action> = bucket
            .actions
            .iter()
            .filter(|a| !groups(a))
            .cloned()
            .collect();
        Check {
            ofproto,
            version,
            table_id: 0,
            references: true,
        }
        .buckets(&checked)?;
    }
    Ok(())
}

/// Numbers the buckets that came without a number (before 1.5).
fn number(buckets: &mut [Bucket], taken: &[Bucket]) {
    let mut next = 0;
    for i in 0..buckets.len() {
        if buckets[i].bucket_id <= BUCKET_MAX {
            continue;
        }
        let used = |id: u32, all: &[Bucket]| all.iter().any(|b| b.bucket_id == id);
        while used(next, taken) || used(next, buckets) {
            next += 1;
        }
        buckets[i].bucket_id = next;
    }
}

/// Applies a group mod; flows that go with a group are removed in `change`.
pub(crate) fn apply(
    ofproto: &Ofproto,
    m: &GroupMod,
    change: &mut Change<'_>,
    version: Version,
    now_ms: i64,
) -> Done {
    if m.command == GroupCommand::Delete {
        delete(ofproto, m.group_id, change);
        return Ok(());
    }
    if m.group_id > GROUP_MAX {
        return Err(OfpErr::OFPGMFC_INVALID_GROUP);
    }
    let old = ofproto.tables.groups().find(m.group_id);
    let (kind, mut buckets, props) = match (m.command, &old) {
        (GroupCommand::Add, Some(_)) => return Err(OfpErr::OFPGMFC_GROUP_EXISTS),
        (GroupCommand::Add | GroupCommand::AddOrModify, None)
        | (GroupCommand::Modify | GroupCommand::AddOrModify, Some(_)) => {
            (m.type_, m.buckets.clone(), m.props.clone())
        }
        (GroupCommand::InsertBucket, Some(old)) => {
            (old.kind, inserted(&buckets_of(old), m)?, props_of(old, m))
        }
        (GroupCommand::RemoveBucket, Some(old)) => {
            (old.kind, removed(buckets_of(old), m)?, old.props.clone())
        }
        _ => return Err(OfpErr::OFPGMFC_UNKNOWN_GROUP),
    };
    number(&mut buckets, &[]);
    if !matches!(
        m.command,
        GroupCommand::InsertBucket | GroupCommand::RemoveBucket
    ) {
        check_shape(kind, &buckets)?;
    }
    check_actions(ofproto, &buckets, version)?;
    let selection = selection(ofproto, m, kind, &buckets, &props, old.is_some());
    let mut group = Group::new(m.group_id, kind, buckets, props, now_ms, change.version());
    group.selection = selection;
    if let Some(old) = &old {
        group.created_ms = old.created_ms;
        group.counters = old.counters.clone();
    }
    change.set_group(group);
    Ok(())
}

/// How the group is to choose. The log tells of the message and, where it changes a group, of what comes of it.
fn selection(
    ofproto: &Ofproto,
    m: &GroupMod,
    kind: GroupType,
    buckets: &[Bucket],
    props: &GroupProps,
    modifies: bool,
) -> Selection {
    if kind != GroupType::Select {
        return Selection::default();
    }
    let symmetric = ofproto.backer.features().max_hash_alg >= HashAlg::SymL4 as u32;
    vlog::dbg!(OFPROTO_DPIF, "Constructing select group {}", m.group_id);
    let made = Selection::new(&m.buckets, &m.props, symmetric);
    if !modifies {
        return made;
    }
    vlog::dbg!(OFPROTO_DPIF, "Modifying select group {}", m.group_id);
    Selection::new(buckets, props, symmetric)
}

fn buckets_of(group: &Group) -> Vec<Bucket> {
    group.buckets.iter().map(|b| b.bucket.clone()).collect()
}

fn props_of(old: &Group, m: &GroupMod) -> GroupProps {
    if m.props == GroupProps::default() {
        old.props.clone()
    } else {
        m.props.clone()
    }
}

fn inserted(old: &[Bucket], m: &GroupMod) -> Result<Vec<Bucket>, OfpErr> {
    let at = match m.command_bucket_id {
        BUCKET_FIRST => 0,
        BUCKET_LAST => old.len(),
        id if id <= BUCKET_MAX => {
            let pos = old.iter().position(|b| b.bucket_id == id);
            pos.ok_or(OfpErr::OFPGMFC_UNKNOWN_BUCKET)? + 1
        }
        _ => return Err(OfpErr::OFPGMFC_UNKNOWN_BUCKET),
    };
    let mut new = m.buckets.clone();
    if new
        .iter()
        .any(|b| b.bucket_id <= BUCKET_MAX && old.iter().any(|o| o.bucket_id == b.bucket_id))
    {
        return Err(OfpErr::OFPGMFC_BUCKET_EXISTS);
    }
    number(&mut new, old);
    let mut all = old.to_vec();
    all.splice(at..at, new);
    Ok(all)
}

fn removed(mut old: Vec<Bucket>, m: &GroupMod) -> Result<Vec<Bucket>, OfpErr> {
    match m.command_bucket_id {
        BUCKET_ALL => old.clear(),
        BUCKET_FIRST => {
            if !old.is_empty() {
                old.remove(0);
            }
        }
        BUCKET_LAST => {
            old.pop();
        }
        id => {
            let pos = old.iter().position(|b| b.bucket_id == id);
            old.remove(pos.ok_or(OfpErr::OFPGMFC_UNKNOWN_BUCKET)?);
        }
    }
    Ok(old)
}

/// Removes a group (or all) with the flows that use it. One that is not there is no error.
fn delete(ofproto: &Ofproto, id: u32, change: &mut Change<'_>) {
    let groups = ofproto.tables.groups();
    let doomed = match id {
        GROUP_ALL | GROUP_ANY => groups.all(),
        id => Vec::from_iter(groups.find(id)),
    };
    for group in doomed {
        change.remove_group(group.id);
    }
}

impl Request<'_> {
    pub(super) fn group_mod(&mut self, m: GroupMod) -> Handled {
        let now_ms = to_ms(self.now);
        let tables = self.ofproto.tables.clone();
        let mut change = tables.change(self.requester(), now_ms);
        apply(self.ofproto, &m, &mut change, self.conn.version(), now_ms)?;
        change.commit();
        let request = Message::GroupMod(m);
        self.notice = Some(Notice::Request {
            from: self.conn.id,
            request,
        });
        Ok(Reply::None)
    }

    fn groups(&self, id: u32) -> Vec<std::sync::Arc<Group>> {
        match id {
            GROUP_ALL | GROUP_ANY => self.ofproto.tables.groups().all(),
            id => self.ofproto.tables.groups().find(id).into_iter().collect(),
        }
    }

    pub(super) fn group_stats(&mut self, id: u32) -> Handled {
        let now_ms = to_ms(self.now);
        let tables = self.ofproto.tables.clone();
        let stats = self.groups(id).into_iter().map(|g| {
            let (packet_count, byte_count) = g.counters.read();
            let (duration_sec, duration_nsec) = sec_nsec(now_ms - g.created_ms);
            let buckets = g.buckets.iter().map(|b| {
                let (packet_count, byte_count) = b.counters.read();
                BucketStats {
                    packet_count,
                    byte_count,
                }
            });
            GroupStats {
                group_id: g.id,
                ref_count: tables.n_rules_of_group(g.id) as u32,
                packet_count,
                byte_count,
                duration_sec,
                duration_nsec,
                buckets: buckets.collect(),
            }
        });
        let stats: Vec<_> = stats.collect();
        let make = |groups| Message::GroupStatsReply {
            groups,
            more: false,
        };
        Ok(self.list(stats, make))
    }

    pub(super) fn group_desc(&mut self, id: u32) -> Handled {
        let descs = self.groups(id).into_iter().map(|g| GroupDesc {
            type_: g.kind,
            group_id: g.id,
            buckets: buckets_of(&g),
            props: g.props.clone(),
        });
        let descs: Vec<_> = descs.collect();
        let make = |groups| Message::GroupDescReply {
            groups,
            more: false,
        };
        Ok(self.list(descs, make))
    }

    pub(super) fn group_features(&mut self) -> Handled {
        let actions = action_numbers_of(self.conn.version());
        Ok(Reply::Message(Message::GroupFeaturesReply(GroupFeatures {
            types: 0xf,
            capabilities: 0x7,
            max_groups: [GROUP_MAX; 4],
            actions: [actions; 4],
        })))
    }
}

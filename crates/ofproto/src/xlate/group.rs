//! Groups: which buckets a packet goes to.

use std::sync::Arc;

use ferrovs_datapath::action::HashAlg;
use ferrovs_openflow::action::Action;
use ferrovs_openflow::flow::GROUP_ANY;
use ferrovs_openflow::group::GroupType;
use ferrovs_packet::hash::{HashFields, known};
use ferrovs_packet::types::OfPort;

use super::actions::ordered_set;
use super::ctx::Ctx;
use super::trace::NodeKind;
use super::xcache::Credit;
use crate::groups::{Group, Selection};

/// Groups that watch groups that watch groups, at most.
const MAX_LIVENESS_RECURSION: usize = 128;

/// Sends the packet through a group. `last`: nothing follows that could see what its buckets changed.
pub fn run(ctx: &mut Ctx<'_>, group: &Arc<Group>, last: bool) {
    match group.kind {
        GroupType::All | GroupType::Indirect => {
            for i in 0..group.buckets.len() {
                run_bucket(ctx, group, i, last && i + 1 == group.buckets.len());
            }
            ctx.credit(Credit::Group {
                group: group.clone(),
                bucket: None,
            });
        }
        GroupType::FastFailover => {
            let live = first_live(ctx, group, 0);
            run_one(ctx, group, live, last);
        }
        GroupType::Select if ctx.was_mpls => {
            // The choice depends on the packet's real header.
            ctx.trigger_freeze();
            ctx.freeze_rest(&[Action::Group(group.id)]);
        }
        GroupType::Select => match &group.selection {
            Selection::DpHash(dp_hash) if ctx.flow.dp_hash == 0 => {
                ctx.report("selection method in use: dp_hash, recirculating");
                let alg = match dp_hash.alg as u32 <= ctx.snapshot.features.max_hash_alg {
                    true => dp_hash.alg,
                    // Every datapath has it.
                    false => HashAlg::L4,
                };
                ctx.recirculate_with_hash(alg, dp_hash.basis);
                ctx.freeze_rest(&[Action::Group(group.id)]);
            }
            Selection::DpHash(dp_hash) => {
                ctx.wc.masks.dp_hash |= dp_hash.mask();
                let mut choices = dp_hash.choices(ctx.flow.dp_hash);
                let live = choices.find(|&i| is_live(ctx, group, i, 0));
                run_one(ctx, group, live, last);
            }
            Selection::Default | Selection::Fields => {
                let best = select(ctx, group);
                run_one(ctx, group, best, last);
            }
        },
    }
}

fn run_one(ctx: &mut Ctx<'_>, group: &Arc<Group>, bucket: Option<usize>, last: bool) {
    let Some(bucket) = bucket else {
        ctx.report("no live bucket");
        return;
    };
    let id = group.buckets[bucket].bucket.bucket_id;
    ctx.report(&format!("using bucket {id}"));
    run_bucket(ctx, group, bucket, last);
    ctx.credit(Credit::Group {
        group: group.clone(),
        bucket: Some(bucket),
    });
}

/// A bucket's actions are an action set, run on a copy of the packet (OpenFlow 1.5.1, section 5.10).
fn run_bucket(ctx: &mut Ctx<'_>, group: &Group, index: usize, last: bool) {
    let bucket = &group.buckets[index];
    if let Some(trace) = &mut ctx.trace {
        trace.open(
            NodeKind::Bucket,
            &format!("bucket {}", bucket.bucket.bucket_id),
        );
    }
    let (flow, was_mpls) = (ctx.flow, ctx.was_mpls);
    let in_bucket = std::mem::replace(&mut ctx.in_bucket, true);
    ctx.depth += 1;
    ctx.do_actions(&ordered_set(&bucket.actions), last);
    ctx.depth -= 1;
    ctx.in_bucket = in_bucket;
    if ctx.freeze.on {
        ctx.finish_freezing();
    }
    (ctx.flow, ctx.was_mpls) = (flow, was_mpls);
    // What ends a bucket ends nothing else.
    ctx.exit = false;
    if let Some(trace) = &mut ctx.trace {
        trace.close();
    }
}

/// The first bucket of a group that is live; tells of those that are not.
fn first_live(ctx: &mut Ctx<'_>, group: &Group, depth: usize) -> Option<usize> {
    (0..group.buckets.len()).find(|&i| is_live(ctx, group, i, depth))
}

fn is_live(ctx: &mut Ctx<'_>, group: &Group, index: usize, depth: usize) -> bool {
    if depth >= MAX_LIVENESS_RECURSION {
        return false;
    }
    let bucket = &group.buckets[index].bucket;
    let (port, watched) = (bucket.watch_port, bucket.watch_group);
    // Nothing is to be sent to a bucket without weight.
    let weightless = group.kind == GroupType::Select && bucket.weight == 0;
    if !bucket.has_watch() && !weightless {
        return true;
    }
    let port_is_live = || ctx.bridge.ports.get(&port).is_some_and(|p| p.may_enable);
    if !weightless && port_is_live() {
        return true;
    }
    if !weightless
        && watched != GROUP_ANY
        && let Some(watched) = ctx.bridge.tables.groups().find_in(watched, ctx.version)
        && first_live(ctx, &watched, depth + 1).is_some()
    {
        return true;
    }
    if ctx.trace.is_some() {
        let culprit = match (port, watched) {
            (OfPort::NONE, GROUP_ANY) => String::new(),
            (OfPort::NONE, group) => format!("port {group}"),
            (port, _) => format!("port {}", port.0),
        };
        ctx.report(&format!(
            "bucket {}: not live due to {culprit}",
            bucket.bucket_id
        ));
    }
    false
}

/// Chooses a live bucket by the flow's hash, in proportion to the weights (rendezvous hashing, so that a bucket
/// that goes moves only its own flows).
fn select(ctx: &mut Ctx<'_>, group: &Group) -> Option<usize> {
    let basis = if group.selection == Selection::Fields {
        hash_fields(ctx, group)
    } else {
        HashFields::SymmetricL4.mask(&ctx.flow, &mut ctx.wc);
        HashFields::SymmetricL4.hash(&ctx.flow, 0)
    };
    let mut best = None;
    for (i, bucket) in group.buckets.iter().enumerate() {
        if !is_live(ctx, group, i, 0) {
            continue;
        }
        let bucket = &bucket.bucket;
        let score = (known::int(bucket.bucket_id, basis) & 0xffff) * u32::from(bucket.weight);
        if ctx.trace.is_some() {
            ctx.report(&format!("bucket {}: score {score}", bucket.bucket_id));
        }
        if best.is_none_or(|(_, most)| score >= most) {
            best = Some((i, score));
        }
    }
    best.map(|(i, _)| i)
}

/// Hash of the fields that the group names, as far as the packet has them.
fn hash_fields(ctx: &mut Ctx<'_>, group: &Group) -> u32 {
    let mut fields = group.props.fields.clone();
    fields.sort_by_key(|(id, _)| *id);
    let mut basis = known::u64(group.props.selection_method_param);
    for (id, mask) in fields {
        let field = id.field();
        field.prereq.mask(&mut ctx.wc);
        if !field.prereqs_ok(&ctx.flow) {
            continue;
        }
        let value = ctx.field_value(id).and(&mask);
        basis = known::bytes(value.low_bytes(field.n_bytes.into()), basis);
        ctx.mask_field_bits(id, &mask);
    }
    basis
}

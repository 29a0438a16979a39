//! Groups: which buckets a packet goes to.

use std::sync::Arc;

use ferrovs_openflow::flow::GROUP_ANY;
use ferrovs_openflow::group::GroupType;
use ferrovs_packet::hash::HashFields;

use super::ctx::Ctx;
use super::trace::NodeKind;
use super::xcache::Credit;
use crate::groups::{Group, GroupBucket};

/// Groups that watch groups that watch groups, at most.
const MAX_LIVENESS_RECURSION: usize = 128;

/// Sends the packet through a group.
pub fn run(ctx: &mut Ctx<'_>, group: &Arc<Group>) {
    match group.kind {
        GroupType::All => {
            ctx.credit(Credit::Group {
                group: group.clone(),
                bucket: None,
            });
            for i in 0..group.buckets.len() {
                run_bucket(ctx, group, i);
            }
        }
        GroupType::Indirect => run_one(ctx, group, (!group.buckets.is_empty()).then_some(0)),
        GroupType::FastFailover => {
            let live = group.buckets.iter().position(|b| is_live(ctx, b, 0));
            run_one(ctx, group, live);
        }
        GroupType::Select => {
            let best = select(ctx, group);
            run_one(ctx, group, best);
        }
    }
}

fn run_one(ctx: &mut Ctx<'_>, group: &Arc<Group>, bucket: Option<usize>) {
    let Some(bucket) = bucket else {
        ctx.report("no live bucket");
        return;
    };
    ctx.credit(Credit::Group {
        group: group.clone(),
        bucket: Some(bucket),
    });
    if group.kind != GroupType::Indirect {
        ctx.report(&format!(
            "using bucket {}",
            group.buckets[bucket].bucket.bucket_id
        ));
    }
    run_bucket(ctx, group, bucket);
}

/// A bucket's actions are an action set, run on a copy of the packet (OpenFlow 1.5.1, section 5.10).
fn run_bucket(ctx: &mut Ctx<'_>, group: &Group, index: usize) {
    let bucket = &group.buckets[index];
    if let Some(trace) = &mut ctx.trace {
        trace.open(
            NodeKind::Bucket,
            &format!("bucket {}", bucket.bucket.bucket_id),
        );
    }
    let set = std::mem::replace(&mut ctx.action_set, bucket.actions.to_vec());
    let (flow, table, in_set) = (ctx.flow, ctx.table_id, ctx.in_action_set);
    ctx.depth += 1;
    ctx.run_action_set();
    ctx.depth -= 1;
    (ctx.flow, ctx.table_id, ctx.in_action_set) = (flow, table, in_set);
    ctx.action_set = set;
    ctx.exit = false;
    if let Some(trace) = &mut ctx.trace {
        trace.close();
    }
}

fn is_live(ctx: &Ctx<'_>, bucket: &GroupBucket, depth: usize) -> bool {
    if depth >= MAX_LIVENESS_RECURSION {
        return false;
    }
    let bucket = &bucket.bucket;
    let port = ctx
        .bridge
        .ports
        .get(&bucket.watch_port)
        .is_some_and(|p| p.may_enable);
    let group = || {
        let watched =
            (bucket.watch_group != GROUP_ANY).then(|| ctx.bridge.groups.find(bucket.watch_group));
        watched
            .flatten()
            .is_some_and(|g| g.buckets.iter().any(|b| is_live(ctx, b, depth + 1)))
    };
    !bucket.has_watch() || port || group()
}

/// Chooses a live bucket by the flow's hash, in proportion to the weights (rendezvous hashing, so that a bucket
/// that goes moves only its own flows).
fn select(ctx: &mut Ctx<'_>, group: &Group) -> Option<usize> {
    HashFields::SymmetricL4.mask(&ctx.flow, &mut ctx.wc);
    let basis = HashFields::SymmetricL4.hash(&ctx.flow, 0);
    let live = group
        .buckets
        .iter()
        .enumerate()
        .filter(|(_, b)| is_live(ctx, b, 0));
    let score = |b: &GroupBucket| {
        let mut x = u64::from(basis) << 32 | u64::from(b.bucket.bucket_id);
        x ^= x >> 33;
        x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        (x & 0xffff_ffff) * u64::from(b.bucket.weight)
    };
    live.max_by_key(|(_, b)| score(b)).map(|(i, _)| i)
}

//! Groups: which buckets a packet goes to.

use std::sync::Arc;

use ferrovs_openflow::flow::GROUP_ANY;
use ferrovs_openflow::group::GroupType;
use ferrovs_packet::hash::HashFields;

use super::actions::ordered_set;
use super::ctx::Ctx;
use super::trace::NodeKind;
use super::xcache::Credit;
use crate::groups::{Group, GroupBucket};

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
            let live = group.buckets.iter().position(|b| is_live(ctx, b, 0));
            run_one(ctx, group, live, last);
        }
        GroupType::Select => {
            if ctx.was_mpls {
                // The choice depends on the packet's real header.
                ctx.trigger_freeze();
            }
            let best = select(ctx, group);
            run_one(ctx, group, best, last);
        }
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

//! What others do with the flows of threads, and with packets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferrovs_datapath::dpif::{
    Errno, Execute, FlowEntry, FlowPut, FlowStats, FlowView, Op, PmdId, Shard, Ufid,
};
use ferrovs_runtime::coverage;

use crate::flow::{DpFlow, Shown};
use crate::shared::Shared;
use crate::thread::{Message, Thread};

/// Flows of a thread that are dumped in order.
const FEW_FLOWS: usize = 64;

/// Does one operation after the other.
pub fn operate(threads: &[Arc<Thread>], shared: &Shared, ops: &mut [Op<'_>]) {
    for op in ops {
        match op {
            Op::Put { put, result } => *result = put_all(threads, shared, put),
            Op::Del { ufid, pmd, result } => *result = delete(threads, shared, *ufid, *pmd),
            Op::Get { ufid, pmd, result } => {
                coverage::DPIF_FLOW_GET.inc();
                let found = of(threads, *pmd).find_map(|t| Some((t.id, t.flows.get(*ufid)?)));
                *result = found.ok_or(Errno::ENOENT).map(|(pmd, flow)| {
                    let view = Shown { flow: &flow, pmd };
                    Box::new(FlowEntry::of(&view))
                });
            }
            Op::Execute { execute, result } => {
                if let Some(e) = execute.take() {
                    *result = run(threads, e);
                }
            }
        }
    }
}

/// Shows the flows of one part.
pub fn dump(threads: &[Arc<Thread>], shard: Shard, visit: &mut dyn FnMut(&dyn FlowView)) {
    for thread in threads {
        let pmd = thread.id;
        // A few are told in the order in which they were made, which is easier to read.
        if shard == Shard::WHOLE && thread.flows.len() <= FEW_FLOWS {
            let mut few = Vec::new();
            thread.flows.for_each(shard, |flow| few.push(flow.clone()));
            few.sort_unstable_by_key(|flow| flow.serial);
            few.iter().for_each(|flow| visit(&Shown { flow, pmd }));
        } else {
            let visit = |flow: &Arc<DpFlow>| visit(&Shown { flow, pmd });
            thread.flows.for_each(shard, visit);
        }
    }
}

/// Removes all flows.
pub fn flush(threads: &[Arc<Thread>], shared: &Shared) {
    coverage::DPIF_FLOW_FLUSH.inc();
    for thread in threads {
        thread.flows.for_each(Shard::WHOLE, |flow| {
            take(thread, shared, flow.ufid);
        });
    }
}

/// The threads that are meant.
fn of(threads: &[Arc<Thread>], pmd: Option<PmdId>) -> impl Iterator<Item = &Arc<Thread>> {
    threads
        .iter()
        .filter(move |t| pmd.is_none_or(|p| p == t.id))
}

fn put_all(threads: &[Arc<Thread>], shared: &Shared, put: &FlowPut<'_>) -> Result<(), Errno> {
    coverage::DPIF_FLOW_PUT.inc();
    let mut result = Err(Errno::EINVAL);
    for thread in of(threads, put.pmd) {
        let done = put_one(thread, shared, put);
        // One thread that failed is the answer for all.
        if done.is_err() || result == Err(Errno::EINVAL) {
            result = done;
        }
    }
    if result.is_err() {
        coverage::DPIF_FLOW_PUT_ERROR.inc();
    }
    result
}

fn put_one(thread: &Thread, shared: &Shared, put: &FlowPut<'_>) -> Result<(), Errno> {
    if let Some(flow) = thread.flows.get(put.ufid) {
        if !put.put.modifies() {
            return Err(Errno::EEXIST);
        }
        let old = flow.replace_actions(put.actions.clone());
        crate::log::flow_changed(&flow, &old, &put.actions);
        shared.offloads.changed(&flow, &put.actions);
        if put.zero_stats {
            flow.zero_stats();
        }
        return Ok(());
    }
    let match_ = put.put.create().ok_or(Errno::ENOENT)?.clone();
    let flow = DpFlow::new(put.ufid, match_, put.actions.clone(), shared.epoch);
    let flow = Arc::new(flow);
    if !thread.flows.insert(&flow) {
        return Err(Errno::EEXIST);
    }
    crate::log::flow_added(&flow, &put.actions);
    shared.offloads.put(&flow, &put.actions);
    thread.post(Message::Insert(flow));
    Ok(())
}

/// Takes a flow away from its thread.
fn take(thread: &Thread, shared: &Shared, ufid: Ufid) -> Option<FlowStats> {
    let flow = thread.flows.remove(ufid)?;
    flow.dead.store(true, Ordering::SeqCst);
    shared.offloads.del(&flow);
    let stats = flow.stats();
    thread.post(Message::Remove(flow));
    Some(stats)
}

fn delete(
    threads: &[Arc<Thread>],
    shared: &Shared,
    ufid: Ufid,
    pmd: Option<PmdId>,
) -> Result<FlowStats, Errno> {
    coverage::DPIF_FLOW_DEL.inc();
    let taken = of(threads, pmd).filter_map(|thread| take(thread, shared, ufid));
    let sum = taken.reduce(|sum, s| FlowStats {
        n_packets: sum.n_packets + s.n_packets,
        n_bytes: sum.n_bytes + s.n_bytes,
        used: sum.used.max(s.used),
        tcp_flags: sum.tcp_flags | s.tcp_flags,
    });
    sum.ok_or(Errno::ENOENT)
}

fn run(threads: &[Arc<Thread>], execute: Execute) -> Result<(), Errno> {
    coverage::DPIF_EXECUTE.inc();
    let mut thread = of(threads, Some(PmdId::NON_PMD));
    let thread = thread.next().ok_or(Errno::ENODEV)?;
    thread.post(Message::Execute(Box::new(execute)));
    Ok(())
}

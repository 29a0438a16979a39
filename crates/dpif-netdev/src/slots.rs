//! The flows of a thread by number.
//!
//! Caches and tables name flows by a number, so that a lookup counts no reference. A number may be given to another
//! flow when its flow is gone: who has kept it that long also keeps the generation, see [`FlowRef`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::flow::DpFlow;

/// A flow by number and generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRef {
    pub slot: u32,
    generation: u32,
}

#[derive(Debug, Default)]
struct Slot {
    flow: Option<Arc<DpFlow>>,
    /// The flow's mask.
    plan: u32,
    generation: u32,
    /// The batch that last had packets for the flow, and their group.
    batch: u32,
    group: u8,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    batch: u32,
}

impl Slots {
    pub fn insert(&mut self, flow: &Arc<DpFlow>, plan: u32) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[at as usize];
        (slot.flow, slot.plan) = (Some(flow.clone()), plan);
        slot.generation = slot.generation.wrapping_add(1);
        flow.slot.store(at, Relaxed);
        at
    }

    /// Forgets a flow; gives the number that it had.
    pub fn remove(&mut self, flow: &Arc<DpFlow>) -> Option<u32> {
        let at = flow.slot.load(Relaxed);
        let slot = self.slots.get_mut(at as usize)?;
        slot.flow.take_if(|f| Arc::ptr_eq(f, flow))?;
        self.free.push(at);
        Some(at)
    }

    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Arc<DpFlow>> {
        self.slots.get(slot as usize)?.flow.as_ref()
    }

    /// A flow that lives, and the number of its mask.
    #[inline]
    pub fn alive(&self, slot: u32) -> Option<(&DpFlow, u32)> {
        let slot = self.slots.get(slot as usize)?;
        let flow = slot.flow.as_deref().filter(|f| !f.is_dead())?;
        Some((flow, slot.plan))
    }

    /// The flow's name beyond its life.
    pub fn name(&self, slot: u32) -> FlowRef {
        FlowRef {
            slot,
            generation: self.slots.get(slot as usize).map_or(0, |s| s.generation),
        }
    }

    /// Whether the flow is still there.
    #[inline]
    pub fn is(&self, flow: FlowRef) -> bool {
        let slot = self.slots.get(flow.slot as usize);
        slot.is_some_and(|s| s.generation == flow.generation && s.flow.is_some())
    }

    /// The flow will be looked at.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        if let Some(flow) = self.get(slot) {
            flow.prefetch();
        }
    }

    /// A lookup of packets begins, all of whose groups are new.
    pub fn begin_batch(&mut self) {
        self.batch = self.batch.wrapping_add(1);
        if self.batch == 0 {
            // After four thousand million of them the first are forgotten.
            self.slots.iter_mut().for_each(|s| s.batch = 0);
            self.batch = 1;
        }
    }

    /// The group of the flow in this batch: `next` if it has none yet.
    #[inline]
    pub fn group(&mut self, slot: u32, next: u8) -> u8 {
        let Some(s) = self.slots.get_mut(slot as usize) else {
            return next;
        };
        if s.batch != self.batch {
            (s.batch, s.group) = (self.batch, next);
        }
        s.group
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_datapath::dpif::Ufid;
    use ferrovs_runtime::clock;

    use super::*;

    #[test]
    fn a_name_is_not_that_of_the_next_flow_with_the_number() {
        let flow = |n| {
            let new = DpFlow::new(Ufid(n), Arc::default(), Arc::default(), clock::now());
            Arc::new(new)
        };
        let (a, b) = (flow(1), flow(2));
        let mut slots = Slots::default();
        let at = slots.insert(&a, 7);
        let name = slots.name(at);
        assert!(slots.is(name) && slots.alive(at).is_some_and(|(_, plan)| plan == 7));
        a.dead.store(true, Relaxed);
        assert!(slots.is(name) && slots.alive(at).is_none());
        assert_eq!((slots.remove(&a), slots.remove(&a)), (Some(at), None));
        assert!(!slots.is(name));
        assert_eq!(slots.insert(&b, 8), at);
        assert!(!slots.is(name) && slots.is(slots.name(at)));
        assert_eq!(slots.remove(&a), None);
        // Nothing holds what has been removed.
        assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (1, 2));
    }

    #[test]
    fn each_batch_has_its_groups() {
        let mut slots = Slots::default();
        for n in 0..3 {
            let new = DpFlow::new(Ufid(n), Arc::default(), Arc::default(), clock::now());
            slots.insert(&Arc::new(new), 0);
        }
        slots.begin_batch();
        assert_eq!(
            (slots.group(2, 0), slots.group(0, 1), slots.group(2, 2)),
            (0, 1, 0)
        );
        slots.begin_batch();
        assert_eq!((slots.group(0, 0), slots.group(2, 1)), (0, 1));
    }
}

//! The flows of one thread by identifier, in shards, so that several readers can go through them at once.

use std::sync::Arc;

use ferrovs_datapath::dpif::{Shard, Ufid};
use foldhash::fast::RandomState;

use crate::flow::DpFlow;

/// In how many parts flows can be dumped.
pub const SHARDS: usize = 16;

type Flows = papaya::HashMap<Ufid, Arc<DpFlow>, RandomState>;

/// See the module's text.
#[derive(Default)]
pub struct FlowTable {
    shards: [Flows; SHARDS],
}

impl FlowTable {
    fn shard(&self, ufid: Ufid) -> &Flows {
        &self.shards[ufid.0 as usize % SHARDS]
    }

    pub fn get(&self, ufid: Ufid) -> Option<Arc<DpFlow>> {
        self.shard(ufid).pin().get(&ufid).cloned()
    }

    /// False, and nothing happens, if there is one with this identifier.
    pub fn insert(&self, flow: &Arc<DpFlow>) -> bool {
        let flows = self.shard(flow.ufid).pin();
        flows.try_insert(flow.ufid, flow.clone()).is_ok()
    }

    pub fn remove(&self, ufid: Ufid) -> Option<Arc<DpFlow>> {
        self.shard(ufid).pin().remove(&ufid).cloned()
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(papaya::HashMap::len).sum()
    }

    pub fn for_each(&self, part: Shard, mut visit: impl FnMut(&Arc<DpFlow>)) {
        for flows in self.shards.iter().skip(part.index).step_by(part.of.max(1)) {
            flows.pin().values().for_each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flow_is_in_one_part() {
        let table = FlowTable::default();
        #[allow(clippy::disallowed_methods)]
        let epoch = std::time::Instant::now();
        for n in 0..100 {
            let flow = DpFlow::new(Ufid(n), Arc::default(), Arc::default(), epoch);
            assert!(table.insert(&Arc::new(flow)));
        }
        for of in [1, 3, SHARDS] {
            let mut seen = Vec::new();
            for index in 0..of {
                table.for_each(Shard { index, of }, |flow| seen.push(flow.ufid.0));
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
        }
    }
}

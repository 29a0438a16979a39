//! What a datapath is asked to do with flows and packets, one after the other, in batches.

use std::sync::Arc;

use ferrovs_packet::buffer::Packet;
use ferrovs_packet::flow::Flow;

use super::{Dpif, DumpWant, Errno, FlowEntry, FlowStats, PackedMatch, PmdId, Shard, Ufid};
use crate::action::Action;

/// What shall become of a flow.
#[derive(Clone, Copy, Debug)]
pub enum Put<'a> {
    /// A new one; EEXIST if it is there.
    Create(&'a Arc<PackedMatch>),
    /// Other actions for one that is there, or ENOENT. Its match stays: a datapath goes by the identifier, and `told_as`
    /// is what logs call it.
    Modify { told_as: &'a Arc<PackedMatch> },
    /// Either, as the case may be.
    CreateOrModify(&'a Arc<PackedMatch>),
}

impl<'a> Put<'a> {
    /// The match, if the flow may have to be made.
    pub fn create(self) -> Option<&'a Arc<PackedMatch>> {
        match self {
            Put::Create(m) | Put::CreateOrModify(m) => Some(m),
            Put::Modify { .. } => None,
        }
    }

    /// Whether a flow that is there gets other actions.
    pub fn modifies(self) -> bool {
        !matches!(self, Put::Create(_))
    }

    pub fn told_as(self) -> &'a Arc<PackedMatch> {
        match self {
            Put::Create(m) | Put::CreateOrModify(m) | Put::Modify { told_as: m } => m,
        }
    }
}

#[derive(Clone, Debug)]
pub struct FlowPut<'a> {
    pub ufid: Ufid,
    /// The thread whose flow is meant; none means all threads that have ports.
    pub pmd: Option<PmdId>,
    pub put: Put<'a>,
    pub actions: Arc<[Action]>,
    pub zero_stats: bool,
}

/// A flow that no datapath takes, because its key is not that of a packet.
#[derive(Debug)]
pub struct RefusedPut<'a> {
    pub ufid: Ufid,
    /// The key as it was written.
    pub key: &'a str,
    pub actions: &'a [Action],
    pub create: bool,
    pub modify: bool,
    /// Whether all that is wrong is that the port is missing or not exact.
    pub no_port: bool,
}

/// A packet to run through actions as if it had arrived and hit a flow.
#[derive(Debug)]
pub struct Execute {
    pub packet: Packet,
    pub flow: Box<Flow>,
    pub actions: Arc<[Action]>,
    pub mtu: u16,
    /// Some actions may be unknown to the datapath: see [`crate::help`].
    pub needs_help: bool,
}

/// One operation, and how it ended: EAGAIN before it was tried.
#[derive(Debug)]
pub enum Op<'a> {
    Put {
        put: FlowPut<'a>,
        result: Result<(), Errno>,
    },
    /// Gives the last counters of the flow.
    Del {
        ufid: Ufid,
        pmd: Option<PmdId>,
        result: Result<FlowStats, Errno>,
    },
    Get {
        ufid: Ufid,
        pmd: Option<PmdId>,
        result: Result<Box<FlowEntry>, Errno>,
    },
    /// Returns at once; the work may be done by another thread: see [`Dpif::quiesce`]. Whoever does it takes the
    /// packet.
    Execute {
        execute: Option<Execute>,
        result: Result<(), Errno>,
    },
}

impl<'a> Op<'a> {
    pub fn put(put: FlowPut<'a>) -> Op<'a> {
        let result = Err(Errno::EAGAIN);
        Op::Put { put, result }
    }

    pub fn del(ufid: Ufid, pmd: Option<PmdId>) -> Op<'a> {
        let result = Err(Errno::EAGAIN);
        Op::Del { ufid, pmd, result }
    }

    pub fn get(ufid: Ufid, pmd: Option<PmdId>) -> Op<'a> {
        let result = Err(Errno::EAGAIN);
        Op::Get { ufid, pmd, result }
    }

    pub fn execute(execute: Execute) -> Op<'a> {
        Op::Execute {
            execute: Some(execute),
            result: Err(Errno::EAGAIN),
        }
    }
}

/// Operations that stand alone.
impl dyn Dpif + '_ {
    fn operate_one<'a>(&self, op: Op<'a>) -> Op<'a> {
        let mut ops = [op];
        self.operate(&mut ops);
        let [op] = ops;
        op
    }

    pub fn flow_put(&self, put: FlowPut<'_>) -> Result<(), Errno> {
        match self.operate_one(Op::put(put)) {
            Op::Put { result, .. } => result,
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn flow_del(&self, ufid: Ufid, pmd: Option<PmdId>) -> Result<FlowStats, Errno> {
        match self.operate_one(Op::del(ufid, pmd)) {
            Op::Del { result, .. } => result,
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn flow_get(&self, ufid: Ufid, pmd: Option<PmdId>) -> Result<FlowEntry, Errno> {
        match self.operate_one(Op::get(ufid, pmd)) {
            Op::Get { result, .. } => result.map(|entry| *entry),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn execute(&self, execute: Execute) -> Result<(), Errno> {
        match self.operate_one(Op::execute(execute)) {
            Op::Execute { result, .. } => result,
            _ => Err(Errno::EINVAL),
        }
    }

    /// Every installed flow, in whole.
    pub fn flow_dump(&self, visit: &mut dyn FnMut(FlowEntry)) {
        self.dump(Shard::WHOLE, DumpWant::ALL, &mut |flow| {
            visit(FlowEntry::of(flow));
        });
    }
}

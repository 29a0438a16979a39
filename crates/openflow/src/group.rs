//! Group messages.

use ferrovs_packet::field::{FieldId, FieldValue};
use ferrovs_packet::types::OfPort;

use crate::action::Action;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum GroupCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
    InsertBucket = 3,
    RemoveBucket = 5,
    /// Nicira's: modify, or add what is not there.
    AddOrModify = 0x8000,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GroupType {
    All = 0,
    Select = 1,
    Indirect = 2,
    FastFailover = 3,
}

impl GroupCommand {
    pub fn from_wire(n: u16) -> Option<GroupCommand> {
        use GroupCommand::*;
        [Add, Modify, Delete, InsertBucket, RemoveBucket, AddOrModify]
            .into_iter()
            .find(|c| *c as u16 == n)
    }
}

impl GroupType {
    pub const ALL: [(GroupType, &'static str); 4] = [
        (GroupType::All, "all"),
        (GroupType::Select, "select"),
        (GroupType::Indirect, "indirect"),
        (GroupType::FastFailover, "ff"),
    ];

    pub fn from_wire(n: u8) -> Option<GroupType> {
        Self::ALL.get(usize::from(n)).map(|p| p.0)
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Bucket ids with a meaning of their own in group mods; ids up to [`BUCKET_MAX`] are ordinary.
pub const BUCKET_MAX: u32 = 0xffff_ff00;
pub const BUCKET_FIRST: u32 = 0xffff_fffd;
pub const BUCKET_LAST: u32 = 0xffff_fffe;
pub const BUCKET_ALL: u32 = 0xffff_ffff;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// 0 where not given.
    pub weight: u16,
    /// [`OfPort::NONE`] for none.
    pub watch_port: OfPort,
    /// [`GROUP_ANY`](crate::flow::GROUP_ANY) for none.
    pub watch_group: u32,
    pub bucket_id: u32,
    pub actions: Vec<Action>,
}

impl Bucket {
    /// Whether the bucket watches a port or a group.
    pub fn has_watch(&self) -> bool {
        self.watch_port != OfPort::NONE || self.watch_group != crate::flow::GROUP_ANY
    }
}

/// How a select group selects (OpenFlow 1.5 extension).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupProps {
    /// `hash`, `dp_hash` or empty.
    pub selection_method: String,
    pub selection_method_param: u64,
    /// Fields to hash and the bits of them.
    pub fields: Vec<(FieldId, FieldValue)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMod {
    pub command: GroupCommand,
    pub type_: GroupType,
    pub group_id: u32,
    /// For insert and remove.
    pub command_bucket_id: u32,
    pub buckets: Vec<Bucket>,
    pub props: GroupProps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BucketStats {
    pub packet_count: u64,
    pub byte_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupStats {
    pub group_id: u32,
    pub ref_count: u32,
    pub packet_count: u64,
    pub byte_count: u64,
    /// `u32::MAX` seconds: unknown (before 1.3).
    pub duration_sec: u32,
    pub duration_nsec: u32,
    pub buckets: Vec<BucketStats>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDesc {
    pub type_: GroupType,
    pub group_id: u32,
    pub buckets: Vec<Bucket>,
    pub props: GroupProps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GroupFeatures {
    /// Bit n: type n.
    pub types: u32,
    /// 1 weight, 2 liveness, 4 chaining, 8 chaining checks.
    pub capabilities: u32,
    pub max_groups: [u32; 4],
    /// Bit n: action type n of OpenFlow 1.1 and later.
    pub actions: [u32; 4],
}

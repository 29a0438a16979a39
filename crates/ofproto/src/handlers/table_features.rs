//! What each table can match and do. All tables are alike but for the last, from which nothing can be reached.

use ferrovs_openflow::switch::{
    Instruction, TableActions, TableFeatures, TableInstructions, table_actions_of,
};
use ferrovs_openflow::version::Version;
use ferrovs_packet::field::{FieldId, Maskable};

use crate::tables::{N_VISIBLE_TABLES, Table};

/// The number of flows that a table without a limit claims to hold.
const MAX_ENTRIES: u32 = 1_000_000;
fn fields(test: impl Fn(FieldId) -> bool) -> Vec<FieldId> {
    (0..)
        .map_while(FieldId::from_index)
        .filter(|f| test(*f))
        .collect()
}

fn has_code_point(id: FieldId) -> bool {
    !id.field().oxms.is_empty()
}

fn instructions(table_id: u8, version: Version) -> TableInstructions {
    let mut bits = [
        Instruction::WriteMetadata,
        Instruction::WriteActions,
        Instruction::ApplyActions,
        Instruction::ClearActions,
    ]
    .iter()
    .fold(0, |bits, i| bits | 1 << *i as u32);
    // From 1.5 on the meter is an action.
    if version < Version::V15 {
        bits |= 1 << Instruction::Meter as u32;
    }
    let mut next = [0u64; 4];
    if table_id + 1 < N_VISIBLE_TABLES {
        bits |= 1 << Instruction::GotoTable as u32;
        for id in usize::from(table_id) + 1..usize::from(N_VISIBLE_TABLES) {
            next[id / 64] |= 1 << (id % 64);
        }
    }
    let actions = TableActions {
        actions: table_actions_of(version),
        set_fields: fields(|id| has_code_point(id) && id.field().writable),
    };
    TableInstructions {
        next,
        instructions: bits,
        write: actions.clone(),
        apply: actions,
    }
}

pub(super) fn features(table_id: u8, table: &Table, version: Version) -> TableFeatures {
    let config = table.config();
    let name = config.name.clone().unwrap_or_default();
    let nonmiss = instructions(table_id, version);
    let match_ = fields(has_code_point);
    TableFeatures {
        table_id,
        command: 0,
        name,
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        max_entries: config.max_flows.unwrap_or(MAX_ENTRIES),
        miss: table.miss(),
        supports_eviction: Some(false),
        supports_vacancy: Some(false),
        miss_instructions: nonmiss.clone(),
        nonmiss,
        mask: fields(|id| has_code_point(id) && id.field().maskable != Maskable::No),
        wildcard: match_.clone(),
        match_,
        any_properties: true,
    }
}

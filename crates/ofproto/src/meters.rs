//! The meters of one bridge, and which meter of the datapath stands for each.

use std::collections::BTreeMap;

use ferrovs_openflow::meter::MeterConfig;

/// Meters that a datapath can have, and bands of one.
pub const MAX_METERS: u32 = 262_144;
pub const MAX_BANDS: u8 = 8;

#[derive(Clone, Debug)]
pub struct Meter {
    pub config: MeterConfig,
    pub dp_id: u32,
    pub created_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Meters {
    pub by_id: BTreeMap<u32, Meter>,
}

impl Meters {
    pub fn contains(&self, id: u32) -> bool {
        self.by_id.contains_key(&id)
    }
}

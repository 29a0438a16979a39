//! Table mods, statistics and descriptions.

use std::sync::Arc;

use ferrovs_openflow::OfpErr;
use ferrovs_openflow::action::TABLE_ALL;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::switch::{
    EvictionFlags, TableDesc, TableFeatures, TableMiss, TableMod, TableStats, Vacancy,
};
use ferrovs_openflow::version::Version;

use super::table_features::features;
use super::{Handled, Request};
use crate::connmgr::Reply;
use crate::tables::{N_VISIBLE_TABLES, Table, TableConfig};

fn desc(table_id: u8, table: &Table) -> TableDesc {
    let config = table.config();
    TableDesc {
        table_id,
        eviction: Some(config.evict),
        eviction_flags: Some(EvictionFlags::all()),
        vacancy: Some(config.vacancy.map(|(down, up)| Vacancy {
            down,
            up,
            vacancy: vacancy(table, &config),
        })),
    }
}

/// The share of the table that is free, in percent.
fn vacancy(table: &Table, config: &TableConfig) -> u8 {
    match config.max_flows {
        Some(max) if max > 0 => {
            let free = u64::from(max.saturating_sub(table.n_rules()));
            (free * 100 / u64::from(max)) as u8
        }
        _ => 100,
    }
}

impl Request<'_> {
    pub(super) fn table_mod(&mut self, m: TableMod) -> Handled {
        if m.table_id != TABLE_ALL && m.table_id >= N_VISIBLE_TABLES {
            // The switch's own table exists, but is not for controllers.
            return Err(OfpErr::OFPTMFC_EPERM);
        }
        let ids = match m.table_id {
            TABLE_ALL => 0..N_VISIBLE_TABLES,
            id => id..id + 1,
        };
        for id in ids {
            let Some(table) = self.ofproto.tables.table(id) else {
                continue;
            };
            if m.miss != TableMiss::Default {
                table.set_miss(m.miss);
            } else if self.conn.version() < Version::V13 {
                table.set_miss(TableMiss::Controller);
            }
            let mut config = TableConfig::clone(&table.config());
            if let Some(evict) = m.eviction {
                config.evict = evict;
            }
            if let Some(vacancy) = m.vacancy {
                config.vacancy = vacancy.map(|v| (v.down, v.up));
            }
            table.set_config(config);
        }
        self.ofproto.backer.udpif.changed();
        Ok(Reply::None)
    }

    pub(super) fn table_stats(&mut self) -> Handled {
        let version = self.conn.version();
        let with_features = version < Version::V13;
        let tables = Arc::clone(&self.ofproto.tables);
        let stats: Vec<TableStats> = (0..N_VISIBLE_TABLES)
            .filter_map(|id| {
                let table = tables.table(id)?;
                Some(TableStats {
                    table_id: id,
                    active_count: table.n_rules(),
                    lookup_count: table.n_missed.sum() + table.n_matched.sum(),
                    matched_count: table.n_matched.sum(),
                    features: with_features.then(|| Box::new(features(id, table, version))),
                })
            })
            .collect();
        let make = |tables| Message::TableStatsReply {
            tables,
            more: false,
        };
        Ok(self.list(stats, make))
    }

    pub(super) fn table_desc(&mut self) -> Handled {
        let tables = &self.ofproto.tables;
        let descs: Vec<_> = (0..N_VISIBLE_TABLES)
            .filter_map(|id| Some(desc(id, tables.table(id)?)))
            .collect();
        let make = |tables| Message::TableDescReply {
            tables,
            more: false,
        };
        Ok(self.list(descs, make))
    }

    /// Asks for the features, or (only names can be changed) sets them.
    pub(super) fn table_features(&mut self, wanted: Vec<TableFeatures>) -> Handled {
        for tf in wanted.iter().filter(|tf| tf.any_properties) {
            let table = self.ofproto.tables.table(tf.table_id);
            let table = table.filter(|_| tf.table_id < N_VISIBLE_TABLES);
            let table = table.ok_or(OfpErr::OFPTFFC_BAD_TABLE)?;
            let mut config = TableConfig::clone(&table.config());
            config.name = (!tf.name.is_empty()).then(|| tf.name.clone());
            config.name_from_controller = config.name.is_some();
            table.set_config(config);
        }
        let version = self.conn.version();
        let tables = Arc::clone(&self.ofproto.tables);
        let all: Vec<TableFeatures> = (0..N_VISIBLE_TABLES)
            .filter_map(|id| Some(features(id, tables.table(id)?, version)))
            .collect();
        let make = |tables| Message::TableFeaturesReply {
            tables,
            more: false,
        };
        Ok(self.list(all, make))
    }
}

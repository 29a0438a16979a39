//! Meters: configuration, which the datapath enforces, and statistics.

use std::collections::HashMap;

use ferrovs_datapath::dpif;
use ferrovs_openflow::OfpErr;
use ferrovs_openflow::flow::FlowRemovedReason;
use ferrovs_openflow::message::Message;
use ferrovs_openflow::meter::{
    METER_ALL, METER_CONTROLLER, METER_MAX, METER_SLOWPATH, MeterBand, MeterBandStats,
    MeterBandType, MeterCommand, MeterConfig, MeterFeatures, MeterFlags, MeterMod, MeterStats,
};

use super::{Done, Handled, Request};
use crate::connmgr::{Notice, Reply};
use crate::meters::{MAX_BANDS, MAX_METERS, Meter};
use crate::tables::Criteria;
use crate::time::{sec_nsec, to_ms};

fn to_dpif(config: &MeterConfig) -> dpif::Meter {
    dpif::Meter {
        flags: config.flags.bits(),
        bands: config
            .bands
            .iter()
            .map(|b| dpif::MeterBand {
                rate: b.rate,
                burst_size: b.burst_size,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// Refuses a meter that the datapath cannot be: one without a unit or with unknown flags, without bands, or with
/// bands that do something else than drop.
fn check_datapath(config: &MeterConfig) -> Done {
    let unit = MeterFlags::KBPS | MeterFlags::PKTPS;
    if !config.flags.intersects(unit) || !MeterFlags::all().contains(config.flags) {
        return Err(OfpErr::OFPMMFC_BAD_FLAGS);
    }
    if config.bands.is_empty() {
        return Err(OfpErr::OFPMMFC_OUT_OF_BANDS);
    }
    let other = |b: &MeterBand| b.type_ != MeterBandType::Drop;
    match config.bands.iter().any(other) {
        true => Err(OfpErr::OFPMMFC_BAD_BAND),
        false => Ok(()),
    }
}

impl Request<'_> {
    pub(super) fn meter_mod(&mut self, m: MeterMod) -> Handled {
        let id = m.meter.meter_id;
        match m.command {
            MeterCommand::Delete => self.delete_meters(id),
            command => {
                let special = matches!(id, METER_SLOWPATH | METER_CONTROLLER);
                if id == 0 || (id > METER_MAX && !special) {
                    return Err(OfpErr::OFPMMFC_INVALID_METER);
                }
                if m.meter.bands.len() > usize::from(MAX_BANDS) {
                    return Err(OfpErr::OFPMMFC_OUT_OF_BANDS);
                }
                let known = self.ofproto.meters.by_id.get(&id).map(|old| old.dp_id);
                match (command, known) {
                    (MeterCommand::Add, Some(_)) => return Err(OfpErr::OFPMMFC_METER_EXISTS),
                    (MeterCommand::Modify, None) => return Err(OfpErr::OFPMMFC_UNKNOWN_METER),
                    _ => check_datapath(&m.meter)?,
                }
                let dp_id = match known {
                    Some(dp_id) => dp_id,
                    None => self
                        .ofproto
                        .backer
                        .take_meter_id()
                        .ok_or(OfpErr::OFPMMFC_OUT_OF_METERS)?,
                };
                let meters = self.ofproto.backer.dpif.meters();
                let meters = meters.ok_or(dpif::Errno::EOPNOTSUPP);
                let set = meters.and_then(|all| all.set(dp_id, &to_dpif(&m.meter), self.now));
                if set.is_err() {
                    if known.is_none() {
                        self.ofproto.backer.free_meter_id(dp_id);
                    }
                    return Err(OfpErr::OFPMMFC_OUT_OF_METERS);
                }
                let created_ms = to_ms(self.now);
                let meters = &mut self.ofproto.meters.by_id;
                match meters.get_mut(&id) {
                    Some(old) => old.config = m.meter.clone(),
                    None => {
                        meters.insert(
                            id,
                            Meter {
                                config: m.meter.clone(),
                                dp_id,
                                created_ms,
                            },
                        );
                    }
                }
                self.ofproto.meter_map.pin().insert(id, dp_id);
                self.ofproto.backer.udpif.changed();
                Ok(())
            }
        }?;
        let request = Message::MeterMod(m);
        self.notice = Some(Notice::Request {
            from: self.conn.id,
            request,
        });
        Ok(Reply::None)
    }

    fn delete_meters(&mut self, id: u32) -> Done {
        let doomed: Vec<u32> = match id {
            METER_ALL => self.ofproto.meters.by_id.keys().copied().collect(),
            id if self.ofproto.meters.contains(id) => vec![id],
            _ => return Ok(()),
        };
        let requester = self.requester();
        let mut change = self.ofproto.tables.change(requester, to_ms(self.now));
        for rule in change.collect(&Criteria {
            hidden: true,
            ..Criteria::all()
        }) {
            if rule.actions.has_meter && rule.actions.meter().is_some_and(|m| doomed.contains(&m)) {
                change.remove(rule, FlowRemovedReason::MeterDelete);
            }
        }
        change.commit();
        self.ofproto.remove_meters(&doomed);
        Ok(())
    }

    fn meters(&self, id: u32) -> Result<Vec<&Meter>, OfpErr> {
        let by_id = &self.ofproto.meters.by_id;
        match id {
            METER_ALL => Ok(by_id.values().collect()),
            id => Ok(vec![by_id.get(&id).ok_or(OfpErr::OFPMMFC_UNKNOWN_METER)?]),
        }
    }

    pub(super) fn meter_config(&mut self, id: u32) -> Handled {
        let configs: Vec<_> = self
            .meters(id)?
            .into_iter()
            .map(|m| m.config.clone())
            .collect();
        let make = |meters| Message::MeterConfigReply {
            meters,
            more: false,
        };
        Ok(self.list(configs, make))
    }

    pub(super) fn meter_stats(&mut self, id: u32) -> Handled {
        let now_ms = to_ms(self.now);
        let mut flow_counts: HashMap<u32, u32> = HashMap::new();
        let everything = Criteria {
            hidden: true,
            ..Criteria::all()
        };
        for rule in self.ofproto.tables.collect_rules(&everything) {
            if let Some(id) = rule.actions.meter().filter(|_| rule.actions.has_meter) {
                *flow_counts.entry(id).or_default() += 1;
            }
        }
        let mut all = Vec::new();
        for meter in self.meters(id)? {
            let meters = self.ofproto.backer.dpif.meters();
            let counts = meters.and_then(|all| all.stats(meter.dp_id).ok());
            let counts = counts.unwrap_or_default();
            let (duration_sec, duration_nsec) = sec_nsec(now_ms - meter.created_ms);
            let bands = (0..meter.config.bands.len()).map(|i| {
                let band = counts.bands.get(i).copied().unwrap_or_default();
                MeterBandStats {
                    packet_count: band.n_packets,
                    byte_count: band.n_bytes,
                }
            });
            all.push(MeterStats {
                meter_id: meter.config.meter_id,
                flow_count: flow_counts
                    .get(&meter.config.meter_id)
                    .copied()
                    .unwrap_or(0),
                packet_in_count: counts.n_packets,
                byte_in_count: counts.n_bytes,
                duration_sec,
                duration_nsec,
                bands: bands.collect(),
            });
        }
        let make = |meters| Message::MeterStatsReply {
            meters,
            more: false,
        };
        Ok(self.list(all, make))
    }

    pub(super) fn meter_features(&mut self) -> Handled {
        Ok(Reply::Message(Message::MeterFeaturesReply(MeterFeatures {
            max_meters: MAX_METERS,
            band_types: 1 << MeterBandType::Drop as u32,
            capabilities: u32::from(MeterFlags::all().bits()),
            max_bands: MAX_BANDS,
            max_color: 0,
        })))
    }
}

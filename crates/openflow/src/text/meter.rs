//! Meters in text.

use std::fmt::Write;

use super::cursor::{u8 as num8, u32 as num32};
use super::format::duration;
use crate::meter::*;
use crate::version::Protocol;

/// Appends a meter id.
pub fn format_meter_id(id: u32, _sep: char, out: &mut String) {
    match id {
        METER_SLOWPATH => out.push_str("slowpath"),
        METER_CONTROLLER => out.push_str("controller"),
        METER_ALL => out.push_str("all"),
        id if id > METER_MAX => out.push_str("unknown"),
        id => {
            let _ = write!(out, "{id}");
        }
    }
}

const FLAG_NAMES: [(MeterFlags, &str); 4] = [
    (MeterFlags::KBPS, "kbps"),
    (MeterFlags::PKTPS, "pktps"),
    (MeterFlags::BURST, "burst"),
    (MeterFlags::STATS, "stats"),
];

fn flags(f: MeterFlags, out: &mut String) {
    for (bit, name) in FLAG_NAMES {
        if f.contains(bit) {
            let _ = write!(out, "{name} ");
        }
    }
    let unknown = (f - MeterFlags::all()).bits();
    if unknown != 0 {
        let _ = write!(out, "flags:{unknown:#x} ");
    }
}

/// Appends a meter's configuration; bands on one line if `oneline`.
pub fn format_meter_config(c: &MeterConfig, oneline: bool, out: &mut String) {
    out.push_str("meter=");
    format_meter_id(c.meter_id, '=', out);
    out.push(' ');
    flags(c.flags, out);
    out.push_str("bands=");
    for b in &c.bands {
        out.push(if oneline { ' ' } else { '\n' });
        let _ = write!(
            out,
            "type={} rate={}",
            match b.type_ {
                MeterBandType::Drop => "drop",
                MeterBandType::DscpRemark => "dscp_remark",
            },
            b.rate
        );
        if c.flags.contains(MeterFlags::BURST) {
            let _ = write!(out, " burst_size={}", b.burst_size);
        }
        if b.type_ == MeterBandType::DscpRemark {
            let _ = write!(out, " prec_level={}", b.prec_level);
        }
    }
    if !oneline {
        out.push('\n');
    }
}

pub fn format_meter_mod(m: &MeterMod, out: &mut String) {
    out.push_str(match m.command {
        MeterCommand::Add => " ADD ",
        MeterCommand::Modify => " MOD ",
        MeterCommand::Delete => " DEL ",
    });
    format_meter_config(&m.meter, false, out);
}

pub fn format_meter_stats(s: &MeterStats, out: &mut String) {
    out.push_str("meter:");
    format_meter_id(s.meter_id, ':', out);
    let _ = write!(
        out,
        " flow_count:{} packet_in_count:{} byte_in_count:{} duration:",
        s.flow_count, s.packet_in_count, s.byte_in_count
    );
    duration(out, s.duration_sec, s.duration_nsec);
    out.push_str(" bands:\n");
    for (i, b) in s.bands.iter().enumerate() {
        let _ = writeln!(
            out,
            "{i}: packet_count:{} byte_count:{}",
            b.packet_count, b.byte_count
        );
    }
}

pub fn format_meter_features(f: &MeterFeatures, out: &mut String) {
    let _ = writeln!(
        out,
        "\nmax_meter:{} max_bands:{} max_color:{}",
        f.max_meters, f.max_bands, f.max_color
    );
    out.push_str("band_types:");
    let names = |names: &[(u32, &str)], bits: u32, out: &mut String| {
        let mut rest = bits;
        for (bit, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
            rest &= !bit;
            let _ = write!(out, " {name}");
        }
        if rest != 0 || bits == 0 {
            let _ = write!(out, " {}", super::format::hex(rest.into()));
        }
    };
    names(&[(2, "drop"), (4, "dscp_remark")], f.band_types, out);
    out.push_str("\ncapabilities:");
    let kinds = [(1, "kbps"), (2, "pktps"), (4, "burst"), (8, "stats")];
    names(&kinds, f.capabilities, out);
    out.push('\n');
}

const OF13_UP: Protocol = Protocol::OF13_OXM
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);

/// Reads a meter id by number or name.
fn parse_meter_id(s: &str, name: &str) -> Result<u32, String> {
    match s {
        "all" => Ok(METER_ALL),
        "controller" => Ok(METER_CONTROLLER),
        "slowpath" => Ok(METER_SLOWPATH),
        _ => match num32(s)? {
            1..=METER_MAX => num32(s),
            _ => Err(format!("invalid value for {name}")),
        },
    }
}

/// Reads a meter mod; `command` is `None` for a selection of meters (dump, stats).
pub fn parse_meter_mod(
    s: &str,
    command: Option<MeterCommand>,
    usable: &mut Protocol,
) -> Result<MeterMod, String> {
    *usable = OF13_UP;
    let want_bands = matches!(command, Some(MeterCommand::Add | MeterCommand::Modify));
    let mut mm = MeterMod {
        command: command.unwrap_or(MeterCommand::Delete),
        meter: MeterConfig::default(),
    };
    let (head, bands) = match s.find("band") {
        Some(i) if want_bands => {
            let (_, bands) = s[i..].split_once('=').ok_or("must specify bands")?;
            (&s[..i], Some(bands))
        }
        _ if want_bands => return Err("must specify bands".to_owned()),
        _ => (s, None),
    };
    let mut words = Words(head);
    while let Some(name) = words.name() {
        let flag = FLAG_NAMES.iter().find(|f| want_bands && f.1 == name);
        if let Some((flag, _)) = flag {
            mm.meter.flags |= *flag;
            continue;
        }
        let value = words.value(name)?;
        if name != "meter" {
            return Err(format!("unknown keyword {name}"));
        }
        mm.meter.meter_id = parse_meter_id(value, name)?;
    }
    if mm.meter.meter_id == 0 {
        return Err("must specify 'meter'".to_owned());
    }
    if want_bands && mm.meter.flags.is_empty() {
        return Err("meter must specify either 'kbps' or 'pktps'".to_owned());
    }
    if let Some(text) = bands {
        mm.meter.bands = parse_bands(text, mm.meter.flags)?;
    }
    Ok(mm)
}

/// A text of names and values, taken apart as strtok(3) does it.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn word(&mut self, delimiters: &[char]) -> Option<&'a str> {
        let s = self.0.trim_start_matches(delimiters);
        let end = s.find(delimiters).unwrap_or(s.len());
        let (word, rest) = s.split_at(end);
        let mut rest = rest.chars();
        rest.next();
        self.0 = rest.as_str();
        (!word.is_empty()).then_some(word)
    }

    fn name(&mut self) -> Option<&'a str> {
        self.word(&['=', ',', ' ', '\t', '\r', '\n'])
    }

    fn value(&mut self, name: &str) -> Result<&'a str, String> {
        self.word(&[',', ' ', '\t', '\r', '\n'])
            .ok_or_else(|| format!("field {name} missing value"))
    }
}

fn parse_bands(text: &str, flags: MeterFlags) -> Result<Vec<MeterBand>, String> {
    let mut out: Vec<(MeterBand, bool)> = Vec::new();
    let mut words = Words(text);
    while let Some(name) = words.name() {
        let value = words.value(name)?;
        if name == "type" {
            let type_ = match value {
                "drop" => MeterBandType::Drop,
                "dscp_remark" => MeterBandType::DscpRemark,
                _ => return Err(format!("field {name} unknown value {value}")),
            };
            let band = MeterBand {
                type_,
                prec_level: 0,
                rate: 0,
                burst_size: 0,
            };
            out.push((band, false));
            continue;
        }
        let Some((band, has_level)) = out.last_mut() else {
            return Err("band must start with the 'type' keyword".to_owned());
        };
        match name {
            "burst_size" => band.burst_size = num32(value)?,
            "rate" => band.rate = num32(value)?,
            "prec_level" => {
                band.prec_level = num8(value, name)?;
                *has_level = true;
            }
            _ => return Err(format!("unknown keyword {name}")),
        }
    }
    if out.is_empty() {
        return Err("meter must have bands".to_owned());
    }
    let burst = flags.contains(MeterFlags::BURST);
    for (b, has_level) in &out {
        let remarks = b.type_ == MeterBandType::DscpRemark;
        let wrong = if b.rate == 0 {
            Some("band must have 'rate'")
        } else if burst && b.burst_size == 0 {
            Some("band must have 'burst_size' when 'burst' flag is set")
        } else if !burst && b.burst_size != 0 {
            Some("band may have 'burst_size' only when 'burst' flag is set")
        } else if remarks && !has_level {
            Some("'dscp_remark' band must have 'prec_level'")
        } else if !remarks && *has_level {
            Some("Only 'dscp_remark' band may have 'prec_level'")
        } else {
            None
        };
        if let Some(text) = wrong {
            return Err(text.to_owned());
        }
    }
    Ok(out.into_iter().map(|(b, _)| b).collect())
}

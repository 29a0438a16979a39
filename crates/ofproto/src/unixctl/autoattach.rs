//! `autoattach/*`: what ports that speak LLDP know. A bridge may be named; all are told of all the same.

use std::fmt::Write;

use ferrovs_protocols::lldp::{Element, Lldp, Neighbour, status_name};
use ferrovs_runtime::unixctl::{Reply, Request};

use super::text;
use crate::ofprotos::Ofprotos;

/// Tells of each port that speaks LLDP, or once did.
fn for_each(ofprotos: &Ofprotos, tell: impl Fn(&mut String, &Lldp)) -> Reply {
    let mut out = String::new();
    for port in ofprotos.machines() {
        tell(&mut out, &port.lldp());
    }
    text(out)
}

pub fn status(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    for_each(ofprotos, |out, lldp| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "LLDP: {}", lldp.name());
        for n in lldp.neighbours() {
            if let Some(element) = &n.element {
                write_server(out, n, element);
            }
        }
    })
}

fn write_server(out: &mut String, n: &Neighbour, element: &Element) {
    let descr = n.system_description.as_deref().filter(|d| !d.is_empty());
    // As C reads it: up to the first NUL.
    let descr = descr.map(|d| d.split(|byte| *byte == 0).next().unwrap_or_default());
    let descr = descr.map_or("<None>".into(), String::from_utf8_lossy);
    let mut id = element.mac.0.to_vec();
    // As a machine of little endian has them in memory.
    id.extend(u16::from(element.connection).to_le_bytes());
    id.extend(element.smlt.to_le_bytes());
    id.extend(element.mlt);
    let lead = "  Auto Attach Primary Server";
    let _ = writeln!(
        out,
        "{lead} Id: {}",
        hex(n.chassis.get(1..).unwrap_or_default())
    );
    let _ = writeln!(out, "{lead} Descr: {descr}");
    let _ = writeln!(out, "{lead} System Id: {}", hex(&id));
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    bytes.join(":")
}

pub fn statistics(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    for_each(ofprotos, |out, lldp| {
        let c = lldp.counters();
        let _ = writeln!(out, "Statistics: {}", lldp.name());
        for (what, n) in [
            ("tx", c.tx),
            ("rx", c.rx),
            ("rx discarded", c.rx_discarded),
            ("rx unrecognized", c.rx_unrecognized),
            // Neighbours stay for good.
            ("ageout", 0),
            ("insert", c.insert),
            ("delete", 0),
            ("drop", 0),
        ] {
            let _ = writeln!(out, "  {what} cnt: {n}");
        }
    })
}

pub fn show_isid(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    for_each(ofprotos, |out, lldp| {
        let _ = writeln!(out, "LLDP: {}", lldp.name());
        *out += "I-SID    VLAN Source      Status  \n-------- ---- ----------- --------\n";
        for m in lldp.mappings() {
            let status = status_name(m.status);
            let _ = writeln!(
                out,
                "{:<8} {:<4} {:<11} {status:<11}",
                m.isid, m.vlan, "Switch"
            );
        }
    })
}

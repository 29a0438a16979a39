//! Reassembly of fragments.

use std::fmt::Write;

use ferrovs_datapath::conntrack::{FragFamily, FragList, IpVersion};
use ferrovs_datapath::dpif::Errno;

use super::on_datapath;
use crate::Context;

fn version(text: Option<&&str>) -> Option<IpVersion> {
    match text {
        Some(&"v4") => Some(IpVersion::V4),
        Some(&"v6") => Some(IpVersion::V6),
        _ => None,
    }
}

fn enable(cx: &mut Context<'_>, args: &[&str], on: bool) {
    let Some(version) = version(args.last()) else {
        let message = "parameter missing: 'v4' for IPv4 or 'v6' for IPv6";
        return cx.error(message, Some(Errno::EINVAL));
    };
    let word = if on { "enabling" } else { "disabling" };
    let message = format!("{word} fragmentation reassembly failed");
    on_datapath(
        cx,
        &args[..args.len() - 1],
        1,
        &message,
        |cx, _, conntrack| {
            conntrack.enable_frags(version, on);
            _ = writeln!(cx.out, "{word} fragmentation reassembly successful");
        },
    );
}

pub fn ipf_enable(cx: &mut Context<'_>, args: &[&str]) {
    enable(cx, args, true);
}

pub fn ipf_disable(cx: &mut Context<'_>, args: &[&str]) {
    enable(cx, args, false);
}

pub fn ipf_min_frag(cx: &mut Context<'_>, args: &[&str]) {
    let (names, own) = args.split_at(args.len().saturating_sub(2));
    let Some(version) = version(own.first()) else {
        let message = "parameter missing: v4 for IPv4 or v6 for IPv6";
        return cx.error(message, Some(Errno::EINVAL));
    };
    let Some(size) = own.get(1).and_then(|n| n.parse::<u32>().ok()) else {
        let message = "parameter missing for minimum fragment size";
        return cx.error(message, Some(Errno::EINVAL));
    };
    let message = "setting minimum fragment size failed";
    on_datapath(cx, names, 1, message, |cx, _, conntrack| {
        match conntrack.set_min_frag(version, size) {
            Ok(()) => cx
                .out
                .push_str("setting minimum fragment size successful\n"),
            Err(errno) => {
                let message = "requested minimum fragment size too small; see documentation";
                cx.error(message, Some(errno));
            }
        }
    });
}

pub fn ipf_max_nfrags(cx: &mut Context<'_>, args: &[&str]) {
    let Some(max) = args.last().and_then(|n| n.parse::<u32>().ok()) else {
        let message = "parameter missing for maximum fragments";
        return cx.error(message, Some(Errno::EINVAL));
    };
    let message = "setting maximum fragments failed";
    on_datapath(
        cx,
        &args[..args.len() - 1],
        1,
        message,
        |cx, _, conntrack| match conntrack.set_max_frags(max) {
            Ok(()) => cx.out.push_str("setting maximum fragments successful\n"),
            Err(errno) => cx.error(message, Some(errno)),
        },
    );
}

fn family(out: &mut String, name: &str, f: &FragFamily) {
    let c = &f.counters;
    _ = writeln!(out, "        min {name} frag size: {}", f.min_size);
    for (what, n) in [
        ("accepted", c.accepted),
        ("completed", c.completed),
        ("expired", c.expired),
        ("too small", c.too_small),
        ("overlapped", c.overlapped),
        ("purged", c.purged),
    ] {
        _ = writeln!(out, "        {name} frags {what}: {n}");
    }
}

fn list(out: &mut String, l: &FragList) {
    let dl_type = if l.src.is_ipv4() { 0x800 } else { 0x86dd };
    let state = match (l.has_first, l.has_last) {
        (true, true) => "first/last frag",
        (true, false) => "first frag",
        (false, true) => "last frag",
        (false, false) => "other frag",
    };
    _ = writeln!(
        out,
        "(src={},dst={},recirc_id={},ip_id={},dl_type={dl_type:#x},zone={},nw_proto={},num_fragments={},state={state})",
        l.src, l.dst, l.recirc_id, l.id, l.zone, l.proto, l.frags
    );
}

pub fn ipf_status(cx: &mut Context<'_>, args: &[&str]) {
    let message = "ipf status could not be retrieved";
    on_datapath(cx, args, 1, message, |cx, _, conntrack| {
        let verbose = cx.verbose();
        let (s, out) = (conntrack.frag_status(), &mut cx.out);
        out.push_str("        Fragmentation Module Status\n        ---------------------------\n");
        _ = writeln!(out, "        v4 enabled: {}", u8::from(s.v4.enabled));
        _ = writeln!(out, "        v6 enabled: {}", u8::from(s.v6.enabled));
        _ = writeln!(out, "        max num frags (v4/v6): {}", s.max_frags);
        _ = writeln!(out, "        num frag: {}", s.frags);
        family(out, "v4", &s.v4);
        family(out, "v6", &s.v6);
        if verbose {
            out.push_str("\n        Fragment Lists:\n\n");
            s.lists.iter().for_each(|l| list(out, l));
        }
    });
}

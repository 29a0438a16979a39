//! The bridges' commands for ovs-appctl, one module for each group.
//!
//! [`register`] adds them all to a program's table; the program says how to find the bridges in its state.

use ferrovs_runtime::unixctl::{Commands, Output, Reply, Request};

use crate::ofproto::Ofproto;
use crate::ofprotos::Ofprotos;

mod autoattach;
mod bridge;
mod dpif;
mod fdb;
mod offload;
mod trace;
mod upcall;

/// What a command does with the bridges.
type Handler = fn(&mut Ofprotos, &Request) -> Reply;

/// A name, its arguments as `list-commands` shows them, how few and how many there may be.
type Row = (&'static str, &'static str, usize, usize, Handler);

const COMMANDS: &[Row] = &[
    (
        "autoattach/show-isid",
        "[bridge]",
        0,
        1,
        autoattach::show_isid,
    ),
    (
        "autoattach/statistics",
        "[bridge]",
        0,
        1,
        autoattach::statistics,
    ),
    ("autoattach/status", "[bridge]", 0, 1, autoattach::status),
    (
        "bridge/dump-flows",
        "[--offload-stats] bridge",
        1,
        2,
        bridge::dump_flows,
    ),
    ("bridge/reconnect", "[bridge]", 0, 1, bridge::reconnect),
    ("dpif/dump-dps", "", 0, 0, dpif::dump_dps),
    (
        "dpif/dump-flows",
        "[-m] [--names | --no-names] bridge",
        1,
        usize::MAX,
        dpif::dump_flows,
    ),
    ("dpif/show", "", 0, 0, dpif::show),
    ("dpif/offload/show", "", 0, 0, offload::show),
    ("dpif/show-dp-features", "bridge", 1, 1, dpif::show_features),
    (
        "dpif/set-dp-features",
        "[--force] bridge [feature [value]]",
        1,
        4,
        dpif::set_features,
    ),
    ("fdb/add", "bridge port vlan mac", 4, 4, fdb::add),
    ("fdb/del", "bridge vlan mac", 3, 3, fdb::del),
    ("fdb/flush", "[bridge]", 0, 1, fdb::flush),
    ("fdb/show", "bridge", 1, 1, fdb::show),
    ("fdb/stats-clear", "[bridge]", 0, 1, fdb::stats_clear),
    ("fdb/stats-show", "bridge", 1, 1, fdb::stats_show),
    ("ofproto/list", "", 0, 0, bridge::list),
    (
        "ofproto/trace",
        "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]",
        1,
        usize::MAX,
        trace::trace,
    ),
    (
        "ofproto/trace-packet-out",
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        2,
        usize::MAX,
        trace::trace_packet_out,
    ),
    ("ofproto/list-tunnels", "", 0, 0, bridge::list_tunnels),
    ("upcall/show", "", 0, 0, upcall::show),
    (
        "upcall/disable-megaflows",
        "",
        0,
        0,
        upcall::disable_megaflows,
    ),
    (
        "upcall/enable-megaflows",
        "",
        0,
        0,
        upcall::enable_megaflows,
    ),
    ("upcall/disable-ufid", "", 0, 0, upcall::disable_ufid),
    ("upcall/enable-ufid", "", 0, 0, upcall::enable_ufid),
    (
        "upcall/set-flow-limit",
        "flow-limit-number",
        1,
        1,
        upcall::set_flow_limit,
    ),
    ("revalidator/wait", "", 0, 0, upcall::wait),
    ("revalidator/purge", "", 0, 0, upcall::purge),
];

/// What only tests ask for is not listed.
const HIDDEN: [(&str, Handler); 3] = [
    ("dpif/offload/classes", offload::classes),
    ("revalidator/pause", upcall::pause),
    ("revalidator/resume", upcall::resume),
];

/// Adds the commands.
pub fn register<S: 'static>(commands: &mut Commands<S>, ofprotos: fn(&mut S) -> &mut Ofprotos) {
    ferrovs_tunnel::register_commands(commands);
    for (name, handler) in HIDDEN {
        commands.register_hidden(name, 0, 0, move |state: &mut S, request: &Request| {
            handler(ofprotos(state), request)
        });
    }
    for &(name, usage, min, max, handler) in COMMANDS {
        commands.register(
            name,
            usage,
            min,
            max,
            move |state: &mut S, request: &Request| {
                let ofprotos = ofprotos(state);
                // What was just configured shall be visible to the command.
                ofprotos.publish();
                handler(ofprotos, request)
            },
        );
    }
}

fn text(s: impl Into<String>) -> Reply {
    Ok(Output::Text(s.into()))
}

/// The bridge that the command's first argument names.
fn bridge_arg<'a>(
    ofprotos: &'a mut Ofprotos,
    request: &Request,
) -> Result<&'a mut Ofproto, String> {
    let name = request.arg(1).unwrap_or_default();
    ofprotos
        .ofproto_mut(name)
        .ok_or_else(|| "no such bridge".to_string())
}

/// A number as C's `atoi` reads it: leading digits, 0 without any.
fn atoi(s: &str) -> i64 {
    let s = s.trim_start();
    let (negative, digits) = match s.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let n: i64 = digits[..end].parse().unwrap_or(0);
    if negative { -n } else { n }
}

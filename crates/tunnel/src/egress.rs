//! `tnl/egress_port_range`: the source ports of outer UDP headers.

use ferrovs_encap::header::{set_source_ports, source_ports};
use ferrovs_runtime::unixctl::{Commands, Reply, Request};

pub(crate) fn register<S: 'static>(c: &mut Commands<S>) {
    c.register("tnl/egress_port_range", "min max", 0, 2, |_, r| {
        egress_port_range(r)
    });
}

fn egress_port_range(r: &Request) -> Reply {
    if r.argv.len() < 3 {
        let (min, max) = source_ports();
        return Ok(format!("Tunnel UDP source port range: {min}-{max}\n").into());
    }
    let port = |n: usize| {
        r.arg(n)
            .and_then(|t| t.parse::<u16>().ok())
            .filter(|p| *p != 0)
    };
    let Some(a) = port(1) else {
        return Ok("Invalid min.".into());
    };
    let Some(b) = port(2) else {
        return Ok("Invalid max.".into());
    };
    set_source_ports(a, b);
    crate::change_seq().change();
    Ok("OK".into())
}

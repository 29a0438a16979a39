//! `upcall/*` and `revalidator/*`: what stands between datapaths and translation.

use ferrovs_runtime::unixctl::{Reply, Request};

use super::{atoi, text};
use crate::ofprotos::Ofprotos;

pub fn show(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    let mut out = String::new();
    for b in ofprotos.backers() {
        out += &b.udpif.show(&format!("{}@{}", b.kind, b.dpif.name()));
    }
    text(out)
}

pub fn enable_megaflows(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.set_megaflows(true));
    text("megaflows enabled")
}

pub fn disable_megaflows(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos
        .backers()
        .for_each(|b| b.udpif.set_megaflows(false));
    text("megaflows disabled")
}

pub fn enable_ufid(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.set_ufid(true));
    text("Datapath dumping tersely using UFID enabled for supported datapaths")
}

pub fn disable_ufid(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.set_ufid(false));
    text("Datapath dumping tersely using UFID disabled")
}

pub fn set_flow_limit(ofprotos: &mut Ofprotos, request: &Request) -> Reply {
    let limit = atoi(request.arg(1).unwrap_or_default()).max(0) as usize;
    ofprotos
        .backers()
        .for_each(|b| b.udpif.set_flow_limit(limit));
    text(format!("set flow_limit to {limit}\n"))
}

pub fn wait(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.barrier());
    text("")
}

pub fn pause(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.set_paused(true));
    text("")
}

pub fn resume(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.set_paused(false));
    text("")
}

pub fn purge(ofprotos: &mut Ofprotos, _: &Request) -> Reply {
    ofprotos.backers().for_each(|b| b.udpif.purge());
    text("")
}

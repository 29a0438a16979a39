//! `init` and `emer-reset`.

use super::{Ctx, Inv};
use crate::dbctl::{Command, Outcome, Prepare};
use ferrovs_idl::Uuid;
use ferrovs_idl::open_vswitch::{
    Bridge, Controller, FlowSampleCollectorSet, Interface, Ipfix, Manager, Mirror, NetFlow,
    OpenVSwitch, Port, SFlow, Ssl,
};

pub(super) const COMMANDS: &[Command<super::Switch>] = &[
    Command {
        name: "init",
        min_args: 0,
        max_args: 0,
        usage: "",
        options: &[],
        prepare: |_, _| Ok(()),
        // Every run makes sure of the root row; there is nothing more to do.
        run: |_, _| Ok(()),
        finish: None,
        writes: true,
    },
    Command {
        name: "emer-reset",
        min_args: 0,
        max_args: 0,
        usage: "",
        options: &[],
        prepare,
        run,
        finish: None,
        writes: true,
    },
];

fn prepare(p: &mut Prepare<'_>, _: &Inv) -> Outcome {
    p.need("Open_vSwitch", &["manager_options", "ssl", "other_config"]);
    let bridge = [
        "controller",
        "fail_mode",
        "mirrors",
        "netflow",
        "sflow",
        "ipfix",
        "flood_vlans",
        "other_config",
    ];
    p.need("Bridge", &bridge);
    p.need("Port", &["other_config"]);
    p.need(
        "Interface",
        &[
            "ingress_policing_rate",
            "ingress_policing_burst",
            "other_config",
        ],
    );
    for table in [
        "Mirror",
        "Controller",
        "Manager",
        "NetFlow",
        "sFlow",
        "IPFIX",
        "SSL",
        "Flow_Sample_Collector_Set",
    ] {
        p.need(table, &[]);
    }
    Ok(())
}

fn run(ctx: &mut Ctx<'_>, _: &mut Inv) -> Outcome {
    let none: [Uuid; 0] = [];
    let nothing: [(&str, &str); 0] = [];
    let root = ctx.ext.root;
    ctx.txn.verify(ctx.idl, root, OpenVSwitch::MANAGER_OPTIONS);
    ctx.txn.verify(ctx.idl, root, OpenVSwitch::SSL);
    ctx.txn.set(root, OpenVSwitch::MANAGER_OPTIONS, none);
    ctx.txn.set(root, OpenVSwitch::SSL, None::<Uuid>);
    ctx.txn.set(root, OpenVSwitch::OTHER_CONFIG, nothing);
    for row in ctx.view().rows::<Bridge>() {
        // The MAC address is all that a bridge keeps of its other-config.
        let address = ctx
            .view()
            .read(row, Bridge::OTHER_CONFIG)
            .get("hwaddr")
            .map(str::to_string);
        ctx.txn.set(row, Bridge::CONTROLLER, none);
        ctx.txn.set(row, Bridge::FAIL_MODE, None::<&str>);
        ctx.txn.set(row, Bridge::MIRRORS, none);
        ctx.txn.set(row, Bridge::NETFLOW, None::<Uuid>);
        ctx.txn.set(row, Bridge::SFLOW, None::<Uuid>);
        ctx.txn.set(row, Bridge::IPFIX, None::<Uuid>);
        ctx.txn.set(row, Bridge::FLOOD_VLANS, [0i64; 0]);
        ctx.txn
            .set(row, Bridge::OTHER_CONFIG, address.map(|a| ("hwaddr", a)));
    }
    for row in ctx.view().rows::<Port>() {
        ctx.txn.set(row, Port::OTHER_CONFIG, nothing);
    }
    for row in ctx.view().rows::<Interface>() {
        ctx.txn.set(row, Interface::INGRESS_POLICING_RATE, 0);
        ctx.txn.set(row, Interface::INGRESS_POLICING_BURST, 0);
        ctx.txn.set(row, Interface::OTHER_CONFIG, nothing);
    }
    macro_rules! delete_all {
        ($($table:ty)*) => {$(
            for row in ctx.view().rows::<$table>() {
                ctx.txn.delete::<$table>(row);
            }
        )*};
    }
    delete_all! { Mirror Controller Manager NetFlow SFlow Ipfix Ssl FlowSampleCollectorSet }
    ctx.ext.forget();
    Ok(())
}

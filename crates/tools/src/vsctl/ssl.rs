//! The TLS configuration.

use super::{Cmd, Ctx, Inv, command};
use crate::dbctl::{Outcome, Prepare};
use ferrovs_idl::Uuid;
use ferrovs_idl::open_vswitch::{OpenVSwitch, Ssl};

pub(super) const COMMANDS: &[Cmd] = &[
    command("get-ssl", (0, 0), "", &[], need_ssl, get_ssl, false),
    command("del-ssl", (0, 0), "", &[], need_ssl, del_ssl, true),
    command(
        "set-ssl",
        (3, 3),
        "!PRIVATE-KEY !CERTIFICATE !CA-CERT",
        &["--bootstrap"],
        need_ssl,
        set_ssl,
        true,
    ),
];

fn need_ssl(p: &mut Prepare<'_>, _: &Inv) -> Outcome {
    p.need("Open_vSwitch", &["ssl"]);
    p.need(
        "SSL",
        &["private_key", "certificate", "ca_cert", "bootstrap_ca_cert"],
    );
    Ok(())
}

fn get_ssl(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    ctx.txn.verify(ctx.idl, ctx.ext.root, OpenVSwitch::SSL);
    if let Some(row) = ctx.view().read(ctx.ext.root, OpenVSwitch::SSL) {
        let view = ctx.view();
        inv.say(format_args!(
            "Private key: {}",
            view.read(row, Ssl::PRIVATE_KEY)
        ));
        inv.say(format_args!(
            "Certificate: {}",
            view.read(row, Ssl::CERTIFICATE)
        ));
        inv.say(format_args!(
            "CA Certificate: {}",
            view.read(row, Ssl::CA_CERT)
        ));
        inv.say(format_args!(
            "Bootstrap: {}",
            view.read(row, Ssl::BOOTSTRAP_CA_CERT)
        ));
    }
    Ok(())
}

fn del_ssl(ctx: &mut Ctx<'_>, _: &mut Inv) -> Outcome {
    let root = ctx.ext.root;
    ctx.txn.verify(ctx.idl, root, OpenVSwitch::SSL);
    if let Some(row) = ctx.view().read(root, OpenVSwitch::SSL) {
        ctx.txn.delete::<Ssl>(row);
        ctx.txn.set(root, OpenVSwitch::SSL, None::<Uuid>);
    }
    Ok(())
}

fn set_ssl(ctx: &mut Ctx<'_>, inv: &mut Inv) -> Outcome {
    del_ssl(ctx, inv)?;
    let row = ctx.txn.insert::<Ssl>();
    ctx.txn.set(row, Ssl::PRIVATE_KEY, inv.arg(1));
    ctx.txn.set(row, Ssl::CERTIFICATE, inv.arg(2));
    ctx.txn.set(row, Ssl::CA_CERT, inv.arg(3));
    ctx.txn
        .set(row, Ssl::BOOTSTRAP_CA_CERT, inv.has("--bootstrap"));
    ctx.txn.set(ctx.ext.root, OpenVSwitch::SSL, Some(row));
    Ok(())
}

//! Tunnels that userspace makes itself.

use super::{attribute, rows};
use crate::action::{Action, TunnelPush};
use crate::text::format_port;

/// Room for a header, and what stands before it.
const PUSH: usize = 536;

rows! {
    "tnl_push" Inside Action::TunnelPush(push) => {
        size: attribute(PUSH),
        write(out, names): {
            out.push_str("tnl_push(tnl_port(");
            format_port(out, push.tnl_port, names);
            out.push_str("),header(");
            ferrovs_encap::text::format(out, &push.header);
            out.push_str("),out_port(");
            format_port(out, push.out_port, names);
            out.push_str("))");
        },
        read(p, _inside): {
            p.c.expect("tnl_port(")?;
            let tnl_port = p.port()?;
            p.c.expect("),header(")?;
            let header = ferrovs_encap::text::parse(&mut p.c)?;
            p.c.expect(",out_port(")?;
            let out_port = p.port()?;
            p.c.expect("))")?;
            let push = TunnelPush { tnl_port, out_port, header };
            Some(Action::TunnelPush(Box::new(push)))
        },
    }
    "tnl_pop" Inside Action::TunnelPop(port) => {
        size: attribute(4),
        write(out, names): {
            out.push_str("tnl_pop(");
            format_port(out, *port, names);
            out.push(')');
        },
        read(p, _inside): {
            let port = p.port()?;
            p.c.expect(")")?;
            Some(Action::TunnelPop(port))
        },
    }
}

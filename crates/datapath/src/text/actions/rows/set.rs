//! Members of headers and metadata that an action sets: a row for each, within that of `set`.

use ferrovs_packet::text::Cursor;

use super::{attribute, rows};
use crate::action::{Action, Masked, Set};
use crate::text::{ActionParser, FieldWriter, members};

rows! {
    "set" Inside Action::Set(set) => {
        size: attribute(set_size(set)),
        write(out, names): {
            out.push_str("set(");
            write_set(out, set);
            out.push(')');
        },
        read(p, _inside): Some(Action::Set(read_set(p)?)),
    }
}

/// The size of a key and the mask that follows it.
const fn masked(key: usize) -> usize {
    attribute(2 * key)
}

/// Rows of members: name, pattern with what is set, size, how it is written and read up to its closing parenthesis.
macro_rules! set_rows {
    ($($name:literal Set::$variant:ident($m:ident) => {
        size: $size:expr,
        write($out:ident): $write:expr,
        read($c:ident): $read:expr $(,)?
    })*) => {
        #[allow(unused_variables)]
        fn set_size(set: &Set) -> usize {
            match set {
                $(Set::$variant($m) => $size,)*
            }
        }

        fn write_set(out: &mut String, set: &Set) {
            match set {
                $(Set::$variant($m) => {
                    out.push_str(concat!($name, "("));
                    let $out = &mut *out;
                    $write;
                })*
            }
            out.push(')');
        }

        fn read_set(p: &mut ActionParser<'_, '_>) -> Option<Set> {
            let name = p.c.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
            p.c.expect("(")?;
            let set = match name {
                $($name => {
                    let $c = &mut p.c;
                    Set::$variant($read)
                })*
                _ => return None,
            };
            p.c.expect(")")?;
            Some(set)
        }
    };
}

set_rows! {
    "skb_priority" Set::SkbPriority(m) => {
        size: masked(4),
        write(out): write_number(out, m),
        read(c): read_number(c)?,
    }
    "skb_mark" Set::SkbMark(m) => {
        size: masked(4),
        write(out): write_number(out, m),
        read(c): read_number(c)?,
    }
    "ct_mark" Set::CtMark(m) => {
        size: masked(4),
        write(out): write_number(out, m),
        read(c): read_number(c)?,
    }
    "ct_label" Set::CtLabels(m) => {
        size: masked(16),
        write(out): {
            let (value, mask) = (u128::from_be_bytes(m.value), u128::from_be_bytes(m.mask));
            members::write_masked128(out, value, mask);
        },
        read(c): {
            let (value, mask) = c.masked128()?;
            c.expect(")")?;
            Masked { value: value.to_be_bytes(), mask: mask.to_be_bytes() }
        },
    }
    "eth" Set::Ethernet(m) => {
        size: masked(12),
        write(out): members::write_ethernet(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_ethernet(c)?,
    }
    "mpls" Set::Mpls(m) => {
        size: masked(4),
        // A label is told whole, whichever of its bits are set.
        write(out): members::write_mpls(out, m.value, None),
        read(c): *members::read_mpls(c, 1)?.first()?,
    }
    "ipv4" Set::Ipv4(m) => {
        size: masked(12),
        write(out): members::write_ipv4(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_ipv4(c)?,
    }
    "ipv6" Set::Ipv6(m) => {
        size: masked(40),
        write(out): members::write_ipv6(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_ipv6(c)?,
    }
    "tcp" Set::Tcp(m) => {
        size: masked(4),
        write(out): members::write_ports(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_ports(c)?,
    }
    "udp" Set::Udp(m) => {
        size: masked(4),
        write(out): members::write_ports(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_ports(c)?,
    }
    "sctp" Set::Sctp(m) => {
        size: masked(4),
        write(out): members::write_ports(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_ports(c)?,
    }
    "icmp" Set::Icmp(m) => {
        size: masked(2),
        write(out): members::write_icmp(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_icmp(c)?,
    }
    "icmpv6" Set::Icmpv6(m) => {
        size: masked(2),
        write(out): members::write_icmp(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_icmp(c)?,
    }
    "arp" Set::Arp(m) => {
        size: masked(24),
        write(out): members::write_arp(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_arp(c)?,
    }
    "nd" Set::Nd(m) => {
        size: masked(28),
        write(out): members::write_nd(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_nd(c)?,
    }
    "nd_ext" Set::NdExtensions(m) => {
        size: masked(8),
        write(out): members::write_nd_ext(&mut writer(out), &m.value, &m.mask),
        read(c): members::read_nd_ext(c)?,
    }
    "nsh" Set::Nsh(m) => {
        size: attribute(attribute(16) + attribute(32)),
        write(out): members::write_nsh_set(&mut writer(out), &m.value, &m.mask),
        read(c): Box::new(members::read_nsh(c)?),
    }
    // Set wholly, without a mask; a header that goes nowhere cannot be put on.
    "tunnel" Set::Tunnel(m) => {
        size: attribute(64),
        write(out): members::write_tunnel(out, m, None, false),
        read(c): {
            let tunnel = members::read_tunnel(c)?.value;
            Box::new(tunnel.dst_is_set().then_some(tunnel)?)
        },
    }
}

fn writer(out: &mut String) -> FieldWriter<'_> {
    FieldWriter::new(out, false)
}

fn write_number(out: &mut String, m: &Masked<u32>) {
    members::write_masked(out, m.value.into(), m.mask.into(), u32::MAX.into());
}

fn read_number(c: &mut Cursor<'_>) -> Option<Masked<u32>> {
    let (value, mask) = c.masked(u32::MAX.into())?;
    c.expect(")")?;
    Some(Masked {
        value: value as u32,
        mask: mask as u32,
    })
}

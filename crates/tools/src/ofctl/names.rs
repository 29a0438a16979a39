//! Names of a switch's ports and tables, fetched when they are needed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::port::PortDesc;
use ferrovs_openflow::raw::Kind;
use ferrovs_openflow::text::TableMap;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Version;
use ferrovs_packet::field::PortMap;
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::fatal;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules;

use super::Options;
use super::vconn::{self, Vconn};

/// Ports by number and name; a name that several ports have is none.
#[derive(Default)]
pub struct Ports {
    by_name: HashMap<String, Option<OfPort>>,
    by_number: HashMap<OfPort, String>,
}

impl Ports {
    pub fn add(&mut self, d: &PortDesc) {
        self.by_name
            .entry(d.name.clone())
            .and_modify(|p| *p = None)
            .or_insert(Some(d.port_no));
        self.by_number.insert(d.port_no, d.name.clone());
    }
}

/// Logs what parsing warns about, in the module that the text belongs to.
pub fn warn(message: &str) {
    if message.starts_with("table ") {
        vlog::warn!(modules::OFP_TABLE, "{message}");
    } else {
        vlog::warn!(modules::OFP_PORT, "{message}");
    }
}

impl PortMap for Ports {
    fn port_by_name(&self, name: &str) -> Option<OfPort> {
        self.by_name.get(name).copied().flatten()
    }

    fn name_of(&self, port: OfPort) -> Option<Cow<'_, str>> {
        let name = self.by_number.get(&port)?;
        // A name that is not unique does not tell which port is meant.
        self.by_name.get(name)?.as_ref()?;
        Some(Cow::Borrowed(name))
    }

    fn warn(&self, message: String) {
        warn(&message);
    }
}

/// Tables by number and name.
#[derive(Default)]
pub struct Tables {
    names: RefCell<HashMap<u8, String>>,
}

impl Tables {
    pub fn add(&self, id: u8, name: &str) {
        if !name.is_empty() && name != format!("table{id}") {
            self.names.borrow_mut().insert(id, name.to_owned());
        }
    }
}

impl TableMap for Tables {
    fn table_by_name(&self, name: &str) -> Option<u8> {
        let names = self.names.borrow();
        let mut found = names.iter().filter(|(_, n)| n.as_str() == name);
        let first = found.next().map(|(id, _)| *id);
        if found.next().is_some() { None } else { first }
    }

    fn table_name(&self, table: u8) -> Option<Cow<'_, str>> {
        self.names
            .borrow()
            .get(&table)
            .map(|n| Cow::Owned(n.clone()))
    }
}

/// All ports of a switch.
pub fn fetch_ports(v: &mut Vconn) -> Vec<PortDesc> {
    let tun = Tun::none();
    if v.version < Version::V13 {
        let reply = match v.transact(Message::FeaturesRequest, &tun) {
            Ok(r) => r,
            Err(e) => vconn::talking(v, &e),
        };
        if let Ok(Msg {
            body: Message::FeaturesReply(f),
            ..
        }) = Msg::decode(&reply, &tun)
        {
            // A full reply may have been cut.
            if f.ports.len() < 1000 {
                return f.ports;
            }
        }
    }
    let mut out = Vec::new();
    dump(
        v,
        Message::PortDescRequest { port: OfPort::NONE },
        &tun,
        |m| {
            if let Message::PortDescReply { ports, .. } = m {
                out.extend(ports);
            }
        },
    );
    out
}

/// Sends a multipart request and hands each part of the reply on. Errors are handed on too.
pub fn dump(v: &mut Vconn, request: Message, tun: &Tun<'_>, mut each: impl FnMut(Message)) {
    let (xid, bytes) = v.encode(request, tun);
    if let Err(e) = v.send_bytes(&bytes) {
        vconn::talking(v, &e);
    }
    loop {
        let m = match v.recv_xid(xid) {
            Ok(m) => m,
            Err(e) => vconn::talking(v, &e),
        };
        let more = super::has_more(&m);
        match Msg::decode(&m, tun) {
            Ok(msg) => each(msg.body),
            Err(_) if vconn::kind_of(&m) == Some(Kind::FlowStatsReply) => {
                fatal("dump flows (Protocol error)")
            }
            Err(_) => super::bad_reply(&m),
        }
        if !more {
            break;
        }
    }
}

/// The tables of a switch that have names.
fn fetch_tables(v: &mut Vconn) -> Tables {
    let tables = Tables::default();
    let tun = Tun::auto();
    let request = if v.version >= Version::V13 {
        Message::TableFeaturesRequest {
            tables: Vec::new(),
            more: false,
        }
    } else {
        Message::TableStatsRequest
    };
    dump(v, request, &tun, |m| match m {
        Message::TableFeaturesReply { tables: list, .. } => {
            list.iter().for_each(|t| tables.add(t.table_id, &t.name));
        }
        Message::TableStatsReply { tables: list, .. } => {
            for t in &list {
                if let Some(f) = &t.features {
                    tables.add(t.table_id, &f.name);
                }
            }
        }
        _ => {}
    });
    tables
}

/// Names for reading and for showing text about one switch.
pub struct SwitchNames {
    pub ports: Ports,
    pub tables: Tables,
    pub tun: Tun<'static>,
}

impl SwitchNames {
    /// No names.
    pub fn none() -> SwitchNames {
        SwitchNames {
            ports: Ports::default(),
            tables: Tables::default(),
            tun: Tun::auto(),
        }
    }

    fn fetch(switch: &str, opt: &Options) -> SwitchNames {
        let tables = fetch_tables(&mut vconn::open_switch(switch, opt));
        let mut ports = Ports::default();
        for d in fetch_ports(&mut vconn::open_switch(switch, opt)) {
            ports.add(&d);
        }
        SwitchNames {
            ports,
            tables,
            tun: Tun::auto(),
        }
    }

    /// The names that may be used in what the user gives.
    pub fn to_accept(switch: &str, opt: &Options) -> SwitchNames {
        if opt.accept_names() {
            Self::fetch(switch, opt)
        } else {
            Self::none()
        }
    }

    /// The names that are shown.
    pub fn to_show(switch: &str, opt: &Options) -> SwitchNames {
        if opt.show_names() {
            Self::fetch(switch, opt)
        } else {
            Self::none()
        }
    }

    pub fn names(&self) -> ferrovs_openflow::text::Names<'_> {
        ferrovs_openflow::text::Names {
            ports: &self.ports,
            tables: &self.tables,
            tun: &self.tun,
        }
    }
}

//! Random changes of a database: what is read of them, and what is planned, must be what a look at everything gives.

use std::collections::BTreeMap;
use std::time::Instant;

use ferrovs_idl::Options;
use ferrovs_idl::open_vswitch::{OPEN_VSWITCH, schema_json_text};
use ferrovs_runtime::clock;
use ferrovs_stream::PStream;
use ferrovs_stream::json::parse;
use ferrovs_stream::jsonrpc::{Connection, Msg};
use serde_json::{Value, json};

use super::*;
use crate::plan;
use crate::plan::tests::World;

/// Tables with their rows, by UUID, as JSON.
type Contents = BTreeMap<&'static str, BTreeMap<Uuid, Value>>;

/// A server that says what it is told to.
struct Server {
    _dir: tempfile::TempDir,
    listener: PStream,
    connection: Option<Connection>,
    contents: Contents,
}

impl Server {
    /// With an empty database and a client of it.
    fn new(now: Instant) -> (Server, Idl) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sock").display().to_string();
        let mut server = Server {
            _dir: dir,
            listener: PStream::open(&format!("punix:{path}")).unwrap(),
            connection: None,
            contents: Contents::new(),
        };
        let remote = format!("unix:{path}");
        let mut idl = Idl::new(&remote, &OPEN_VSWITCH, Options::default(), now);
        rows::monitor(&mut idl);
        idl.track_changes();
        while !idl.is_connected() {
            idl.run(now);
            server.answer();
        }
        (server, idl)
    }

    /// Answers as an old server, which knows `monitor` alone.
    fn answer(&mut self) {
        if let Some(stream) = self.listener.accept().unwrap() {
            self.connection = Some(Connection::new(stream));
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        let Ok(Some(Msg::Request { method, params, id })) = connection.recv() else {
            return;
        };
        let answer = match (method.as_str(), params[0].as_str()) {
            ("get_schema", Some("Open_vSwitch")) => {
                Msg::reply(parse(&schema_json_text()).unwrap(), id)
            }
            ("monitor", Some("Open_vSwitch")) => Msg::reply(json!({}), id),
            _ => Msg::error("unknown method".into(), id),
        };
        connection.send(&answer);
    }

    /// Makes the contents `new`, and has the client hear of it.
    fn set(&mut self, idl: &mut Idl, now: Instant, new: Contents) {
        let mut updates = json!({});
        let none = BTreeMap::new();
        let tables: BTreeSet<&str> = new.keys().chain(self.contents.keys()).copied().collect();
        for table in tables {
            let old = self.contents.get(table).unwrap_or(&none);
            let new = new.get(table).unwrap_or(&none);
            let rows: BTreeSet<&Uuid> = old.keys().chain(new.keys()).collect();
            for uuid in rows {
                let update = match (old.get(uuid), new.get(uuid)) {
                    (a, b) if a == b => continue,
                    (Some(a), None) => json!({ "old": a }),
                    (None, Some(b)) => json!({ "new": b }),
                    (a, b) => json!({ "old": a, "new": b }),
                };
                updates[table][uuid.to_string()] = update;
            }
        }
        self.contents = new;
        let params = vec![json!(["monid", "Open_vSwitch"]), updates];
        let connection = self.connection.as_mut().unwrap();
        connection.send(&Msg::notify("update", params));
        // Whatever it is, a row that is told of at the end is heard of at last.
        idl.run(now);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.below(all.len())])
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(u128::from(self.0) << 64 | self.below(usize::MAX) as u128)
    }
}

#[derive(Clone, Default)]
struct BridgeRow {
    kind: &'static str,
    name: String,
    tag: usize,
    ports: BTreeSet<Uuid>,
}

#[derive(Clone, Default)]
struct PortRow {
    name: String,
    tag: usize,
    ifaces: BTreeSet<Uuid>,
}

#[derive(Clone, Default)]
struct IfaceRow {
    name: String,
    kind: &'static str,
    request: Option<usize>,
    ofport: Option<u16>,
}

/// A database in which things happen.
#[derive(Clone, Default)]
struct Model {
    bridges: BTreeMap<Uuid, BridgeRow>,
    ports: BTreeMap<Uuid, PortRow>,
    ifaces: BTreeMap<Uuid, IfaceRow>,
    next_cfg: usize,
    limit: usize,
    /// Nothing claims the same thing, and nothing is lacking.
    regular: bool,
}

impl Model {
    fn change(&mut self, r: &mut Random) {
        let before = self.clone();
        self.change_any(r);
        if self.regular && !self.is_regular() {
            *self = before;
        }
    }

    fn is_regular(&self) -> bool {
        let in_bridges = |p| {
            self.bridges
                .values()
                .filter(|b| b.ports.contains(p))
                .count()
        };
        let in_ports = |i| self.ports.values().filter(|p| p.ifaces.contains(i)).count();
        self.ports.keys().all(|p| in_bridges(p) < 2)
            && self.ifaces.keys().all(|i| in_ports(i) < 2)
            && self.bridges.values().all(|b| {
                let mut names = b.ports.iter().map(|p| &self.ports[p].name);
                names.any(|name| *name == b.name)
            })
    }

    fn change_any(&mut self, r: &mut Random) {
        let bridges: Vec<Uuid> = self.bridges.keys().copied().collect();
        let ports: Vec<Uuid> = self.ports.keys().copied().collect();
        let ifaces: Vec<Uuid> = self.ifaces.keys().copied().collect();
        let (bridge, other) = (r.of(&bridges).copied(), r.of(&bridges).copied());
        let (port, iface) = (r.of(&ports).copied(), r.of(&ifaces).copied());
        self.next_cfg += 1;
        match (r.below(40), bridge, other, port, iface) {
            (0..2, ..) | (_, None, ..) => self.add_bridge(r),
            (2, Some(b), ..) => drop(self.bridges.remove(&b)),
            (3, Some(b), ..) => self.bridges.get_mut(&b).unwrap().kind = ["", "dummy"][r.below(2)],
            (4, Some(b), ..) => self.bridges.get_mut(&b).unwrap().tag += 1,
            (5, Some(b), ..) => {
                // Its own port may go.
                let name = self.bridges[&b].name.clone();
                let ports = &self.ports;
                let ports_of = &mut self.bridges.get_mut(&b).unwrap().ports;
                ports_of.retain(|p| r.below(4) > 0 || ports[p].name != name);
            }
            (6..10, Some(_), _, Some(p), _) => {
                self.leave_bridges(p);
            }
            (10..13, Some(_), Some(to), Some(p), _) => {
                self.leave_bridges(p);
                self.bridges.get_mut(&to).unwrap().ports.insert(p);
            }
            (13..17, _, _, Some(p), _) => self.ports.get_mut(&p).unwrap().tag += 1,
            (17..24, _, _, _, Some(i)) => {
                self.ifaces.get_mut(&i).unwrap().request = [None, Some(1 + r.below(9))][r.below(2)];
            }
            (24..26, _, _, _, Some(i)) => {
                self.ifaces.get_mut(&i).unwrap().kind = ["", "dummy"][r.below(2)];
            }
            (26, _, _, Some(p), Some(i)) => {
                // It may be in two ports then.
                self.ports.get_mut(&p).unwrap().ifaces.insert(i);
            }
            (27, _, Some(b), Some(p), _) => {
                self.bridges.get_mut(&b).unwrap().ports.insert(p);
            }
            (28, ..) => self.limit += 1,
            (29..32, _, _, Some(p), Some(i)) => {
                for port in self.ports.values_mut() {
                    port.ifaces.remove(&i);
                }
                self.ports.get_mut(&p).unwrap().ifaces.insert(i);
            }
            (_, Some(b), ..) => {
                let name = format!("p{}", r.below(14));
                self.add_port(b, name, r);
            }
        }
        self.collect_garbage();
    }

    fn leave_bridges(&mut self, port: Uuid) {
        for bridge in self.bridges.values_mut() {
            bridge.ports.remove(&port);
        }
    }

    fn add_bridge(&mut self, r: &mut Random) {
        let (uuid, name) = (r.uuid(), format!("br{}", r.below(3)));
        if self.bridges.values().any(|b| b.name == name) {
            return;
        }
        let bridge = BridgeRow {
            name: name.clone(),
            ..BridgeRow::default()
        };
        self.bridges.insert(uuid, bridge);
        self.add_port(uuid, name, r);
    }

    fn add_port(&mut self, bridge: Uuid, name: String, r: &mut Random) {
        let taken = self.ports.values().any(|p| p.name == name);
        if taken || self.ifaces.values().any(|i| i.name == name) {
            return;
        }
        let (port, iface) = (r.uuid(), r.uuid());
        let row = IfaceRow {
            name: name.clone(),
            ..IfaceRow::default()
        };
        self.ifaces.insert(iface, row);
        let row = PortRow {
            name,
            tag: 0,
            ifaces: BTreeSet::from([iface]),
        };
        self.ports.insert(port, row);
        self.bridges.get_mut(&bridge).unwrap().ports.insert(port);
    }

    fn collect_garbage(&mut self) {
        self.ports.retain(|uuid, p| {
            !p.ifaces.is_empty() && self.bridges.values().any(|b| b.ports.contains(uuid))
        });
        let ports = &self.ports;
        for bridge in self.bridges.values_mut() {
            bridge.ports.retain(|p| ports.contains_key(p));
        }
        self.ifaces
            .retain(|uuid, _| ports.values().any(|p| p.ifaces.contains(uuid)));
    }

    fn contents(&self) -> Contents {
        let refs = |all: &mut dyn Iterator<Item = &Uuid>| {
            let all: Vec<Value> = all.map(|u| json!(["uuid", u.to_string()])).collect();
            json!(["set", all])
        };
        let optional = |n: Option<usize>| json!(["set", Vec::from_iter(n)]);
        let pairs = |n: usize| json!(["map", [["mac-aging-time", n.to_string()]]]);
        let root = json!({
            "bridges": refs(&mut self.bridges.keys()),
            "next_cfg": self.next_cfg,
            "other_config": pairs(self.limit),
        });
        let bridges = self.bridges.iter().map(|(u, b)| {
            let row = json!({
                "name": b.name,
                "ports": refs(&mut b.ports.iter()),
                "datapath_type": b.kind,
                "other_config": pairs(b.tag),
            });
            (*u, row)
        });
        let ports = self.ports.iter().map(|(u, p)| {
            let row = json!({
                "name": p.name,
                "interfaces": refs(&mut p.ifaces.iter()),
                "tag": optional(Some(p.tag % 4096)),
            });
            (*u, row)
        });
        let ifaces = self.ifaces.iter().map(|(u, i)| {
            let row = json!({
                "name": i.name,
                "type": i.kind,
                "ofport_request": optional(i.request),
                "ofport": optional(i.ofport.map(usize::from)),
            });
            (*u, row)
        });
        Contents::from([
            ("Open_vSwitch", BTreeMap::from([(Uuid::from_u128(1), root)])),
            ("Bridge", bridges.collect()),
            ("Port", ports.collect()),
            ("Interface", ifaces.collect()),
        ])
    }
}

/// Reads and plans what changed, compares that with a look at everything, and carries it out.
struct Pass {
    reader: Reader,
    config: Config,
    scope: Scope,
    world: World,
}

impl Pass {
    /// Returns whether a part was enough.
    fn run(&mut self, idl: &mut Idl) -> bool {
        let Pass {
            reader,
            config,
            scope,
            world,
        } = self;
        let (broken, unmet) = (world.broken(config), world.unmet(config));
        reader.note(idl, scope);
        let unmet = unmet.iter().map(|(bridge, iface)| (bridge, iface));
        plan::retry(config, world, broken.iter(), unmet, scope);
        reader.read(idl, config, scope);
        idl.clear_changes();
        assert_eq!(*config, Reader::default().read_all(idl));
        let kind_of = |kind: &str| kind.to_string();
        let steps = plan::plan(config, world, scope, kind_of);
        assert_eq!(steps, plan::plan(config, world, &Scope::all(), kind_of));
        world.carry_out(&steps);
        !scope.all
    }
}

#[test]
fn what_changed_is_read_and_planned_as_everything_would_be() {
    let now = clock::now();
    let (mut parts, mut passes) = (0, 0);
    for seed in 1..25 {
        let mut r = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let (mut server, mut idl) = Server::new(now);
        let mut model = Model {
            regular: seed % 3 > 0,
            ..Model::default()
        };
        let mut pass = Pass {
            reader: Reader::default(),
            config: Config::default(),
            scope: Scope::all(),
            world: World::default(),
        };
        for _ in 0..120 {
            for _ in 0..=r.below(3) {
                model.change(&mut r);
            }
            server.set(&mut idl, now, model.contents());
            if r.below(5) == 0 {
                pass.world.refused = BTreeSet::from([format!("p{}", r.below(14))]);
            }
            parts += usize::from(pass.run(&mut idl));
            passes += 1;
            // As when devices are waited for, what was done may have to be done again.
            if r.below(5) > 0 {
                pass.scope = Scope::default();
            }
            for iface in model.ifaces.values_mut() {
                iface.ofport = pass.world.number(&iface.name);
            }
        }
    }
    // Most of the time nothing claims the same thing.
    assert!(parts * 3 > passes, "{parts} of {passes}");
}

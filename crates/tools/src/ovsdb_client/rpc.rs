//! The connection, and requests that wait for their answers.

use ferrovs_ovsdb::DatabaseSchema;
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_runtime::{Poller, clock, fatal};
use ferrovs_stream::json::{Value, to_string};
use ferrovs_stream::jsonrpc::{Connection, Msg, Session};
use ferrovs_stream::{PStream, Stream, error_text, verify_active, verify_passive};
use std::io;

/// A connection to a server.
pub(super) struct Rpc {
    pub connection: Connection,
    /// The name that the user gave.
    pub name: String,
}

impl Rpc {
    /// Connects to a server, or to the first of several that answers.
    pub fn open(remotes: &[String]) -> Rpc {
        match remotes {
            [remote] => {
                let connection = connect(remote).unwrap_or_else(|text| fatal(text));
                let name = remote.clone();
                Rpc { connection, name }
            }
            _ => Rpc::open_any(remotes, None),
        }
    }

    /// The same, but of several servers the first that is no mere follower for the database.
    pub fn open_leader(remotes: &[String], database: &str, leader_only: bool) -> Rpc {
        match remotes {
            [_] => Rpc::open(remotes),
            _ => Rpc::open_any(remotes, Some(database).filter(|_| leader_only)),
        }
    }

    /// Connects, and settles which database is meant: the first word if it names one, else the
    /// only one, else Open_vSwitch. The last value says whether the word was used.
    pub fn open_database(
        remotes: &[String],
        words: &[String],
        min: usize,
        leader_only: bool,
    ) -> (Rpc, String, bool) {
        if remotes.len() > 1 {
            // Which server is asked depends on the database, so it cannot be asked for that.
            let Some(name) = words.first().filter(|_| words.len() > min) else {
                fatal("database name is required with multiple remotes");
            };
            let rpc = Rpc::open_leader(remotes, name, leader_only);
            return (rpc, name.clone(), true);
        }
        let mut rpc = Rpc::open(remotes);
        let dbs = rpc.list_dbs();
        let named = words
            .first()
            .filter(|w| words.len() > min && dbs.contains(w));
        let own: Vec<&String> = dbs.iter().filter(|d| !d.starts_with('_')).collect();
        let default = "Open_vSwitch".to_string();
        let database = match (named, own.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.to_string(),
            _ if dbs.contains(&default) => default,
            _ => fatal("could not find a default database, please specify a database name"),
        };
        (rpc, database, named.is_some())
    }

    /// Connects to the first server that answers; if `leader_of` names a database, to the first
    /// that is no mere follower for it.
    fn open_any(remotes: &[String], leader_of: Option<&str>) -> Rpc {
        let mut session = Session::open_multiple(remotes.to_vec(), false, clock::now());
        let (mut seqno, mut asked) = (session.seqno(), Value::Null);
        let mut poller = Poller::new();
        let finish = |session: Session| {
            let name = session.name().to_string();
            match session.into_connection() {
                Some(connection) => Rpc { connection, name },
                None => fatal("no servers were available"),
            }
        };
        loop {
            let now = clock::now();
            session.run(now);
            if !session.is_alive() {
                fatal("no servers were available");
            }
            if session.is_connected() && session.seqno() != seqno {
                seqno = session.seqno();
                let Some(database) = leader_of else {
                    return finish(session);
                };
                let condition = serde_json::json!([["name", "==", database]]);
                let select = serde_json::json!({
                    "op": "select", "table": "Database", "where": condition, "columns": ["leader"]
                });
                let (request, id) = Msg::request("transact", vec!["_Server".into(), select]);
                session.send(&request);
                asked = id;
            }
            match session.recv(now) {
                Some(Msg::Reply { result, id }) if id == asked => {
                    // A server without the database is none for it.
                    let leader = result.pointer("/0/rows/0/leader").and_then(Value::as_bool);
                    if leader == Some(true) {
                        return finish(session);
                    }
                    session.force_reconnect(now);
                    continue;
                }
                // Old servers have no database about themselves, and no clusters.
                Some(Msg::Error { id, .. }) if id == asked => return finish(session),
                Some(_) => continue,
                None => {}
            }
            session.wait(&mut poller);
            session.recv_wait(&mut poller);
            poller.block();
        }
    }

    /// Sends a request; the reply's result, or the end of the program.
    pub fn call(&mut self, method: &str, params: Vec<Value>) -> Value {
        let id = self.send(method, params);
        self.reply(&id)
    }

    /// Waits for the reply to the request `id`; its result, or the end of the program.
    pub fn reply(&mut self, id: &Value) -> Value {
        match self.connection.reply_block(id) {
            Ok(Msg::Reply { result, .. }) => result,
            Ok(Msg::Error { error, .. }) => fatal(format_args!(
                "transaction returned error: {}",
                to_string(&error)
            )),
            Ok(_) => fatal("transaction failed (Protocol error)"),
            Err(e) => fatal(format_args!("transaction failed ({})", error_text(&e))),
        }
    }

    /// Asks the server to tell of changes to databases instead of ending the connection. Old servers
    /// do not know the method.
    pub fn be_change_aware(&mut self) {
        let id = self.send("set_db_change_aware", vec![true.into()]);
        if let Err(e) = self.connection.reply_block(&id) {
            fatal(format_args!("transaction failed ({})", error_text(&e)));
        }
    }

    pub fn list_dbs(&mut self) -> Vec<String> {
        let result = self.call("list_dbs", Vec::new());
        let Value::Array(names) = result else {
            fatal("list_dbs response is not array");
        };
        let mut dbs = Vec::new();
        for name in names {
            match name {
                Value::String(name) => dbs.push(name),
                _ => fatal("list_dbs response is not array of strings"),
            }
        }
        dbs.sort();
        dbs
    }

    pub fn schema_json(&mut self, database: &str) -> Value {
        self.call("get_schema", vec![database.into()])
    }

    pub fn schema(&mut self, database: &str) -> DatabaseSchema {
        let json = self.schema_json(database);
        DatabaseSchema::from_json(&json).unwrap_or_else(|e| fatal(e))
    }

    /// Sends a request and returns its id.
    pub fn send(&mut self, method: &str, params: Vec<Value>) -> Value {
        let (request, id) = Msg::request(method, params);
        self.connection.send(&request);
        id
    }
}

/// Connects to a server, or waits for one to connect.
fn connect(remote: &str) -> Result<Connection, String> {
    let mut poller = Poller::new();
    if verify_passive(remote) {
        let failed = |e: io::Error| {
            format!(
                "failed to connect or listen to \"{remote}\" ({})",
                error_text(&e)
            )
        };
        let mut listener = PStream::open(remote).map_err(failed)?;
        vlog::info!(modules::OVSDB_CLIENT, "{remote}: waiting for connection...");
        loop {
            if let Some(stream) = listener.accept().map_err(failed)? {
                return Ok(Connection::new(stream));
            }
            listener.wait(&mut poller);
            poller.block();
        }
    }
    let known = verify_active(remote);
    let failed =
        |what: &str, e: &io::Error| format!("failed to {what} \"{remote}\" ({})", error_text(e));
    let mut stream = Stream::open(remote).map_err(|e| {
        let unusable =
            !known || e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        failed(
            if unusable {
                "connect or listen to"
            } else {
                "connect to"
            },
            &e,
        )
    })?;
    loop {
        stream.run();
        match stream.connect() {
            Ok(()) => return Ok(Connection::new(stream)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                stream.run_wait(&mut poller);
                stream.connect_wait(&mut poller);
                poller.block();
            }
            Err(e) => return Err(failed("connect to", &e)),
        }
    }
}

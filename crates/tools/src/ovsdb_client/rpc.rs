//! The connection, and requests that wait for their answers.

use ferrovs_ovsdb::DatabaseSchema;
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_runtime::{Poller, fatal};
use ferrovs_stream::json::{Value, to_string};
use ferrovs_stream::jsonrpc::{Connection, Msg};
use ferrovs_stream::{PStream, Stream, error_text, verify_active, verify_passive};
use std::io;

/// A connection to a server.
pub(super) struct Rpc {
    pub connection: Connection,
    /// The name that the user gave.
    pub name: String,
}

impl Rpc {
    /// Connects to the first of several servers that answers; of a cluster, if asked, the leader.
    pub fn open(remotes: &[&str], database: Option<&str>, leader_only: bool) -> Rpc {
        let mut last = None;
        for (i, remote) in remotes.iter().enumerate() {
            let more = i + 1 < remotes.len();
            if remotes.len() > 1 {
                vlog::info!(modules::RECONNECT, "{remote}: connecting...");
            }
            match connect(remote) {
                Ok(connection) => {
                    if remotes.len() > 1 {
                        vlog::info!(modules::RECONNECT, "{remote}: connected");
                    }
                    let mut rpc = Rpc {
                        connection,
                        name: remote.to_string(),
                    };
                    if !leader_only || !more || rpc.is_leader(database) {
                        return rpc;
                    }
                    vlog::info!(
                        modules::OVSDB_CLIENT,
                        "{remote}: clustered database server is not cluster leader; trying another server"
                    );
                }
                Err(text) => last = Some(text),
            }
        }
        fatal(last.unwrap_or_else(|| "no server to connect to".into()))
    }

    /// Connects, and settles which database is meant: the first word if it names one, else the
    /// only one, else Open_vSwitch. The last value says whether the word was used.
    pub fn open_database(
        remotes: &[&str],
        words: &[String],
        min: usize,
        command: &str,
        leader_only: bool,
    ) -> (Rpc, String, bool) {
        let mut rpc = Rpc::open(remotes, None, false);
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
            _ => fatal(format_args!(
                "no default database for `{command}' command, please specify a database name"
            )),
        };
        if leader_only && remotes.len() > 1 && !rpc.is_leader(Some(&database)) {
            rpc = Rpc::open(remotes, Some(&database), true);
        }
        (rpc, database, named.is_some())
    }

    /// True unless `_Server` says that the server is a follower for the database.
    fn is_leader(&mut self, database: Option<&str>) -> bool {
        let Some(database) = database else {
            return true;
        };
        let condition = serde_json::json!([["name", "==", database]]);
        let select = serde_json::json!({
            "op": "select", "table": "Database", "where": condition, "columns": ["leader"]
        });
        let (request, _) = Msg::request("transact", vec!["_Server".into(), select]);
        match self.connection.transact_block(&request) {
            Ok(Msg::Reply { result, .. }) => result
                .pointer("/0/rows/0/leader")
                .and_then(Value::as_bool)
                .unwrap_or(true),
            _ => true,
        }
    }

    /// Sends a request; the reply's result, or the end of the program.
    pub fn call(&mut self, method: &str, params: Vec<Value>) -> Value {
        let (request, _) = Msg::request(method, params);
        match self.connection.transact_block(&request) {
            Ok(Msg::Reply { result, .. }) => result,
            Ok(Msg::Error { error, .. }) => fatal(format_args!(
                "transaction returned error: {}",
                to_string(&error)
            )),
            Ok(_) => fatal("transaction failed (Protocol error)"),
            Err(e) => fatal(format_args!("transaction failed ({})", error_text(&e))),
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

    /// The next message; the end of the connection is the end of the program.
    pub fn receive(&mut self) -> Msg {
        match self.connection.recv_block() {
            Ok(msg) => msg,
            Err(e) => fatal(format_args!(
                "{}: receive failed ({})",
                self.name,
                error_text(&e)
            )),
        }
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

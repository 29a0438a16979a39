//! The four kinds of JSON-RPC messages, and the checks that Open vSwitch makes on them.

use crate::json::{Map, RawArray, RawValue, Stop, Value, to_string, walk};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one message from a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its text.
    pub text: usize,
    /// Bytes of a tree that is made of it, or of a part of it.
    pub tree: usize,
}

impl Default for Limits {
    /// For whoever trusts its peer, as a client trusts its server: a reply may hold a database.
    fn default() -> Limits {
        Limits {
            text: 4 << 30,
            tree: usize::MAX,
        }
    }
}

impl Limits {
    /// For a server, whose clients may be anybody.
    ///
    /// A transaction that inserts a million rows is some 80 bytes a row, and its operations become
    /// trees one at a time. A tree takes up to fifty times its text, but what is really large in
    /// one operation is a set or a map: half a million elements fit.
    pub const SERVER: Limits = Limits {
        text: 96 << 20,
        tree: 64 << 20,
    };
    /// More parameters than that is no request: each of them costs a result.
    pub(super) const MAX_PARAMS: usize = 4 << 20;
}

/// What comes in on a connection that keeps large requests, or large results, as text.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    Msg(Msg),
    /// A reply with much to say.
    LargeReply {
        result: RawValue,
        id: Value,
    },
    /// A request with many parameters.
    Large {
        method: String,
        params: RawArray,
        id: Value,
    },
}

/// Takes a `transact` request apart, the parameters staying text; anything else comes back.
pub(super) fn split(text: Vec<u8>) -> Result<Incoming, Vec<u8>> {
    let (mut method, mut id, mut params): (_, _, Option<Range<usize>>) = (None, None, None);
    let walked = walk(&text, |name, w| {
        match name.as_str() {
            // The last of several members with one name counts.
            "method" | "id" if w.at_object() || w.at_array() => return Err(Stop::Found(())),
            "method" => method = Some(w.value()?),
            "id" => id = Some(w.value()?),
            "params" if w.at_array() => {
                let start = w.position();
                w.skip()?;
                params = Some(start..w.position());
            }
            _ => return Err(Stop::Found(())),
        }
        Ok(())
    });
    match (walked, method, id, params) {
        (Ok(()), Some(Value::String(method)), Some(id), Some(params))
            if method == "transact" && !id.is_null() =>
        {
            let params = RawArray::new(text, params, Limits::MAX_PARAMS)?;
            Ok(Incoming::Large { method, params, id })
        }
        _ => Err(text),
    }
}

/// Takes a reply apart, the result staying text; anything else comes back.
pub(super) fn split_reply(text: Vec<u8>) -> Result<Incoming, Vec<u8>> {
    let (mut id, mut result): (_, Option<Range<usize>>) = (None, None);
    let walked = walk(&text, |name, w| {
        match name.as_str() {
            "id" if !w.at_object() && !w.at_array() => id = Some(w.value()?),
            "error" if !w.at_object() && !w.at_array() => {
                if !w.value()?.is_null() {
                    return Err(Stop::Found(()));
                }
            }
            "result" if w.at_array() || w.at_object() => {
                let start = w.position();
                w.skip()?;
                result = Some(start..w.position());
            }
            _ => return Err(Stop::Found(())),
        }
        Ok(())
    });
    match (walked, id, result) {
        (Ok(()), Some(id), Some(result)) if !id.is_null() => Ok(Incoming::LargeReply {
            result: RawValue::new(text, result),
            id,
        }),
        _ => Err(text),
    }
}

/// A JSON-RPC 1.0 message.
#[derive(Clone, Debug, PartialEq)]
pub enum Msg {
    Request {
        method: String,
        params: Vec<Value>,
        id: Value,
    },
    Notify {
        method: String,
        params: Vec<Value>,
    },
    Reply {
        result: Value,
        id: Value,
    },
    Error {
        error: Value,
        id: Value,
    },
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Msg {
    /// A request with an id that this process has not used.
    pub fn request(method: &str, params: Vec<Value>) -> (Msg, Value) {
        let id = Value::from(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        (
            Msg::Request {
                method: method.into(),
                params,
                id: id.clone(),
            },
            id,
        )
    }

    pub fn notify(method: &str, params: Vec<Value>) -> Msg {
        Msg::Notify {
            method: method.into(),
            params,
        }
    }

    pub fn reply(result: Value, id: Value) -> Msg {
        Msg::Reply { result, id }
    }

    pub fn error(error: Value, id: Value) -> Msg {
        Msg::Error { error, id }
    }

    /// Reads a message; the error is the text after "received bad JSON-RPC message: ".
    pub fn from_json(json: Value) -> Result<Msg, String> {
        let Value::Object(mut members) = json else {
            return Err("message is not a JSON object".into());
        };
        let method = match members.remove("method").filter(|m| !m.is_null()) {
            None => None,
            Some(Value::String(method)) => Some(method),
            Some(_) => return Err("method is not a JSON string".into()),
        };
        let mut take = |name: &str| members.remove(name).filter(|v| !v.is_null());
        let (params, result, error, id) =
            (take("params"), take("result"), take("error"), take("id"));
        if let Some(name) = members.keys().next() {
            return Err(format!("message has unexpected member \"{name}\""));
        }
        // The kind follows from what is there, and what else is there must fit the kind.
        let (kind, wants) = match (&result, &error, &id) {
            (Some(_), ..) => ("reply", [false, false, true, false, true]),
            (None, Some(_), _) => ("error", [false, false, false, true, true]),
            (None, None, Some(_)) => ("request", [true, true, false, false, true]),
            (None, None, None) => ("notification", [true, true, false, false, false]),
        };
        let has = [
            method.is_some(),
            params.is_some(),
            result.is_some(),
            error.is_some(),
            id.is_some(),
        ];
        for (i, name) in ["method", "params", "result", "error", "id"]
            .into_iter()
            .enumerate()
        {
            if has[i] != wants[i] {
                let not = if has[i] { " not" } else { "" };
                return Err(format!("{kind} must{not} have \"{name}\""));
            }
            if name == "params" && !matches!(params, None | Some(Value::Array(_))) {
                return Err("\"params\" must be JSON array".into());
            }
        }
        let id = id.unwrap_or_default();
        Ok(match (method, params, result, error) {
            (Some(method), Some(Value::Array(params)), ..) if kind == "request" => {
                Msg::Request { method, params, id }
            }
            (Some(method), Some(Value::Array(params)), ..) => Msg::Notify { method, params },
            (_, _, Some(result), _) => Msg::Reply { result, id },
            (_, _, _, error) => Msg::Error {
                error: error.unwrap_or_default(),
                id,
            },
        })
    }

    /// The message as a JSON object.
    pub fn to_json(&self) -> Value {
        let mut members = Map::new();
        let mut put = |name: &str, value: &Value| drop(members.insert(name.into(), value.clone()));
        match self {
            Msg::Request { method, params, id } => {
                put("method", &Value::from(method.as_str()));
                put("params", &Value::from(params.clone()));
                put("id", id);
            }
            Msg::Notify { method, params } => {
                put("method", &Value::from(method.as_str()));
                put("params", &Value::from(params.clone()));
                put("id", &Value::Null);
            }
            Msg::Reply { result, id } => {
                put("result", result);
                put("error", &Value::Null);
                put("id", id);
            }
            Msg::Error { error, id } => {
                put("result", &Value::Null);
                put("error", error);
                put("id", id);
            }
        }
        Value::Object(members)
    }

    /// The message as it goes over the wire.
    pub fn to_wire(&self) -> String {
        // Written piecewise, so that large parameters are not copied into one value first.
        let mut out = String::new();
        let field = |out: &mut String, name: &str, value: &Value| {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&format!("\"{name}\":"));
            out.push_str(&to_string(value));
        };
        match self {
            Msg::Request { method, params, .. } | Msg::Notify { method, params } => {
                let id = match self {
                    Msg::Request { id, .. } => id,
                    _ => &Value::Null,
                };
                field(&mut out, "id", id);
                field(&mut out, "method", &Value::from(method.as_str()));
                out.push_str(",\"params\":[");
                for (i, param) in params.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&to_string(param));
                }
                out.push(']');
            }
            Msg::Reply { result, id } => {
                field(&mut out, "id", id);
                field(&mut out, "result", result);
                field(&mut out, "error", &Value::Null);
            }
            Msg::Error { error, id } => {
                field(&mut out, "id", id);
                field(&mut out, "result", &Value::Null);
                field(&mut out, "error", error);
            }
        }
        out.push('}');
        out
    }

    /// The message as debug lines in the log tell it.
    pub(super) fn to_log(&self) -> String {
        match self {
            Msg::Request { method, params, id } => format!(
                "request, method=\"{method}\", params={}, id={}",
                to_string(&Value::from(params.as_slice())),
                to_string(id)
            ),
            Msg::Notify { method, params } => format!(
                "notification, method=\"{method}\", params={}",
                to_string(&Value::from(params.as_slice()))
            ),
            Msg::Reply { result, id } => {
                format!("reply, result={}, id={}", to_string(result), to_string(id))
            }
            Msg::Error { error, id } => {
                format!("reply, error={}, id={}", to_string(error), to_string(id))
            }
        }
    }

    /// The id of a request, reply or error.
    pub fn id(&self) -> Option<&Value> {
        match self {
            Msg::Request { id, .. } | Msg::Reply { id, .. } | Msg::Error { id, .. } => Some(id),
            Msg::Notify { .. } => None,
        }
    }
}

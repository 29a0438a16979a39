//! Writes JSON objects whose members come in the order of their names, straight into bytes.

use ferrovs_json as json;
use ferrovs_ovsdb::{Uuid, uuid};

pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        json::write_str(self.out, name);
        self.out.push(b':');
    }

    pub fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        json::write_str(self.out, value);
    }

    pub fn integer(&mut self, name: &str, value: u64) {
        self.name(name);
        json::write_integer(self.out, value.cast_signed());
    }

    pub fn boolean(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }

    pub fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
    }

    pub fn uuid(&mut self, name: &str, value: Uuid) {
        self.name(name);
        self.out.push(b'"');
        uuid::write(self.out, &value);
        self.out.push(b'"');
    }

    /// An object, whose members `members` writes.
    pub fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut o = Object::new(self.out);
        members(&mut o);
        o.end();
    }

    /// An array, each item written by `item`.
    pub fn array<T>(&mut self, name: &str, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
        self.name(name);
        self.out.push(b'[');
        for (i, x) in items.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            item(self.out, x);
        }
        self.out.push(b']');
    }
}

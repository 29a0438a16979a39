//! Schemas, given as text or drawn from the bytes: what is accepted prints as something that is accepted again
//! and prints the same; rows convert from one schema to another or not at all.

use std::sync::Arc;

use ferrovs_ovsdb::server::convert;
use ferrovs_ovsdb::{Database, DatabaseSchema, json};
use ferrovs_testkit::database::{self, Choose, Generator};
use serde_json::Value;

use crate::input::Input;
use crate::model;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.chance(50) {
        let text = input.rest();
        if let Ok(tree) = json::parse_bytes(text) {
            parse(&tree);
        }
        return;
    }
    let drawn = database::schema(&mut input);
    let schema = parse(&drawn).expect("drawn schemas are right");
    let next = database::descendant(&mut input, &drawn);
    let next = parse(&next);
    let mut db = Database::new(Arc::new(schema));
    let mut generator = Generator::new(input, &drawn);
    for _ in 0..64 {
        if generator.choose.is_empty() {
            break;
        }
        let params = generator.transaction();
        model::execute(&mut db, &params, &mut |_, _| Ok(()));
    }
    model::check(&db);
    if let Some(next) = next
        && let Ok(converted) = convert(&db, Arc::new(next))
    {
        model::check(&converted);
    }
}

/// The schema; none if it is refused, with an error that is no longer than it has to be.
fn parse(tree: &Value) -> Option<DatabaseSchema> {
    let schema = match DatabaseSchema::from_json(tree) {
        Ok(s) => s,
        Err(e) => {
            let quoted = e.syntax.as_ref().map_or(0, String::len);
            let details = e.details.as_ref().map_or(0, String::len);
            let whole = json::to_string(tree).len();
            assert!(quoted <= whole && details <= 2 * whole + 300, "{e}");
            return None;
        }
    };
    let text = json::to_string(&schema.to_json());
    let again = DatabaseSchema::from_json(&json::parse(&text).unwrap())
        .unwrap_or_else(|e| panic!("{text} is refused: {e}"));
    assert_eq!(text, json::to_string(&again.to_json()));
    Some(schema)
}

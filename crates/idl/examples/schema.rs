//! Prints a schema as its `.ovsschema` file has it: Open_vSwitch's, or the one that is named.

use ferrovs_idl::{hardware_vtep, local_config, open_vswitch};

fn main() {
    let text = match std::env::args().nth(1).as_deref() {
        None | Some("vswitch") => open_vswitch::schema_json_text(),
        Some("vtep") => hardware_vtep::schema_json_text(),
        Some("local-config") => local_config::schema_json_text(),
        Some(name) => {
            eprintln!("no schema named {name}");
            std::process::exit(1);
        }
    };
    print!("{text}");
}

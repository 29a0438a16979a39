//! Prints the Open_vSwitch schema as `vswitch.ovsschema` has it.

fn main() {
    print!("{}", ferrovs_idl::open_vswitch::schema_json_text());
}

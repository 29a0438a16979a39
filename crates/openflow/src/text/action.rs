//! Lists of actions as text; how an action is shown is said in its [row](crate::action::row).

use std::fmt::Write;

use super::Names;
use super::color::{self, Colors};
use crate::action::Action;

/// Appends a list of actions, joined by commas; `drop` if there are none.
pub fn format_actions(list: &[Action], names: &Names<'_>, out: &mut String) {
    let start = out.len();
    format_list(list, names, out);
    color::repaint(start, out, Colors::actions);
}

/// The same of a list in another, which is painted with it.
pub(crate) fn format_list(list: &[Action], names: &Names<'_>, out: &mut String) {
    if list.is_empty() {
        out.push_str("drop");
    }
    list_of(list, out, |a, out| format_action(a, names, out));
}

/// Appends one action.
pub fn format_action(a: &Action, names: &Names<'_>, out: &mut String) {
    (a.row().format)(a, names, out);
}

/// Appends items, joined by commas.
pub(crate) fn list_of<T>(items: &[T], out: &mut String, mut one: impl FnMut(&T, &mut String)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        one(item, out);
    }
}

/// Appends bytes in hexadecimal, joined by dots.
pub(crate) fn dotted(data: &[u8], out: &mut String) {
    for (i, b) in data.iter().enumerate() {
        if i > 0 {
            out.push('.');
        }
        let _ = write!(out, "{b:02x}");
    }
}

/// Drops the comma that a list of optional parts ends with.
pub(crate) fn chomp(out: &mut String) {
    if out.ends_with(',') {
        out.pop();
    }
}

//! Lists of devices that commands and others look through.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Adds a device to a list of those of its class. Those that are gone leave before the list grows.
pub(crate) fn remember<T>(list: &Mutex<Vec<Weak<T>>>, device: &Arc<T>) {
    let mut all = list.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() == all.capacity() {
        all.retain(|w| w.strong_count() > 0);
    }
    all.push(Arc::downgrade(device));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_devices_does_not_grow_with_those_that_come_and_go() {
        let list = Mutex::default();
        let stay: Vec<_> = (0..100).map(Arc::new).collect();
        stay.iter().for_each(|device| remember(&list, device));
        (0..10_000).for_each(|n| remember(&list, &Arc::new(n)));
        let list = list.into_inner().unwrap();
        let still: Vec<_> = list.iter().filter_map(Weak::upgrade).collect();
        assert_eq!(still, stay);
        assert!(list.len() <= 256, "{}", list.len());
    }
}

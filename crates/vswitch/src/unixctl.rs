//! Commands about bridges as a whole.

use ferrovs_runtime::clock;
use ferrovs_runtime::unixctl::{Commands, Output};

use crate::Switch;

/// Registers `bridge/reconnect`; `switch` finds the switch in the application's state.
pub fn register<S: 'static>(commands: &mut Commands<S>, switch: fn(&mut S) -> &mut Switch) {
    commands.register("bridge/reconnect", "[bridge]", 0, 1, move |s, r| {
        let ofprotos = &mut switch(s).ofprotos;
        let now = clock::now();
        match r.arg(1) {
            Some(name) => {
                let bridge = ofprotos.bridge_mut(name).ok_or("unknown bridge")?;
                bridge.connmgr_mut().reconnect(now);
            }
            None => ofprotos.bridges_mut().for_each(|b| b.connmgr_mut().reconnect(now)),
        }
        Ok(Output::empty())
    });
}

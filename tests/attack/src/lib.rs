//! Attacks on a running relay, and the honest clients that must not notice them.
//!
//! [`SCENES`] is the table of the attacks. A scene is run against a [`Target`], which is the relay with the limits that it
//! is shipped with: first the honest clients work alone, then beside the attackers. Attackers come from addresses of
//! their own, on loopback alone; what they may do is bounded in count and time. `scripts/attack` runs all scenes at
//! length and prints what the honest clients keep of their speed; the end-to-end tests run them briefly and ask only
//! that every honest exchange succeeds.

mod bots;
mod honest;
mod line;
mod process;
mod run;
mod scenes;
mod target;

pub use bots::Acted;
pub use honest::{Count, Outcome};
pub use run::{Beside, Scale, run};
pub use scenes::{Act, Body, Reader, SCENES, Scene, Whence};
pub use target::{Target, Transport};

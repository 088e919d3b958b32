//! Limits on all that a stranger can make grow, and fair shares below them.

mod bandwidth;
mod counts;
mod displaced;
mod fairness;
mod memory;

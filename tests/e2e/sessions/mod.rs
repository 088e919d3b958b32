//! A session from its issue to its end: which clients may ask for one, which wait in it and for how long.

mod issuing;
mod lifetime;
mod safe_conduct;
mod waiting;
mod waits;

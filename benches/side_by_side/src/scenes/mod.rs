//! The scenes: what work is done, by whom it is done, and what is told of it.

mod bulk;
mod https;
mod idle;
mod latency;
mod requests;
mod small;

use crate::Outcome;
use crate::plan::Stage;
use crate::sample::{Metric, Sample};
use std::fmt;

pub(crate) use small::BODY_BYTES;

/// Names that goals speak of, too.
pub(crate) const ONE_WORKER: &str = "idontstore, one worker";
pub(crate) const TWO_WORKERS: &str = "idontstore, two workers";
pub(crate) const CHUNKS_ONE: &str = "idontstore, one worker, chunks";
pub(crate) const CHUNKS_TWO: &str = "idontstore, two workers, chunks";
pub(crate) const HAPROXY_SPLICE: &str = "HAProxy, splice, upload";
pub(crate) const MULTIPART_ONE: &str = "idontstore, one worker, multipart";
pub(crate) const MULTIPART_TWO: &str = "idontstore, two workers, multipart";
pub(crate) const RELAY: &str = "idontstore";
pub(crate) const PIPING: &str = "Piping Server (Node)";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const TLS_ALONE: &str = "the TLS library alone";

/// Something that does a scene's work. What it runs holds its target by an `Rc`, or by value as a whole: a
/// closure that mentions only a field of a value would keep that one and drop the others.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnMut() -> Outcome<Sample>>,
}

impl Contender {
    pub(crate) fn new(
        name: impl Into<String>,
        run: impl FnMut() -> Outcome<Sample> + 'static,
    ) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contender").field(&self.name).finish()
    }
}

/// Work that several do by turns.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is told; the first one is plotted.
    pub(crate) metrics: &'static [Metric],
    /// By whom the others are measured, and in what.
    pub(crate) limit: &'static str,
    pub(crate) ratios: &'static [Metric],
    /// Starts all that take part.
    pub(crate) start: fn(&Stage) -> Outcome<Vec<Contender>>,
}

pub(crate) const SCENES: &[Scene] = &[
    bulk::ALONE,
    bulk::CROWD,
    small::FRESH_1,
    small::FRESH_16,
    small::KEPT_1,
    small::KEPT_16,
    latency::SCENE,
    requests::SCENE,
    idle::SCENE,
    https::SCENE,
];

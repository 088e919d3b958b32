//! The scenes: the work that is done, the contenders that do it, and the metrics that are told of it.

mod alignment;
mod bulk;
mod framed;
mod https;
mod idle;
mod latency;
mod pair;
mod requests;
mod resume;
mod small;

use crate::Outcome;
use crate::plan::Stage;
use crate::sample::{Metric, Sample, is_of};
use std::fmt;

pub(crate) use alignment::{CHUNKED, FORMS, PLAIN};
pub(crate) use resume::SPLICE;

/// Names that goals speak of, too.
pub(crate) const RELAY: &str = "idontstore";
pub(crate) const PACKAGED: &str = "idontstore, as packaged";
pub(crate) const LANDED: &str = "idontstore, as they land";
pub(crate) const ONE_WORKER: &str = "idontstore, one worker";
pub(crate) const TWO_WORKERS: &str = "idontstore, two workers";
pub(crate) const PIPES_256_ONE: &str = "idontstore, one worker, 256 pipes";
pub(crate) const PIPES_256_TWO: &str = "idontstore, two workers, 256 pipes";
pub(crate) const CHUNKS_ONE: &str = "idontstore, one worker, chunks";
pub(crate) const CHUNKS_TWO: &str = "idontstore, two workers, chunks";
pub(crate) const CHUNKED_ONE: &str = "idontstore, one worker, chunked body";
pub(crate) const CHUNKED_TWO: &str = "idontstore, two workers, chunked body";
pub(crate) const CHUNKED_CHUNKS_ONE: &str = "idontstore, one worker, chunked body, chunks";
pub(crate) const CHUNKED_CHUNKS_TWO: &str = "idontstore, two workers, chunked body, chunks";
pub(crate) const MULTIPART_ONE: &str = "idontstore, one worker, multipart";
pub(crate) const MULTIPART_TWO: &str = "idontstore, two workers, multipart";
pub(crate) const MESSAGES: &str = "idontstore, as they land, sent";
pub(crate) const EXCHANGES: &str = "idontstore, as they land, exchanges, acked";
pub(crate) const PIPING: &str = "Piping Server (Node)";
pub(crate) const TRANSIT_RELAY: &str = "transit relay (Python)";
/// Families, whose contenders' names go on with how they are set up: others are measured in the best of them.
pub(crate) const COPY: &str = "copy";
pub(crate) const CHUNKING_COPY: &str = "chunking copy";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const HAPROXY: &str = "HAProxy";
pub(crate) const SOCAT: &str = "socat";
pub(crate) const NGINX_ANSWER: &str = "nginx, same answer";
pub(crate) const TLS_ALONE: &str = "the TLS library alone";

/// Whether a ratio of the one to the other says something: peers cannot choose their workers, so ours do not either.
pub(crate) fn are_comparable(contender: &str, to: &str) -> bool {
    let is_chosen = contender.starts_with(ONE_WORKER) || contender.starts_with(TWO_WORKERS);
    let peers = [PIPING, NGINX, HAPROXY, NGINX_ANSWER, TRANSIT_RELAY, SOCAT];
    let is_peer = peers.iter().any(|family| is_of(to, family));
    contender != to && !(is_chosen && is_peer)
}

/// A contender does a scene's work. The closure holds the target by an `Rc`, or by value as a whole: a closure that
/// mentions only a field of a value would keep that field and drop the others.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// In what it differs from its program's defaults.
    pub(crate) settings: String,
    pub(crate) run: Box<dyn FnMut() -> Outcome<Sample>>,
}

impl Contender {
    pub(crate) fn new(
        name: impl Into<String>,
        settings: impl Into<String>,
        run: impl FnMut() -> Outcome<Sample> + 'static,
    ) -> Self {
        Self { name: name.into(), settings: settings.into(), run: Box::new(run) }
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
    /// The differences between contenders, beside settings; or that there are none.
    pub(crate) remarks: &'static str,
    /// The metrics that are told; the first one is plotted.
    pub(crate) metrics: &'static [Metric],
    /// In what the others are measured, and by which family's best.
    pub(crate) ratios: &'static [(Metric, &'static str)],
    /// How long a round of all takes, roughly, with what is done by default; seconds.
    pub(crate) round_seconds: f64,
    /// Starts all that take part.
    pub(crate) start: fn(&Stage) -> Outcome<Vec<Contender>>,
}

pub(crate) const SCENES: &[Scene] = &[
    bulk::ALONE,
    bulk::CROWD,
    framed::SCENE,
    alignment::SCENE,
    resume::SCENE,
    small::FRESH_1,
    small::FRESH_16,
    small::KEPT_1,
    small::KEPT_16,
    latency::SCENE,
    pair::ONE_WAY,
    pair::BOTH_WAYS,
    pair::CROWD,
    pair::TRIPS,
    requests::SCENE,
    idle::SCENE,
    https::SCENE,
];

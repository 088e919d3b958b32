//! Payload with framing around it: chunked bodies and forms, beside the same payload without.

use super::bulk::{self, ALONE, Named, boxed, contenders, placed, relay, with};
use super::{
    CHUNKED_CHUNKS_ONE, CHUNKED_CHUNKS_TWO, CHUNKED_ONE, CHUNKED_TWO, CHUNKING_COPY, CHUNKS_ONE,
    CHUNKS_TWO, COPY, Contender, MULTIPART_ONE, MULTIPART_TWO, Scene,
};
use crate::Outcome;
use crate::limits::{Limit, Running};
use crate::plan::Stage;
use crate::sample::Metric;
use crate::targets::Form;
use crate::targets::relay::Placement;
use crate::targets::setup::Setup;

pub(crate) const SCENE: Scene = Scene {
    name: "framed",
    title: "One transfer with framing around its payload",
    remarks: "A chunked body has 65,521 bytes in a chunk; curl's chunks have 65,524. A form has one file. Both arrive in a \
              chunked coding. *copy* and *chunking copy* are sent the payload alone, and the latter sends it on in a \
              chunked coding.",
    ratios: &[
        (Metric::CpuPerGib, CHUNKS_ONE),
        (Metric::CpuPerGib, CHUNKING_COPY),
        (Metric::CpuPerGib, COPY),
        (Metric::GibPerSecond, CHUNKING_COPY),
    ],
    round_seconds: 24.0,
    start,
    ..ALONE
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    use Form::{Chunked, Multipart, Raw};
    use Placement::{OneWorker, TwoWorkers};
    let limits =
        [Limit::Copy(256), Limit::Copy(512), Limit::CopyChunked(256), Limit::CopyChunked(512)];
    let mut carriers: Vec<Named> = Vec::new();
    for limit in limits {
        carriers.push((limit.to_string(), boxed(Running::start(limit)?)));
    }
    let default = relay(stage, &Setup::default())?;
    let chunks = relay(stage, &with(bulk::NO_PIPES))?;
    carriers.extend(placed(&[
        (CHUNKS_ONE, &chunks, OneWorker, Raw),
        (CHUNKS_TWO, &chunks, TwoWorkers, Raw),
        (CHUNKED_ONE, &default, OneWorker, Chunked),
        (CHUNKED_TWO, &default, TwoWorkers, Chunked),
        (CHUNKED_CHUNKS_ONE, &chunks, OneWorker, Chunked),
        (CHUNKED_CHUNKS_TWO, &chunks, TwoWorkers, Chunked),
        (MULTIPART_ONE, &default, OneWorker, Multipart),
        (MULTIPART_TWO, &default, TwoWorkers, Multipart),
    ]));
    Ok(contenders(stage, carriers, 1, stage.plan.bulk_bytes))
}

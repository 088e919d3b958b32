//! The resume of a file: the receiver has a part already, and the sender's side reads that part and drops it.
//!
//! All of it happens before the attempt begins, so a fault here concerns the sender alone. Another receiver may come
//! meanwhile, so the two are paired anew at each turn.

use shm::{Finish, Refusal, Told};

use super::{Phase, Progress, Reading, Sending};
use crate::outcome::{Report, SenderOutcome};
use crate::relay::pairing::{self, Offer, Pairing};
use crate::relay::{Cx, Env, Turn};
use crate::stream::Stream;

impl Sending {
    /// The offset in the file of the byte that is passed on first.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.request.offer.start.saturating_add(self.upload.skipped_bytes())
    }

    /// Payload bytes that were read and dropped, as the receiver has them.
    #[must_use]
    pub fn skipped_bytes(&self) -> u64 {
        self.upload.skipped_bytes()
    }

    /// Pairs this sender with its receiver. `None`: the receiver has not said yet what it wants.
    pub(super) fn pairing(&self, env: &Env) -> Result<Option<Pairing>, Refusal> {
        let Some(want) = env.shared().wanted(self.lane())? else { return Ok(None) };
        let offer = Offer { start: self.position(), file: self.request.offer.file };
        let pairing = pairing::pair(offer, want, env.shared().passed(self.lane())?);
        Ok(Some(match pairing {
            // Payload that was read for an earlier receiver cannot be dropped any more.
            Pairing::Pass { from } if from > offer.start && self.upload.holds_payload() => {
                Pairing::StartsTooLate { wanted: from }
            }
            pairing => pairing,
        }))
    }

    /// Bytes to read and drop before the attempt can begin; none once it has. `None`: the two have to be paired
    /// again.
    pub(super) fn lacking(&self, env: &Env) -> Result<Option<u64>, Refusal> {
        if self.has_begun() {
            return Ok(Some(0));
        }
        Ok(match self.pairing(env)? {
            Some(Pairing::Pass { from }) => Some(from.saturating_sub(self.position())),
            _ => None,
        })
    }

    /// The offset in the file at which the attempt can begin now. `None`: it cannot begin now.
    pub(super) fn begins_at(&self, env: &Env) -> Result<Option<u64>, Refusal> {
        let lacking = self.lacking(env)?;
        Ok(lacking.filter(|lacking| *lacking == 0).map(|_| self.position()))
    }

    /// Waits for another receiver, as the last one has left or wants something else.
    pub(super) fn await_another(&mut self, cx: Cx<'_>) -> Result<Turn<Report>, Refusal> {
        if self.is_skipping() {
            self.end.attach(cx.env.shared())?.note_skipping(false);
        }
        self.phase = Phase::Receiver { filled_since_ms: None };
        self.next_look_ms = cx.now_ms;
        Ok(Turn::Again)
    }

    /// Tells a receiver that waits that there is something for it to wait for: until the attempt begins.
    pub(super) fn say_skipping(&mut self, env: &Env) -> Result<(), Refusal> {
        if let Phase::Body(reading) = &mut self.phase
            && reading.progress == Progress::Paired
        {
            reading.progress = Progress::Skipping;
            self.end.attach(env.shared())?.note_skipping(true);
        }
        Ok(())
    }

    fn is_skipping(&self) -> bool {
        matches!(self.phase, Phase::Body(Reading { progress: Progress::Skipping, .. }))
    }

    /// Turns a receiver down to which nothing can be passed on as things are.
    pub(super) fn turn_down(
        &mut self,
        cx: Cx<'_>,
        stream: &mut Stream,
    ) -> Result<Turn<Report>, Refusal> {
        match self.pairing(cx.env)? {
            // The receiver is about to say what it wants, and rings then.
            None => self.await_receiver(cx, stream),
            Some(Pairing::Pass { .. }) => Ok(Turn::Again),
            Some(Pairing::StartsTooLate { wanted }) => {
                Ok(self.over(cx.env, SenderOutcome::StartsTooLate { wanted }))
            }
            Some(Pairing::Unfit) => {
                self.begin_with_nothing(cx.env, Finish::Unfit, SenderOutcome::Unfit)
            }
        }
    }

    /// Begins an attempt in which nothing comes, so that the receiver is told why, and is over.
    pub(super) fn begin_with_nothing(
        &mut self,
        env: &Env,
        finish: Finish,
        outcome: SenderOutcome,
    ) -> Result<Turn<Report>, Refusal> {
        // Said before: a receiver that finds the attempt begun must not wait for payload.
        self.end.attach(env.shared())?.set_finish(finish);
        if env.shared().begin(&self.end, &[])?.is_some() {
            self.phase = Phase::LastCount(outcome);
        } else {
            self.end.attach(env.shared())?.set_finish(Finish::Open);
        }
        Ok(Turn::Over(Report::of_nothing(outcome)))
    }

    /// The report to a sender that comes again with a file which the receiver has all of. The session may live on, as
    /// a worker may have died before it could end it.
    pub(super) fn was_delivered(&self, cx: Cx<'_>) -> Result<Option<Turn<Report>>, Refusal> {
        if self.request.offer.file.is_none() {
            return Ok(None);
        }
        let Some(passed) = cx.env.shared().passed(self.lane())?.file() else { return Ok(None) };
        let (offer, receipt) = (self.request.offer, self.request.receipt);
        let sender = cx.env.addresses.network(self.request.client);
        if !pairing::was_delivered(offer, passed, receipt, sender) {
            return Ok(None);
        }
        cx.env.complete(&self.end, self.api().name(), Told::Telling, cx.now_ms)?;
        Ok(Some(Turn::Over(Report::of_earlier(passed.total, receipt))))
    }
}

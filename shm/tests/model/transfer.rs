//! The steps of the two ends of a lane, on the words and on the model alike.

use crate::counts::{LaneModel, is_pipe};
use crate::world::World;
use crate::{LANE_CHUNKS, Lane};
use shm::{Buffer, Finish, LANE_PIPES_MAX, Settled};

impl World<'_> {
    pub(crate) fn begin(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let receiver = model.receiver.holder();
        // Two ends that are both incompatible do not suit each other.
        let suit = !(model.sender.is_incompatible() && model.receiver.is_incompatible());
        let expected = receiver.filter(|_| suit).map(|worker| self.owner(worker));
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end().filter(|_| !model.begun) else { return };
        let announced = (2 * lane.0 + lane.1 as usize).to_le_bytes();
        assert_eq!(self.shared.begin(sender, &announced), Ok(expected));
        model.begun = expected.is_some();
        if let Some(receiver) = model.receiver.end() {
            assert_eq!(
                receiver.attach(self.shared).unwrap().announcement().as_deref(),
                Ok(&announced[..])
            );
        }
    }

    pub(crate) fn reserve(&mut self, lane: Lane, by_pipe: bool) {
        let model = self.slots[lane.0].lane(lane.1);
        if model.sender.holder().is_none() || model.reserved.is_some() {
            return;
        }
        let expected = self.expect_one(lane, by_pipe);
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end() else { return };
        let mut sender = sender.attach(self.shared).unwrap();
        let reserved = if by_pipe { sender.reserve_pipe() } else { sender.reserve() };
        let reserved = reserved.unwrap();
        let found = reserved.as_ref().map(|it| is_pipe(&it.buffer()));
        assert_eq!(found, expected);
        if let Some(Buffer::Pipe(index)) = reserved.as_ref().map(shm::Reserved::buffer) {
            assert_eq!(self.pipes[index], None, "filled while it is not empty");
        }
        model.reserved = reserved;
    }

    /// The fair share. A lane that holds k of a kind takes one more while more than k are free, of chunks more than a
    /// quarter of all as well, and gives one back while fewer than k - 1 are free. A lane may always have one, but
    /// while no chunk is free it yields its last chunk, once that comes back, to a chunk request. Returns whether it is a
    /// pipe.
    fn expect_one(&mut self, lane: Lane, by_pipe: bool) -> Option<bool> {
        let mut free = [self.free(false), self.free(true)];
        let mut yielded = false;
        let model = self.slots[lane.0].lane(lane.1);
        while let Some(buffer) = model.back.front().copied() {
            let is_pipe = is_pipe(&buffer);
            let held = held_of(model, is_pipe);
            model.back.pop_front();
            let yields =
                held == 1 && !is_pipe && free[0] == 0 && self.requests > 0 && self.request_is_open;
            if yields {
                (yielded, self.request_is_open) = (true, false);
            } else if is_pipe == by_pipe && (held == 1 || free[usize::from(by_pipe)] + 1 >= held) {
                return Some(by_pipe);
            }
            free[usize::from(is_pipe)] += 1;
        }
        if by_pipe && self.takes_one(lane, true, free[1]) {
            return Some(true);
        }
        let pipes = held_of(self.slots[lane.0].lane(lane.1), true);
        let is_enough = yielded || (by_pipe && pipes >= LANE_PIPES_MAX);
        (!is_enough && self.takes_one(lane, false, free[0])).then_some(false)
    }

    /// Whether the lane gets one from the pool. A lane that holds anything leaves the last chunks alone.
    fn takes_one(&mut self, lane: Lane, is_pipe: bool, free: usize) -> bool {
        let model = self.slots[lane.0].lane(lane.1);
        let (held, all) = (held_of(model, is_pipe), model.held().count());
        let (held_max, share) = if is_pipe { (LANE_PIPES_MAX, held) } else { (LANE_CHUNKS, all) };
        let has_room = all < LANE_CHUNKS && held < held_max;
        let reserve = if is_pipe { 0 } else { self.shared.pool().len() / 4 };
        let takes = has_room && free > if share > 0 { share.max(reserve) } else { 0 };
        if takes {
            if std::mem::take(&mut model.has_requested) {
                self.requests = self.requests.saturating_sub(1);
            }
        } else if !is_pipe && all == 0 {
            let is_new = !std::mem::replace(&mut model.has_requested, true);
            self.requests += u64::from(is_new || self.requests == 0);
            self.request_is_open = true;
        }
        takes
    }

    pub(crate) fn give_back_empty(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end() else { return };
        let Some(reserved) = model.reserved.take() else { return };
        sender.attach(self.shared).unwrap().give_back_empty(reserved).unwrap();
    }

    pub(crate) fn publish(&mut self, lane: Lane, range: std::ops::Range<usize>) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end().filter(|_| model.begun) else { return };
        let Some(reserved) = model.reserved.take() else { return };
        self.token += 1;
        let buffer = reserved.buffer();
        let range = if is_pipe(&buffer) { 0..range.len() } else { range };
        match buffer {
            Buffer::Chunk(index) => self.bytes[index] = self.token,
            Buffer::Pipe(index) => self.pipes[index] = Some(self.token),
        }
        model.flying.push_back((self.token, range.len(), buffer));
        model.published_bytes += range.len() as u64;
        let rings = sender.attach(self.shared).unwrap().publish(reserved, range);
        assert_eq!(rings, std::mem::take(&mut model.receiver_waits));
        assert_eq!(sender.published_bytes(), model.published_bytes);
    }

    pub(crate) fn wait_for_room(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end() else { return };
        model.sender_waits = model.back.is_empty();
        assert_eq!(sender.attach(self.shared).unwrap().wait_for_room(), Ok(model.sender_waits));
    }

    pub(crate) fn shed(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end() else { return };
        sender.attach(self.shared).unwrap().shed().unwrap();
        model.back.clear();
    }

    /// The receiver gets what was published, in order, and no process has touched it since.
    pub(crate) fn next(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(receiver) = model.receiver.end() else { return };
        let mut receiver = receiver.attach(self.shared).unwrap();
        let piece = receiver.next_published().unwrap();
        let received = piece.map(|piece| {
            let token = match piece.buffer() {
                Buffer::Chunk(index) => self.bytes[index],
                Buffer::Pipe(index) => self.pipes[index].unwrap(),
            };
            (token, piece.len(), piece.buffer())
        });
        assert_eq!(received, model.flying.front().copied());
    }

    pub(crate) fn ack_recv(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(receiver) = model.receiver.end().filter(|_| !model.flying.is_empty()) else {
            return;
        };
        let mut receiver = receiver.attach(self.shared).unwrap();
        let piece = receiver.next_published().unwrap().unwrap();
        let rings = piece.ack_recv();
        assert_eq!(rings, std::mem::take(&mut model.sender_waits));
        let Some((_, _, buffer)) = model.flying.pop_front() else { return };
        if let Buffer::Pipe(index) = buffer {
            self.pipes[index] = None;
        }
        if model.sender.holder().is_some() {
            model.back.push_back(buffer);
        }
    }

    pub(crate) fn wait_for_chunk(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(receiver) = model.receiver.end() else { return };
        model.receiver_waits = model.flying.is_empty() && model.finish == Finish::Open;
        assert_eq!(
            receiver.attach(self.shared).unwrap().wait_for_chunk(),
            Ok(model.receiver_waits)
        );
    }

    pub(crate) fn count(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(receiver) = model.receiver.end().filter(|_| model.begun) else { return };
        model.counts = (model.published_bytes, model.published_bytes / 2);
        receiver.attach(self.shared).unwrap().count(model.counts.0, model.counts.1);
    }

    pub(crate) fn finish(&mut self, lane: Lane, whole: bool) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(sender) = model.sender.end().filter(|_| model.begun) else { return };
        model.finish = if whole { Finish::Whole(model.published_bytes) } else { Finish::Aborted };
        sender.attach(self.shared).unwrap().set_finish(model.finish);
    }

    pub(crate) fn settle(&mut self, lane: Lane) {
        let model = self.slots[lane.0].lane(lane.1);
        let Some(receiver) = model.receiver.end().filter(|_| model.begun) else { return };
        model.settled = if model.counts.1 == 0 { Settled::Sent } else { Settled::Acked };
        receiver.attach(self.shared).unwrap().settle(model.settled);
    }

    /// Either end may begin the session's lifetime anew.
    pub(crate) fn renew(&mut self, lane: Lane) {
        let now_ms = self.now_ms;
        let slot = &mut self.slots[lane.0];
        let expires_ms = slot.expires_ms.max(now_ms + slot.terms.lifetime_ms);
        let model = slot.lane(lane.1);
        let renewed = if let Some(sender) = model.sender.end() {
            self.shared.renew(sender, now_ms)
        } else if let Some(receiver) = model.receiver.end() {
            self.shared.renew(receiver, now_ms)
        } else {
            return;
        };
        assert_eq!(renewed, Ok(()));
        slot.expires_ms = expires_ms;
    }

    pub(crate) fn send(&mut self, lane: Lane, by_pipe: bool) {
        self.reserve(lane, by_pipe);
        self.publish(lane, 1..17);
    }
}

fn held_of(model: &LaneModel, by_pipe: bool) -> usize {
    model.held().filter(|buffer| is_pipe(buffer) == by_pipe).count()
}

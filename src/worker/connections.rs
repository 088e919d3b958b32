//! All connections of a worker: by number, by session, by deadline, and in the order of their turns.

use super::admission::{Admission, TurnedAway};
use super::connection::{Connection, Next, Post};
use super::crowding::{self, LOOKED_AT_MAX, Seen};
use super::listeners::Accepted;
use super::origin::Peer;
use super::turns::{Asker, Ticket, Turns};
use super::wheel::Wheel;
use crate::relay::Relay;
use crate::stream::Stream;
use crate::sys::{clock, epoll};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use shm::{Direction, Role};
use slab::Slab;
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;

/// Where an event token keeps the number of the connection that had this slab key before, so that a
/// late event does not reach its successor. Tokens below are the worker's own.
const GENERATION_SHIFT: u32 = 32;

/// Connections that are told why they are turned away are no part of `connections_max`: so many of them there may be
/// beside, as a part of it. Beyond that they are only closed, so that nobody can fill the relay with them.
const TURNED_AWAY_SHARE: usize = 8;

/// Microseconds of a round that go to transfers, and those that go to all else: requests, handshakes, refusals, those that
/// leave. One of each has its turn in any case. A hundred transfers of full chunks take as long as one round's.
const TRANSFERS_US: u64 = 8000;
const ASKING_US: u64 = 2000;

/// A worker's connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// Watches their sockets.
    registry: Registry,
    slab: Slab<Entry>,
    generation: usize,
    /// Who of us holds each of the four places in a session: slab key + 1, or 0.
    places: Vec<[u32; 4]>,
    /// Who of us stands before a place: the session's slot and the slab key.
    doors: BTreeSet<(u32, usize)>,
    /// Whose turn it is, of the transfers and of all others.
    transfers: Turns,
    asking: Turns,
    /// Tickets for turns so far.
    tickets: u64,
    /// Rounds of turns so far.
    round: u64,
    wheel: Wheel,
    fired: Vec<usize>,
    /// Sessions that may have a free place since this round.
    knocks: Vec<u32>,
    /// How many are only told why they are turned away.
    turned_away: usize,
    /// Where to look next for those that can give way.
    looked_at: usize,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    generation: usize,
    has_turn: bool,
    /// The number of its ticket, while it has a turn.
    ticket: u64,
    /// That of its last turn.
    round: u64,
    /// It is one of those that are turned away, and not counted as open.
    turned_away: bool,
    /// Its socket is watched for breaking alone.
    is_deaf: bool,
}

impl Connections {
    pub(super) fn new(sessions: usize, registry: Registry, now_ms: u64) -> Self {
        Self {
            registry,
            slab: Slab::new(),
            generation: 0,
            places: vec![[0; 4]; sessions],
            doors: BTreeSet::new(),
            transfers: Turns::default(),
            asking: Turns::default(),
            tickets: 0,
            round: 0,
            wheel: Wheel::new(now_ms),
            fired: Vec::new(),
            knocks: Vec::new(),
            turned_away: 0,
            looked_at: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Whether somebody has a turn.
    pub(super) fn has_work(&self) -> bool {
        self.transfers.len() + self.asking.len() > 0
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Takes in an accepted connection.
    pub(super) fn add(&mut self, relay: &Relay, accepted: Accepted, now_ms: u64) {
        let Accepted { socket, peer, proxy_protocol, acceptor } = accepted;
        let mut stream = Stream::new(socket);
        let peer = Peer::new(peer, &relay.config.trusted_proxies);
        let mut admission = Admission::new(relay, peer, now_ms);
        if matches!(admission, Err(TurnedAway::Full)) && self.make_room(relay, peer, now_ms) {
            admission = Admission::new(relay, peer, now_ms);
        }
        if admission.is_err() && self.turned_away >= turned_away_max(relay) {
            return;
        }
        // Behind a balancer its line comes first.
        if let Some(acceptor) = acceptor.filter(|_| !proxy_protocol)
            && let Err(fault) = stream.encrypt(acceptor, &[])
        {
            tracing::error!(%fault, "cannot begin a TLS session");
            return admission.iter_mut().for_each(|admission| admission.release(relay));
        }
        let fd = stream.as_raw_fd();
        let connection = match admission {
            Ok(admission) => {
                let greeting = proxy_protocol.then_some(acceptor);
                Connection::new(relay, stream, peer, admission, greeting, now_ms)
            }
            Err(why) => Connection::turned_away(relay, stream, peer, why, now_ms),
        };
        self.generation = self.generation % (u32::MAX as usize) + 1;
        let (generation, has_turn, ticket, round) = (self.generation, false, 0, 0);
        let (turned_away, is_deaf) = (false, false);
        let entry = Entry { connection, generation, has_turn, ticket, round, turned_away, is_deaf };
        let key = self.slab.insert(entry);
        relay.record.opened();
        self.is_beyond_share(relay, key);
        let token = token_of(generation, key);
        if let Err(error) = self.registry.register(&mut SourceFd(&fd), token, news()) {
            tracing::warn!(%error, "cannot watch a connection");
            self.close(relay, key);
            return;
        }
        self.give_turn(key);
    }

    /// Makes room for one more of `peer`, if somebody has more than it has and can give way.
    fn make_room(&mut self, relay: &Relay, peer: Peer, now_ms: u64) -> bool {
        // A proxy's connection is nobody's before its client is known.
        let (room, first) = (self.slab.capacity(), self.looked_at);
        if peer.is_proxy || room == 0 {
            return false;
        }
        // Some keys are nobody's.
        let keys = (0..room.min(4 * LOOKED_AT_MAX)).map(|i| (first + i) % room);
        let keys = keys.filter(|key| self.slab.contains(*key)).take(LOOKED_AT_MAX);
        let keys: Vec<_> = keys.collect();
        self.looked_at = keys.last().map_or(0, |last| last + 1) % room;
        let seen = keys.into_iter().filter_map(|key| {
            let connection = &self.slab.get(key)?.connection;
            let (client, standstill) = (connection.counts_for()?, connection.standstill());
            Some(Seen { key, client, standstill, deadline_ms: connection.deadline_ms() })
        });
        let Some(key) = crowding::choose(seen.collect(), peer.address) else { return false };
        self.turn(relay, key, now_ms, Connection::give_way);
        true
    }

    /// Notes an event of a socket.
    pub(super) fn note(&mut self, token: Token, event: &mio::event::Event) {
        let key = token.0 & ((1 << GENERATION_SHIFT) - 1);
        let generation = token.0 >> GENERATION_SHIFT;
        if let Some(entry) = self.slab.get_mut(key).filter(|entry| entry.generation == generation) {
            entry.connection.stream().note(event);
            self.give_turn(key);
        }
    }

    /// Notes that session `slot` has news.
    pub(super) fn ring(&mut self, slot: u32) {
        self.holders(slot).into_iter().flatten().for_each(|key| self.give_turn(key));
        self.knock(slot);
    }

    /// Notes that a place in session `slot` may be free.
    fn knock(&mut self, slot: u32) {
        let before = self.doors.range((slot, 0)..=(slot, usize::MAX));
        let before: Vec<usize> = before.map(|(_, key)| *key).collect();
        before.into_iter().for_each(|key| self.give_turn(key));
    }

    /// Gives every connection that has something to do its turn.
    pub(super) fn run(&mut self, relay: &Relay, now_ms: u64) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now_ms, &mut fired);
        fired.drain(..).for_each(|key| self.give_turn(key));
        self.fired = fired;
        self.round += 1;
        relay.round.begin(self.transfers.len(), relay.shared().chunk_bytes());
        // Who asks for another turn gets it after the kernel was asked for news.
        self.run_some(relay, |it| &mut it.transfers, TRANSFERS_US, now_ms);
        self.run_some(relay, |it| &mut it.asking, ASKING_US, now_ms);
        let mut knocks = std::mem::take(&mut self.knocks);
        knocks.sort_unstable();
        knocks.dedup();
        knocks.drain(..).for_each(|slot| self.knock(slot));
        self.knocks = knocks;
    }

    /// Gives each of `turns` its turn, as far as the time goes.
    fn run_some(
        &mut self,
        relay: &Relay,
        turns: fn(&mut Self) -> &mut Turns,
        most_us: u64,
        now_ms: u64,
    ) {
        let ends_us = clock::monotonic_us().saturating_add(most_us);
        let mut early = Vec::new();
        for _ in 0..turns(self).len() {
            let Some(ticket) = turns(self).next() else { break };
            if self.slab.get(ticket.key).is_some_and(|entry| entry.round == self.round) {
                early.push(ticket);
                continue;
            }
            self.redeem(relay, ticket, now_ms);
            if clock::monotonic_us() >= ends_us {
                break;
            }
        }
        early.into_iter().for_each(|ticket| self.queue(ticket));
    }

    /// Gives the connection its turn, unless it has had it: some are brought forward.
    fn redeem(&mut self, relay: &Relay, ticket: Ticket, now_ms: u64) {
        let is_good = |entry: &Entry| entry.has_turn && entry.ticket == ticket.number;
        if self.slab.get(ticket.key).is_some_and(is_good) {
            self.turn(relay, ticket.key, now_ms, Connection::drive);
            self.pass_on(relay, ticket.key, true, now_ms);
        }
    }

    /// Passes on the news that `ringer`'s turn had for others of us. With `forward` a receiver that has begun
    /// goes next, while what was published for it is in a cache. All others have their turn once the kernel was
    /// asked, as with any bell: one that waits may have left meanwhile, and nothing must be begun with it then.
    fn pass_on(&mut self, relay: &Relay, ringer: usize, forward: bool, now_ms: u64) {
        while let Some(slot) = relay.round.hear() {
            for key in self.holders(slot).into_iter().flatten().filter(|key| *key != ringer) {
                let is_next =
                    |entry: &Entry| entry.round != self.round && entry.connection.is_relaying();
                if forward && self.slab.get(key).is_some_and(is_next) {
                    self.turn(relay, key, now_ms, Connection::drive);
                    self.pass_on(relay, key, false, now_ms);
                } else {
                    self.give_turn(key);
                }
            }
            // Once a round for all who were rung: many may stand before one place, and each rings.
            if self.knocks.last() != Some(&slot) {
                self.knocks.push(slot);
            }
        }
    }

    /// Tells every connection that others take the worker's place.
    pub(super) fn drain(&mut self, relay: &Relay, now_ms: u64) {
        self.for_all(|it, key| it.turn(relay, key, now_ms, |it, _, now_ms| it.leave_soon(now_ms)));
    }

    /// Tells every connection that the worker is to stop.
    pub(super) fn stop(&mut self, relay: &Relay, now_ms: u64) {
        self.for_all(|it, key| {
            it.turn(relay, key, now_ms, |it, relay, now_ms| it.stop(relay, now_ms))
        });
    }

    /// Writes down what is cut off, as the worker ends.
    pub(super) fn forsake(&mut self, relay: &Relay) {
        self.slab.iter_mut().for_each(|(_, entry)| entry.connection.forsake(relay));
    }

    fn for_all(&mut self, act: impl Fn(&mut Self, usize)) {
        let keys: Vec<usize> = self.slab.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| act(self, key));
    }

    fn turn(
        &mut self,
        relay: &Relay,
        key: usize,
        now_ms: u64,
        act: impl FnOnce(&mut Connection, &Relay, u64) -> Next,
    ) {
        let Some(entry) = self.slab.get_mut(key) else { return };
        (entry.has_turn, entry.round) = (false, self.round);
        let before = entry.connection.post();
        let mut next = act(&mut entry.connection, relay, now_ms);
        let (after, deadline_ms) = (entry.connection.post(), entry.connection.deadline_ms());
        if before != after {
            self.move_post(key, before, after);
        }
        if self.is_beyond_share(relay, key) {
            next = Next::Close;
        }
        match next {
            Next::Wait => {
                self.wheel.arm(key, deadline_ms);
                self.watch(relay, key);
            }
            Next::Again => self.give_turn(key),
            Next::Close => {
                // Nobody shares the socket, so closing it ends the watch as well.
                self.close(relay, key);
            }
        }
    }

    /// Sees to it that a connection that waits is woken by what it waits for, and nothing else.
    fn watch(&mut self, relay: &Relay, key: usize) {
        let Some(entry) = self.slab.get_mut(key) else { return };
        let is_deaf = entry.connection.is_deaf();
        if std::mem::replace(&mut entry.is_deaf, is_deaf) == is_deaf {
            return;
        }
        let (fd, token) = (entry.connection.stream().as_raw_fd(), token_of(entry.generation, key));
        let watched = if is_deaf {
            epoll::watch_for_breaking(&self.registry, fd, token)
        } else {
            // What came meanwhile is told now.
            self.registry.reregister(&mut SourceFd(&fd), token, news())
        };
        if let Err(error) = watched {
            tracing::warn!(%error, "cannot watch a connection");
            self.close(relay, key);
        }
    }

    fn close(&mut self, relay: &Relay, key: usize) {
        let Some(mut entry) = self.slab.try_remove(key) else { return };
        self.wheel.cancel(key);
        self.move_post(key, entry.connection.post(), None);
        entry.connection.close(relay);
        if entry.turned_away {
            self.turned_away -= 1;
        } else {
            relay.record.closed();
        }
    }

    /// Counts a connection that is turned away among those, and no longer as open. `true`: there are too many of them.
    fn is_beyond_share(&mut self, relay: &Relay, key: usize) -> bool {
        let Some(entry) = self.slab.get_mut(key) else { return false };
        if entry.turned_away || !entry.connection.is_turned_away() {
            return false;
        }
        if self.turned_away >= turned_away_max(relay) {
            return true;
        }
        entry.turned_away = true;
        self.turned_away += 1;
        relay.record.closed();
        false
    }

    fn give_turn(&mut self, key: usize) {
        if let Some(entry) = self.slab.get_mut(key)
            && !std::mem::replace(&mut entry.has_turn, true)
        {
            self.tickets += 1;
            entry.ticket = self.tickets;
            self.queue(Ticket { key, number: self.tickets });
        }
    }

    fn queue(&mut self, ticket: Ticket) {
        let Some(entry) = self.slab.get(ticket.key) else { return };
        // One that was overtaken has another ticket.
        if !entry.has_turn || entry.ticket != ticket.number {
            return;
        }
        let asker = Asker::new(entry.connection.client());
        let turns =
            if entry.connection.is_transfer() { &mut self.transfers } else { &mut self.asking };
        turns.add(asker, ticket);
    }

    fn move_post(&mut self, key: usize, from: Option<(u32, Post)>, to: Option<(u32, Post)>) {
        match from {
            Some((slot, Post::Door)) => {
                self.doors.remove(&(slot, key));
            }
            Some((slot, Post::Place(direction, role))) => {
                if let Some(holder) = self.place(slot, direction, role)
                    && *holder == holder_of(key)
                {
                    *holder = 0;
                }
            }
            None => {}
        }
        match to {
            Some((slot, Post::Door)) => {
                self.doors.insert((slot, key));
            }
            Some((slot, Post::Place(direction, role))) => {
                if let Some(holder) = self.place(slot, direction, role) {
                    *holder = holder_of(key);
                }
            }
            None => {}
        }
    }

    /// Who of us is in session `slot`: sender and receiver forth, sender and receiver back.
    fn holders(&self, slot: u32) -> [Option<usize>; 4] {
        let holders = self.places.get(slot as usize).copied().unwrap_or_default();
        holders.map(|holder| holder.checked_sub(1).map(|key| key as usize))
    }

    fn place(&mut self, slot: u32, direction: Direction, role: Role) -> Option<&mut u32> {
        let [forth_sender, forth_receiver, back_sender, back_receiver] =
            self.places.get_mut(slot as usize)?;
        Some(match (direction, role) {
            (Direction::Forth, Role::Sender) => forth_sender,
            (Direction::Forth, Role::Receiver) => forth_receiver,
            (Direction::Back, Role::Sender) => back_sender,
            (Direction::Back, Role::Receiver) => back_receiver,
        })
    }
}

/// What a connection is watched for. Urgent bytes come with others, and wake nobody more often.
fn news() -> Interest {
    Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE
}

fn token_of(generation: usize, key: usize) -> Token {
    Token(generation << GENERATION_SHIFT | key)
}

fn holder_of(key: usize) -> u32 {
    u32::try_from(key + 1).unwrap_or(0)
}

/// Connections of one worker that may be told why they are turned away, at once.
fn turned_away_max(relay: &Relay) -> usize {
    let (most, workers) = (relay.config.limits.connections_max, relay.config.workers);
    (most / TURNED_AWAY_SHARE / workers).max(1)
}

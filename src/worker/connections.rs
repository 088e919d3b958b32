//! All connections of a worker: by number, by session, by deadline, and in the order of their turns.

use super::admission::{Admission, TurnedAway};
use super::connection::{Connection, Opening, Preamble};
use super::crowding::{self, LOOKED_AT_MAX, Seen};
use super::listeners::Accepted;
use super::origin::Remote;
use super::subscriptions::Subscriptions;
use super::turns::{Asker, Ticket, Turns};
use super::wheel::Wheel;
use crate::relay::{Cx, Env, Turn};
use crate::stream::Stream;
use crate::sys::{clock, epoll};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use slab::Slab;
use std::os::fd::{AsRawFd, RawFd};

/// The position of the serial in an event token. A slab key is used again, and the serial keeps a late event from the
/// next connection that has the key. Tokens below are the worker's own.
const SERIAL_SHIFT: u32 = 32;

/// Connections that are only told why they are turned away do not count in `connections_max`: this fraction of it may
/// exist in addition. More are closed without an answer, so that no client can fill the relay with them.
const TURNED_AWAY_SHARE: usize = 8;

/// Microseconds of a round for transfers, and for everything else: requests, handshakes, refusals, ends. At least one
/// connection of each kind has its turn. A hundred transfers of full chunks take as long as one round's.
const TRANSFERS_US: u64 = 8000;
const ASKING_US: u64 = 2000;

/// A worker's connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// Watches their sockets.
    registry: Registry,
    slab: Slab<Entry>,
    serial: usize,
    /// Names the connections that hear a session's bell.
    subscriptions: Subscriptions,
    /// The order of turns, of transfers and of all other connections.
    transfers: Turns,
    asking: Turns,
    /// Tickets for turns so far.
    tickets: u64,
    /// Rounds of turns so far.
    round: u64,
    wheel: Wheel,
    fired: Vec<usize>,
    /// Sessions in which a place may have come free during this round.
    freed: Vec<u32>,
    /// Connections that are only told why they are turned away.
    turned_away: usize,
    /// The slab key at which the next search for connections that can give way begins.
    looked_at: usize,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    serial: usize,
    has_turn: bool,
    /// The number of its ticket, while it has a turn.
    ticket: u64,
    /// The round of its last turn.
    round: u64,
    /// The connection is turned away, and not counted as open.
    turned_away: bool,
    /// The socket is watched for breaking alone.
    ignores_input: bool,
}

impl Connections {
    pub(super) fn new(registry: Registry, now_ms: u64) -> Self {
        Self {
            registry,
            slab: Slab::new(),
            serial: 0,
            subscriptions: Subscriptions::default(),
            transfers: Turns::default(),
            asking: Turns::default(),
            tickets: 0,
            round: 0,
            wheel: Wheel::new(now_ms),
            fired: Vec::new(),
            freed: Vec::new(),
            turned_away: 0,
            looked_at: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Whether a connection waits for its turn.
    pub(super) fn has_work(&self) -> bool {
        self.transfers.len() + self.asking.len() > 0
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Takes in an accepted connection.
    pub(super) fn add(&mut self, cx: Cx<'_>, accepted: Accepted) {
        let Accepted { socket, remote, protocols, proxy_protocol, acceptor } = accepted;
        let mut stream = Stream::new(socket);
        let remote = Remote::new(remote, &cx.env.config.trusted_proxies);
        let mut admission = Admission::new(cx, remote);
        if matches!(admission, Err(TurnedAway::Full)) && self.make_room(cx, remote) {
            admission = Admission::new(cx, remote);
        }
        if admission.is_err() && self.turned_away >= turned_away_max(cx) {
            return;
        }
        // A proxy's line comes before TLS.
        if let Some(acceptor) = acceptor.filter(|_| !proxy_protocol)
            && let Err(fault) = stream.encrypt(acceptor, &[])
        {
            tracing::error!(%fault, "cannot begin a TLS session");
            return admission.iter_mut().for_each(|admission| admission.give_back(cx.env));
        }
        let fd = stream.as_raw_fd();
        let preamble = match proxy_protocol {
            true => Preamble::ProxyLine(acceptor),
            false => Preamble::None,
        };
        let opening = Opening { stream, remote, protocols, preamble };
        let connection = match admission {
            Ok(admission) => Connection::new(cx, opening, admission),
            Err(why) => Connection::turned_away(cx, opening, why),
        };
        self.insert(cx, connection, fd);
    }

    fn insert(&mut self, cx: Cx<'_>, connection: Connection, fd: RawFd) {
        self.serial = self.serial % (u32::MAX as usize) + 1;
        let serial = self.serial;
        let key = self.slab.insert(Entry {
            connection,
            serial,
            has_turn: false,
            ticket: 0,
            round: 0,
            turned_away: false,
            ignores_input: false,
        });
        cx.env.record.count_opened();
        self.is_beyond_share(cx, key);
        let token = token_of(serial, key);
        if let Err(error) = self.registry.register(&mut SourceFd(&fd), token, news()) {
            tracing::warn!(%error, "cannot watch a connection");
            self.close(cx, key);
            return;
        }
        self.give_turn(key);
    }

    /// Makes room for one more connection of `remote`, if another network has more of them, and one of those can give way.
    fn make_room(&mut self, cx: Cx<'_>, remote: Remote) -> bool {
        // A proxy's connection counts for no client until its client is known.
        let (room, first) = (self.slab.capacity(), self.looked_at);
        if remote.is_proxy || room == 0 {
            return false;
        }
        // Some keys are unused.
        let keys = (0..room.min(4 * LOOKED_AT_MAX)).map(|i| (first + i) % room);
        let keys = keys.filter(|key| self.slab.contains(*key)).take(LOOKED_AT_MAX);
        let keys: Vec<_> = keys.collect();
        self.looked_at = keys.last().map_or(0, |last| last + 1) % room;
        let seen = keys.into_iter().filter_map(|key| {
            let connection = &self.slab.get(key)?.connection;
            let (client, standstill) = (connection.counts_for()?, connection.standstill());
            Some(Seen { key, client, standstill, deadline_ms: connection.deadline_ms() })
        });
        let Some(key) = crowding::choose(seen.collect(), remote.address) else { return false };
        self.turn(cx, key, Connection::give_way);
        true
    }

    /// Records an event of a socket.
    pub(super) fn record_event(&mut self, token: Token, event: &mio::event::Event) {
        let key = token.0 & ((1 << SERIAL_SHIFT) - 1);
        let serial = token.0 >> SERIAL_SHIFT;
        if let Some(entry) = self.slab.get_mut(key).filter(|entry| entry.serial == serial) {
            entry.connection.stream().record_event(event);
            self.give_turn(key);
        }
    }

    /// Gives a turn to the connections that wait for news of session `slot`.
    pub(super) fn hear(&mut self, slot: u32) {
        self.for_holders(slot, Self::give_turn);
        self.wake_claimants(slot);
    }

    /// Calls `act` with each connection that holds a place in session `slot`.
    fn for_holders(&mut self, slot: u32, mut act: impl FnMut(&mut Self, usize)) {
        let mut from = 0;
        while let Some(key) = self.subscriptions.next_holder(slot, from) {
            act(self, key);
            from = key + 1;
        }
    }

    /// Gives a turn to the connections that claim a place in session `slot`.
    fn wake_claimants(&mut self, slot: u32) {
        let claimants: Vec<usize> = self.subscriptions.claimants(slot).collect();
        claimants.into_iter().for_each(|key| self.give_turn(key));
    }

    /// Gives every connection that has something to do its turn.
    pub(super) fn run(&mut self, cx: Cx<'_>) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(cx.now_ms, &mut fired);
        fired.drain(..).for_each(|key| self.give_turn(key));
        self.fired = fired;
        self.round += 1;
        cx.env.budget.begin_round(self.transfers.len(), cx.env.shared().chunk_bytes());
        // A connection that asks for another turn gets it after the next poll of the kernel.
        self.run_some(cx, |it| &mut it.transfers, TRANSFERS_US);
        self.run_some(cx, |it| &mut it.asking, ASKING_US);
        let mut freed = std::mem::take(&mut self.freed);
        freed.sort_unstable();
        freed.dedup();
        freed.drain(..).for_each(|slot| self.wake_claimants(slot));
        self.freed = freed;
    }

    /// Gives each of `turns` its turn, until the time is up.
    fn run_some(&mut self, cx: Cx<'_>, turns: fn(&mut Self) -> &mut Turns, most_us: u64) {
        let ends_us = clock::monotonic_us().saturating_add(most_us);
        let mut early = Vec::new();
        for _ in 0..turns(self).len() {
            let Some(ticket) = turns(self).next() else { break };
            if self.slab.get(ticket.key).is_some_and(|entry| entry.round == self.round) {
                early.push(ticket);
                continue;
            }
            self.redeem(cx, ticket);
            if clock::monotonic_us() >= ends_us {
                break;
            }
        }
        early.into_iter().for_each(|ticket| self.queue(ticket));
    }

    /// Gives the connection its turn, unless its ticket is void: a turn that was brought forward voids it.
    fn redeem(&mut self, cx: Cx<'_>, ticket: Ticket) {
        let is_good = |entry: &Entry| entry.has_turn && entry.ticket == ticket.number;
        if self.slab.get(ticket.key).is_some_and(is_good) {
            self.turn(cx, ticket.key, Connection::drive);
            self.pass_on(cx, ticket.key, true);
        }
    }

    /// Passes on the news that `ringer`'s turn had for other connections of this worker. With `forward` a receiver that
    /// has begun has its turn at once, while the published bytes are in a cache. All others have their turn after the
    /// next poll of the kernel, as with any bell: a client that waits may have left meanwhile, and no attempt must
    /// begin with it then.
    fn pass_on(&mut self, cx: Cx<'_>, ringer: usize, forward: bool) {
        while let Some(slot) = cx.env.local_bell.hear() {
            self.for_holders(slot, |it, key| {
                let is_next =
                    |entry: &Entry| entry.round != it.round && entry.connection.is_relaying();
                if key == ringer {
                } else if forward && it.slab.get(key).is_some_and(is_next) {
                    it.turn(cx, key, Connection::drive);
                    it.pass_on(cx, key, false);
                } else {
                    it.give_turn(key);
                }
            });
            // The claimants of a session are woken once a round: many may wait for one place, and each of them rings.
            if self.freed.last() != Some(&slot) {
                self.freed.push(slot);
            }
        }
    }

    /// Tells every connection that the worker drains.
    pub(super) fn drain(&mut self, cx: Cx<'_>) {
        self.for_all(|it, key| it.turn(cx, key, Connection::drain));
    }

    /// Tells every connection that the worker stops.
    pub(super) fn stop(&mut self, cx: Cx<'_>) {
        self.for_all(|it, key| it.turn(cx, key, Connection::stop));
    }

    /// Logs transfers that are cut off because the worker ends.
    pub(super) fn log_cut_off(&mut self, env: &Env) {
        self.slab.iter_mut().for_each(|(_, entry)| entry.connection.log_cut_off(env));
    }

    fn for_all(&mut self, act: impl Fn(&mut Self, usize)) {
        let keys: Vec<usize> = self.slab.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| act(self, key));
    }

    fn turn(
        &mut self,
        cx: Cx<'_>,
        key: usize,
        act: impl FnOnce(&mut Connection, Cx<'_>) -> Turn<()>,
    ) {
        let Some(entry) = self.slab.get_mut(key) else { return };
        (entry.has_turn, entry.round) = (false, self.round);
        let before = entry.connection.subscription();
        let turn = act(&mut entry.connection, cx);
        let (after, deadline_ms) =
            (entry.connection.subscription(), entry.connection.deadline_ms());
        self.subscriptions.replace(key, before, after);
        let is_beyond_share = self.is_beyond_share(cx, key);
        match turn {
            // The worker alone has the socket, so closing it ends the watch as well.
            _ if is_beyond_share => self.close(cx, key),
            Turn::Over(()) => self.close(cx, key),
            Turn::Wait => {
                self.wheel.arm(key, deadline_ms);
                self.watch(cx, key);
            }
            Turn::Again => self.give_turn(key),
        }
    }

    /// Watches the socket of a connection that waits: for all events, or for breaking alone.
    fn watch(&mut self, cx: Cx<'_>, key: usize) {
        let Some(entry) = self.slab.get_mut(key) else { return };
        let ignores_input = entry.connection.ignores_input();
        if std::mem::replace(&mut entry.ignores_input, ignores_input) == ignores_input {
            return;
        }
        let (fd, token) = (entry.connection.stream().as_raw_fd(), token_of(entry.serial, key));
        let watched = if ignores_input {
            epoll::watch_for_breaking(&self.registry, fd, token)
        } else {
            // The kernel reports now what came in the meantime.
            self.registry.reregister(&mut SourceFd(&fd), token, news())
        };
        if let Err(error) = watched {
            tracing::warn!(%error, "cannot watch a connection");
            self.close(cx, key);
        }
    }

    fn close(&mut self, cx: Cx<'_>, key: usize) {
        let Some(mut entry) = self.slab.try_remove(key) else { return };
        self.wheel.cancel(key);
        self.subscriptions.replace(key, entry.connection.subscription(), None);
        entry.connection.close(cx.env);
        if entry.turned_away {
            self.turned_away -= 1;
        } else {
            cx.env.record.count_closed();
        }
    }

    /// Counts a connection that is turned away as such, and no longer as open. `true`: there are too many of them.
    fn is_beyond_share(&mut self, cx: Cx<'_>, key: usize) -> bool {
        let Some(entry) = self.slab.get_mut(key) else { return false };
        if entry.turned_away || !entry.connection.is_turned_away() {
            return false;
        }
        if self.turned_away >= turned_away_max(cx) {
            return true;
        }
        entry.turned_away = true;
        self.turned_away += 1;
        cx.env.record.count_closed();
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
        // A connection whose turn was brought forward has another ticket.
        if !entry.has_turn || entry.ticket != ticket.number {
            return;
        }
        let asker = Asker::new(entry.connection.client());
        let turns =
            if entry.connection.is_transfer() { &mut self.transfers } else { &mut self.asking };
        turns.add(asker, ticket);
    }
}

/// The events that a connection is watched for. Urgent bytes come with others, and cause no more wake-ups.
fn news() -> Interest {
    Interest::READABLE | Interest::PRIORITY | Interest::WRITABLE
}

fn token_of(serial: usize, key: usize) -> Token {
    Token(serial << SERIAL_SHIFT | key)
}

/// The number of connections of one worker that may be told why they are turned away, at once.
fn turned_away_max(cx: Cx<'_>) -> usize {
    let (most, workers) = (cx.env.config.limits.connections_max, cx.env.config.workers);
    (most / TURNED_AWAY_SHARE / workers).max(1)
}

//! Whole transfers over bare sockets: a sender that streams a payload in one of the shapes a body has, and a receiver
//! that checks every byte as it comes. Called by the tests that move more than a few bytes.

use std::io;
use std::ops::Range;
use std::thread::{self, JoinHandle};

use super::payload::Payload;
use super::raw::{BodyState, Piece, Raw};
use super::relay::{Relay, Session};
use super::response::{Ending, Head, Response};
use super::segment::{Counters, Segment};

/// The form of a sender's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, in chunks of at most this many bytes.
    Chunked(usize),
    /// A form with one file part and a length.
    Form,
}

/// The workers that serve a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    SameWorker,
    TwoWorkers,
}

/// The result of a receiver that checks.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) head: Head,
    pub(crate) bytes: u64,
    pub(crate) ending: Ending,
    pub(crate) first_difference: Option<u64>,
}

const BOUNDARY: &str = "----a-boundary-of-the-tests";

/// Sends the request's head and the whole payload; stops early, with the error, when the relay closes the connection.
pub(crate) fn send_payload(
    raw: &mut Raw,
    path: &str,
    payload: &Payload,
    shape: Shape,
) -> io::Result<()> {
    match shape {
        Shape::Length => {
            raw.request("PUT", path, &[("Content-Length", &payload.len().to_string())]);
            send_part(raw, payload, 0..payload.len())
        }
        Shape::Chunked(most) => {
            raw.request("PUT", path, &[("Transfer-Encoding", "chunked")]);
            send_slices(raw, payload, most, |raw, slice| {
                raw.try_send(format!("{:x}\r\n", slice.len()).as_bytes())?;
                raw.try_send(slice)?;
                raw.try_send(b"\r\n")
            })?;
            raw.try_send(b"0\r\n\r\n")
        }
        Shape::Form => {
            let (before, after) = form_around("payload.bin", "application/octet-stream");
            let length = before.len() as u64 + payload.len() + after.len() as u64;
            let kind = format!("multipart/form-data; boundary={BOUNDARY}");
            raw.request(
                "POST",
                path,
                &[("Content-Length", &length.to_string()), ("Content-Type", &kind)],
            );
            raw.try_send(before.as_bytes())?;
            send_part(raw, payload, 0..payload.len())?;
            raw.try_send(after.as_bytes())
        }
    }
}

/// Sends `range` of a payload, as far as the relay takes it.
pub(crate) fn send_part(raw: &mut Raw, payload: &Payload, range: Range<u64>) -> io::Result<()> {
    let mut offset = range.start;
    while offset < range.end {
        let slice = payload.at(offset);
        let left = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
        let slice = &slice[..slice.len().min(left)];
        raw.try_send(slice)?;
        offset += slice.len() as u64;
    }
    Ok(())
}

/// The bytes before and after the file of a form with that single part.
pub(crate) fn form_around(name: &str, kind: &str) -> (String, String) {
    let disposition = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
    let before = format!("--{BOUNDARY}\r\n{disposition}\r\nContent-Type: {kind}\r\n\r\n");
    (before, format!("\r\n--{BOUNDARY}--\r\n"))
}

fn send_slices(
    raw: &mut Raw,
    payload: &Payload,
    most: usize,
    mut send: impl FnMut(&mut Raw, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut offset = 0;
    while offset < payload.len() {
        let slice = payload.at(offset);
        let slice = &slice[..slice.len().min(most)];
        send(raw, slice)?;
        offset += slice.len() as u64;
    }
    Ok(())
}

impl Raw {
    /// Reads a relayed answer to its end, comparing it with `payload` as it comes.
    #[track_caller]
    pub(crate) fn read_checked(&mut self, payload: &Payload) -> Checked {
        let head = self.read_head();
        let (mut bytes, mut first_difference) = (0, None);
        let ending = self.read_body(&head, |piece| {
            first_difference = first_difference.or_else(|| payload.first_difference(bytes, piece));
            bytes += piece.len() as u64;
        });
        Checked { head, bytes, ending, first_difference }
    }

    /// Reads and checks exactly the first `count` bytes of a relayed body; more may have come.
    #[track_caller]
    pub(crate) fn read_checked_part(&mut self, payload: &Payload, count: u64) -> Head {
        let head = self.read_head();
        let mut state = self.body_of(&head).expect("a body");
        let mut buffer = vec![0; 64 << 10];
        let mut bytes = 0;
        while bytes < count {
            let most = buffer.len().min(usize::try_from(count - bytes).unwrap());
            let Piece::Bytes(n) = self.read_piece(&mut state, &mut buffer[..most]) else {
                panic!("ended after {bytes} of {count} bytes");
            };
            assert_eq!(payload.first_difference(bytes, &buffer[..n]), None, "wrong byte");
            bytes += n as u64;
        }
        head
    }
}

/// A relayed answer that is read a part at a time, and compared as it comes.
#[derive(Debug)]
pub(crate) struct Reading {
    raw: Raw,
    state: BodyState,
    payload: Payload,
    checked: Checked,
}

impl Raw {
    /// Reads the head of a relayed answer; the body is for later.
    #[track_caller]
    pub(crate) fn reading(mut self, payload: &Payload) -> Reading {
        let head = self.read_head();
        let state = self.body_of(&head).expect("a body");
        let checked = Checked { head, bytes: 0, ending: Ending::Truncated, first_difference: None };
        Reading { raw: self, state, payload: payload.clone(), checked }
    }
}

impl Reading {
    /// Bytes of the body so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.checked.bytes
    }

    /// Goes on until `count` bytes have come in all; more may have come to the socket.
    #[track_caller]
    pub(crate) fn read_to(&mut self, count: u64) {
        while self.checked.bytes < count {
            let left = count - self.checked.bytes;
            assert!(self.read_some(left), "ended after {} of {count} bytes", self.checked.bytes);
        }
        assert_eq!(self.checked.first_difference, None, "wrong byte");
    }

    /// Goes on to the end.
    #[track_caller]
    pub(crate) fn rest(mut self) -> Checked {
        while self.read_some(u64::MAX) {}
        self.checked
    }

    /// `false`: there is no more.
    fn read_some(&mut self, most: u64) -> bool {
        let mut buffer = vec![0; 512 << 10];
        let most = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        match self.raw.read_piece(&mut self.state, &mut buffer[..most]) {
            Piece::Bytes(n) => {
                let Checked { bytes, first_difference, .. } = &mut self.checked;
                *first_difference = first_difference
                    .or_else(|| self.payload.first_difference(*bytes, &buffer[..n]));
                *bytes += n as u64;
                true
            }
            Piece::End(ending) => {
                self.checked.ending = ending;
                false
            }
        }
    }
}

impl Checked {
    /// Panics unless the whole payload arrived, byte for byte.
    #[track_caller]
    pub(crate) fn expect_all(&self, payload: &Payload) {
        assert_eq!(self.head.status, 200, "{:#?}", self.head);
        assert_eq!(self.first_difference, None, "wrong byte");
        assert_eq!((self.bytes, self.ending), (payload.len(), Ending::Complete));
    }

    /// Panics unless the bytes that arrived are right and the answer shows that they are not all.
    #[track_caller]
    pub(crate) fn expect_cut(&self) {
        assert_eq!(self.head.status, 200, "{:#?}", self.head);
        assert_eq!(self.first_difference, None, "wrong byte");
        assert_ne!(
            self.ending,
            Ending::Complete,
            "an end after {} bytes that looks whole",
            self.bytes
        );
    }
}

impl Session {
    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// A receiver on a thread: asks, and checks what comes.
    pub(crate) fn receiver(&self, payload: &Payload) -> JoinHandle<Checked> {
        let mut raw = self.connect();
        raw.get(&self.path);
        let payload = payload.clone();
        thread::spawn(move || raw.read_checked(&payload))
    }

    /// A sender on a thread, which returns its answer.
    pub(crate) fn sender(&self, payload: &Payload, shape: Shape) -> JoinHandle<Response> {
        let mut raw = self.connect();
        let (path, payload) = (self.path.clone(), payload.clone());
        thread::spawn(move || {
            let sent = send_payload(&mut raw, &path, &payload, shape);
            raw.try_read_response()
                .unwrap_or_else(|e| panic!("no answer: {e}; sending gave {sent:?}"))
        })
    }

    /// A transfer of ten bytes that has relayed five, `hello`: its receiver, the head that this has read, its sender.
    pub(crate) fn half(&self) -> (Raw, Head, Raw) {
        let (mut receiver, mut sender) = (self.connect(), self.connect());
        receiver.get(&self.path);
        sender.request("PUT", &self.path, &[("Content-Length", "10")]).send(b"hello");
        let head = receiver.read_head();
        (receiver, head, sender)
    }

    /// Makes one transfer from end to end, on a socket each; panics unless all of it went right.
    #[track_caller]
    pub(crate) fn transfer(&self, payload: &Payload, shape: Shape) {
        let receiver = self.receiver(payload);
        let sender = self.sender(payload, shape);
        receiver.join().unwrap().expect_all(payload);
        let answer = sender.join().unwrap().expect(200);
        assert_eq!(answer.head.delivered_bytes(), payload.len());
    }
}

impl Placement {
    /// Receiver's and sender's worker.
    pub(crate) fn workers(self) -> (usize, usize) {
        match self {
            Self::SameWorker => (0, 0),
            Self::TwoWorkers => (0, 1),
        }
    }

    /// Panics unless the counters show that the bytes moved exactly where this placement says.
    #[track_caller]
    pub(crate) fn expect_moved(self, segment: &Segment, before: &[Counters], bytes: u64) {
        let (receiver, sender) = self.workers();
        for (i, (now, then)) in segment.all().iter().zip(before).enumerate() {
            let want = (if i == sender { bytes } else { 0 }, if i == receiver { bytes } else { 0 });
            let moved = (now.bytes_in - then.bytes_in, now.bytes_out - then.bytes_out);
            assert_eq!(moved, want, "(bytes in, bytes out) of worker {i}, {self:?}");
        }
    }
}

impl Relay {
    /// Opens a connection on the worker of each role: (receiver, sender).
    pub(crate) fn pair(&self, segment: &Segment, placement: Placement) -> (Raw, Raw) {
        let (receiver, sender) = placement.workers();
        let receiver = self.on_worker(receiver, segment, || self.connect());
        let sender = self.on_worker(sender, segment, || self.connect());
        (receiver, sender)
    }
}

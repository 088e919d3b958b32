//! A connection to the admin listener: one request, one answer, and the end.
//!
//! [`super::Admin`] drives it with each event of its socket. Every client has a deadline, and its request is bounded.

use crate::http::{self, Fault, FieldRoom, HeadLimits, Parsed, Request};
use socket2::Socket;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;

const HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8192, header_fields_max: 64 };
/// The bytes read and dropped behind the head, so that the client sees the answer and not a reset.
const LINGER_BYTES_MAX: usize = 65_536;
const READ_BYTES: usize = 2048;

/// A connection, by what it waits for.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    /// When it is cut off.
    pub(super) deadline_ms: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The request's head, and how much of it has come.
    Head(Vec<u8>),
    /// The answer, and how much of it is written.
    Answer(Vec<u8>, usize),
    /// The end of the client's bytes, and how many more are read at most.
    End(usize),
}

/// The result of a step: `Continue` if another can be made.
type Step = ControlFlow<Pause>;

enum Pause {
    /// Wait for the next event.
    Wait,
    Close,
}

impl Connection {
    pub(super) fn new(socket: Socket, deadline_ms: u64) -> Self {
        Self { socket, deadline_ms, state: State::Head(Vec::new()) }
    }

    /// Makes all steps that can be made now; `answer` writes the answer to a request. `Break`: the connection is
    /// over.
    pub(super) fn drive(&mut self, answer: impl Fn(&Request<'_>, &mut Vec<u8>)) -> ControlFlow<()> {
        loop {
            let step = match &self.state {
                State::Head(_) => self.read_head(&answer),
                State::Answer(..) => self.write(),
                State::End(_) => self.drain(),
            };
            match step {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Pause::Wait) => return ControlFlow::Continue(()),
                ControlFlow::Break(Pause::Close) => return ControlFlow::Break(()),
            }
        }
    }

    fn read_head(&mut self, answer: &impl Fn(&Request<'_>, &mut Vec<u8>)) -> Step {
        let State::Head(head) = &mut self.state else { return Step::Continue(()) };
        let mut out = Vec::new();
        match http::parse(head, &HEAD_LIMITS, &mut FieldRoom::default()) {
            Ok(Parsed::Complete(request, _)) => answer(&request, &mut out),
            Ok(Parsed::Partial) => {
                let mut room = [0; READ_BYTES];
                let bytes = read(&self.socket, &mut room)?;
                head.extend_from_slice(room.get(..bytes).unwrap_or_default());
                return Step::Continue(());
            }
            Err(fault) => refuse(fault, http::begins_head_request(head), &mut out),
        }
        self.state = State::Answer(out, 0);
        Step::Continue(())
    }

    fn write(&mut self) -> Step {
        let State::Answer(answer, written) = &mut self.state else { return Step::Continue(()) };
        while let Some(rest) = answer.get(*written..).filter(|rest| !rest.is_empty()) {
            match (&self.socket).write(rest) {
                Ok(bytes) => *written += bytes,
                Err(error) => pause(&error)?,
            }
        }
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return Step::Break(Pause::Close);
        }
        self.state = State::End(LINGER_BYTES_MAX);
        Step::Continue(())
    }

    fn drain(&mut self) -> Step {
        let State::End(left) = &mut self.state else { return Step::Continue(()) };
        let mut room = [0; READ_BYTES];
        let bytes = read(&self.socket, &mut room)?;
        *left = left.saturating_sub(bytes);
        if *left == 0 { Step::Break(Pause::Close) } else { Step::Continue(()) }
    }
}

fn refuse(fault: Fault, head_only: bool, out: &mut Vec<u8>) {
    super::write(out, super::text(fault.status(), &fault.to_string()), head_only);
}

fn read(mut socket: &Socket, room: &mut [u8]) -> ControlFlow<Pause, usize> {
    loop {
        match socket.read(room) {
            Ok(0) => return ControlFlow::Break(Pause::Close),
            Ok(bytes) => return ControlFlow::Continue(bytes),
            Err(error) => pause(&error)?,
        }
    }
}

/// The reaction to an error: try again, wait, or give up.
fn pause(error: &std::io::Error) -> Step {
    match error.kind() {
        ErrorKind::Interrupted => Step::Continue(()),
        ErrorKind::WouldBlock => Step::Break(Pause::Wait),
        _ => Step::Break(Pause::Close),
    }
}

//! The yardstick: a process that copies from one socket to another and does nothing else.

use crate::client;
use crate::connection;
use crate::cost::Sample;
use crate::measure::cpu_time;
use crate::yardstick::{Yardstick, listen};
use std::io::{self, Read, Write};
use std::net::Shutdown;

/// Makes this program the copying process.
pub(crate) const ARGUMENT: &str = "--copy";

const BUFFER_BYTES: usize = 256 << 10;

/// The copying process: prints its port, then joins each connection with the next: what the second
/// one says goes to the first.
pub(crate) fn serve() -> io::Result<()> {
    let listener = listen()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (mut receiver, _) = listener.accept()?;
        let (mut sender, _) = listener.accept()?;
        loop {
            let bytes = sender.read(&mut buffer)?;
            if bytes == 0 {
                break;
            }
            receiver.write_all(&buffer[..bytes])?;
        }
    }
}

/// The copying process, seen from outside.
#[derive(Debug)]
pub(crate) struct Copy(Yardstick);

impl Copy {
    pub(crate) fn start() -> io::Result<Self> {
        Yardstick::start(ARGUMENT).map(Self)
    }

    pub(crate) fn transfer(&self, bytes: u64) -> io::Result<Sample> {
        let pids = [self.0.process.id()];
        let before = cpu_time(&pids)?;
        let receiver = connection::connect(self.0.address)?;
        let sender = connection::connect(self.0.address)?;
        let send = || client::send(&sender, bytes).and_then(|()| sender.shutdown(Shutdown::Write));
        let took = client::transfer(send, || client::receive(&receiver, bytes))?;
        // It is done with the two once it has closed them.
        client::expect_end(&receiver)?;
        Ok(Sample::new(bytes, took, cpu_time(&pids)? - before))
    }
}

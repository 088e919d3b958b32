//! The yardstick: a process that copies from one socket to another and does nothing else.

use crate::client;
use crate::cost::{Sample, cpu_time};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// Makes this program the copying process.
pub(crate) const ARGUMENT: &str = "--copy";

const BUFFER_BYTES: usize = 256 << 10;

/// The copying process: prints its port, then joins each connection with the next: what the second
/// one says goes to the first.
pub(crate) fn serve() -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
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
pub(crate) struct Copy {
    process: Child,
    address: SocketAddr,
}

impl Copy {
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process =
            command.arg(ARGUMENT).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take();
        let mut copy = Self { process, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut line = String::new();
        BufReader::new(stdout.ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
        copy.address = line.trim().parse().map_err(io::Error::other)?;
        Ok(copy)
    }

    pub(crate) fn transfer(&self, bytes: u64) -> io::Result<Sample> {
        let pids = [self.process.id()];
        let before = cpu_time(&pids)?;
        let receiver = client::connect(self.address)?;
        let sender = client::connect(self.address)?;
        let send = || client::send(&sender, bytes).and_then(|()| sender.shutdown(Shutdown::Write));
        let took = client::transfer(send, || client::receive(&receiver, bytes))?;
        // It is done with the two once it has closed them.
        client::expect_end(&receiver)?;
        Ok(Sample::new(bytes, took, cpu_time(&pids)? - before))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

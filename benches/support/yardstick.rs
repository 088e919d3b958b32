//! This program once more, as a process that does as little as can be done: what the relay is measured
//! by. It prints its address, and dies with the one that started it.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// The process's own side: a listener whose address was printed.
pub(crate) fn listen() -> io::Result<TcpListener> {
    set_pdeathsig(Signal::SIGKILL)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

/// The process, seen from outside.
#[derive(Debug)]
pub(crate) struct Yardstick {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
}

impl Yardstick {
    /// Starts this program with `argument`, which makes it call [`listen`].
    pub(crate) fn start(argument: &str) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process =
            command.arg(argument).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take();
        let mut yardstick = Self { process, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut line = String::new();
        BufReader::new(stdout.ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
        yardstick.address = line.trim().parse().map_err(io::Error::other)?;
        Ok(yardstick)
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

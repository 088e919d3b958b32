//! *copy*: joins each connection with the next; what the second one says goes to the first, as it is or in a chunked
//! coding.

use std::convert::Infallible;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpListener;

const PAGE: usize = 4096;

/// The buffer begins in the middle of a page, where copies are never slow (docs/internals/copies.md).
pub(super) fn serve(
    listener: &TcpListener,
    call_bytes: usize,
    ready: impl Fn(),
) -> io::Result<Infallible> {
    let mut room = vec![0; call_bytes + PAGE];
    let start = (room.as_ptr() as usize).wrapping_neg().wrapping_add(PAGE / 2) % PAGE;
    let buffer = &mut room[start..start + call_bytes];
    ready();
    loop {
        let (mut receiver, _) = listener.accept()?;
        let (mut sender, _) = listener.accept()?;
        loop {
            let bytes = sender.read(buffer)?;
            if bytes == 0 {
                break;
            }
            receiver.write_all(&buffer[..bytes])?;
        }
    }
}

/// The same with a chunk line before each piece, and nothing done about where the pieces lie: the buffer is where
/// `malloc` puts it, 16 bytes behind the start of a page.
pub(super) fn serve_chunked(
    listener: &TcpListener,
    call_bytes: usize,
    ready: impl Fn(),
) -> io::Result<Infallible> {
    let mut buffer = vec![0; call_bytes];
    ready();
    loop {
        let (mut receiver, _) = listener.accept()?;
        let (mut sender, _) = listener.accept()?;
        loop {
            let bytes = sender.read(&mut buffer)?;
            if bytes == 0 {
                break;
            }
            let line = format!("{bytes:x}\r\n");
            let mut parts = [line.as_bytes(), &buffer[..bytes], b"\r\n"].map(IoSlice::new);
            write_all(&mut receiver, &mut parts)?;
        }
        receiver.write_all(b"0\r\n\r\n")?;
    }
}

fn write_all(to: &mut impl Write, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !parts.is_empty() {
        let written = to.write_vectored(parts)?;
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}

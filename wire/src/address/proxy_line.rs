//! The line that a balancer sends before anything else: PROXY protocol, version 1.
//!
//! Section 2.1 of its specification, "The PROXY protocol, versions 1 & 2". The worker calls
//! [`proxy_line`] on all it has read of a connection until the line is complete. Invariant: the
//! outcome does not depend on how the bytes were cut, and no line takes more than [`LINE_BYTES_MAX`].

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// The longest line, with its CRLF, that the specification allows.
pub const LINE_BYTES_MAX: usize = 107;

const SIGNATURE: &[u8] = b"PROXY ";

/// A complete line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyLine {
    /// The address that connected to the balancer; `None` if the line does not say.
    pub source: Option<IpAddr>,
    /// Bytes of the line, with its CRLF.
    pub bytes: usize,
}

/// The bytes do not begin such a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedLine;

impl fmt::Display for MalformedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection must begin here with a line of PROXY protocol, version 1")
    }
}

impl std::error::Error for MalformedLine {}

/// Reads the line at the front of `bytes`; `None` as long as it is not complete.
///
/// # Errors
/// [`MalformedLine`], as soon as no further bytes could make it a line.
pub fn proxy_line(bytes: &[u8]) -> Result<Option<ProxyLine>, MalformedLine> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let shared = window.len().min(SIGNATURE.len());
    if window.get(..shared) != SIGNATURE.get(..shared) {
        return Err(MalformedLine);
    }
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < LINE_BYTES_MAX { Ok(None) } else { Err(MalformedLine) };
    };
    let line = window.get(SIGNATURE.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.filter(|line| !line.contains(&b'\r')).ok_or(MalformedLine)?;
    let source = source(line)?;
    Ok(Some(ProxyLine { source, bytes: end.saturating_add(1) }))
}

/// Reads the text between the signature and the CRLF.
fn source(line: &[u8]) -> Result<Option<IpAddr>, MalformedLine> {
    // The specification lets a balancer add text here, and tells readers to ignore it.
    if line.strip_prefix(b"UNKNOWN").is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")) {
        return Ok(None);
    }
    let text = std::str::from_utf8(line).map_err(|_| MalformedLine)?;
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let source = match word() {
        "TCP4" => addresses::<Ipv4Addr>(word(), word()).map(IpAddr::V4),
        "TCP6" => addresses::<Ipv6Addr>(word(), word()).map(IpAddr::V6),
        _ => None,
    };
    let ports = [word(), word()].into_iter().all(is_port);
    match source {
        Some(source) if ports && words.next().is_none() => Ok(Some(source.to_canonical())),
        _ => Err(MalformedLine),
    }
}

/// The source's address, if both are of this family.
fn addresses<A: FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

/// A decimal number from 0 to 65535 without leading zeros.
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn source_of(line: &str) -> Result<Option<String>, MalformedLine> {
        let read = proxy_line(line.as_bytes())?.expect("a whole line");
        assert_eq!(read.bytes, line.find('\n').unwrap() + 1);
        Ok(read.source.map(|source| source.to_string()))
    }

    fn some(text: &str) -> Result<Option<String>, MalformedLine> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn the_source_is_read() {
        assert_eq!(source_of("PROXY TCP4 192.0.2.1 10.0.0.1 5678 80\r\n"), some("192.0.2.1"));
        assert_eq!(source_of("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), some("2001:db8::1"));
        let mapped = "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 5678 80\r\n";
        assert_eq!(source_of(mapped), some("192.0.2.1"));
        let behind = "PROXY TCP4 192.0.2.1 10.0.0.1 5678 80\r\nGET / HTTP/1.1\r\n";
        assert_eq!(source_of(behind), some("192.0.2.1"));
    }

    #[test]
    fn an_unknown_source_is_none() {
        for line in [
            "PROXY UNKNOWN\r\n",
            "PROXY UNKNOWN \r\n",
            "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
            "PROXY UNKNOWN anything at all\r\n",
        ] {
            assert_eq!(source_of(line), Ok(None));
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY  TCP4 192.0.2.1 10.0.0.1 5678 80\r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 80 \r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 80 9\r\n",
            "PROXY TCP4 192.0.2.1  10.0.0.1 5678 80\r\n",
            "PROXY TCP4\t192.0.2.1 10.0.0.1 5678 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 80\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 80\r\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678\r 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 05678 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +5678 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 65536\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 5678 -1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 \u{665} 80\r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.1 5678 80\r\n",
            "PROXY TCP4 192.0.2.256 10.0.0.1 5678 80\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0 5678 80\r\n",
            "PROXY TCP4 ::1 ::1 5678 80\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 5678 80\r\n",
            "PROXY TCP6 [::1] [::1] 5678 80\r\n",
            "PROXY TCP6 fe80::1%lo ::1 5678 80\r\n",
            "PROXY TCP5 192.0.2.1 10.0.0.1 5678 80\r\n",
            "PROXY tcp4 192.0.2.1 10.0.0.1 5678 80\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY UNKNOWN\n",
            "proxy UNKNOWN\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n\r\n\0\r\nQUIT\n",
            "PROXY\r\n",
        ] {
            assert_eq!(proxy_line(line.as_bytes()), Err(MalformedLine), "{line:?}");
        }
    }

    #[test]
    fn a_line_has_at_most_107_bytes() {
        let filled = |bytes: usize| format!("PROXY UNKNOWN {:x<1$}\r\n", "", bytes - 16);
        assert_eq!(filled(107).len(), 107);
        assert_eq!(source_of(&filled(107)), Ok(None));
        assert_eq!(proxy_line(filled(108).as_bytes()), Err(MalformedLine));
        let begun = |bytes: usize| proxy_line(filled(108).as_bytes().split_at(bytes).0);
        assert_eq!(begun(106), Ok(None));
        assert_eq!(begun(107), Err(MalformedLine));
    }

    #[test]
    fn what_cannot_become_a_line_is_refused_at_its_first_byte() {
        assert_eq!(proxy_line(b""), Ok(None));
        assert_eq!(proxy_line(b"PRO"), Ok(None));
        for bytes in [&b"G"[..], b"PU", b"PROXY\t", b"\r", b"\x16\x03\x01"] {
            assert_eq!(proxy_line(bytes), Err(MalformedLine), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_address_is_read_back_however_it_is_cut(
            source: IpAddr, ports: (u16, u16), cut in 0_usize..LINE_BYTES_MAX,
        ) {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {source} {source} {} {}\r\n", ports.0, ports.1);
            let bytes = line.as_bytes();
            let source = Some(source.to_canonical());
            prop_assert_eq!(proxy_line(bytes), Ok(Some(ProxyLine { source, bytes: bytes.len() })));
            if let Some(begun) = bytes.get(..cut).filter(|begun| begun.len() < bytes.len()) {
                prop_assert_eq!(proxy_line(begun), Ok(None));
            }
        }

        #[test]
        fn a_verdict_stands_whatever_comes_behind(
            text in "(PROXY )?(TCP4|TCP6|UNKNOWN)?[ 0-9a-f.:\r\n]{0,120}", cut in 0_usize..130,
        ) {
            let whole = proxy_line(text.as_bytes());
            let begun = proxy_line(text.as_bytes().get(..cut).unwrap_or(text.as_bytes()));
            prop_assert!(begun == Ok(None) || begun == whole);
        }
    }
}

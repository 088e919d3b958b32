//! `Host`: the name by which a client calls this server.
//!
//! `framing` reads the field and an absolute target with this, and the worker what a trusted proxy says.
//! Invariant: a host is safe to print in a header field and in a line for a shell.

use core::net::Ipv6Addr;

use super::Fault;

/// Longest `Host`: a DNS name has at most 253 bytes, and a port six.
pub(super) const HOST_BYTES_MAX: usize = 255;

/// A name, an IPv4 address or a bracketed IPv6 address, with an optional port.
///
/// The rule is narrower than RFC 3986: the name goes back out in `Location` and in a line that people
/// paste into a shell, and no real name holds `!$&'()*+,;=`.
///
/// # Errors
/// [`Fault::HostMalformed`].
pub fn host(value: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(value).map_err(|_| Fault::HostMalformed)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(Fault::HostMalformed)?;
            address.parse::<Ipv6Addr>().map_err(|_| Fault::HostMalformed)?;
            (address, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let name_ok = text.starts_with('[') || is_reg_name(name.as_bytes());
    let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if name_ok && port_ok && text.len() <= HOST_BYTES_MAX {
        Ok(text)
    } else {
        Err(Fault::HostMalformed)
    }
}

fn is_reg_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        let fine = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(u8::is_ascii_hexdigit)),
            _ => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        };
        if !fine {
            return false;
        }
    }
    !name.is_empty()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

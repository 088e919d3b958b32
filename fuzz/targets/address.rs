//! Any bytes as a PROXY line, as the forwarded fields of a trusted proxy, or as a network: the outcome is the
//! same however they are cut, and a client's address is the peer's or was written there.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use wire::address::{LINE_BYTES_MAX, Network, Networks, Scheme, client, last_element, proxy_line};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn check_line(bytes: &[u8], cut: usize) {
    let whole = proxy_line(bytes);
    if let Ok(Some(line)) = whole {
        let text = &bytes[..line.bytes];
        assert!(text.len() <= LINE_BYTES_MAX && text.ends_with(b"\r\n"));
        assert!(text.starts_with(b"PROXY ") && text.iter().filter(|it| **it == b'\n').count() == 1);
        assert!(line.source.is_none_or(|source| source == source.to_canonical()));
    }
    assert!(whole != Ok(None) || bytes.len() < LINE_BYTES_MAX);
    let begun = proxy_line(&bytes[..cut]);
    assert!(begun == Ok(None) || begun == whole, "cut at {cut}: {begun:?}, whole: {whole:?}");
}

fn check_fields(bytes: &[u8], cut: usize) {
    let networks = ["10.0.0.0/8", "fd00::/8"];
    let trusted: Networks = networks.into_iter().filter_map(Network::parse).collect();
    let found = client(PEER, std::iter::once(bytes), &trusted);
    assert_eq!(found, found.to_canonical());
    // Cut at a comma, one list is two fields.
    if bytes.get(cut) == Some(&b',') {
        let fields = [&bytes[..cut], &bytes[cut + 1..]];
        assert_eq!(client(PEER, fields.into_iter(), &trusted), found);
        assert_eq!(last_element(fields.into_iter()), last_element(std::iter::once(bytes)));
    }
    // The client wrote the left part, so it changes nothing.
    let added = [bytes, b", 192.0.2.1"].concat();
    assert_eq!(client(PEER, std::iter::once(&added[..]), &trusted), IpAddr::from([192, 0, 2, 1]));
    if let Some(last) = last_element(std::iter::once(bytes)) {
        assert!(!last.is_empty() && !last.contains(&b','));
        let _ = Scheme::parse(last);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(*cut).min(bytes.len());
    check_line(bytes, cut);
    check_fields(bytes, cut);
    if let Some(network) = std::str::from_utf8(bytes).ok().and_then(Network::parse) {
        assert_eq!(Network::parse(&network.to_string()), Some(network));
    }
});

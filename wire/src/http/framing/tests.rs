//! Tests of the rules, one each: the rule's fault, and the nearest valid message that passes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::super::host::HOST_BYTES_MAX;
use super::super::{Dechunker, FieldRoom, HeadLimits, Parsed, parse};
use super::*;

/// The outcome of a HTTP/1.1 request with these field lines after a valid `Host`.
fn fields(lines: &str) -> Result<Framing, Fault> {
    request(&format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
}

fn request(head: &str) -> Result<Framing, Fault> {
    let limits = HeadLimits { head_bytes_max: 4096, header_fields_max: 64 };
    match parse(head.as_bytes(), &limits, &mut FieldRoom::default())? {
        Parsed::Complete(request, _) => Ok(request.framing),
        Parsed::Partial => panic!("partial: {head:?}"),
    }
}

/// The fault of a beginning that is not complete yet.
fn begun(head: &str) -> Option<Fault> {
    parse(
        head.as_bytes(),
        &HeadLimits { head_bytes_max: 4096, header_fields_max: 64 },
        &mut FieldRoom::default(),
    )
    .err()
}

fn with_host(value: &str) -> Result<Framing, Fault> {
    request(&format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"))
}

fn chunked(body: &str) -> Result<usize, Fault> {
    let mut bytes = body.as_bytes().to_vec();
    let decoded = Dechunker::new(64, 64, u64::MAX).decode(&mut bytes)?;
    Ok(decoded.payload)
}

#[test]
fn content_length_is_one_plain_number() {
    assert_eq!(fields(""), Ok(Framing::None));
    assert_eq!(fields("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
    assert_eq!(fields("content-length:\t007 \r\n"), Ok(Framing::Length(7)));
    for bad in ["", "+1", "-1", "1.0", "0x1", "1 1", "1a", "\u{661}", "1_0"] {
        let refused = fields(&format!("Content-Length: {bad}\r\n"));
        assert_eq!(refused, Err(Fault::ContentLengthMalformed), "{bad:?}");
    }
}

#[test]
fn content_length_doubled_is_refused_even_if_equal() {
    for second in ["5", "6"] {
        let refused = fields(&format!("Content-Length: 5\r\ncontent-length: {second}\r\n"));
        assert_eq!(refused, Err(Fault::ContentLengthDoubled));
    }
}

#[test]
fn content_length_as_a_list_is_refused() {
    for list in ["5, 5", "5,5", "5,", ",5"] {
        let refused = fields(&format!("Content-Length: {list}\r\n"));
        assert_eq!(refused, Err(Fault::ContentLengthMalformed));
    }
}

#[test]
fn content_length_beyond_64_bits_is_refused() {
    let at_most = fields("Content-Length: 18446744073709551615\r\n");
    assert_eq!(at_most, Ok(Framing::Length(u64::MAX)));
    for over in ["18446744073709551616", "99999999999999999999999999"] {
        let refused = fields(&format!("Content-Length: {over}\r\n"));
        assert_eq!(refused, Err(Fault::ContentLengthOverflow));
    }
}

#[test]
fn content_length_together_with_chunked_is_refused_in_either_order() {
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    assert_eq!(fields(&format!("{length}{chunked}")), Err(Fault::LengthAndChunked));
    assert_eq!(fields(&format!("{chunked}{length}")), Err(Fault::LengthAndChunked));
}

#[test]
fn a_transfer_coding_other_than_chunked_is_refused() {
    assert_eq!(fields("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    for coding in ["gzip, chunked", "identity,chunked", "x, y,\tChunked"] {
        let refused = fields(&format!("Transfer-Encoding: {coding}\r\n"));
        assert_eq!(refused, Err(Fault::TransferEncodingUnknown), "{coding:?}");
    }
    let fielded = fields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n");
    assert_eq!(fielded, Err(Fault::TransferEncodingUnknown));
    assert_eq!(Fault::TransferEncodingUnknown.status().code(), 501);
    assert_eq!(fields("Transfer-Encoding: \x0bchunked\r\n"), Err(Fault::BadHeader));
}

/// RFC 9112, section 6.3: where the body ends is not known then.
#[test]
fn a_transfer_coding_that_does_not_end_in_chunked_is_refused() {
    for coding in [
        "gzip",
        "chunked, gzip",
        "identity",
        "xchunked",
        "",
        "chunked;a",
        "chunked,",
        ", chunked",
        "gzip,, chunked",
        ",",
    ] {
        let refused = fields(&format!("Transfer-Encoding: {coding}\r\n"));
        assert_eq!(refused, Err(Fault::ChunkedNotLast), "{coding:?}");
    }
    let fielded = fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n");
    assert_eq!(fielded, Err(Fault::ChunkedNotLast));
    let length = fields("Transfer-Encoding: identity\r\nContent-Length: 5\r\n");
    assert_eq!(length, Err(Fault::LengthAndChunked));
    for fault in [Fault::ChunkedNotLast, Fault::LengthAndChunked] {
        assert_eq!(fault.status().code(), 400);
    }
}

#[test]
fn a_doubled_transfer_encoding_is_refused() {
    let line = "Transfer-Encoding: chunked\r\n";
    assert_eq!(fields(&line.repeat(2)), Err(Fault::TransferEncodingDoubled));
    for list in ["chunked, chunked", "chunked, gzip, chunked"] {
        let listed = fields(&format!("Transfer-Encoding: {list}\r\n"));
        assert_eq!(listed, Err(Fault::TransferEncodingDoubled), "{list:?}");
    }
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let refused = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(refused, Err(Fault::TransferEncodingInHttp10));
}

#[test]
fn a_missing_host_is_refused_in_http_1_1_only() {
    assert_eq!(request("GET / HTTP/1.1\r\n\r\n"), Err(Fault::HostMissing));
    assert_eq!(request("GET http://h/ HTTP/1.1\r\n\r\n"), Err(Fault::HostMissing));
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::None));
}

#[test]
fn a_doubled_host_is_refused_even_if_equal() {
    assert_eq!(fields("host: h\r\n"), Err(Fault::HostDoubled));
    let old = request("GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n");
    assert_eq!(old, Err(Fault::HostDoubled));
}

#[test]
fn a_malformed_host_is_refused() {
    let long = "a".repeat(HOST_BYTES_MAX);
    for good in ["a", "A.b-c_d~e", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:65535", "%41:0", &long]
    {
        assert_eq!(with_host(good), Ok(Framing::None), "{good:?}");
    }
    let longer = "a".repeat(HOST_BYTES_MAX + 1);
    for bad in [
        "",
        "a b",
        "a, b",
        "a,b",
        "a/b",
        "u@h",
        "u:p@h",
        "a:",
        "a:b",
        "a:-1",
        "a:65536",
        "a:1:2",
        ":80",
        "[]",
        "[::1",
        "::1",
        "[::1]a",
        "[::1]:",
        "[fe80::1%25eth0]",
        "[v1.a]",
        "a\\b",
        "a'b",
        "a\"b",
        "%4",
        "%zz",
        "\u{e4}",
        "a?b",
        "a#b",
        "<a>",
        &longer,
    ] {
        assert_eq!(with_host(bad), Err(Fault::HostMalformed), "{bad:?}");
    }
}

#[test]
fn a_host_that_contradicts_the_target_is_refused() {
    let of = |host: &str| request(&format!("GET http://a:1/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(of("A:1"), Ok(Framing::None));
    for other in ["b:1", "a", "a:2"] {
        assert_eq!(of(other), Err(Fault::HostConflict));
    }
    let user = request("GET http://u@a/ HTTP/1.0\r\n\r\n");
    assert_eq!(user, Err(Fault::HostMalformed));
    assert_eq!(request("GET http:/// HTTP/1.0\r\n\r\n"), Err(Fault::HostMalformed));
}

#[test]
fn a_bare_line_feed_is_refused_wherever_it_stands() {
    for head in [
        "\n",
        "\r\n\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\nHost: h\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\r\nHost:\n",
        "GET / HTTP/1.1\r\nHo\n",
        "GET\n",
        "GET /\n",
    ] {
        assert_eq!(begun(head), Some(Fault::BareLf), "{head:?}");
        let longer = format!("{head}A: \0b\r\n\r\n");
        assert_eq!(begun(&longer), Some(Fault::BareLf), "{longer:?}");
    }
}

#[test]
fn a_bare_carriage_return_is_refused() {
    for head in [
        "\r\r",
        "GET / HTTP/1.1\rH",
        "GET / HTTP/1.1\r\nHost: a\rb",
        "GET / HTTP/1.1\r\nHost: a\r\r",
        "GET / HTTP/1.1\r\nHost:\r\r",
        "GET / HTTP/1.1\r\nHost: h\r\n\rX",
    ] {
        assert_eq!(begun(head), Some(Fault::BareCr), "{head:?}");
        assert_eq!(begun(&head[..head.len() - 1]), None, "{head:?} but for its last byte");
    }
}

#[test]
fn a_nul_is_refused_wherever_it_stands() {
    let head = "GET /a HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
    for at in 0..head.len() {
        let spoilt = format!("{}\0{}", &head[..at], &head[at..]);
        let wanted = if head[..at].ends_with('\r') { Fault::BareCr } else { Fault::Nul };
        assert_eq!(begun(&spoilt), Some(wanted), "at {at}");
        assert_eq!(begun(&spoilt[..=at]), Some(wanted), "at {at}, at once");
    }
}

#[test]
fn a_control_character_in_a_value_is_refused() {
    for byte in (1u8..32).chain([127]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let refused = begun(&format!("GET / HTTP/1.1\r\nA: b{}", char::from(byte)));
        assert_eq!(refused, Some(Fault::BadHeader), "{byte:#04x}");
        let first = begun(&format!("GET / HTTP/1.1\r\nA:{}", char::from(byte)));
        assert_eq!(first, Some(Fault::BadHeader), "{byte:#04x} first");
        let long = format!("GET / HTTP/1.1\r\nA: {}{}", "v".repeat(100), char::from(byte));
        assert_eq!(begun(&long), Some(Fault::BadHeader), "{byte:#04x} after a long value");
    }
}

#[test]
fn folded_lines_are_refused() {
    for fold in [" b", "\tb", " ", " \r\n"] {
        let folded = begun(&format!("GET / HTTP/1.1\r\nA: b\r\n{fold}"));
        assert_eq!(folded, Some(Fault::ObsFold), "{fold:?}");
        let first = begun(&format!("GET / HTTP/1.1\r\n{fold}"));
        assert_eq!(first, Some(Fault::ObsFold), "{fold:?} before the first field");
    }
}

#[test]
fn space_before_the_colon_is_refused() {
    for line in ["Host : h", "Content-Length\t: 5", "A b: c"] {
        let refused = begun(&format!("GET / HTTP/1.1\r\nB: c\r\n{line}\r\n"));
        assert_eq!(refused, Some(Fault::SpaceBeforeColon), "{line:?}");
    }
}

#[test]
fn a_field_name_is_a_token() {
    for line in [
        ":",
        ": a",
        "a(b: c",
        "\"a\": b",
        "\u{e4}: b",
        "a/b: c",
        "\x7f: a",
        "line without colon\r\n",
    ] {
        let refused = begun(&format!("GET / HTTP/1.1\r\n{line}"));
        let spaced = line.starts_with("line");
        let wanted = if spaced { Fault::SpaceBeforeColon } else { Fault::BadHeader };
        assert_eq!(refused, Some(wanted), "{line:?}");
    }
    assert_eq!(begun("GET / HTTP/1.1\r\nA\r\n"), Some(Fault::BadHeader));
}

#[test]
fn a_request_line_has_single_spaces_and_a_known_version() {
    for line in [
        "GET  / HTTP/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "G@T / HTTP/1.1\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/1\r\n",
        "GET / HTTP/1.x\r\n",
        "GET / HTTP/12.0\r\n",
        "GET / FTP/1.1\r\n",
        "GET / HTTP/1.10\r\n",
        "GET / HTTP/01.01\r\n",
        "GET / HTTP/3\r\n",
        "GET / HTTP/1.9x\r\n",
        "GET / HTTP/2.00\r\n",
        "GET / HTTP/2,0\r\n",
    ] {
        assert_eq!(begun(line), Some(Fault::BadRequestLine), "{line:?}");
    }
    for version in ["2.0", "0.9", "1.2", "9.9"] {
        let line = format!("GET / HTTP/{version}\r\n");
        assert_eq!(begun(&line), Some(Fault::VersionUnsupported), "{line:?}");
        // The fault is told once it is certain, and not before.
        assert_eq!(begun(&line[..line.len() - 1]), Some(Fault::VersionUnsupported), "{line:?}");
        assert_eq!(begun(&line[..line.len() - 2]), None, "{line:?}");
    }
    assert_eq!(begun("GET / HTTP/2\n"), Some(Fault::BareLf));
    assert_eq!(begun("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Fault::VersionUnsupported));
}

#[test]
fn an_unknown_expectation_is_refused() {
    assert_eq!(fields("Expect: 100-Continue\r\n"), Ok(Framing::None));
    for value in ["200-ok", "", "100-continue, x", "100-continue;a"] {
        let refused = fields(&format!("Expect: {value}\r\n"));
        assert_eq!(refused, Err(Fault::ExpectationFailed));
    }
}

#[test]
fn a_method_that_is_not_known_is_refused_as_such() {
    assert_eq!(request("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), Err(Fault::MethodUnknown));
    assert_eq!(request("CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n"), Err(Fault::MethodUnknown));
    assert_eq!(begun(&"A".repeat(4095)), None);
    assert_eq!(begun(&"A".repeat(20_000)), Some(Fault::MethodUnknown));
    assert_eq!(Fault::MethodUnknown.status().code(), 501);
    let target = format!("GET /{}", "a".repeat(20_000));
    assert_eq!(begun(&target), Some(Fault::TargetTooLong { bytes_max: 4096 }));
}

#[test]
fn a_chunk_without_a_size_is_refused() {
    for body in ["\r\n", ";a\r\n", " 5\r\n", "\n", "1\r\na\r\n\r\n", "1\r\na\r\n;x\r\n"] {
        assert_eq!(chunked(body), Err(Fault::ChunkSizeEmpty), "{body:?}");
    }
}

#[test]
fn a_chunk_size_is_hexadecimal_digits_and_crlf() {
    assert_eq!(chunked("A\r\n0123456789\r\n0\r\n\r\n"), Ok(10));
    assert_eq!(chunked("1 \t;a\r\nx\r\n0\r\n\r\n"), Ok(1));
    for body in [
        "+1\r\n", "-1\r\n", "0x1\r\n", "1g\r\n", "1\n", "1\rx", "1 \r\n", "1 1\r\n", "1,1\r\n",
        "1\0",
    ] {
        assert_eq!(chunked(body), Err(Fault::ChunkSizeMalformed), "{body:?}");
    }
}

#[test]
fn an_overlong_chunk_size_is_refused() {
    assert_eq!(chunked("00000000000000005\r\n"), Err(Fault::ChunkSizeOverflow));
    assert_eq!(chunked("10000000000000000\r\n"), Err(Fault::ChunkSizeOverflow));
    assert_eq!(chunked("ffffffffffffffff\r\n"), Ok(0));
    let padded = format!("1;{}\r\n", "a".repeat(64));
    assert_eq!(chunked(&padded), Err(Fault::ChunkLineTooLong { bytes_max: 64 }));
}

#[test]
fn a_control_character_in_a_chunk_extension_is_refused() {
    assert_eq!(chunked("1;a=\"b\tc\"\r\nx"), Ok(1));
    for byte in (0u8..32).chain([127]).filter(|byte| !b"\t\r".contains(byte)) {
        let body = format!("1;a{}b\r\nx", char::from(byte));
        assert_eq!(chunked(&body), Err(Fault::ChunkExtensionControl), "{byte:#04x}");
    }
    assert_eq!(chunked("1;a\rb\r\nx"), Err(Fault::ChunkSizeMalformed));
}

#[test]
fn a_chunk_extension_that_is_none_is_refused() {
    for good in [
        ";a",
        ";a=b",
        ";a=\"\"",
        ";a=\"b\"",
        ";a=\"\\\"\"",
        ";a=\"\\\\\";b",
        " ; a = b ; c",
        "\t;a\t;b=\t\"c;d\"\t;e",
        ";a;a",
        ";!#=~",
    ] {
        assert_eq!(chunked(&format!("1{good}\r\nx")), Ok(1), "{good:?}");
    }
    for bad in [
        ";",
        "; ",
        ";;",
        ";a;",
        ";=b",
        ";a=",
        ";a= ",
        ";bad[=x",
        ";a=\"b",
        ";a=\"b\\\"",
        ";a=b c",
        ";a b",
        ";a=\"b\"c",
        ";a=[",
        ";\"a\"",
        ";a==b",
        ";a ",
        ";a=b\t",
        ";a=\"b\" ",
        ";\u{e4}",
        ";a=\u{e4}",
        ";a,b",
    ] {
        let refused = chunked(&format!("1{bad}\r\nx"));
        assert_eq!(refused, Err(Fault::ChunkExtensionMalformed), "{bad:?}");
    }
}

#[test]
fn a_chunk_ends_in_crlf() {
    for end in ["\n", "xx", "\rx", "0\r\n", "\0"] {
        assert_eq!(chunked(&format!("1\r\na{end}")), Err(Fault::ChunkTerminator), "{end:?}");
    }
}

#[test]
fn a_trailer_is_a_field_line() {
    assert_eq!(chunked("0\r\nA: b\r\nC:\r\n\r\n"), Ok(0));
    for trailer in
        [" a: b", "a", "a\r\n", "a b: c", ": b", "a: b\nc", "a: \0", "a: b\rc", "\n", "\rx"]
    {
        let refused = chunked(&format!("0\r\n{trailer}\r\n\r\n"));
        assert_eq!(refused, Err(Fault::TrailerMalformed), "{trailer:?}");
    }
}

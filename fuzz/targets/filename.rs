//! Any bytes as a name, a disposition, a cookie, an `Accept`, a content type or a range: no panic, and a
//! name that is harmless and comes out as it is sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http::{
    Attachment, FILE_NAME_BYTES_MAX, FileName, accepts, bearer, byte_range, content_range, cookies,
    is_encoding, is_media_type, upload_offset,
};
use wire::multipart::boundary;

fn check(name: &FileName) {
    let text = name.as_str();
    assert!(!text.is_empty() && text.len() <= FILE_NAME_BYTES_MAX && !text.starts_with('.'));
    assert!(!text.ends_with('.') && text.trim() == text);
    let is_bad = |it: char| it.is_control() || "/\\:*?\"<>|\u{202e}\u{2028}\u{feff}".contains(it);
    assert!(!text.contains(is_bad));
    assert_eq!(FileName::from_bytes(text.as_bytes()).as_ref(), Some(name));
    let sent = Attachment(Some(name)).to_string();
    // The name stands there in UTF-8, and nothing that ends it or its line.
    assert!(!sent.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control()));
    assert_eq!(sent.matches('"').count(), 2);
    assert_eq!(FileName::from_disposition(sent.as_bytes()).as_ref(), Some(name));
}

fuzz_target!(|data: &[u8]| {
    let names = [
        FileName::from_bytes(data),
        FileName::from_disposition(data),
        std::str::from_utf8(data).ok().and_then(FileName::from_path_segment),
    ];
    names.iter().flatten().for_each(check);
    for token in cookies(std::iter::once(data), "token").chain(bearer(Some(data))) {
        assert!(token.len() < data.len());
    }
    if accepts(Some(data), "application/json") {
        assert!(data.to_ascii_lowercase().windows(16).any(|it| it == b"application/json"));
    }
    let _ = (byte_range(data), upload_offset(data));
    if let Some(tail) = content_range(data, data.len() as u64) {
        assert_eq!(tail.total - tail.start, data.len() as u64);
    }
    if is_media_type(data) || is_encoding(data) {
        assert!(data.iter().all(|byte| *byte == b'\t' || (b' '..=b'~').contains(byte)));
    }
    if let Ok(Some(boundary)) = boundary(data) {
        assert!((1..=200).contains(&boundary.len()));
        assert!(boundary.iter().all(|byte| *byte == b'\t' || (b' '..=b'~').contains(byte)));
    }
});

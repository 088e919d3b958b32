//! Heads as clients send them, and reading them; for `head.rs` and `counts.rs`.

use std::hint::black_box;
use wire::http::{FieldRoom, HeadLimits, Parsed, parse};

/// The defaults of `head_bytes_max` and `header_fields_max`.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 << 10, header_fields_max: 64 };

pub(crate) const CURL_GET: &str = "\
GET /AAAB7mYh0v1cQeS9bUo3kXwTzR5L HTTP/1.1\r\n\
Host: relay.example.org:8080\r\n\
User-Agent: curl/8.14.1\r\n\
Accept: */*\r\n\
\r\n";

pub(crate) const CURL_FORM: &str = "\
POST /AAAB7mYh0v1cQeS9bUo3kXwTzR5L HTTP/1.1\r\n\
Host: relay.example.org:8080\r\n\
User-Agent: curl/8.14.1\r\n\
Accept: */*\r\n\
Content-Length: 1073742018\r\n\
Content-Type: multipart/form-data; boundary=------------------------Q3mX0dJcT7hV2pLrW9sZ4a\r\n\
Expect: 100-continue\r\n\
\r\n";

pub(crate) const BROWSER_GET: &str = "\
GET /AAAB7mYh0v1cQeS9bUo3kXwTzR5L?from=page&lang=en HTTP/1.1\r\n\
Host: relay.example.org\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"142\", \"Not=A?Brand\";v=\"8\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/142.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: cross-site\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: https://chat.example.com/rooms/4711/messages?before=2026-01-01T00:00:00Z\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8,cs;q=0.7\r\n\
Cookie: token=vTzR5LAAAB7mYh0v1cQeS9bUo3; theme=dark; consent=eyJhbmFseXRpY3MiOmZhbHNlLCJhZHMiOmZhb\
HNlLCJ2ZXJzaW9uIjozfQ; session=3f0c2a9e7d514b6c8f1e0a2b4c6d8e9f\r\n\
\r\n";

/// Presents ever more of `head`, `step` bytes at a time, until it is read; returns its length.
#[inline(never)]
pub(crate) fn read(head: &[u8], step: usize) -> usize {
    let mut end = 0_usize;
    loop {
        end = head.len().min(end.saturating_add(step));
        match parse(black_box(&head[..end]), &LIMITS, &mut FieldRoom::default()).unwrap() {
            Parsed::Complete(_, bytes) => return bytes,
            Parsed::Partial => assert!(end < head.len(), "a head without its end"),
        }
    }
}

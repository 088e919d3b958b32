//! The segment: its sizes, and what fits into it.

use super::*;

#[test]
fn a_lane_is_whole_chunks_and_at_most_sixteen() {
    let memory = |chunk: &str, lane: &str| {
        format!("[memory]\nchunk_bytes = '{chunk}'\nlane_bytes_max = '{lane}'\n")
    };
    for (chunk, lane) in
        [("1MiB", "1MiB"), ("1MiB", "4MiB"), ("4KiB", "64KiB"), ("256KiB", "768KiB")]
    {
        assert!(parse(&memory(chunk, lane), "test").is_ok(), "{chunk} {lane}");
    }
    for (chunk, lane) in
        [("4KiB", "68KiB"), ("256KiB", "300KiB"), ("256KiB", "128KiB"), ("1MiB", "1536KiB")]
    {
        let allowed = format!("`lane_bytes_max` ({lane}) is 1 to 16 times `chunk_bytes` ({chunk})");
        assert_refused(&memory(chunk, lane), &["test.toml:3:18", &allowed]);
    }
    // The other half of the pair may be a default.
    assert_refused(
        "[memory]\nchunk_bytes = '64KiB'\n",
        &["test.toml:2:15", "`lane_bytes_max` (2MiB)"],
    );
    assert_refused(
        "[memory]\nlane_bytes_max = '5KiB'\n",
        &["test.toml:2:18", "`chunk_bytes` (512KiB)"],
    );
}

#[test]
fn the_smallest_segment_holds_the_largest_lane() {
    let text = "[memory]\nsegment_bytes = '8MiB'\nchunk_bytes = '1MiB'\nlane_bytes_max = '4MiB'\n";
    assert_eq!(parse(text, "test").unwrap().memory.geometry.lane_chunks, 4);
}

#[test]
fn a_segment_too_small_for_its_sessions_is_refused() {
    let text = "[memory]\nsegment_bytes = '8MiB'\nsessions_max = 262144\n";
    assert_refused(
        text,
        &["test.toml:2:17", "these sizes do not fit together", "a segment of 8388608 bytes"],
    );
    // Each connection takes room there too.
    let text = "[memory]\nsegment_bytes = '8MiB'\n[limits]\nconnections_max = 1048576\n";
    assert_refused(
        text,
        &["test.toml:2:17", "these sizes do not fit together", "`connections_max`"],
    );
    let one_fault = refusal("[memory]\nsegment_bytes = '8MiB'\n[limits]\nconnections_max = 0\n");
    assert_eq!(one_fault.matches("error: ").count(), 1, "{one_fault}");
    let text = "[memory]\nsegment_bytes = '1TiB'\n";
    assert_refused(text, &["test.toml:2:17", "bad value for `segment_bytes`", "on this machine"]);
    let one_fault = refusal("[memory]\nchunk_bytes = '2MiB'\nlane_bytes_max = '4KiB'\n");
    assert_eq!(one_fault.matches("error: ").count(), 1, "{one_fault}");
}

#[test]
fn a_small_segment_has_enough_chunks_to_share_and_fits_the_lane_that_was_asked_for() {
    let geometry =
        |text: &str| parse(&format!("[memory]\n{text}"), "test").unwrap().memory.geometry;
    let small = geometry("segment_bytes = \"8MiB\"");
    assert_eq!((small.chunk_bytes, small.lane_chunks), (128 << 10, 16));
    assert!(small.chunks >= 32, "{}", small.chunks);
    assert_eq!(geometry("segment_bytes = \"64MiB\"").chunk_bytes, 256 << 10);
    assert_eq!(geometry("segment_bytes = \"128MiB\"").chunk_bytes, 512 << 10);
    let wide = geometry("segment_bytes = \"16MiB\"\nlane_bytes_max = \"4MiB\"");
    assert_eq!((wide.chunk_bytes, wide.lane_chunks), (256 << 10, 16));
}

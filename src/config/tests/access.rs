//! Access: who is let in, from where, and how fast: `[cors]`, `[auth]`, and the caps on bandwidth.

use super::*;

#[test]
fn origins_are_those_that_browsers_send() {
    let origins =
        |text: &str| parse(&format!("[cors]\norigins = {text}\n"), "good").unwrap().cors.origins;
    assert_eq!(origins("[]"), Origins::Nobody);
    assert_eq!(origins("[\"*\"]"), Origins::Anybody);
    let listed = ["https://page.example", "http://[::1]:3000"].map(str::to_owned).to_vec();
    assert_eq!(origins(&format!("{listed:?}")), Origins::Listed(listed));
    let refused = |text: &str, parts: &[&str]| {
        assert_refused(&format!("[cors]\norigins = {text}\n"), parts);
    };
    for bad in ["\"null\"", "\"https://page.example/\"", "\"page.example\"", "7"] {
        refused(&format!("[{bad}]"), &["bad value in `origins`", "test.toml:2:12"]);
    }
    refused("[\"https://a.example\", \"*\"]", &["beside", "test.toml:2:33", "\"*\" alone"]);
    let many = vec!["https://page.example"; 65];
    refused(&format!("{many:?}"), &["too many `origins`", "64 origins"]);
}

#[test]
fn who_may_ask_for_sessions_is_read_from_a_file_of_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    let text = format!("[auth]\nissue_tokens = {path:?}\nissue_addresses = [\"10.0.0.0/8\"]\n");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let auth = parse(&text, "good").unwrap().auth;
    assert_eq!(auth.issue_tokens, Some(path.clone()));
    assert!(auth.issue_addresses.contains("10.1.2.3".parse().unwrap()));
    assert!(!auth.lets_anybody_issue());
    assert!(embedded().auth.lets_anybody_issue());
    std::fs::write(&path, "a secret\n").unwrap();
    assert_refused(&text, &["bad `issue_tokens`", "test.toml:2:16", "line 1 is not a token"]);
    assert!(!refusal(&text).contains("a secret"));
    std::fs::remove_file(&path).unwrap();
    assert_refused(&text, &["bad `issue_tokens`", "No such file"]);
    // Files that a running program's dump names were read before.
    assert!(parse_dump(&text, "good").is_ok());
    assert_refused("[auth]\nissue_tokens = 7\n", &["bad value for `issue_tokens`", "\"none\""]);
    let bad = "[auth]\nissue_addresses = [\"10.0.0.1/8\"]\n";
    assert_refused(bad, &["bad value in `issue_addresses`", "test.toml:2:20"]);
}

#[test]
fn a_cap_on_bandwidth_is_above_the_minimum() {
    let limits = |text: &str| parse(&format!("[limits]\n{text}\n"), "good").unwrap().limits;
    assert_eq!(limits("rate_bytes_max = \"none\"").rate_bytes_max, None);
    let capped = limits(
        "rate_bytes_min = 1024\nrate_bytes_max = \"1KiB\"\nrate_bytes_per_address_max = 2048",
    );
    let rates = [capped.rate_bytes_max, capped.rate_bytes_per_address_max];
    assert_eq!(rates.map(|rate| rate.map_or(0, std::num::NonZeroU64::get)), [1024, 2048]);
    for key in ["rate_bytes_max", "rate_bytes_per_address_max"] {
        for bad in ["0", "1023", "\"auto\"", "\"2TiB\"", "true"] {
            let text = format!("[limits]\n{key} = {bad}\n");
            assert_refused(&text, &[&format!("bad value for `{key}`"), "\"none\"", "1KiB to 1TiB"]);
        }
        let text = format!("[limits]\nrate_bytes_min = \"2KiB\"\n{key} = \"1KiB\"\n");
        assert_refused(&text, &[&format!("`{key}` below `rate_bytes_min`"), "test.toml:3:"]);
    }
}

#[test]
fn what_is_restricted_is_dumped_and_read_back() {
    let text = "[cors]\norigins = [\"https://page.example\"]\n[auth]\nissue_tokens = \"/no/such/file\"\n\
                issue_addresses = [\"10.0.0.0/8\", \"::1\"]\n[limits]\nrate_bytes_max = \"1MiB\"\n";
    let config = parse_dump(text, "first").unwrap();
    let again = parse_dump(&config.dump(), "again").unwrap();
    assert_eq!(
        (&again.cors, &again.auth, &again.limits),
        (&config.cors, &config.auth, &config.limits)
    );
    assert!(config.dump().contains("origins = [\"https://page.example\"]"), "{}", config.dump());
}

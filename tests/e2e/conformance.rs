//! What holds over HTTP holds over HTTPS: the same tests again, on a relay whose listener speaks TLS, with clients that
//! do. A test is in the list, or among those that are run over HTTP alone, with a reason; a test sees to that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// For each module's tests, a module of the same name with the same tests over TLS.
macro_rules! over_tls {
    ($($name:ident: $($module:ident)::+ { $($test:ident,)* })*) => {
        $(mod $name {
            use crate::$($module)::+ as plain;

            $(#[test]
            fn $test() {
                crate::harness::over_tls(plain::$test);
            })*
        })*

        /// The tests that are run again, by module.
        const LISTED: &[Tests] =
            &[$((stringify!($($module)::+), &[$(stringify!($test),)*]),)*];
    };
}

over_tls! {
    exchange: exchange {
        every_shape_in_both_orders_on_one_worker_and_two,
        megabytes_in_every_shape,
        sent_by_put_and_post_on_each_path_that_means_the_session,
        deeper_paths_are_unknown,
        length_and_type_reach_the_receiver,
        an_unknown_length_is_chunked,
        the_receivers_head_waits_for_the_first_byte,
        a_second_sender_or_receiver_is_turned_away,
        a_second_sender_is_turned_away_while_the_first_waits,
        a_complete_transfer_ends_the_session,
        a_receiver_of_http_1_0_gets_a_known_length,
        a_receiver_of_http_1_0_is_refused_an_unknown_length_and_the_sender_waits_on,
        a_stalled_pair_does_not_slow_another,
    }
    outcomes: outcomes {
        all_delivered_is_200_with_a_report,
        a_receiver_that_leaves_midway_is_502_with_what_it_got,
        a_sender_that_leaves_midway_cuts_the_receiver_visibly,
        nobody_within_the_wait_is_504_for_either_side,
        the_wait_is_not_a_bound_of_the_transfer,
        no_chunk_for_a_pair_is_503_for_both,
        too_large_is_413_before_the_receiver_hears_of_it,
        the_cut_of_an_unknown_length_lacks_its_final_chunk,
        too_large_along_the_way_is_413_and_cuts_the_receiver,
    }
    displaced: displaced {
        who_fills_the_relay_with_sessions_loses_them_to_who_has_fewer,
        a_session_that_somebody_is_in_is_not_displaced,
        the_networks_of_one_site_have_a_share_in_common,
        idle_connections_give_way_to_who_has_fewer,
        who_waits_gives_way_visibly_and_who_transfers_does_not,
    }
    fairness: fairness {
        stalled_receivers_of_one_address_leave_chunks_to_others,
        a_number_of_chunks_is_what_an_address_may_hold,
        stalled_receivers_of_many_networks_of_one_site_leave_chunks_to_others,
        stalled_receivers_of_one_address_leave_pipes_to_others,
        a_receiver_that_stands_still_keeps_its_chunks_while_nobody_wishes_for_them,
        stalled_receivers_give_way_to_others_of_their_address_and_slow_ones_do_not,
        receivers_that_trickle_are_given_up_as_well,
        a_running_transfer_is_not_cut_for_the_wishes_of_an_address_that_holds_more,
    }
    receipt: receipt {
        the_level_can_be_asked_for,
        a_receiver_that_reads_a_part_and_dies_is_reported_within_what_it_got,
        a_hundred_megabytes_to_a_receiver_that_reads_nothing_never_succeed,
        sent_does_not_wait_for_the_acknowledgement,
        a_reset_before_the_acknowledgement_is_502,
        a_slow_reader_is_waited_for_and_reported_exactly,
        a_slow_and_steady_receiver_is_not_cut,
        a_failure_counts_what_was_acknowledged_whatever_level_was_asked_for,
    }
    leaving: leaving {
        a_waiting_receiver_that_leaves_frees_its_place,
        a_waiting_sender_that_leaves_frees_its_place,
        a_sender_may_half_close_once_its_body_is_whole,
        a_receiver_may_half_close_once_the_senders_body_is_whole,
        a_retry_on_the_same_key_starts_at_byte_0,
        leaving_at_any_moment_leaks_nothing,
        a_killed_curl_receiver_ends_the_sending_curl_with_22,
        a_killed_curl_sender_leaves_a_partial_file_and_a_working_key,
        a_sender_may_half_close_with_its_last_byte,
    }
    expectation: expectation {
        continue_comes_with_the_receiver_and_not_before,
        continue_comes_at_once_when_the_receiver_is_there,
        a_late_continue_is_left_out_once_bytes_have_come,
        a_final_answer_before_the_body_says_close,
        a_client_in_full_flow_sees_its_answer_and_not_a_reset,
        what_follows_a_final_answer_is_never_parsed,
        no_interim_answer_is_given_unasked,
        a_body_that_is_read_with_its_head_is_asked_for_at_once,
        a_sender_is_not_read_before_the_pairing,
        lingering_is_bounded_in_bytes_and_time,
    }
    form: form {
        the_first_part_with_a_file_name_is_the_file,
        an_empty_file_part_is_an_empty_file,
        the_receivers_final_chunk_waits_for_the_end_of_the_form,
        a_form_of_curl_with_several_fields,
        faults_before_the_file_are_the_senders_alone,
        a_broken_form_in_one_piece_is_never_complete,
        the_receivers_head_comes_once_the_parts_header_is_complete,
        what_follows_a_faulty_chunked_form_is_no_request,
    }
    answers: answers {
        connections_are_kept_and_pipelines_answered_in_order,
        a_pipelined_request_waits_behind_a_transfer,
        one_pair_of_kept_connections_serves_many_exchanges,
        http_1_0_is_answered_and_closed_unless_it_asks_to_stay,
        head_and_prefetch_leave_a_waiting_transfer_alone,
    }
    bytewise: bytewise {
        chunked_across_workers,
        a_head_and_a_body_in_pieces_of_one_byte,
        chunked_on_one_worker,
        of_known_length_across_workers,
    }
    limits: limits {
        connections_beyond_the_limit_are_not_served_and_the_others_are,
        an_address_has_exactly_its_connections_over_all_workers,
        those_that_are_turned_away_do_not_fill_the_relay,
        those_that_are_turned_away_do_not_keep_a_full_relay_full,
        one_that_is_turned_away_leaves_soon_whatever_it_does,
        connections_are_unlimited_where_the_configuration_says_so,
        sessions_that_expire_make_room_for_their_issuer,
        a_killed_worker_leaves_its_addresses_their_whole_share,
    }
    cors: cors {
        a_page_of_a_listed_origin_exchanges_a_file,
        a_page_hosts_a_message_session_with_its_token_alone,
    }
    issuing: issuing {
        sessions_are_issued_for_a_token_alone,
        a_session_is_used_without_the_token_that_it_was_asked_for_with,
    }
    bandwidth: bandwidth {
        a_transfer_takes_the_time_that_its_cap_demands,
        each_transfer_has_a_cap_of_its_own_and_an_address_one_for_all_workers,
        who_is_held_back_is_not_cut_for_being_slow,
        messages_have_a_cap_as_well,
        a_sender_that_breaks_off_while_it_is_held_back_is_noticed,
    }
    passing: messages::passing {
        type_and_length_pass_as_they_are,
        an_empty_message_is_a_message,
        pieces_pass_at_once,
        only_a_chunked_message_is_told_what_was_relayed,
        a_large_message_passes_in_either_shape,
        an_old_receiver_gets_a_message_of_known_length,
        a_form_passes_as_it_is,
        an_old_receiver_of_a_chunked_message_is_told_505_and_the_sender_waits_on,
        a_sender_that_asks_first_is_answered_100_once_somebody_listens,
    }
    losing: messages::losing {
        a_sender_lost_in_chunks_ends_the_message_marked_as_truncated,
        a_malformed_chunk_is_told_to_both,
        a_sender_lost_short_of_its_length_cuts_the_message,
        a_lost_receiver_is_502_with_the_count_and_the_lane_is_free,
        a_receiver_that_closes_is_lost_with_the_next_bytes,
        a_worker_that_dies_ends_its_messages_and_harms_no_session,
        a_poll_of_a_dead_worker_is_replaced,
    }
    secure: messages::secure {
        a_secure_session_refuses_every_other_address,
        a_guest_that_waits_is_sent_away_when_another_is_permitted,
    }
    message_receipt: messages::receipt {
        the_receipt_level_is_sent_unless_asked_or_configured,
        acked_waits_for_the_acknowledgement_and_sent_does_not,
    }
    transcript: messages::transcript {
        over_curl_with_a_cookie_jar,
        over_bare_sockets,
    }
    crash: crash {
        heavy_a_worker_killed_under_sixty_transfers_harms_only_its_own,
        each_side_hears_at_once_when_the_others_worker_dies,
        a_pair_that_has_not_begun_leaves_nothing_behind,
        a_place_held_by_a_dead_workers_wait_is_free_again,
        workers_leave_when_the_master_dies,
    }
    lifetime: lifetime {
        waits_end_with_the_session_and_do_not_extend_it,
        a_running_transfer_outlives_the_session,
        expired_slots_are_issued_again,
        a_transfer_below_the_minimum_rate_is_cut,
        a_transfer_above_the_minimum_rate_goes_on,
        a_receiver_that_stops_reading_is_cut_by_the_minimum_rate,
    }
    crowd: crowd {
        of_many_on_one_key_exactly_one_pair_wins,
        revoking_in_the_midst_of_arrivals_leaves_nothing,
    }
    ending: messages::ending {
        a_deleted_session_is_unknown_and_its_cookie_is_taken_back,
        only_the_host_deletes,
        a_message_on_its_way_is_cut_visibly,
        expiry_ends_every_wait_with_410,
        waiting_does_not_prolong_a_session_and_a_message_does,
        a_session_lives_while_a_message_runs,
        heavy_deleting_fifty_sessions_answers_a_hundred_polls_at_once,
    }
    order: messages::order {
        heavy_ten_thousand_messages_in_both_directions_at_once,
        a_hundred_messages_on_fresh_connections,
    }
    replacing: messages::replacing {
        a_waiting_receiver_that_is_gone_is_replaced,
        it_is_replaced_on_its_own_worker_and_on_another,
        nothing_is_delivered_to_a_receiver_that_has_left,
        a_waiting_sender_that_is_gone_is_replaced,
        a_killed_curl_that_waits_is_replaced,
        a_killed_curl_whose_body_fills_every_buffer_is_replaced,
        one_with_an_unread_body_gives_way_to_the_same_address_and_is_told,
        one_with_an_unread_body_gives_way_to_no_other_address,
        a_receiver_that_has_it_all_polls_again_at_once_on_another_connection,
        one_whose_body_has_come_in_small_part_gives_way_to_nobody,
    }
    roles: messages::roles {
        each_partys_message_answers_the_others_poll,
        nobody_hears_himself,
        a_party_may_receive_and_send_at_the_same_time,
        a_wrong_token_is_a_guests,
        a_second_receiver_is_told_409,
        who_has_read_a_message_may_ask_for_the_next_on_another_connection,
        a_second_sender_is_told_409,
        the_hosts_cookie_is_renewed_and_a_guest_gets_none,
    }
    timeout: messages::timeout {
        a_message_that_comes_in_time_is_no_timeout,
        after_a_timeout_the_connection_goes_on,
    }
    reload: reload {
        a_wait_is_answered_by_the_next_generation,
        a_transfer_goes_on,
        connections_that_stand_idle_have_their_next_request_answered,
        connections_that_come_before_a_busy_worker_knows_are_served,
        at_the_drain_deadline_waits_end_and_transfers_go_on,
        a_worker_that_dies_while_it_drains_is_swept_and_not_replaced,
    }
    renewal_load: renewal_load {
        heavy_a_hundred_reloads_under_load_lose_nothing_and_leave_nothing,
        heavy_twenty_upgrades_under_load_lose_nothing_and_leave_nothing,
    }
    process: process {
        quit_lets_running_transfers_finish,
        quit_has_a_deadline,
        term_and_int_stop_at_once,
        quit_sends_away_a_pair_that_has_met_and_not_begun,
    }
    names: names {
        curl_saves_a_file_under_its_name,
        wget_saves_a_file_under_its_name,
        a_name_behind_the_key_means_the_session_for_every_method,
        a_name_in_the_body_or_head_goes_before_the_paths,
        curl_receives_and_sends_by_a_name_behind_the_key,
        a_file_sent_to_no_session_is_told_what_to_do,
        what_no_key_looks_like_is_no_guess,
    }
    previews: previews {
        a_previewer_gets_a_page_and_takes_nothing,
        a_previewer_that_guesses_is_limited_as_all_are,
        other_clients_get_the_transfer,
        a_previewer_of_messages_takes_none,
        who_is_a_previewer_can_be_configured,
        curl_as_a_previewer_leaves_the_file_to_curl,
        a_sender_is_a_sender_whatever_it_calls_itself,
    }
    files: files {
        the_readme_example_by_form_and_by_upload,
        an_empty_file_by_curl,
        curl_that_sends_first_waits_beyond_its_own_second,
    }
    heads: heads {
        a_head_not_in_time_is_408,
        a_kept_connection_is_closed_when_it_idles,
    }
    ring: ring {
        what_a_sender_without_room_sends_wakes_nobody,
        transfers_beyond_the_number_of_chunks_take_turns,
        a_sender_without_room_whose_receiver_left_frees_its_place_when_it_leaves,
        a_stopped_receiver_holds_at_most_a_lane_of_chunks,
        without_acknowledged_chunks_the_sender_stops_at_the_lanes_capacity,
        the_receiver_gets_what_the_segment_holds,
        pairs_share_the_chunks_of_a_small_segment,
    }
    safe_conduct: safe_conduct {
        revoking_ends_every_wait_at_once,
        revoking_cuts_a_running_transfer_visibly,
        a_thousand_connections_spread_evenly_over_the_workers,
    }
    framing: framing {
        what_is_allowed_is_understood,
        a_body_on_get_or_delete_is_not_taken_for_a_request,
    }
    waits: waits {
        a_wait_lasts_as_long_as_it_asks_within_the_configured_most,
        nobody_who_asks_gets_less_than_who_does_not,
        what_is_no_number_of_seconds_is_400,
        a_file_that_comes_in_time_is_no_timeout,
        curl_prints_who_did_not_come,
    }
    silence: silence {
        a_curl_that_was_stopped_while_it_sent_arrives_whole,
        a_curl_that_was_stopped_while_it_received_has_the_whole_file,
        a_message_whose_sender_stands_still_goes_on,
        a_sender_that_is_silent_for_too_long_is_told_and_its_receiver_cut,
        a_receiver_that_takes_nothing_for_too_long_is_cut_and_its_sender_told,
        who_moves_a_little_now_and_then_is_not_silent,
        a_silent_sender_is_cut_by_the_minimum_rate_once_many_connections_are_open,
        a_receiver_that_stalls_is_cut_by_the_minimum_rate_once_many_connections_are_open,
        who_trickles_is_cut_by_the_minimum_rate_once_many_connections_are_open,
        a_silent_sender_is_cut_by_the_minimum_rate_once_somebody_finds_no_session,
    }
    keepalive: keepalive {
        a_receiver_whose_machine_is_lost_is_found_out_while_bytes_are_on_their_way_to_it,
        a_client_whose_machine_is_lost_frees_its_place,
    }
    urgent: urgent {
        an_urgent_byte_in_the_middle_of_a_body_is_left_out,
        what_has_come_behind_an_urgent_byte_is_not_waited_for,
    }
    waiting: waiting {
        head_says_which_side_of_an_exchange_waits,
        head_says_that_both_are_there_and_that_neither_is_after_a_cut,
        head_says_to_each_party_how_the_other_waits,
        head_says_nothing_to_who_may_not_use_the_session,
    }
    whole: whole {
        a_sender_that_states_no_length_is_told_and_its_session_stays,
        a_receiver_that_asks_for_the_rest_is_never_given_the_beginning,
    }
    traces: traces {
        heavy_a_body_leaves_nothing_on_any_disk,
        no_session_is_given_what_another_left_in_the_segment,
    }
}

/// A module, and tests of it.
type Tests = (&'static str, &'static [&'static str]);

/// What is not run over TLS: why, and of which module which tests; all where none is named.
const OVER_HTTP_ALONE: &[(&str, &[Tests])] = &[
    (
        "what is encrypted does not pass through pipes",
        &[("pipes", &[]), ("pipe_faults", &[]), ("pipe_share", &[])],
    ),
    (
        "it is about requests and answers, whatever carries them",
        &[
            (
                "answers",
                &[
                    "the_root_tells_how_to_use_it",
                    "every_answer_carries_date_and_server",
                    "head_tells_whether_the_key_lives_and_never_waits",
                    "a_service_worker_script_is_refused",
                    "other_methods_are_405_with_what_is_allowed",
                    "never_issued_and_dead_keys_answer_alike",
                    "errors_are_problems_in_json_on_request",
                    "an_error_for_curl_is_a_line_and_an_exit_code",
                    "relayed_answers_are_safe_in_a_browser",
                ],
            ),
            ("exchange", &["a_trailing_slash_means_the_same_session"]),
            (
                "cors",
                &[
                    "preflights_are_granted_to_listed_origins_alone",
                    "a_preflight_consumes_nothing_and_tells_nothing_of_a_key",
                    "options_without_an_origin_says_what_is_allowed",
                    "refusals_can_be_read_by_the_page_as_well",
                    "any_origin_is_told_the_same",
                    "without_origins_nothing_is_said_of_them",
                ],
            ),
            (
                "issuing",
                &[
                    "sessions_are_issued_to_certain_addresses_and_a_proxy_may_speak_for_them",
                    "a_token_or_an_address_is_enough_where_there_are_both",
                    "wrong_tokens_are_guesses_and_no_token_is_none",
                    "tokens_are_read_anew_by_a_reload_and_a_bad_file_changes_nothing",
                    "tokens_survive_an_upgrade",
                    "a_token_of_the_operator_is_written_down_nowhere",
                ],
            ),
            (
                "expectation",
                &[
                    "another_expectation_is_refused",
                    "those_that_linger_are_read_from_a_little_at_a_time",
                ],
            ),
            (
                "files",
                &[
                    "names_in_a_path_reach_the_receiver_harmless",
                    "a_name_in_content_disposition_reaches_the_receiver",
                    "a_long_name_is_cut_at_255_bytes_in_front_of_its_extension",
                ],
            ),
            (
                "framing",
                &[
                    "no_head_is_understood_in_two_ways",
                    "a_fault_is_told_before_the_head_is_complete",
                    "no_chunk_is_understood_in_two_ways",
                    "chunk_lines_and_trailers_are_bounded",
                ],
            ),
            (
                "form",
                &[
                    "a_form_by_put_is_a_form_under_each_path",
                    "forms_as_clients_write_them_are_read",
                    "a_form_of_curl_by_put_is_unpacked",
                    "a_curl_with_two_files_is_told_and_its_receiver_has_no_file",
                ],
            ),
            (
                "heads",
                &[
                    "long_heads_are_refused_by_the_part_that_is_too_long",
                    "a_head_request_that_is_refused_has_no_content",
                    "a_method_that_does_not_end_is_not_a_target_that_is_too_long",
                    "long_heads_and_trailers_that_come_by_the_byte_cost_little",
                ],
            ),
            ("waiting", &["curl_and_a_kept_connection_know_where_such_a_head_ends"]),
            (
                "whole",
                &[
                    "a_part_of_a_file_is_refused_and_the_whole_range_is_the_file",
                    "a_range_that_takes_the_whole_is_given_the_whole",
                    "a_curl_that_states_no_length_can_send_again",
                    "curl_that_goes_on_is_refused_and_curl_that_begins_is_not",
                    "curl_that_goes_on_does_not_put_two_files_into_one",
                    "a_message_of_http_1_0_states_its_length",
                    "what_an_old_sender_sends_up_to_the_end_is_no_request",
                ],
            ),
            (
                "limits",
                &[
                    "sessions_are_given_back_one_for_one",
                    "an_address_has_exactly_its_sessions_over_all_workers",
                    "guesses_beyond_the_budget_are_429_while_good_keys_work",
                    "behind_a_trusted_proxy_each_client_has_its_own_share",
                    "behind_a_balancer_a_connection_counts_once_its_client_is_named",
                    "those_that_a_balancer_names_and_that_are_turned_away_do_not_fill_the_relay",
                ],
            ),
            ("labels", &[]),
            ("messages::allocating", &[]),
            ("messages::clients", &[]),
            (
                "messages::ending",
                &[
                    "a_key_never_issued_is_answered_as_one_that_is_dead",
                    "the_token_is_known_in_each_of_its_forms",
                ],
            ),
            (
                "messages::passing",
                &[
                    "a_relayed_answer_is_not_run_cached_or_sniffed",
                    "a_service_worker_is_not_served",
                ],
            ),
            (
                "messages::roles",
                &[
                    "a_cookie_lasts_as_long_as_its_session_was_asked_for",
                    "the_token_is_found_beside_others",
                ],
            ),
            (
                "messages::secure",
                &[
                    "the_host_is_refused_nowhere",
                    "a_second_permit_replaces_the_first",
                    "an_address_of_the_other_family_permits_nobody_here",
                    "a_malformed_or_missing_address_is_400_and_changes_nothing",
                    "only_the_host_permits",
                    "a_basic_session_permits_nobody_as_it_refuses_nobody",
                    "secure_can_be_asked_for_in_the_query",
                ],
            ),
            ("messages::timeout", &["what_is_no_number_of_seconds_is_400"]),
            ("outcomes", &["no_session_slot_is_503_with_a_time_to_retry"]),
            ("receipt", &["the_level_can_be_configured_and_a_wrong_one_is_refused"]),
            (
                "safe_conduct",
                &[
                    "names_the_session_in_location_body_and_cookie",
                    "url_follows_the_host_that_was_asked",
                    "tells_when_the_session_expires",
                    "json_on_request",
                    "curl_prints_the_url",
                    "an_empty_chunked_or_counted_body_is_empty",
                    "a_body_is_refused",
                    "keys_and_tokens_are_never_twice_the_same",
                    "revoked_with_the_token_in_each_of_its_forms",
                    "not_revoked_without_the_token",
                ],
            ),
        ],
    ),
    ("it is about schemes and addresses, and says itself what is spoken", &[("address", &[])]),
    (
        "it is about what clients never see",
        &[("admin", &[]), ("cli", &[]), ("control", &[]), ("first_steps", &[])],
    ),
    (
        "it is about logs, whatever is logged",
        &[("access_log", &[]), ("access_loss", &[]), ("diagnostics", &[]), ("rotation", &[])],
    ),
    (
        "it is about processes, files and sockets, whatever passes",
        &[
            (
                "crash",
                &[
                    "workers_that_die_again_and_again_come_back_with_patience",
                    "a_master_killed_before_it_serves_leaves_nobody",
                    "a_master_killed_while_others_drain_or_stand_still_leaves_nobody",
                    "a_master_killed_during_an_upgrade_leaves_nobody",
                ],
            ),
            ("deaths", &[]),
            ("fast_open", &[]),
            ("machine", &[]),
            ("pipe_allowance", &[]),
            ("retry", &[]),
            ("tether", &[]),
            ("hanging", &[]),
            ("sandbox", &[]),
            ("upgrade", &[]),
            ("activation", &[]),
            ("service", &[]),
            ("faults::starting", &[]),
            ("faults::supervising", &[]),
            ("faults::serving", &[]),
            (
                "limits",
                &["a_limit_that_a_worker_cannot_reach_is_told_with_all_that_it_opens_counted"],
            ),
            ("keepalive", &["the_kernel_asks_after_every_client_as_often_as_configured"]),
            (
                "process",
                &[
                    "ps_shows_who_is_who",
                    "process_1_reaps_what_has_lost_its_parent",
                    "workers_are_above_their_master_where_memory_runs_out",
                    "workers_that_are_stopped_with_their_master_have_not_died",
                    "every_listener_serves_the_same_sessions",
                    "keys_and_tokens_never_enter_the_log",
                    "shared_memory_never_holds_a_key_or_a_token",
                    "term_cuts_a_graceful_stop_short",
                ],
            ),
            (
                "reload",
                &[
                    "workers_come_and_go",
                    "a_generation_that_is_ended_for_a_reload_has_not_died",
                    "a_request_that_crosses_the_end_of_an_idle_connection_meets_no_reset",
                    "heavy_no_reload_of_thirty_two_workers_waits_before_four_generations_live",
                    "hup_reloads_as_well",
                    "the_log_level_may_change",
                    "listeners_come_and_go",
                    "the_admin_listener_stays_or_moves",
                    "a_bad_configuration_changes_nothing",
                    "what_only_a_restart_can_change_is_refused_by_name",
                    "a_further_reload_waits_until_a_generation_is_gone",
                ],
            ),
        ],
    ),
    (
        "a client says nothing before somebody has shaken hands with it",
        &[
            ("messages::secure", &["a_message_right_after_a_permit_waits_for_the_new_guest"]),
            ("receipt", &["bytes_that_are_never_acknowledged_are_no_success"]),
            ("reload", &["winch_drains_all_and_hup_begins_anew"]),
        ],
    ),
    (
        "it counts on an acknowledgement that the kernel delays after a handshake",
        &[(
            "form",
            &[
                "faults_within_the_file_abort_the_receiver_visibly",
                "too_much_after_the_file_aborts_the_receiver",
                "a_second_file_is_told_and_the_receiver_is_cut",
            ],
        )],
    ),
    (
        "payload is decrypted into the segment and encrypted from it, by way of other memory",
        &[("ring", &["payload_is_received_into_the_segment_and_sent_from_it"])],
    ),
    ("HTTPS has limits of its own there, and a test of its own", &[("memory", &[])]),
    (
        "it is about load, and once is enough",
        &[
            ("crash", &["heavy_workers_killed_again_and_again_under_load_leak_nothing"]),
            (
                "crowd",
                &[
                    "heavy_two_hundred_transfers_over_four_workers_are_all_right",
                    "heavy_transfers_of_one_size_finish_together",
                    "lanes_that_trickle_hold_up_nobody_though_chunks_are_fewer",
                ],
            ),
            (
                "files",
                &[
                    "heavy_a_gigabyte_by_form_across_workers",
                    "heavy_a_gigabyte_by_form_on_one_worker",
                    "heavy_a_gigabyte_by_upload_across_workers",
                    "heavy_a_gigabyte_by_upload_on_one_worker",
                ],
            ),
            ("heads", &["heavy_two_thousand_slow_heads_disturb_nobody"]),
            ("messages::crowd", &[]),
            (
                "messages::ending",
                &[
                    "heavy_delete_answers_a_hundred_pending_operations_at_once",
                    "heavy_each_of_a_hundred_sessions_ends_at_once_in_a_burst",
                ],
            ),
            ("messages::order", &["heavy_ten_thousand_messages_back_and_forth"]),
            (
                "messages::timeout",
                &[
                    "heavy_a_wait_lasts_as_long_as_it_asks",
                    "heavy_the_configuration_says_how_long_others_wait_and_at_most",
                ],
            ),
        ],
    ),
];

/// The modules that are about TLS, or have tests of their own for it, and this one.
fn is_about_tls(module: &str) -> bool {
    ["main", "conformance"].contains(&module) || module.starts_with("tls") || module == "attack"
}

/// All files below `directory`, as paths.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

/// Each test of this program as `module::name`.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    let mut tests = BTreeSet::new();
    for path in sources(&root) {
        let module = path.strip_prefix(&root).unwrap().with_extension("");
        let module = module.to_str().unwrap().replace('/', "::");
        let module = module.strip_suffix("::mod").unwrap_or(&module);
        let text = fs::read_to_string(&path).unwrap();
        for after in text.split("\n#[test]\n").skip(1) {
            let (_, name) = after.split_once("fn ").unwrap();
            let name = name.split('(').next().unwrap();
            if !is_about_tls(module) {
                tests.insert(format!("{module}::{name}"));
            }
        }
    }
    tests
}

#[test]
fn every_test_is_run_over_both_or_says_why_not() {
    let tests = tests();
    assert!(tests.len() > 200, "{} tests were found", tests.len());
    let of = |(module, names): &Tests| -> Vec<String> {
        let module = module.replace(' ', "");
        names.iter().map(|name| format!("{module}::{name}")).collect()
    };
    let listed: BTreeSet<String> = LISTED.iter().flat_map(of).collect();
    assert_eq!(listed.difference(&tests).next(), None, "it is in the list, and is no test");
    let all_of = |module: &str| -> BTreeSet<&str> {
        let names = tests.iter().filter_map(|test| test.rsplit_once("::"));
        names.filter(|(of, _)| *of == module).map(|(_, name)| name).collect()
    };
    let mut alone = BTreeSet::new();
    for (module, names) in OVER_HTTP_ALONE.iter().flat_map(|(_, modules)| *modules) {
        let all = all_of(module);
        let named = if names.is_empty() { all.clone() } else { names.iter().copied().collect() };
        assert_eq!(named.difference(&all).next(), None, "of {module}: it is no test");
        alone.extend(named.iter().map(|name| format!("{module}::{name}")));
    }
    assert_eq!(alone.intersection(&listed).next(), None, "it is run over TLS, and is not to be");
    let done: BTreeSet<_> = listed.union(&alone).cloned().collect();
    let forgotten: Vec<_> = tests.difference(&done).collect();
    assert!(forgotten.is_empty(), "over HTTP alone, for no reason: {forgotten:#?}");
}

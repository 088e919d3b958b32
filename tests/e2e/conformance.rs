//! What holds over HTTP holds over HTTPS: the same tests again, on a relay whose listener speaks TLS, with clients that
//! do. Left out are those that are about the scheme itself, that want a
//! receiver to understand less than a record, that hope for an acknowledgement which a handshake makes the kernel delay,
//! or that count on a turn of the receiver's within the first megabyte of its sender.

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
    }
    expectation: expectation {
        continue_comes_with_the_receiver_and_not_before,
        continue_comes_at_once_when_the_receiver_is_there,
        a_late_continue_is_left_out_once_bytes_have_come,
        a_final_answer_before_the_body_says_close,
        a_client_in_full_flow_sees_its_answer_and_not_a_reset,
        what_follows_a_final_answer_is_never_parsed,
    }
    form: form {
        the_first_part_with_a_file_name_is_the_file,
        an_empty_file_part_is_an_empty_file,
        the_receivers_final_chunk_waits_for_the_end_of_the_form,
        a_form_of_curl_with_several_fields,
    }
    answers: answers {
        connections_are_kept_and_pipelines_answered_in_order,
        a_pipelined_request_waits_behind_a_transfer,
        one_pair_of_kept_connections_serves_many_exchanges,
        http_1_0_is_answered_and_closed_unless_it_asks_to_stay,
    }
    bytewise: bytewise {
        chunked_across_workers,
        a_head_and_a_body_in_pieces_of_one_byte,
    }
    limits: limits {
        connections_beyond_the_limit_are_not_served_and_the_others_are,
        an_address_has_exactly_its_connections_over_all_workers,
        those_that_are_turned_away_do_not_fill_the_relay,
    }
    passing: messages::passing {
        type_and_length_pass_as_they_are,
        an_empty_message_is_a_message,
        pieces_pass_at_once,
        only_a_chunked_message_is_told_what_was_relayed,
        a_large_message_passes_in_either_shape,
        an_old_receiver_gets_a_message_of_known_length,
    }
    losing: messages::losing {
        a_sender_lost_in_chunks_ends_the_message_marked_as_truncated,
        a_malformed_chunk_is_told_to_both,
        a_sender_lost_short_of_its_length_cuts_the_message,
        a_lost_receiver_is_502_with_the_count_and_the_lane_is_free,
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
    }
}

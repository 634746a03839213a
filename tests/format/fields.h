/* SPDX-License-Identifier: Apache-2.0
 *
 * Every field of every format, with the meaning that docs/format.md gives it.
 */
static const struct field leat_frame_fields[] = {
    F(leat_frame, length_bytes, "header and payload, unpadded"),
    F(leat_frame, type_flags, "low 16 bits: enum leat_frame_type; high: enum leat_frame_flag"),
    F(leat_frame, crc, "over salt, the header but this word, and payload (PAD: header only)"),
    F(leat_frame, previous_crc, "crc of the frame before; 0 at position 0"),
    F(leat_frame, offset, "RECORD: its own; other types: the next record's"),
    F(leat_frame, time_ns, "log time: nanoseconds since 1970, never going back"),
    F(leat_frame, session, "session table index + 1; 0: none"),
    F(leat_frame, term, "term"),
    F(leat_frame, sequence, "per session and log, from 1; 0 without a session"),
};

static const struct field leat_term_payload_fields[] = {
    F(leat_term_payload, term, "term"),
    F(leat_term_payload, previous_term, "previous term"),
    F(leat_term_payload, previous_first_pos, "where the previous run begins"),
    F(leat_term_payload, leader_node, "leader node"),
    F(leat_term_payload, config_epoch, "config epoch"),
    F(leat_term_payload, reserved, "zero"),
};

static const struct field leat_session_payload_fields[] = {
    F(leat_session_payload, client, "client"),
    F(leat_session_payload, session, "table index + 1"),
    F(leat_session_payload, reserved, "zero"),
};

static const struct field leat_trim_payload_fields[] = {
    F(leat_trim_payload, trim_pos, "a segment boundary: all below it may be unlinked"),
};

static const struct field leat_fence_payload_fields[] = {
    F(leat_fence_payload, epoch, "above the one before"),
};

static const struct field leat_refused_payload_fields[] = {
    F(leat_refused_payload, error, "enum leat_error: LEAT_ECONDITION or LEAT_EFENCEDOUT"),
    F(leat_refused_payload, reserved, "zero"),
    F(leat_refused_payload, detail, "the next offset, or the log's fence epoch"),
};

static const struct field leat_session_closed_fields[] = {
    F(leat_session_closed, client, "client"),
    F(leat_session_closed, position, "of its SESSION_CLOSE"),
};

static const struct field leat_catalogue_row_fields[] = {
    F(leat_catalogue_row, name, "zero-padded, unique among the logs that exist"),
    F(leat_catalogue_row, log_id, "log id"),
    F(leat_catalogue_row, generation, "generation"),
    F(leat_catalogue_row, flags, "enum leat_base_flag, LEAT_CATALOGUE_DELETED"),
    F(leat_catalogue_row, entry_bytes_max, "largest entry in bytes"),
    F(leat_catalogue_row, segment_bytes, "segment in bytes"),
    F(leat_catalogue_row, arena_bytes, "arena in bytes"),
    F(leat_catalogue_row, retention_bytes, "the leader trims what exceeds it; 0: nothing"),
    F(leat_catalogue_row, retention_ns, "the leader trims what is older; 0: nothing"),
    F(leat_catalogue_row, created_ns, "log time of log 0"),
    F(leat_catalogue_row, owner_uid, "owner uid"),
    F(leat_catalogue_row, reserved_word, "zero"),
    F(leat_catalogue_row, reserved, "zero"),
};

static const struct field leat_catalogue_payload_fields[] = {
    F(leat_catalogue_payload, operation, "enum leat_catalogue_operation"),
    F(leat_catalogue_payload, reserved, "zero"),
    F(leat_catalogue_payload, request, "of the administrator who asked: tells retries apart"),
    F(leat_catalogue_payload, row, "as in a base frame"),
};

static const struct field leat_base_head_fields[] = {
    F(leat_base_head, version, "version"),
    F(leat_base_head, flags, "enum leat_base_flag"),
    F(leat_base_head, cluster, "cluster"),
    F(leat_base_head, log, "log"),
    F(leat_base_head, log_id, "log id"),
    F(leat_base_head, generation, "generation"),
    F(leat_base_head, position, "B"),
    F(leat_base_head, segment_bytes, "segment in bytes"),
    F(leat_base_head, arena_bytes, "arena in bytes"),
    F(leat_base_head, entry_bytes_max, "entry in bytes max"),
    F(leat_base_head, config_epoch, "config epoch"),
    F(leat_base_head, next_offset, "next offset"),
    F(leat_base_head, last_time_ns, "last time in ns"),
    F(leat_base_head, run_first_pos, "the run that holds B - 1"),
    F(leat_base_head, run_term, "run term"),
    F(leat_base_head, chain_crc, "of the frame before B"),
    F(leat_base_head, trim_pos, "as committed before B"),
    F(leat_base_head, member_count, "member count"),
    F(leat_base_head, session_count, "session count"),
    F(leat_base_head, catalogue_count, "log 0 only"),
    F(leat_base_head, closed_count, "sessions that were closed last, at most 64"),
    F(leat_base_head, fence_epoch, "writers below it are shut out; 0: none was ever set"),
    F(leat_base_head, closed_unknown_pos,
      "of the newest SESSION_CLOSE that is not listed; 0: all are"),
    F(leat_base_head, reserved_words, "zero"),
};

static const struct field leat_base_member_fields[] = {
    F(leat_base_member, node_id, "node id"),
    F(leat_base_member, flags, "reserved: learner"),
};

static const struct field leat_session_row_fields[] = {
    F(leat_session_row, client, "client"),
    F(leat_session_row, last_sequence, "last sequence"),
    F(leat_session_row, last_position, "last position"),
    F(leat_session_row, last_offset,
      "of a batch: its last record's; of a refused append: the detail"),
    F(leat_session_row, last_time_ns, "last time in ns"),
    F(leat_session_row, session, "table index + 1"),
    F(leat_session_row, last_error, "0, or why last_sequence was refused"),
};

static const struct field leat_identity_fields[] = {
    F(leat_identity, magic, "magic"),
    F(leat_identity, version, "version"),
    F(leat_identity, crc, "of this struct with this word zero"),
    F(leat_identity, cluster, "cluster"),
    F(leat_identity, node, "node"),
    F(leat_identity, node_id, "node id"),
    F(leat_identity, worker_count, "worker count"),
    F(leat_identity, member_count, "member count"),
    F(leat_identity, member_ids, "sorted; as formatted"),
    F(leat_identity, created_ns, "created in ns"),
    F(leat_identity, journal_secret,
      "random, and told to nobody: the CRC of a journal record begins with it"),
    F(leat_identity, reserved, "zero"),
};

static const struct field leat_journal_record_fields[] = {
    F(leat_journal_record, magic, "magic"),
    F(leat_journal_record, version, "version"),
    F(leat_journal_record, crc,
      "of the whole record, `record_bytes`, with this word zero; begins with the identity's "
      "secret"),
    F(leat_journal_record, record_bytes, "multiple of LEAT_BLOCK_BYTES"),
    F(leat_journal_record, node, "node"),
    F(leat_journal_record, incarnation, "incarnation"),
    F(leat_journal_record, sequence, "counts up by one, for ever"),
    F(leat_journal_record, at,
      "grows for ever; modulo 32 MiB, where it was written: a misdirected one shows, and one of an "
      "older round"),
    F(leat_journal_record, entry_count, "entry count"),
    F(leat_journal_record, in_flight,
      "records before this one that were not complete when it was issued: these may be missing "
      "without being damage, until one says less of them"),
};

static const struct field leat_journal_entry_fields[] = {
    F(leat_journal_entry, log, "log"),
    F(leat_journal_entry, log_id, "log id"),
    F(leat_journal_entry, generation, "generation"),
    F(leat_journal_entry, cut_epoch, "cut epoch"),
    F(leat_journal_entry, start_pos, "a segment base; files wholly below it are ignored"),
    F(leat_journal_entry, floor_pos, "contiguous durable position when issued"),
    F(leat_journal_entry, placed_pos,
      "all blocks below were in place when issued; of a block boundary"),
    F(leat_journal_entry, end_pos,
      "of what this record and all in-place writes below it make durable"),
    F(leat_journal_entry, commit_d, "as known, at most floor_pos (W6)"),
    F(leat_journal_entry, arena, "arena"),
    F(leat_journal_entry, boot, "the kernel's boot id under which the arena was made"),
    F(leat_journal_entry, last_term, "of the frames below end_pos"),
    F(leat_journal_entry, flags, "enum leat_journal_flag"),
    F(leat_journal_entry, tail_bytes, "the log's bytes [end_pos - tail_bytes, end_pos) follow"),
    F(leat_journal_entry, segment_log2, "segment log2"),
    F(leat_journal_entry, floor_crc, "of the last frame below floor_pos; 0: not known"),
    F(leat_journal_entry, base_crc, "of the last frame below base_pos"),
    F(leat_journal_entry, base_pos, "of a segment whose BASE frame was committed and in place"),
};

static const struct field leat_index_head_fields[] = {
    F(leat_index_head, magic, "magic"),
    F(leat_index_head, version, "version"),
    F(leat_index_head, crc, "of head and rows, with this word zero"),
    F(leat_index_head, log, "log"),
    F(leat_index_head, generation, "generation"),
    F(leat_index_head, row_count, "at least 1"),
    F(leat_index_head, base_pos, "of the segment"),
    F(leat_index_head, segment_bytes, "segment in bytes"),
    F(leat_index_head, end_offset, "the next offset behind the segment"),
};

static const struct field leat_index_row_fields[] = {
    F(leat_index_row, position, "of the frame"),
    F(leat_index_row, offset, "as the frame has it"),
    F(leat_index_row, time_ns, "as the frame has it"),
};

static const struct field leat_vote_slot_fields[] = {
    F(leat_vote_slot, magic, "magic"),
    F(leat_vote_slot, version, "version"),
    F(leat_vote_slot, crc, "of head, peers and votes, with this word zero"),
    F(leat_vote_slot, slot, "0 or 1"),
    F(leat_vote_slot, node, "node"),
    F(leat_vote_slot, sequence, "sequence"),
    F(leat_vote_slot, incarnation, "incarnation"),
    F(leat_vote_slot, vote_count, "vote count"),
    F(leat_vote_slot, peer_count, "peer count"),
};

static const struct field leat_peer_pin_fields[] = {
    F(leat_peer_pin, node, "node"),
    F(leat_peer_pin, incarnation, "incarnation"),
    F(leat_peer_pin, durable_high, "of logs 0 and 1: acknowledged as durable and committed"),
    F(leat_peer_pin, node_id, "node id"),
    F(leat_peer_pin, reserved, "zero"),
};

static const struct field leat_vote_fields[] = {
    F(leat_vote, log_id, "log id"),
    F(leat_vote, generation, "generation"),
    F(leat_vote, term, "term"),
    F(leat_vote, voted_for, "node id, or LEAT_VOTED_NONE"),
};

static const struct field leat_arena_header_fields[] = {
    F(leat_arena_header, magic, "magic"),
    F(leat_arena_header, version, "version"),
    F(leat_arena_header, log_id, "log id"),
    F(leat_arena_header, boot, "the kernel's boot id under which it was made"),
    F(leat_arena_header, log, "log"),
    F(leat_arena_header, arena, "made anew with every new arena; the journal names it"),
    F(leat_arena_header, generation, "generation"),
    F(leat_arena_header, entry_bytes_max, "entry in bytes max"),
    F(leat_arena_header, arena_bytes, "arena in bytes"),
    F(leat_arena_header, segment_bytes, "segment in bytes"),
    F(leat_arena_header, flags, "enum leat_arena_flag"),
    F(leat_arena_header, reserved_word, "reserved word"),
    F(leat_arena_header, reserved, "zero"),
    F(leat_arena_header, published_end, "published end"),
    F(leat_arena_header, horizon, "lowest position whose bytes are whole"),
    F(leat_arena_header, commit_d, "readers at the durable level stop here"),
    F(leat_arena_header, commit_r, "readers at the replicated level stop here"),
    F(leat_arena_header, epoch, "counts cuts below a published commit_r (W6)"),
    F(leat_arena_header, base_pos, "lowest segment held; below: trimmed"),
    F(leat_arena_header, instance, "counts starts of the node; 0 while it is not serving"),
    F(leat_arena_header, leadership, "struct leat_arena_leadership"),
};

static const struct field leat_arena_leadership_fields[] = {
    F(leat_arena_leadership, counter, "odd while it is written"),
    F(leat_arena_leadership, term, "of this node"),
    F(leat_arena_leadership, leader_node, "id; 0: none is known"),
    F(leat_arena_leadership, role, "of this node: enum leat_arena_role"),
    F(leat_arena_leadership, pad, "zero"),
};

static const struct field leat_trace_header_fields[] = {
    F(leat_trace_header, magic, "`LEATTRC1`, written last"),
    F(leat_trace_header, version, "1"),
    F(leat_trace_header, node_id, "node's id"),
    F(leat_trace_header, worker, "its worker"),
    F(leat_trace_header, reserved, "zero"),
    F(leat_trace_header, event_count, "of the ring, a power of two"),
};

static const struct field leat_trace_event_fields[] = {
    F(leat_trace_event, number, "how many came before, plus one; 0: none, or being written"),
    F(leat_trace_event, ns, "monotonic clock"),
    F(leat_trace_event, position, "all below has come to the point"),
    F(leat_trace_event, log_id, "log id"),
    F(leat_trace_event, point, "enum leat_trace_point"),
};

static const struct field leat_ring_client_fields[] = {
    F(leat_ring_client, tail, "release by client; acquire by node"),
    F(leat_ring_client, completion_head, "completions taken; release by client"),
    F(leat_ring_client, armed, "EVENTS: asks to be woken; release by client"),
};

static const struct field leat_ring_node_fields[] = {
    F(leat_ring_node, instance, "of the node's process: a restart makes another"),
    F(leat_ring_node, ring_bytes, "ring in bytes"),
    F(leat_ring_node, completion_count, "completion count"),
    F(leat_ring_node, reserved, "zero"),
    F(leat_ring_node, head, "record bytes given back; release by node"),
    F(leat_ring_node, completion_tail, "release by node; acquire by client"),
    F(leat_ring_node, closed, "a negative enum leat_error: the node let go"),
    F(leat_ring_node, signaled, "`armed` as it was when the client was woken last"),
};

static const struct field leat_ring_record_fields[] = {
    F(leat_ring_record, payload_bytes, "payload in bytes"),
    F(leat_ring_record, kind, "enum leat_ring_kind"),
    F(leat_ring_record, level, "enum leat_level"),
    F(leat_ring_record, flags, "enum leat_ring_flag"),
    F(leat_ring_record, log_id, "log id"),
    F(leat_ring_record, writer_epoch,
      "refused when the log's fence epoch is above it; 0: none; FENCE: new"),
    F(leat_ring_record, sequence, "per client and log, from 1"),
    F(leat_ring_record, condition,
      "FLAG_CONDITION: the offset; else of sequence 1 how far the log was committed, or less; else "
      "zero"),
};

static const struct field leat_batch_item_fields[] = {
    F(leat_batch_item, payload_bytes, "payload in bytes"),
    F(leat_batch_item, zero, "zero"),
};

static const struct field leat_completion_fields[] = {
    F(leat_completion, log_id, "log id"),
    F(leat_completion, error,
      "enum leat_error; ESESSION: `sequence` and on are lost or not recorded"),
    F(leat_completion, sequence, "sequence"),
    F(leat_completion, position,
      "of a batch: its last record's, like offset; refused: of its REFUSED frame"),
    F(leat_completion, offset, "FENCE: the next record's"),
    F(leat_completion, last_sequence, "ESESSION, ENOSESSION: the session's last durable one"),
    F(leat_completion, level, "enum leat_level that was reached"),
    F(leat_completion, reserved, "zero"),
    F(leat_completion, detail, "ECONDITION: the next offset; EFENCEDOUT: the log's fence epoch"),
    F(leat_completion, reserved_word, "zero"),
};

static const struct field leat_control_request_fields[] = {
    F(leat_control_request, magic, "magic"),
    F(leat_control_request, version, "version"),
    F(leat_control_request, kind, "enum leat_control_kind"),
    F(leat_control_request, log_id, "log id"),
    F(leat_control_request, node_id, "node id"),
    F(leat_control_request, client, "client"),
    F(leat_control_request, position, "position"),
    F(leat_control_request, ring_bytes, "ring in bytes"),
    F(leat_control_request, completion_count, "completion count"),
    F(leat_control_request, change, "CHANGE: struct leat_catalogue_payload; else zero"),
};

static const struct field leat_control_reply_fields[] = {
    F(leat_control_reply, magic, "magic"),
    F(leat_control_reply, version, "version"),
    F(leat_control_reply, kind, "kind"),
    F(leat_control_reply, error, "enum leat_error"),
    F(leat_control_reply, node_id, "node id"),
    F(leat_control_reply, instance, "instance"),
    F(leat_control_reply, position, "position"),
    F(leat_control_reply, offset, "TAIL: the next record\'s"),
    F(leat_control_reply, text_bytes,
      "behind this struct, in the same packet; errors explain themselves"),
    F(leat_control_reply, descriptor_count, "descriptor count"),
};

static const struct field leat_wire_header_fields[] = {
    F(leat_wire_header, magic, "magic"),
    F(leat_wire_header, version, "version"),
    F(leat_wire_header, kind, "enum leat_wire_kind"),
    F(leat_wire_header, crc, "header (this word zero) and body"),
    F(leat_wire_header, payload_crc, "0 for an APPEND and without a payload"),
    F(leat_wire_header, cluster, "cluster"),
    F(leat_wire_header, from_node, "from node"),
    F(leat_wire_header, to_node, "to node"),
    F(leat_wire_header, from_incarnation, "from incarnation"),
    F(leat_wire_header, log_id, "LOG, FORWARD, FORWARDED"),
    F(leat_wire_header, log_generation,
      "a deleted and re-created log's late packets are dropped by it"),
    F(leat_wire_header, payload_bytes, "payload in bytes"),
    F(leat_wire_header, body_bytes, "body in bytes"),
    F(leat_wire_header, worker, "the sender's"),
    F(leat_wire_header, worker_count, "of the sending node"),
    F(leat_wire_header, key_epoch, "reserved for encryption; zero"),
};

static const struct field leat_message_fields[] = {
    F(leat_message, kind, "enum leat_message_kind"),
    F(leat_message, from, "member index: place in the sorted list of node ids"),
    F(leat_message, to, "to"),
    F(leat_message, flags, "enum leat_message_flag"),
    F(leat_message, term, "term"),
    F(leat_message, last_term, "VOTE_REQUEST: of the candidate's last run"),
    F(leat_message, config_epoch, "config epoch"),
    F(leat_message, from_incarnation, "of the sending node's process"),
    F(leat_message, to_incarnation, "as the sender knows it; 0: not yet. Replies echo it (W7)"),
    F(leat_message, request, "requests count up; replies echo"),
    F(leat_message, begin_pos, "begin position"),
    F(leat_message, end_pos, "end position"),
    F(leat_message, memory_pos, "M of the sender"),
    F(leat_message, durable_pos, "D of the sender"),
    F(leat_message, commit_r, "as the leader knows it"),
    F(leat_message, commit_d, "commit d"),
    F(leat_message, round, "the leader's nonce; ACK: the newest seen in this term (W5 c)"),
    F(leat_message, run_count, "RECONCILE_REPLY"),
    F(leat_message, reserved, "zero"),
};

static const struct field leat_run_fields[] = {
    F(leat_run, first_pos, "of its TERM frame; 0 for the genesis run"),
    F(leat_run, term, "term"),
    F(leat_run, reserved, "zero"),
};

static const struct field leat_wire_hello_fields[] = {
    F(leat_wire_hello, node, "pinned by the receiver"),
    F(leat_wire_hello, incarnation, "incarnation"),
    F(leat_wire_hello, durable_high,
      "the sender's highest D of logs 0 and 1 (rolled-back disks show)"),
    F(leat_wire_hello, genesis_crc, "of the genesis frames of logs 0 and 1"),
    F(leat_wire_hello, flags, "1: please answer"),
    F(leat_wire_hello, reserved, "zero"),
};

static const struct field leat_wire_heartbeat_fields[] = {
    F(leat_wire_heartbeat, incarnation, "incarnation"),
    F(leat_wire_heartbeat, to_incarnation, "as known to the sender; 0 unknown"),
    F(leat_wire_heartbeat, set_counter, "rises whenever the set of led (log, term) changes"),
    F(leat_wire_heartbeat, set_hash, "CRC32C of the set's struct leat_wire_led in order of log id"),
    F(leat_wire_heartbeat, led_count, "led count"),
    F(leat_wire_heartbeat, heard_counter,
      "the newest set_counter of the receiver that the sender holds"),
    F(leat_wire_heartbeat, sent_ns, "by the monotonic clock of who asks; a reply echoes it"),
    F(leat_wire_heartbeat, flags, "flags"),
    F(leat_wire_heartbeat, led_first, "FULL: place in the set of the first that follows"),
    F(leat_wire_heartbeat, led_total, "of the set"),
    F(leat_wire_heartbeat, reserved, "zero"),
};

static const struct field leat_wire_led_fields[] = {
    F(leat_wire_led, log_id, "log id"),
    F(leat_wire_led, term, "term"),
};

static const struct field leat_wire_forward_fields[] = {
    F(leat_wire_forward, client, "client"),
    F(leat_wire_forward, sequence, "sequence"),
    F(leat_wire_forward, total_bytes, "of the record or batch"),
    F(leat_wire_forward, begin_byte, "of this piece"),
    F(leat_wire_forward, flags, "enum leat_wire_forward_flag"),
    F(leat_wire_forward, writer_epoch, "as in the ring"),
    F(leat_wire_forward, condition, "as in struct leat_ring_record"),
    F(leat_wire_forward, applied_pos, "what the sender has applied of the log"),
};

static const struct field leat_wire_forwarded_fields[] = {
    F(leat_wire_forwarded, client, "client"),
    F(leat_wire_forwarded, sequence, "sequence"),
    F(leat_wire_forwarded, expected_sequence, "the next that the session takes"),
    F(leat_wire_forwarded, position, "position"),
    F(leat_wire_forwarded, offset, "ECONDITION, EFENCEDOUT: the detail"),
    F(leat_wire_forwarded, error, "enum leat_error"),
    F(leat_wire_forwarded, reserved, "zero"),
};

static const struct field leat_wire_admin_fields[] = {
    F(leat_wire_admin, request, "names the change; a repeated one is the same"),
    F(leat_wire_admin, uid, "who asks; 2^32 - 1: the node's user or root"),
    F(leat_wire_admin, reserved, "zero"),
};

static const struct field leat_wire_administered_fields[] = {
    F(leat_wire_administered, request, "as asked"),
    F(leat_wire_administered, error, "enum leat_error, negative"),
    F(leat_wire_administered, reserved, "zero"),
};

static const struct field leat_wire_tail_fields[] = {
    F(leat_wire_tail, request, "the asker's number; counts up"),
    F(leat_wire_tail, reserved, "zero"),
};

static const struct field leat_wire_tail_reply_fields[] = {
    F(leat_wire_tail_reply, request, "all up to it are answered"),
    F(leat_wire_tail_reply, commit_d, "committed at the durable level"),
    F(leat_wire_tail_reply, commit_r, "committed at the replicated level"),
    F(leat_wire_tail_reply, reserved, "zero"),
};

static const struct field leat_wire_repair_fields[] = {
    F(leat_wire_repair, begin_pos, "first byte asked for"),
    F(leat_wire_repair, end_pos, "behind the last"),
};

static const struct field leat_wire_repair_data_fields[] = {
    F(leat_wire_repair_data, begin_pos, "of the first byte that follows"),
    F(leat_wire_repair_data, error, "enum leat_error: the sender has them not either"),
    F(leat_wire_repair_data, reserved, "zero"),
};

static const struct field leat_wire_operate_fields[] = {
    F(leat_wire_operate, request, "the asker's number; a repeated one is the same"),
    F(leat_wire_operate, position, "TRIM: what is below may go; else zero"),
    F(leat_wire_operate, operation, "1 TRIM, 2 TRANSFER"),
    F(leat_wire_operate, to_node,
      "TRANSFER: to this node, 0: to the one that is furthest; else zero"),
    F(leat_wire_operate, term, "of the leader that is asked"),
    F(leat_wire_operate, reserved, "zero"),
};

static const struct field leat_wire_operated_fields[] = {
    F(leat_wire_operated, request, "as asked"),
    F(leat_wire_operated, position, "TRIM: the segment base that it trims to"),
    F(leat_wire_operated, error, "enum leat_error, 0: done"),
    F(leat_wire_operated, reserved, "zero"),
};

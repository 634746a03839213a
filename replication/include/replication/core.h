/* SPDX-License-Identifier: Apache-2.0
 *
 * Consensus for one log: Raft over runs of terms, with two watermarks.
 *
 * The core knows no payloads. A log, to it, is a list of runs (term, first position) and an end;
 * two logs agree up to the first point where their runs differ. Sources: Ongaro and Ousterhout,
 * "In Search of an Understandable Consensus Algorithm" (2014), figure 2 and section 5; Ongaro's
 * thesis (2014), 3.10 (transfer), 6.2 (check-quorum), 9.6 (pre-vote); the rules G1-G4 and W1-W8
 * of docs/consensus.md, which are where this departs from them.
 *
 * Pure: no I/O, no clock, no allocation, no logging; the same inputs give the same bits. One way
 * in, leat_core_step(); one way out, leat_core_poll(), called once per pass, so that a burst of
 * packets merges into one disk write, one send per peer and one commit advance.
 *
 * Threads: none of its own; a core belongs to one worker.
 *
 * Roles and moves (asserted in core_set_role):
 *   FOLLOWER -> PRE_CANDIDATE -> CANDIDATE -> LEADER;  any -> FOLLOWER;
 *   FOLLOWER -> CANDIDATE on leadership transfer;  PRE_CANDIDATE -> PRE_CANDIDATE,
 *   CANDIDATE -> PRE_CANDIDATE on a timeout.
 */
#ifndef LEAT_REPLICATION_CORE_H
#define LEAT_REPLICATION_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base_frame.h"
#include "base/message.h"

#define LEAT_CORE_WRITES_MAX 128u
#define LEAT_CORE_NOBODY     UINT8_MAX
/* per peer: one vote message, one reconcile message, an append, a resend, an ack */
#define LEAT_CORE_MESSAGES_MAX (LEAT_MEMBERS_MAX * 5u)

enum leat_role {
    LEAT_FOLLOWER,
    LEAT_PRE_CANDIDATE,
    LEAT_CANDIDATE,
    LEAT_LEADER,
};

struct leat_core_config {
    uint8_t member_count;    /* 1, 3, 5 or 7 */
    uint8_t self;            /* member index: place in the sorted list of node ids */
    bool accepts_replicated; /* else amnesia means nothing (W5) */
    uint8_t reserved[5];
    uint64_t election_min_ns; /* a follower campaigns between min and max without a leader */
    uint64_t election_max_ns;
    uint64_t retransmit_ns; /* without progress of a peer everything unacknowledged is sent again */
    uint64_t window_bytes;  /* sent and not acknowledged, per peer */
    uint64_t seed;          /* of the jitter; differs per node and log */
};

/* What recovery found. */
struct leat_core_boot {
    uint64_t now_ns;
    uint64_t incarnation;
    uint32_t vote_term;
    uint8_t voted_for; /* member index or LEAT_CORE_NOBODY */
    bool amnesiac;
    bool damaged; /* claim_* say what the replica had before (V2) */
    uint8_t reserved;
    const struct leat_run *runs;
    uint32_t run_count; /* at least 1 */
    uint32_t claim_term;
    uint64_t claim_end;
    uint64_t base_pos;    /* lowest position held */
    uint64_t memory_pos;  /* M */
    uint64_t durable_pos; /* D */
    uint64_t commit_d;
    uint64_t cut_epoch; /* of the newest cut on record, or start behind a life that died: the next
                           one's is higher */
};

enum leat_input_kind {
    LEAT_INPUT_TICK,           /* time passed */
    LEAT_INPUT_MESSAGE,        /* message, runs */
    LEAT_INPUT_HEARTBEAT,      /* peer says it leads in `term`, incarnation (G4) */
    LEAT_INPUT_PEER_ALIVE,     /* peer said hello, or answered a heartbeat of this node */
    LEAT_INPUT_APPENDED,       /* leader: own frames lie below `position`, published */
    LEAT_INPUT_VERIFIED,       /* follower: frames checked below `position`, published */
    LEAT_INPUT_RUN,            /* a TERM frame of `term` lies at `position`, to be covered next */
    LEAT_INPUT_PERSISTED,      /* write `sequence` and all before it are durable */
    LEAT_INPUT_VOTE_PERSISTED, /* vote record `sequence` is durable */
    LEAT_INPUT_CUT_SETTLED,    /* cut epoch `sequence`: nothing covers the range any more */
    LEAT_INPUT_TRANSFER,       /* hand leadership to `peer` */
    LEAT_INPUT_AMNESIA_ACCEPT, /* the operator accepts that replicated appends may be lost */
    LEAT_INPUT_DAMAGE_ACCEPT,  /* and that what this replica had, and has no more, may be */
    LEAT_INPUT_BASE,           /* the log was trimmed: `position` is the lowest held */
};

struct leat_core_input {
    enum leat_input_kind kind;
    uint8_t peer;
    uint32_t term;
    uint64_t now_ns;
    uint64_t position;
    uint64_t sequence;
    uint64_t incarnation;
    const struct leat_message *message;
    const struct leat_run *runs; /* of a RECONCILE_REPLY; checked by the caller to be
                                    message->run_count <= LEAT_RUNS_MAX many */
};

/* What shall be done; valid until the next poll. */
struct leat_core_effects {
    bool vote;        /* persist (term, voted_for) as vote record vote_seq */
    bool write;       /* make frames below write_end durable as write write_seq */
    bool cut;         /* first of all: the log ends at cut_pos; report CUT_SETTLED */
    bool reset;       /* with cut: drop everything, the log begins at cut_pos (install) */
    bool append_term; /* seal a TERM frame for `term` at the end; report RUN, then APPENDED */
    bool role_changed;
    bool amnesia_changed;  /* journal core->amnesiac */
    bool damage_ended;     /* journal the claim no more */
    bool won_by_amnesiacs; /* W5 (ii): replicated appends may be lost since commit_d: report it */
    uint8_t voted_for;
    uint32_t vote_term;
    uint64_t vote_seq;
    uint64_t write_seq;
    uint64_t write_end;
    uint32_t write_last_term;
    uint32_t message_count;
    uint64_t cut_pos;
    uint64_t cut_epoch;
    struct leat_message messages[LEAT_CORE_MESSAGES_MAX]; /* an APPEND's range goes out as
                                                             datagrams of that range */
};

struct leat_core_write {
    uint64_t sequence;
    uint64_t end_pos;
};

struct leat_core_peer {
    uint64_t incarnation; /* newest seen; 0 never */
    /* as a leader sees it, for this term and incarnation */
    bool matched; /* it reconciled: memory_pos and durable_pos are its own words */
    bool amnesiac;
    bool notice;     /* owed an APPEND, if only an empty one */
    bool asked;      /* that APPEND wants an acknowledgement, whatever it carries */
    uint8_t backoff; /* retransmissions without progress, as a power of two */
    bool reconcile_reply;
    uint64_t reconcile_request; /* echoed by that reply */
    uint64_t memory_pos;
    uint64_t durable_pos;
    uint64_t next_pos;
    uint64_t told_commit_r; /* last stated to it */
    uint64_t told_commit_d;
    uint64_t untold_ns;      /* since when a commit is to be told; 0: all are */
    uint64_t known_commit_r; /* as it stated itself */
    uint64_t known_commit_d;
    uint64_t resend_begin;
    uint64_t resend_end;
    uint64_t heard_ns;
    uint64_t progress_ns;
    uint64_t round_acked;
    uint64_t clearing_round; /* begun after its amnesia became known; 0 none */
    /* as a voter or candidate */
    bool vote_granted;
    bool vote_answered;
    bool vote_amnesiac;
    bool owes_vote_reply;
    bool owes_term; /* it spoke in a past term: tell it this one */
    uint8_t vote_reply_flags;
    uint32_t vote_reply_term;
    uint64_t vote_reply_request;
    uint64_t vote_reply_after; /* vote record that justifies it; 0: none */
};

struct leat_core_counters {
    uint64_t elections;
    uint64_t elections_won;
    uint64_t won_by_amnesiacs;
    uint64_t amnesia_accepted;
    uint64_t damage_accepted;
    uint64_t amnesia_cleared;
    uint64_t stepped_down_quorum;
    uint64_t cuts;
    uint64_t resets;
    uint64_t retransmits;
    uint64_t naks;
    uint64_t stale_messages;
    uint64_t transfers;
};

struct leat_core {
    struct leat_core_config config;
    uint64_t incarnation;
    uint64_t now_ns;
    uint64_t random;
    uint64_t hold_ns; /* leat_core_hold() */

    enum leat_role role;
    uint8_t leader; /* member index or LEAT_CORE_NOBODY */
    uint8_t voted_for;
    bool amnesiac;
    bool damaged;
    bool role_changed;
    bool amnesia_changed;
    bool damage_ended;
    uint32_t term;
    uint32_t claim_term;
    uint64_t claim_end;

    uint32_t run_count;
    struct leat_run runs[LEAT_RUNS_MAX];
    struct leat_run run_announced; /* a TERM frame behind memory_pos, not covered yet */
    uint64_t base_pos;
    uint64_t memory_pos;  /* M */
    uint64_t durable_pos; /* D */
    uint64_t commit_r;
    uint64_t commit_d;

    /* disk */
    uint64_t write_next_seq;
    uint64_t write_issued_end;
    uint32_t write_count;
    struct leat_core_write writes[LEAT_CORE_WRITES_MAX];
    uint64_t vote_next_seq;
    uint64_t vote_done_seq;
    bool vote_due;
    bool cut_due;
    bool reset_due;
    bool cut_settling;
    bool installing; /* after a reset nothing is on disk yet: a crash brings the old log back */
    uint64_t cut_pos;
    uint64_t cut_epoch;

    /* timers */
    uint64_t election_deadline_ns;
    uint64_t leader_heard_ns; /* 0: never in this term */
    uint64_t candidacy_ns;
    uint8_t leaderless_terms; /* in a row, up to a limit */
    uint64_t votes_asked_ns;
    uint64_t own_vote_seq;
    uint64_t request;

    /* follower */
    bool reconciled; /* with (term, leader, its incarnation) */
    bool reconcile_wanted;
    bool ack_due;
    uint64_t ack_since_ns; /* what may wait for hold_ns to be acknowledged came then; 0: nothing */
    bool behind_base;      /* the leader no longer has what follows memory_pos */
    uint64_t leader_incarnation;
    uint64_t reconcile_sent_ns;
    uint64_t reconcile_request;
    uint64_t leader_commit_r;
    uint64_t leader_commit_d;
    uint64_t round_seen;
    uint64_t clear_at; /* M that ends the amnesia; UINT64_MAX: not told */
    uint32_t leader_run_count;
    struct leat_run leader_runs[LEAT_RUNS_MAX];

    /* leader */
    bool append_term_due;
    bool won_by_amnesiacs;
    uint64_t term_end; /* end of the own TERM frame; 0 until it is appended */
    uint64_t round;
    uint8_t transfer_to;
    bool transfer_campaign; /* the old leader asked this node to campaign */
    uint64_t transfer_sent_ns;
    uint64_t transfer_deadline_ns;

    struct leat_core_peer peers[LEAT_MEMBERS_MAX];
    struct leat_core_counters counters;
};

void leat_core_init(struct leat_core *core, const struct leat_core_config *config,
                    const struct leat_core_boot *boot);

void leat_core_step(struct leat_core *core, const struct leat_core_input *input);

void leat_core_poll(struct leat_core *core, uint64_t now_ns, struct leat_core_effects *effects);

/* A leader tells a commit with the bytes that it sends next, and if there are none for `hold_ns`
 * (half the retransmission time at most), by itself. A follower of a log that does not accept the
 * replicated level acknowledges bytes when they are durable, and if that takes longer, that it has
 * them in memory. 0, as from leat_core_init(): at once. With many busy logs the word by itself, and
 * its acknowledgement, cost more than the bytes. It decides when a follower knows of a commit, so
 * when its own clients and readers do; safety does not depend on it. */
void leat_core_hold(struct leat_core *core, uint64_t hold_ns);

/* When poll wants to be called again though nothing happens. */
uint64_t leat_core_deadline_ns(const struct leat_core *core);

/* Campaigns at the next poll, if nothing forbids it: for a new log, whose members would all wait
 * for a leader that never was. */
void leat_core_campaign_soon(struct leat_core *core);

/* May bytes of an APPEND with this header be stored (G1: term, leader, incarnations, reconciled,
 * no cut settling)? Its positions are the caller's to check. */
bool leat_core_admits(const struct leat_core *core, const struct leat_message *append);

/* The term that a frame at `position` must carry by the leader's runs; 0: not known, any. */
uint32_t leat_core_expected_term(const struct leat_core *core, uint64_t position);

/* A nonce round: proof that this node still led when it was begun. leat_core_begin_round() gives
 * its number; it is answered once a quorum of this term has echoed it (in a later pass). Leader
 * only. */
uint64_t leat_core_begin_round(struct leat_core *core);
bool leat_core_round_is_answered(const struct leat_core *core, uint64_t round);

/* True when this node leads and its TERM frame is in: it may append up to
 * leat_core_append_limit(). During a transfer the limit stands at the end. */
bool leat_core_may_append(const struct leat_core *core);
uint64_t leat_core_append_limit(const struct leat_core *core);

#endif

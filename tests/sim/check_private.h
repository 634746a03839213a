/* SPDX-License-Identifier: Apache-2.0
 *
 * What check.c keeps and converge.c looks at.
 */
#ifndef LEAT_SIM_CHECK_PRIVATE_H
#define LEAT_SIM_CHECK_PRIVATE_H

#include "check.h"
#include "cluster.h"
#include "ledger.h"
#include "worker.h"

/* A node's replica of a log, as it was after its last pass. */
struct replica {
    struct node_log *log; /* NULL: not running */
    bool known;           /* it ran once */
    bool amnesiac;
    enum leat_role role;
    uint32_t term;
    uint64_t memory_pos, durable_pos, commit_d, commit_r;
    uint64_t held_pos;   /* had in memory once, that outlives its process, and never cut */
    uint64_t walked_pos; /* the frames below were looked at */
    uint32_t walked_crc; /* of the last of them */
    bool walked_known;
    uint64_t cuts, resets;
    uint8_t voted_for;
    uint64_t shown_pos, shown_epoch; /* to readers at the replicated level; of rollbacks told */
    uint64_t sealed_pos;
    bool hands_over;
    bool cut_settling;
    /* what it said to others, in any life */
    uint32_t granted_term;
    uint8_t granted_to;
    uint64_t said_memory_pos, said_durable_pos;
};

#define TERMS_MAX 512u

struct truth {
    struct leat_chain end;           /* of what any replica has committed at the durable level */
    uint64_t end_by_term[TERMS_MAX]; /* as the first who knew it was in that term, or a later one */
    uint64_t commit_d, commit_r;
};

extern struct replica check_replicas[SIM_HOSTS_MAX][LEDGER_LOGS_MAX];
extern struct truth check_truths[LEDGER_LOGS_MAX];
extern struct node_worker
    *check_workers[SIM_HOSTS_MAX][LEAT_WORKERS_MAX]; /* as of their last pass */

/* check_said.c */
void check_said_begin(void);
/* A worker has booted. */
void check_life(unsigned node, const struct node_worker *worker);
/* After a pass. */
void check_links(unsigned node, const struct node_worker *worker);
/* Its disk was replaced. */
void check_said_forget(unsigned node);

/* check_journal.c */
void check_journal_begin(void);
/* Its disk was replaced. */
void check_journal_forget(unsigned node);
/* The node is about to acknowledge something of this log. */
void check_cut_recorded(unsigned node, const struct node_log *log);

/* check_rules.c */
void check_rules_begin(void);
/* After a pass; `before`: as of the pass before. */
void check_rules(unsigned node, const struct replica *before, const struct node_log *log);
void check_vote_spoken(unsigned node, const struct node_log *log, uint32_t term);
void check_trimmed(uint32_t log, uint64_t trim_pos);
void check_majority_amnesiac(uint32_t log);
/* Known as replicated, since a majority lost its memory last. */
uint64_t check_replicated(uint32_t log);

/* check_base.c */
void check_base_begin(void);
/* The frame at `position` is committed: each one, in order. */
void check_base(unsigned node, uint32_t log, uint64_t position, const struct leat_frame *frame);

/* check_words.c */
void check_words_begin(void);
void check_word(unsigned node, const struct leat_message *message, uint32_t log_id);
/* After a pass. */
void check_words(unsigned node, const struct replica *before, const struct node_log *log);
/* A node comes back; so much was known as replicated. */
void check_words_life(unsigned node, uint32_t log_id, uint64_t replicated_pos);
void check_words_forgiven(uint32_t log_id);

/* converge.c: adds what a log's life reached. */
void check_log_reached(const struct node_log *log);

#endif

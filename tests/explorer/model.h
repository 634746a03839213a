/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consensus rules of docs/consensus.md (F1, G1-G3, W1-W7, V1) as a small transition system.
 *
 * A state is one flat struct of bytes; an event is four bytes; event_enabled() says whether an
 * event may happen and event_apply() makes it happen and names the invariant that it broke, if
 * any. Every rule has a bit: a model with the bit in `without` behaves as if nobody had thought
 * of the rule.
 *
 * Abstracted away, on purpose:
 * - A position is one frame, a frame is one disk block; payloads are identities, so a frame's id
 *   stands for its bytes and `parent` for the CRC chain. TERM frames take a position like others.
 * - The network holds every message ever sent, for ever: any may arrive late, twice or never.
 *   It is not stored as messages. What a leader of term T has sent is a function of T's record
 *   (its log, and what it stated to whom), so a datagram, a run list or a heartbeat of a dead
 *   leader can still arrive. Requests, grants and acknowledgements are merged with their receipt:
 *   receiving one later commutes with it, because what the receiver does next (win, commit) is
 *   an event of its own and may be as late as it likes, also after the sender has crashed.
 * - Pre-vote, check-quorum, timers, NAKs, windows, sessions and membership: liveness or other
 *   layers. A campaign may start at any time, for any term up to one past the highest used.
 * - A node that is down or paused is one that takes no step; a crash is the moment of restart.
 * - Vote, incarnation and journal records are durable at once (their writes are not split), and
 *   an in-flight write captures its bytes when issued. The cut epoch is the lowering of the floor.
 * - A log that accepts replicated appends holds only those: the transitions do not differ by
 *   kind, and the check is the stronger one. Clean stop, trim, base frames and repair are left
 *   out. Disks are never damaged, so a replica that calls its disk damaged is wrong.
 */
#ifndef LEAT_EXPLORER_MODEL_H
#define LEAT_EXPLORER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NODES_MAX = 5, SLOTS_MAX = 5, TERMS_MAX = 5, FRAMES_MAX = 15, EVENTS_MAX = 512 };

enum rule {
    RULE_F1_CHAIN,
    RULE_G1_ACK,
    RULE_G2_TERM,
    RULE_W1_MEMORY,
    RULE_W2_CLAMP,
    RULE_W3_COMMIT,
    RULE_W4_PUBLISH_ACK,
    RULE_W4_PUBLISH_LEADER,
    RULE_W4_PUBLISH_DISK,
    RULE_W4_LOWER,
    RULE_W4_FLUSH,
    RULE_W4_KEEP,
    RULE_W5_AMNESIA,
    RULE_W5_ECHO,
    RULE_W5_TERM,
    RULE_W5_ROUND,
    RULE_W5_JOURNAL,
    RULE_W5_OWN_MARK,
    RULE_W6_CLAMP,
    RULE_W7_TERM,
    RULE_W7_RESUME,
    RULE_W7_INCARNATION,
    RULE_V1_TAIL,
    RULE_V1_OVERLAP_DISK,
    RULE_V1_OVERLAP_ARENA,
    RULE_V1_CUT_FIRST,
    RULE_SEQUENCE,
    RULE_VOTE_DURABLE,
    RULE_COUNT
};

#define RULE_BIT(rule) (UINT32_C(1) << (rule))

enum role { ROLE_FOLLOWER, ROLE_CANDIDATE, ROLE_LEADER };
enum frame_kind { FRAME_TERM = 1, FRAME_DURABLE, FRAME_REPLICATED };

struct frame {
    uint8_t term;
    uint8_t kind;
    uint8_t position;
    uint8_t parent; /* the frame before it, which its CRC covers */
};

/* Slot arrays are indexed by position, 1 first; masks have bit (1 << position). */
struct node {
    uint8_t role;
    uint8_t term;
    uint8_t incarnation;
    uint8_t vote_term; /* the durable vote record */
    uint8_t vote_for;
    uint8_t memory_end;  /* M */
    uint8_t durable_end; /* D */
    uint8_t published;
    uint8_t commit_d;
    uint8_t commit_r;
    uint8_t reconciled; /* the term whose leader's runs this log agrees with */
    uint8_t grants_intact;
    uint8_t grants_amnesiac;
    uint8_t amnesiac;
    uint8_t journal_floor;
    uint8_t journal_commit;
    uint8_t journal_amnesiac;
    uint8_t acked_m; /* ghosts: what this log was counted for */
    uint8_t acked_d;
    uint8_t settled; /* slots whose write was reported complete for the bytes now in the arena */
    uint8_t current; /* slots whose write in flight is of the bytes now in the arena */
    uint8_t cached;  /* slots whose write of a dead process sits in the device's cache */
    uint8_t arena[SLOTS_MAX + 1];
    uint8_t disk[SLOTS_MAX + 1];
    uint8_t flight[SLOTS_MAX + 1];
    uint8_t older[SLOTS_MAX + 1]; /* a second write in flight under a newer one */
};

/* All that the leader of one term ever sent, and its volatile state while it leads. */
struct term_record {
    uint8_t leader; /* node + 1 */
    uint8_t length;
    uint8_t term_position;
    uint8_t commit_r;
    uint8_t commit_d;
    uint8_t stated_history; /* every commitR it ever stated */
    uint8_t log[SLOTS_MAX + 1];
    uint8_t heard[NODES_MAX];   /* incarnation it knows of each peer */
    uint8_t match_m[NODES_MAX]; /* volatile */
    uint8_t match_d[NODES_MAX]; /* volatile */
    uint8_t round[NODES_MAX];   /* volatile: who answered the nonce round begun for this peer */
    uint8_t stated[NODES_MAX];  /* 1 + lowest commitR stated to this incarnation by rule */
};

struct state {
    uint8_t frame_count;
    uint8_t highest_term;
    uint8_t appends;
    uint8_t crashes;
    uint8_t power_cuts;
    uint8_t accepts;
    uint8_t excused_frame; /* replicated promises up to this frame, made by leaders up to this */
    uint8_t excused_term;  /* term, are void: W5 (ii) or `amnesia accept` was used and counted */
    uint8_t excuses;
    uint8_t committed[SLOTS_MAX + 1];      /* ghost: what some leader called durable */
    uint8_t committed_term[SLOTS_MAX + 1]; /* ghost: the lowest term in which it did */
    uint8_t promised[FRAMES_MAX + 1];      /* ghost: the same for replicated, by frame */
    uint8_t votes[TERMS_MAX + 1][NODES_MAX];
    struct frame frame[FRAMES_MAX + 1];
    struct term_record record[TERMS_MAX + 1];
    struct node node[NODES_MAX]; /* last: only the first `nodes` are stored and hashed */
};

struct bounds {
    uint8_t terms;
    uint8_t appends;
    uint8_t crashes;
    uint8_t power_cuts;
    uint8_t accepts;
    uint8_t in_flight; /* disk writes in flight on a node */
    uint8_t slots;
};

struct model {
    uint8_t nodes;
    bool replicated;
    bool lazy_publish; /* storing and publishing are two steps */
    bool end_to_end;   /* report only what a client, a reader or an assertion would notice */
    uint32_t without;
    struct bounds bounds;
};

enum event_kind {
    EVENT_CAMPAIGN,
    EVENT_GRANT,
    EVENT_WIN,
    EVENT_APPEND,
    EVENT_ASK,
    EVENT_RECONCILE,
    EVENT_STORE,
    EVENT_PUBLISH,
    EVENT_ACK,
    EVENT_COMMIT,
    EVENT_LEARN,
    EVENT_ROUND,
    EVENT_CLEAR,
    EVENT_ISSUE,
    EVENT_COMPLETE,
    EVENT_JOURNAL,
    EVENT_CRASH,
    EVENT_POWER,
    EVENT_ACCEPT,
    EVENT_KINDS
};

/* other: the second node. choice: a term, a position or the outcome of each write in flight. */
struct event {
    uint8_t kind;
    uint8_t node;
    uint8_t other;
    uint8_t choice;
};

/* One row per event kind: its word in scripts, and its guard and effect. */
struct event_rule {
    const char *name;
    bool (*enabled)(const struct model *, const struct state *, struct event);
    const char *(*apply)(const struct model *, struct state *, struct event);
};

static inline bool rule_holds(const struct model *model, enum rule rule)
{
    return (model->without & RULE_BIT(rule)) == 0;
}

static inline unsigned majority(const struct model *model)
{
    return model->nodes / 2u + 1u;
}

static inline unsigned bits_set(unsigned mask)
{
    return (unsigned)__builtin_popcount(mask);
}

static inline uint8_t lesser(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

static inline uint8_t greater(uint8_t a, uint8_t b)
{
    return a > b ? a : b;
}

static inline uint8_t slot_bit(unsigned position)
{
    return (uint8_t)(1u << position);
}

/* events.c */
extern const struct event_rule event_rules[EVENT_KINDS];
void state_init(struct state *state);
size_t state_size(const struct model *model);
bool event_enabled(const struct model *model, const struct state *state, struct event event);
/* Returns the sentence of the invariant that the event broke, or NULL. */
const char *event_apply(const struct model *model, struct state *state, struct event event);
unsigned events_list(const struct model *model, const struct state *state,
                     struct event events[EVENTS_MAX]);
void event_describe(const struct model *model, const struct state *before, struct event event,
                    char *text, size_t size);

/* election.c */
bool campaign_enabled(const struct model *, const struct state *, struct event);
bool grant_enabled(const struct model *, const struct state *, struct event);
bool win_enabled(const struct model *, const struct state *, struct event);
bool round_enabled(const struct model *, const struct state *, struct event);
bool clear_enabled(const struct model *, const struct state *, struct event);
bool accept_enabled(const struct model *, const struct state *, struct event);
const char *campaign_apply(const struct model *, struct state *, struct event);
const char *grant_apply(const struct model *, struct state *, struct event);
const char *win_apply(const struct model *, struct state *, struct event);
const char *round_apply(const struct model *, struct state *, struct event);
const char *clear_apply(const struct model *, struct state *, struct event);
const char *accept_apply(const struct model *, struct state *, struct event);
void node_set_term(struct state *state, unsigned index, uint8_t term);
void leader_drop_volatile(struct state *state, uint8_t term);
void leader_try_state(const struct model *model, struct term_record *record, unsigned peer);

/* replicate.c */
bool append_enabled(const struct model *, const struct state *, struct event);
bool ask_enabled(const struct model *, const struct state *, struct event);
bool reconcile_enabled(const struct model *, const struct state *, struct event);
bool store_enabled(const struct model *, const struct state *, struct event);
bool publish_enabled(const struct model *, const struct state *, struct event);
bool ack_enabled(const struct model *, const struct state *, struct event);
bool commit_enabled(const struct model *, const struct state *, struct event);
bool learn_enabled(const struct model *, const struct state *, struct event);
const char *append_apply(const struct model *, struct state *, struct event);
const char *ask_apply(const struct model *, struct state *, struct event);
const char *reconcile_apply(const struct model *, struct state *, struct event);
const char *store_apply(const struct model *, struct state *, struct event);
const char *publish_apply(const struct model *, struct state *, struct event);
const char *ack_apply(const struct model *, struct state *, struct event);
const char *commit_apply(const struct model *, struct state *, struct event);
const char *learn_apply(const struct model *, struct state *, struct event);
bool arena_slot_free(const struct model *model, const struct node *node, unsigned position);
const char *leader_extend(const struct model *model, struct state *state, unsigned index,
                          enum frame_kind kind);

/* storage.c */
bool issue_enabled(const struct model *, const struct state *, struct event);
bool complete_enabled(const struct model *, const struct state *, struct event);
bool journal_enabled(const struct model *, const struct state *, struct event);
bool crash_enabled(const struct model *, const struct state *, struct event);
bool power_enabled(const struct model *, const struct state *, struct event);
const char *issue_apply(const struct model *, struct state *, struct event);
const char *complete_apply(const struct model *, struct state *, struct event);
const char *journal_apply(const struct model *, struct state *, struct event);
const char *crash_apply(const struct model *, struct state *, struct event);
const char *power_apply(const struct model *, struct state *, struct event);

/* invariants.c: each returns NULL or the sentence that no longer holds */
const char *check_vote(struct state *state, unsigned voter, uint8_t term, uint8_t candidate);
const char *check_new_frame(const struct state *state, uint8_t term, uint8_t position);
const char *check_new_leader(const struct state *state, unsigned index, uint8_t term);
const char *check_commit(const struct model *model, struct state *state, unsigned index);
const char *check_cut(const struct model *model, const struct state *state, unsigned index,
                      const struct term_record *record);
const char *check_recovery(const struct model *model, const struct state *state, unsigned index,
                           uint8_t disk_end, bool memory_kept);
const char *check_nodes(const struct model *model, const struct state *state);

/* rules.c */
struct rule_entry {
    const char *name;
    uint32_t bits; /* the rules that are taken out together */
    const char *sentence;
};
extern const struct rule_entry rule_entries[];
extern const unsigned rule_entry_count;
const struct rule_entry *rule_find(const char *name);

#endif

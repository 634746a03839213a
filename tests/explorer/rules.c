/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that can be taken out, by the name that --without takes. */
#include "model.h"

#include <string.h>

const struct rule_entry rule_entries[] = {
    {"F1-chain", RULE_BIT(RULE_F1_CHAIN),
     "frames carry no chain and a term may change anywhere: recovery mixes old and new blocks"},
    {"G1-ack", RULE_BIT(RULE_G1_ACK), "a follower acks before it has reconciled"},
    {"G2-term", RULE_BIT(RULE_G2_TERM), "commit needs not cover the leader's own TERM frame"},
    {"W1-votes", RULE_BIT(RULE_W1_MEMORY), "votes compare D, not M"},
    {"W2-clamp", RULE_BIT(RULE_W2_CLAMP), "a follower takes the leader's commit unclamped"},
    {"W3-commit", RULE_BIT(RULE_W3_COMMIT), "Raft's commit is commitR: no cut below that"},
    {"W4-publish-ack", RULE_BIT(RULE_W4_PUBLISH_ACK), "an ack leaves before its end is published"},
    {"W4-publish-leader", RULE_BIT(RULE_W4_PUBLISH_LEADER),
     "the leader counts its own M before publishing it"},
    {"W4-publish-disk", RULE_BIT(RULE_W4_PUBLISH_DISK),
     "a disk write above the published end is issued"},
    {"W4-lower", RULE_BIT(RULE_W4_LOWER), "the published end is not lowered at a cut"},
    {"W4-flush", RULE_BIT(RULE_W4_FLUSH), "D is taken at restart without a flush before"},
    {"W4-keep", RULE_BIT(RULE_W4_KEEP), "an amnesiac's arena is dropped when its process restarts"},
    {"W5-off", RULE_BIT(RULE_W5_AMNESIA), "no replica is ever amnesiac"},
    {"W5a-echo", RULE_BIT(RULE_W5_ECHO), "a commitR stated to anyone clears amnesia"},
    {"W5c-round", RULE_BIT(RULE_W5_ROUND), "no nonce round before amnesia is cleared"},
    {"W5-journal", RULE_BIT(RULE_W5_JOURNAL), "amnesia is forgotten when the process restarts"},
    {"W5-own-mark", RULE_BIT(RULE_W5_OWN_MARK), "an amnesiac's candidacy is not marked"},
    {"W6-clamp", RULE_BIT(RULE_W6_CLAMP), "the journal's commitD may be above its D"},
    {"W7-term", RULE_BIT(RULE_W7_TERM), "term at start = the vote record alone"},
    {"W7-resume", RULE_BIT(RULE_W7_RESUME), "a restarted leader resumes its term"},
    {"W7-incarnation", RULE_BIT(RULE_W7_INCARNATION), "a new incarnation keeps its old match"},
    {"V1-tail", RULE_BIT(RULE_V1_TAIL), "a block that holds acknowledged bytes is rewritten"},
    {"V1-overlap", RULE_BIT(RULE_V1_OVERLAP_DISK) | RULE_BIT(RULE_V1_OVERLAP_ARENA),
     "a range is rewritten while a write in flight covers it"},
    {"V1-cut-first", RULE_BIT(RULE_V1_CUT_FIRST),
     "the cut range is overwritten before the cut record is durable"},
    {"W-sequence", RULE_BIT(RULE_SEQUENCE) | RULE_BIT(RULE_V1_OVERLAP_ARENA),
     "completions count by position, not by sequence, and the arena is rewritten meanwhile"},
    {"R3-vote", RULE_BIT(RULE_VOTE_DURABLE), "the vote record does not survive a restart"},
    {"W5b-term", RULE_BIT(RULE_W5_TERM), "amnesia is cleared before the TERM frame is commitR"},
};

const unsigned rule_entry_count = sizeof rule_entries / sizeof rule_entries[0];

const struct rule_entry *rule_find(const char *name)
{
    for (unsigned at = 0; at < rule_entry_count; at++)
        if (strcmp(rule_entries[at].name, name) == 0)
            return &rule_entries[at];
    return NULL;
}

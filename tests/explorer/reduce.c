/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fewer states for the exhaustive search, nothing lost by it.
 *
 * Spent faults: when no crash and no power cut is left, nothing will be recovered. The journal
 * and the ghosts that judge a recovery are then forgotten. The floor still guards rewriting a cut
 * range, but a cut record could be written at any time, so forgetting it adds no behaviour.
 *
 * Symmetry: no rule knows a node by name, so a state and the one with the last two nodes
 * exchanged have the same future; the one with the smaller hash stands for both.
 */
#include "search.h"

bool faults_spent(const struct model *model, const struct state *state)
{
    return state->crashes >= model->bounds.crashes && state->power_cuts >= model->bounds.power_cuts;
}

void state_forget(const struct model *model, struct state *state)
{
    if (!faults_spent(model, state))
        return;
    for (unsigned index = 0; index < model->nodes; index++) {
        struct node *node = &state->node[index];
        node->journal_floor = 0;
        node->journal_commit = 0;
        node->acked_m = 0;
        node->acked_d = 0;
    }
}

struct exchange {
    uint8_t first, second;
};

static uint8_t exchange_index(struct exchange exchange, uint8_t index)
{
    if (index == exchange.first)
        return exchange.second;
    return index == exchange.second ? exchange.first : index;
}

/* For fields that hold a node's index plus one, or 0 for none. */
static uint8_t exchange_named(struct exchange exchange, uint8_t named)
{
    return named == 0 ? 0 : (uint8_t)(exchange_index(exchange, (uint8_t)(named - 1)) + 1);
}

static uint8_t exchange_mask(struct exchange exchange, uint8_t mask)
{
    unsigned first = mask >> exchange.first & 1u, second = mask >> exchange.second & 1u;
    unsigned rest = mask & ~(1u << exchange.first | 1u << exchange.second);
    return (uint8_t)(rest | first << exchange.second | second << exchange.first);
}

static void exchange_bytes(struct exchange exchange, uint8_t bytes[NODES_MAX])
{
    uint8_t kept = bytes[exchange.first];
    bytes[exchange.first] = bytes[exchange.second];
    bytes[exchange.second] = kept;
}

static void exchange_record(struct exchange exchange, unsigned nodes, struct term_record *record)
{
    record->leader = exchange_named(exchange, record->leader);
    exchange_bytes(exchange, record->heard);
    exchange_bytes(exchange, record->match_m);
    exchange_bytes(exchange, record->match_d);
    exchange_bytes(exchange, record->round);
    exchange_bytes(exchange, record->stated);
    for (unsigned peer = 0; peer < nodes; peer++)
        record->round[peer] = exchange_mask(exchange, record->round[peer]);
}

void state_exchange_last_two(const struct model *model, const struct state *state,
                             struct state *ret_state)
{
    struct exchange exchange = {(uint8_t)(model->nodes - 2), (uint8_t)(model->nodes - 1)};
    *ret_state = *state;
    ret_state->node[exchange.first] = state->node[exchange.second];
    ret_state->node[exchange.second] = state->node[exchange.first];
    for (unsigned index = 0; index < model->nodes; index++) {
        struct node *node = &ret_state->node[index];
        if (node->vote_term != 0)
            node->vote_for = exchange_index(exchange, node->vote_for);
        node->grants_intact = exchange_mask(exchange, node->grants_intact);
        node->grants_amnesiac = exchange_mask(exchange, node->grants_amnesiac);
    }
    for (unsigned term = 1; term <= TERMS_MAX; term++) {
        exchange_record(exchange, model->nodes, &ret_state->record[term]);
        exchange_bytes(exchange, ret_state->votes[term]);
        for (unsigned voter = 0; voter < model->nodes; voter++)
            ret_state->votes[term][voter] = exchange_named(exchange, ret_state->votes[term][voter]);
    }
}

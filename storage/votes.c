/* SPDX-License-Identifier: Apache-2.0
 *
 * The two vote slots: incarnation, pinned peers, term and vote of every log. A round writes one
 * slot, waits, writes the other one, waits: at every moment one of them is whole, and a vote is
 * reported only when both are. It begins with the slot that was not read at open, which may be all
 * that an earlier power cut left. Votes asked for meanwhile go into the next round.
 *
 *   stage 0 (idle) -> 1 (the first in flight) -> 2 (the second in flight) -> 0
 */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc.h"

uint32_t votes_encode(uint8_t *slot_bytes, const struct vote_state *state, uint32_t slot)
{
    struct leat_vote_slot *head = (void *)slot_bytes;
    uint8_t *to = slot_bytes + sizeof(*head);
    size_t pins_bytes = state->head.peer_count * sizeof(state->pins[0]);
    size_t votes_bytes = state->head.vote_count * sizeof(state->votes[0]);

    LEAT_ASSERT(state->head.peer_count <= LEAT_MEMBERS_MAX);
    LEAT_ASSERT(state->head.vote_count <= LEAT_LOGS_MAX);
    uint32_t used = (uint32_t)(sizeof(*head) + pins_bytes + votes_bytes);
    uint32_t bytes = (uint32_t)block_end(used);
    memset(slot_bytes, 0, bytes);
    *head = state->head;
    head->magic = LEAT_VOTES_MAGIC;
    head->version = LEAT_STORAGE_VERSION;
    head->slot = slot;
    head->crc = 0;
    memcpy(to, state->pins, pins_bytes);
    memcpy(to + pins_bytes, state->votes, votes_bytes);
    head->crc = leat_crc32c(0, slot_bytes, used);
    return bytes;
}

bool votes_decode(const uint8_t *slot_bytes, uint32_t slot, const struct leat_uuid *node,
                  struct vote_state *ret_state)
{
    struct leat_vote_slot head;
    memcpy(&head, slot_bytes, sizeof(head));
    if (head.magic != LEAT_VOTES_MAGIC || head.version != LEAT_STORAGE_VERSION ||
        head.slot != slot || head.peer_count > LEAT_MEMBERS_MAX ||
        head.vote_count > LEAT_LOGS_MAX || !leat_uuid_equal(&head.node, node))
        return false;
    size_t pins_bytes = head.peer_count * sizeof(ret_state->pins[0]);
    size_t votes_bytes = head.vote_count * sizeof(ret_state->votes[0]);
    struct leat_vote_slot blank = head;
    blank.crc = 0;
    uint32_t crc = leat_crc32c(0, &blank, sizeof(blank));
    crc = leat_crc32c(crc, slot_bytes + sizeof(head), pins_bytes + votes_bytes);
    if (crc != head.crc)
        return false;
    ret_state->head = head;
    memcpy(ret_state->pins, slot_bytes + sizeof(head), pins_bytes);
    memcpy(ret_state->votes, slot_bytes + sizeof(head) + pins_bytes, votes_bytes);
    return true;
}

static bool votes_is_member(const struct leat_identity *identity, uint32_t node_id)
{
    LEAT_ASSERT(identity->member_count <= LEAT_MEMBERS_MAX);
    for (uint32_t i = 0; i < identity->member_count; i++) {
        if (identity->member_ids[i] == node_id)
            return true;
    }
    return false;
}

/* A vote for a node that is none: whom it was for is not known, so the slot is damaged. */
static bool votes_name_members(const struct leat_identity *identity, const struct vote_state *state)
{
    for (uint32_t i = 0; i < state->head.vote_count; i++) {
        if (state->votes[i].voted_for != LEAT_VOTED_NONE &&
            !votes_is_member(identity, state->votes[i].voted_for))
            return false;
    }
    return true;
}

/* Of members, and of each one: there is room for those, whoever wrote the slot. */
static void votes_adopt_pins(struct leat_storage *storage, const struct vote_state *state)
{
    storage->pin_count = 0;
    for (uint32_t i = 0; i < state->head.peer_count; i++) {
        const struct leat_peer_pin *pin = &state->pins[i];
        if (votes_is_member(&storage->identity, pin->node_id) &&
            !leat_storage_peer_pin(storage, pin->node_id))
            storage->pins[storage->pin_count++] = *pin;
    }
}

static void votes_adopt(struct leat_storage *storage, const struct vote_state *state)
{
    storage->vote_sequence = state->head.sequence;
    storage->incarnation = max_u64(storage->incarnation, state->head.incarnation);
    votes_adopt_pins(storage, state);
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        log->voted_for = LEAT_VOTED_NONE;
        for (uint32_t j = 0; j < state->head.vote_count; j++) {
            const struct leat_vote *vote = &state->votes[j];
            if (vote->log_id != log->log_id || vote->generation != log->generation)
                continue;
            log->vote_term = vote->term;
            log->voted_for = vote->voted_for;
        }
    }
}

int votes_read(struct leat_storage *storage, char *error, unsigned error_bytes)
{
    static const char both_bad[] =
        "both vote slots are damaged: the node may have voted and stays down; replace the node";
    struct vote_state *states = calloc(2, sizeof(*states));
    bool good[2] = {false, false};
    if (!states)
        return leat_refuse(error, error_bytes, LEAT_ENOMEM, "out of memory");
    for (uint32_t slot = 0; slot < 2; slot++) {
        memset(storage->vote_slot, 0, LEAT_VOTE_SLOT_BYTES);
        good[slot] =
            leat_file_read(storage->votes_fd, storage->vote_slot, LEAT_VOTE_SLOT_BYTES,
                           (uint64_t)slot * LEAT_VOTE_SLOT_BYTES) == LEAT_OK &&
            votes_decode(storage->vote_slot, slot, &storage->identity.node, &states[slot]) &&
            votes_name_members(&storage->identity, &states[slot]);
    }
    /* K1: the newer; K2, K3: the good one; K4: neither */
    bool first = good[0] && (!good[1] || states[0].head.sequence >= states[1].head.sequence);
    if (good[0] || good[1])
        votes_adopt(storage, &states[first ? 0 : 1]);
    storage->vote_first = first ? 1 : 0;
    free(states);
    return good[0] || good[1] ? LEAT_OK : leat_refuse(error, error_bytes, LEAT_EVOTES, both_bad);
}

/* ---- rounds ---- */

/* Those of deleted logs are not. */
static bool votes_are_kept(const struct log *log)
{
    return log->state == LOG_LIVE || log->state == LOG_NAMING || log->state == LOG_PLACING;
}

static void votes_capture(struct leat_storage *storage)
{
    /* straight into the slot's image, as votes_encode() lays it out */
    struct leat_vote_slot *head = (void *)storage->vote_slot;
    struct leat_peer_pin *pins = (void *)(head + 1);
    struct leat_vote *votes = (void *)(pins + storage->pin_count);
    uint32_t vote_count = 0, used;
    for (uint32_t i = 0; i < storage->log_count; i++)
        vote_count += votes_are_kept(&storage->logs[i]);
    used = (uint32_t)((uint8_t *)(votes + vote_count) - storage->vote_slot);

    LEAT_ASSERT(storage->vote_stage == 0 && used <= LEAT_VOTE_SLOT_BYTES);
    storage->vote_bytes = (uint32_t)block_end(used);
    memset(storage->vote_slot, 0, storage->vote_bytes);
    *head = (struct leat_vote_slot){
        .magic = LEAT_VOTES_MAGIC,
        .version = LEAT_STORAGE_VERSION,
        .node = storage->identity.node,
        .sequence = ++storage->vote_sequence,
        .incarnation = storage->incarnation,
        .vote_count = vote_count,
        .peer_count = storage->pin_count,
    };
    memcpy(pins, storage->pins, storage->pin_count * sizeof(*pins));
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (!votes_are_kept(log))
            continue;
        *votes++ = (struct leat_vote){log->log_id, log->generation, log->vote_term, log->voted_for};
        LEAT_ASSERT(!log->vote_flying);
        log->vote_flying = log->vote_wanted;
        log->vote_flying_seq = log->vote_seq;
        log->vote_wanted = false;
    }
    storage->votes_wanted = 0;
    storage->pins_changed = false;
}

static void votes_write_slot(struct leat_storage *storage, uint32_t slot)
{
    struct leat_vote_slot *head = (void *)storage->vote_slot;
    uint32_t used = (uint32_t)(sizeof(*head) + head->peer_count * sizeof(struct leat_peer_pin) +
                               head->vote_count * sizeof(struct leat_vote));
    head->slot = slot;
    head->crc = 0;
    head->crc = leat_crc32c(0, storage->vote_slot, used);
    struct operation *operation = operation_take(storage, OPERATION_VOTE);
    operation->file = (struct leat_disk_file){storage->votes_fd, SLOT_VOTES};
    operation->bytes = storage->vote_slot;
    operation->left_bytes = storage->vote_bytes;
    operation->offset = (uint64_t)slot * LEAT_VOTE_SLOT_BYTES;
    storage->vote_stage++;
    storage->counters.vote_writes++;
    operation_issue(storage, operation);
}

/* The second slot at once when the first is complete. */
void votes_written(struct leat_storage *storage)
{
    LEAT_ASSERT(storage->vote_stage == 1 || storage->vote_stage == 2);
    if (storage->vote_stage == 1) {
        votes_write_slot(storage, 1 - storage->vote_first);
        return;
    }
    storage->vote_stage = 0;
    for (uint32_t i = 0; i < storage->log_count; i++) {
        struct log *log = &storage->logs[i];
        if (!log->vote_flying)
            continue;
        log->vote_flying = false;
        if (!log->vote_report)
            storage->votes_to_report++;
        log->vote_report = true;
    }
}

void votes_issue(struct leat_storage *storage, uint64_t now_ns)
{
    bool pins_due = storage->pins_changed && now_ns - storage->pins_changed_ns >= PIN_WRITE_NS;
    if (storage->vote_stage != 0 || storage->votes_to_report > 0 || storage->operations_free == 0 ||
        (storage->votes_wanted == 0 && !pins_due))
        return;
    storage->vote_issued_ns = now_ns;
    votes_capture(storage);
    votes_write_slot(storage, storage->vote_first);
}

unsigned votes_report(struct leat_storage *storage, struct leat_storage_event *events, unsigned max)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < storage->log_count && storage->votes_to_report > 0; i++) {
        struct log *log = &storage->logs[i];
        if (!log->vote_report)
            continue;
        if (count == max)
            break;
        events[count++] = (struct leat_storage_event){
            .kind = LEAT_STORAGE_VOTED, .log_index = i, .sequence = log->vote_flying_seq};
        log->vote_report = false;
        storage->votes_to_report--;
    }
    return count;
}

/* ---- the interface ---- */

void leat_storage_vote(struct leat_storage *storage, uint32_t index, uint32_t term,
                       uint32_t voted_for, uint64_t vote_seq)
{
    LEAT_ASSERT(leat_storage_log_exists(storage, index));
    struct log *log = &storage->logs[index];
    if (storage->fenced)
        return;
    LEAT_ASSERT(term >= log->vote_term); /* R2 */
    LEAT_ASSERT(term > log->vote_term || log->voted_for == LEAT_VOTED_NONE ||
                log->voted_for == voted_for); /* R3 */
    log->vote_term = term;
    log->voted_for = voted_for;
    log->vote_seq = vote_seq;
    if (!log->vote_wanted)
        storage->votes_wanted++;
    log->vote_wanted = true;
}

void leat_storage_pin_peer(struct leat_storage *storage, const struct leat_peer_pin *pin)
{
    unsigned i = 0;
    while (i < storage->pin_count && storage->pins[i].node_id != pin->node_id)
        i++;
    LEAT_ASSERT(i < LEAT_MEMBERS_MAX);
    if (i == storage->pin_count)
        storage->pin_count++;
    else if (memcmp(&storage->pins[i], pin, sizeof(*pin)) == 0)
        return;
    storage->pins[i] = *pin;
    if (!storage->pins_changed)
        storage->pins_changed_ns = storage->seen_ns;
    storage->pins_changed = true;
}

const struct leat_peer_pin *leat_storage_peer_pin(const struct leat_storage *storage,
                                                  uint32_t node_id)
{
    LEAT_ASSERT(storage->pin_count <= LEAT_MEMBERS_MAX);
    for (unsigned i = 0; i < storage->pin_count; i++) {
        if (storage->pins[i].node_id == node_id)
            return &storage->pins[i];
    }
    return NULL;
}

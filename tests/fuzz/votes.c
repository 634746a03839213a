/* SPDX-License-Identifier: Apache-2.0
 *
 * Both vote slots. FUZZ_FIT: magic, version, node, place and CRC are made to fit. What is decoded
 * is what would be encoded.
 */
#include "base/crc.h"
#include "fuzz.h"
#include "state.h"

static const struct leat_uuid node = {{1, 2, 3}};

static void slot_fit(uint8_t *bytes, uint32_t slot)
{
    struct leat_vote_slot *head = (void *)bytes;
    head->magic = LEAT_VOTES_MAGIC;
    head->version = LEAT_STORAGE_VERSION;
    head->slot = slot;
    head->node = node;
    head->crc = 0;
    uint64_t used = sizeof(*head) + (uint64_t)head->peer_count * sizeof(struct leat_peer_pin) +
                    (uint64_t)head->vote_count * sizeof(struct leat_vote);
    head->crc = leat_crc32c(0, bytes, min_u64(used, LEAT_VOTE_SLOT_BYTES));
}

static void slot_check(struct fuzz_input *input, uint32_t slot, bool fit)
{
    static struct vote_state state;
    uint8_t *bytes = calloc(1, LEAT_VOTE_SLOT_BYTES), *again = calloc(1, LEAT_VOTE_SLOT_BYTES);
    uint32_t length = fuzz_u16(input);
    LEAT_ASSERT(bytes && again);
    fuzz_take(input, bytes, length);
    if (fit)
        slot_fit(bytes, slot);
    if (votes_decode(bytes, slot, &node, &state)) {
        LEAT_ASSERT(state.head.peer_count <= LEAT_MEMBERS_MAX);
        LEAT_ASSERT(state.head.vote_count <= LEAT_LOGS_MAX);
        votes_encode(again, &state, slot);
        size_t used = sizeof(state.head) + state.head.peer_count * sizeof(state.pins[0]) +
                      state.head.vote_count * sizeof(state.votes[0]);
        LEAT_ASSERT(memcmp(again, bytes, used) == 0);
    } else {
        struct leat_vote_slot head;
        memcpy(&head, bytes, sizeof(head));
        LEAT_ASSERT(!fit || head.peer_count > LEAT_MEMBERS_MAX || head.vote_count > LEAT_LOGS_MAX);
    }
    free(bytes);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    bool fit = fuzz_u8(&input) & FUZZ_FIT;
    for (uint32_t slot = 0; slot < 2; slot++)
        slot_check(&input, slot, fit);
    return 0;
}

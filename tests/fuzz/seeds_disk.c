/* SPDX-License-Identifier: Apache-2.0
 *
 * See seeds.h: the seeds of what lies on disk.
 */
#include <stdio.h>

#include "recovery.h"
#include "seeds.h"

/* ---- journal ---- */

static void put_entry(uint32_t log_id, uint64_t end_pos, uint32_t flags, uint32_t tail_bytes)
{
    const struct leat_journal_claim claim = {end_pos, 1, 0};
    const uint8_t tail[LEAT_BLOCK_BYTES] = {0};
    struct leat_journal_entry entry = {
        .log = {{1, (uint8_t)log_id}},
        .log_id = log_id,
        .generation = 1,
        .floor_pos = end_pos,
        .placed_pos = end_pos / LEAT_BLOCK_BYTES * LEAT_BLOCK_BYTES,
        .end_pos = end_pos,
        .last_term = 1,
        .flags = flags,
        .tail_bytes = tail_bytes,
        .segment_log2 = 20,
    };
    seed_put(&entry, sizeof(entry));
    seed_put(tail, (tail_bytes + 7u) & ~7u);
    if (flags & LEAT_JOURNAL_DAMAGED)
        seed_put(&claim, sizeof(claim));
}

/* Its head, then what `put` lays behind it. */
static void put_piece(uint8_t block, uint64_t sequence, uint32_t in_flight, bool full)
{
    struct leat_journal_record head = {
        .incarnation = 1, .sequence = sequence, .in_flight = in_flight};
    size_t entry = sizeof(struct leat_journal_entry);
    seed_u8(block);
    seed_u16((uint16_t)(sizeof(head) +
                        (full ? 3 * entry + 104 + sizeof(struct leat_journal_claim) : entry + 16)));
    seed_put(&head, sizeof(head));
    put_entry(0, 4200, LEAT_JOURNAL_WHOLE, full ? 104 : 16);
    if (!full)
        return;
    put_entry(1, 8192, LEAT_JOURNAL_DAMAGED | LEAT_JOURNAL_AMNESIAC, 0);
    put_entry(2, 4096, LEAT_JOURNAL_DELETED, 0);
}

void seeds_journal(void)
{
    seed_u8(FUZZ_FIT | FUZZ_FIT_RULES);
    put_piece(0, 1, 0, true);
    seed_end("journal", "one");
    seed_u8(FUZZ_FIT | FUZZ_FIT_RULES);
    put_piece(0, 1, 0, false);
    put_piece(1, 2, 0, false);
    put_piece(2, 4, 1, true); /* the third was in flight */
    put_piece(3, 6, 0, false);
    seed_end("journal", "gaps");
    const struct leat_journal_record head = {.incarnation = 1, .sequence = 1};
    const uint32_t tail_bytes = LEAT_BLOCK_BYTES - sizeof(head) - sizeof(struct leat_journal_entry);
    seed_u8(FUZZ_FIT | FUZZ_FIT_RULES);
    seed_u8(LEAT_JOURNAL_BYTES / LEAT_BLOCK_BYTES - 1); /* the ring's last block, all of it */
    seed_u16(LEAT_BLOCK_BYTES);
    seed_put(&head, sizeof(head));
    put_entry(0, 4200, LEAT_JOURNAL_WHOLE, tail_bytes);
    seed_end("journal", "full-to-the-end");
}

/* ---- votes ---- */

void seeds_votes(void)
{
    seed_u8(FUZZ_FIT);
    for (uint64_t slot = 0; slot < 2; slot++) {
        struct leat_vote_slot head = {
            .sequence = 1 + slot, .incarnation = 1, .vote_count = 2, .peer_count = 2};
        const struct leat_peer_pin pins[2] = {{.node_id = 2}, {.node_id = 3}};
        const struct leat_vote votes[2] = {{0, 1, 2, 1}, {1, 1, 2, LEAT_VOTED_NONE}};
        seed_u16(sizeof(head) + sizeof(pins) + sizeof(votes));
        seed_put(&head, sizeof(head));
        seed_put(pins, sizeof(pins));
        seed_put(votes, sizeof(votes));
    }
    seed_end("votes", "both");
}

/* ---- recovery ---- */

static struct scene scene;

static unsigned file_named(const char *name)
{
    unsigned i = 0;
    while (i < scene.file_count && strcmp(scene.files[i].name, name) != 0)
        i++;
    LEAT_ASSERT(i < scene.file_count);
    return i;
}

static void put_patch(unsigned file, size_t offset, const void *bytes, uint8_t length)
{
    seed_u8((uint8_t)file);
    seed_u16((uint16_t)(offset >> 8));
    seed_u8((uint8_t)offset);
    seed_u8(length);
    seed_put(bytes, length);
}

/* The newest record's place. */
static size_t newest_record(const struct scene_file *journal)
{
    size_t newest = 0;
    uint64_t sequence = 0;
    for (size_t at = 0; at < journal->bytes; at += LEAT_BLOCK_BYTES) {
        struct leat_journal_record head;
        memcpy(&head, journal->original + at, sizeof(head));
        if (head.magic == LEAT_JOURNAL_MAGIC && head.sequence > sequence) {
            sequence = head.sequence;
            newest = at;
        }
    }
    LEAT_ASSERT(sequence > 0);
    return newest;
}

/* Each word of the newest record's first entry, gone wrong under a CRC that fits. */
static void seeds_recovery_entry(void)
{
    unsigned journal = file_named("w0/journal");
    size_t at = newest_record(&scene.files[journal]);
    const size_t begin = sizeof(struct leat_journal_record);
    char name[32];
    for (size_t word = 0; word < sizeof(struct leat_journal_entry); word += sizeof(uint64_t)) {
        uint64_t value;
        memcpy(&value, scene.files[journal].original + at + begin + word, sizeof(value));
        value += LEAT_BLOCK_BYTES;
        seed_u8(FUZZ_FIT | RECOVERY_LOOK);
        put_patch(journal, at + begin + word, &value, sizeof(value));
        snprintf(name, sizeof(name), "entry-%03zu", word);
        seed_end("recovery", name);
    }
}

/* All positions of the newest record's first entry far beyond what is there, in order. */
static void seeds_recovery_far(void)
{
    unsigned journal = file_named("w0/journal");
    size_t at = newest_record(&scene.files[journal]) + sizeof(struct leat_journal_record);
    const uint64_t far[] = {1ull << 61, 1ull << 61, 1ull << 61, 1ull << 61};
    seed_u8(FUZZ_FIT | RECOVERY_LOOK);
    put_patch(journal, at + offsetof(struct leat_journal_entry, floor_pos), far, sizeof(far));
    seed_end("recovery", "far");
}

/* As many pins as a slot takes, all of nodes that are no members. */
static void seeds_recovery_pins(void)
{
    const uint32_t count = LEAT_MEMBERS_MAX;
    seed_u8(FUZZ_FIT);
    for (size_t slot = 0; slot < 2; slot++)
        put_patch(file_named("w0/votes"),
                  slot * LEAT_VOTE_SLOT_BYTES + offsetof(struct leat_vote_slot, peer_count), &count,
                  sizeof(count));
    seed_end("recovery", "pins");
}

/* A vote for a node that is no member. */
static void seeds_recovery_stranger(void)
{
    unsigned votes = file_named("w0/votes");
    const uint32_t stranger = 99;
    seed_u8(FUZZ_FIT);
    for (size_t slot = 0; slot < 2; slot++) {
        struct leat_vote_slot head;
        size_t at = slot * LEAT_VOTE_SLOT_BYTES;
        memcpy(&head, scene.files[votes].original + at, sizeof(head));
        at += sizeof(head) + head.peer_count * sizeof(struct leat_peer_pin);
        put_patch(votes, at + offsetof(struct leat_vote, voted_for), &stranger, sizeof(stranger));
    }
    seed_end("recovery", "stranger");
}

/* The newest record over the one before it: a write that went astray. */
static void seeds_recovery_copy(void)
{
    unsigned journal = file_named("w0/journal");
    size_t block = newest_record(&scene.files[journal]) / LEAT_BLOCK_BYTES;
    seed_u8(0);
    seed_u8((uint8_t)(PATCH_COPY | journal));
    seed_u8((uint8_t)journal);
    seed_u16((uint16_t)block);
    seed_u16((uint16_t)(block - 1));
    seed_u8(0);
    seed_end("recovery", "astray");
}

void seeds_recovery(void)
{
    static const char *const files[] = {"identity",
                                        "w0/votes",
                                        "w0/journal",
                                        "w0/log-1.1/genesis",
                                        "w0/log-1.1/0000000000000000.segment",
                                        "w0/log-1.1/0000000000100000.segment"};
    const uint64_t ones = UINT64_MAX;
    char name[32];
    scene_make(&scene);
    seed_u8(0);
    seed_end("recovery", "sound");
    seed_u8(RECOVERY_ARENAS);
    seed_end("recovery", "sound-arenas");
    seed_u8(RECOVERY_LOOK);
    seed_end("recovery", "sound-looked-at");
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        for (uint8_t flags = 0; flags < 8; flags += 3) {
            seed_u8(flags);
            put_patch(file_named(files[i]), 56, &ones, sizeof(ones));
            snprintf(name, sizeof(name), "file-%u-flags-%u", i, flags);
            seed_end("recovery", name);
        }
    }
    seeds_recovery_entry();
    seeds_recovery_copy();
    seeds_recovery_far();
    seeds_recovery_pins();
    seeds_recovery_stranger();
    scene_remove(&scene);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "leat/error.h"
#include "map.h"
#include "system.h"

#define MAGIC 0x646e6570706174c1ull

struct ledger ledger;
/* By (log, identity, sequence): the number of the append, or FENCE. */
static struct sim_map sequences;
#define FENCE (LEDGER_NOWHERE - 1)
/* By (log, a client's id): its session may be closed. */
static struct sim_map closed;
/* By (log, identity): the sequence committed last. */
static struct sim_map last_sequences;
static uint64_t *last_sequence_values;
static uint64_t last_sequence_count, last_sequence_room;

void ledger_begin(void)
{
    memset(&ledger, 0, sizeof(ledger));
    sequences = last_sequences = closed = (struct sim_map){0};
    for (unsigned i = 0; i < LEDGER_LOGS_MAX; i++)
        ledger.logs[i].batch_next = LEDGER_NOWHERE;
    last_sequence_count = 0;
}

static struct sim_map_key key_of(uint32_t log, const struct leat_uuid *client)
{
    struct sim_map_key key = {.log = log};
    memcpy(&key.position, client->bytes, sizeof(key.position));
    memcpy(&key.term, client->bytes + sizeof(key.position),
           4); /* the rest a node makes its user's */
    return key;
}

void ledger_closes(uint32_t log, const struct leat_uuid *client)
{
    ledger.logs[log].closes = true;
    map_put(&closed, key_of(log, client), 1);
}

bool ledger_may_be_closed(uint32_t log, const struct leat_uuid *client)
{
    uint64_t value;
    return map_get(&closed, key_of(log, client), &value);
}

uint32_t ledger_new_identity(void)
{
    return ++ledger.identities;
}

static uint8_t payload_byte(uint64_t number, uint32_t at)
{
    return (uint8_t)(number * 131 + at * 7 + (at >> 8));
}

void ledger_payload(uint64_t number, uint8_t *payload, uint32_t bytes)
{
    const uint64_t words[2] = {MAGIC, number};
    memcpy(payload, words, sizeof(words));
    for (uint32_t i = sizeof(words); i < bytes; i++)
        payload[i] = payload_byte(number, i);
}

static bool payload_is(uint64_t number, const uint8_t *payload, uint64_t bytes)
{
    const struct ledger_append *append = &ledger.appends[number];
    if (bytes != append->bytes)
        return false;
    for (uint32_t i = LEDGER_BYTES_MIN; i < bytes; i++) {
        if (payload[i] != payload_byte(number, i))
            return false;
    }
    return true;
}

uint64_t ledger_record_number(const uint8_t *payload, uint64_t bytes)
{
    uint64_t words[2];
    if (bytes < sizeof(words))
        return LEDGER_NOWHERE;
    memcpy(words, payload, sizeof(words));
    return words[0] == MAGIC && words[1] < ledger.count ? words[1] : LEDGER_NOWHERE;
}

uint64_t ledger_number(void)
{
    if (ledger.count == ledger.room) {
        ledger.room = ledger.room ? 2 * ledger.room : 4096;
        ledger.appends = __real_realloc(ledger.appends, ledger.room * sizeof(ledger.appends[0]));
        if (!ledger.appends)
            abort();
    }
    ledger.appends[ledger.count] = (struct ledger_append){.found = LEDGER_NOWHERE};
    return ledger.count++;
}

void ledger_started(uint64_t number, const struct ledger_append *append)
{
    ledger.started++;
    ledger.appends[number] = *append;
    ledger.appends[number].started_ns = world.now_ns;
    ledger.appends[number].acked_before = ledger.logs[append->log].acked_pos;
    ledger.appends[number].found = LEDGER_NOWHERE;
    if (append->record == 0)
        map_put(&sequences, (struct sim_map_key){append->log, append->identity, append->sequence},
                number);
}

void ledger_fence_started(uint32_t log, uint32_t identity, uint64_t sequence)
{
    map_put(&sequences, (struct sim_map_key){log, identity, sequence}, FENCE);
}

/* ---- what clients are told ---- */

static void check_place(uint64_t number)
{
    const struct ledger_append *append = &ledger.appends[number];
    if (append->found == LEDGER_NOWHERE || !append->told_position)
        return;
    if (append->told != append->found_begin)
        world_fail("C2", "append %lu was acknowledged at position %lu of log %u and lies at %lu",
                   (unsigned long)number, (unsigned long)append->told, append->log,
                   (unsigned long)append->found_begin);
}

static void record_acked(uint64_t number, bool durable, uint64_t position, uint64_t offset)
{
    struct ledger_append *append = &ledger.appends[number];
    struct ledger_log *log = &ledger.logs[append->log];
    append->state = LEDGER_ACKED;
    append->acked_ns = world.now_ns;
    append->told_durable = durable;
    append->told_position = position != LEDGER_NOWHERE;
    append->told = position;
    ledger.acked++;
    world_note(number ^ position);
    if (!append->replicated && !durable)
        world_fail("C2", "append %lu asked for durable and was acknowledged as replicated",
                   (unsigned long)number);
    if (durable && append->found == LEDGER_NOWHERE)
        world_fail("PR1",
                   "append %lu of log %u was acknowledged as durable and no replica committed it",
                   (unsigned long)number, append->log);
    if (position == LEDGER_NOWHERE)
        return;
    if (append->found != LEDGER_NOWHERE && offset != append->offset)
        world_fail(
            "C2",
            "append %lu, sequence %lu of its session, of log %u was told position %lu, offset "
            "%lu, and has %lu, %lu",
            (unsigned long)number, (unsigned long)append->sequence, append->log,
            (unsigned long)position, (unsigned long)offset, (unsigned long)append->found_begin,
            (unsigned long)append->offset);
    if (position < append->acked_before)
        world_fail(
            "C5",
            "append %lu of log %u got position %lu, below %lu, which was acknowledged before "
            "it was started",
            (unsigned long)number, append->log, (unsigned long)position,
            (unsigned long)append->acked_before);
    if (durable && position > log->acked_pos)
        log->acked_pos = position;
    check_place(number);
}

void ledger_acked(uint64_t number, bool durable, uint64_t position, uint64_t offset)
{
    uint32_t last = ledger.appends[number].records - 1;
    for (uint32_t i = 0; i < last; i++) {
        record_acked(number + i, durable, LEDGER_NOWHERE, LEDGER_NOWHERE);
        ledger.appends[number + i].told = position;
    }
    record_acked(number + last, durable, position, offset);
}

void ledger_fence_acked(uint32_t log, uint64_t epoch)
{
    if (ledger.logs[log].fence_epoch < epoch)
        world_fail("PR1", "a fence of log %u at epoch %lu was acknowledged and is not committed",
                   log, (unsigned long)epoch);
}

static void check_refused(uint64_t number)
{
    const struct ledger_append *append = &ledger.appends[number];
    if (append->state == LEDGER_REFUSED && append->found != LEDGER_NOWHERE)
        world_fail("C9", "append %lu was answered \"certainly not\" and lies at %lu of log %u",
                   (unsigned long)number, (unsigned long)append->found_begin, append->log);
}

void ledger_refused(uint64_t number, int error)
{
    world_note(number ^ (uint64_t)error);
    for (uint32_t i = 0; i < ledger.appends[number].records; i++) {
        ledger.appends[number + i].state = LEDGER_REFUSED;
        ledger.refused++;
        check_refused(number + i);
    }
}

void ledger_unknown(uint64_t number)
{
    for (uint32_t i = 0; i < ledger.appends[number].records; i++) {
        ledger.appends[number + i].state = LEDGER_UNKNOWN;
        ledger.unknown++;
    }
}

/* ---- what is committed ---- */

static uint64_t *last_sequence_of(const struct ledger_append *append)
{
    struct sim_map_key key = {.log = append->log, .position = append->identity};
    uint64_t at = map_put(&last_sequences, key, last_sequence_count);
    if (at == last_sequence_count) {
        if (last_sequence_count == last_sequence_room) {
            last_sequence_room = last_sequence_room ? 2 * last_sequence_room : 256;
            last_sequence_values =
                __real_realloc(last_sequence_values, last_sequence_room * sizeof(uint64_t));
            if (!last_sequence_values)
                abort();
        }
        last_sequence_values[last_sequence_count++] = 0;
    }
    return &last_sequence_values[at];
}

/* A fence has no record; what was refused at its place in the log has none either. */
static bool may_be_passed_over(const struct ledger_append *append, uint64_t sequence)
{
    uint64_t number;
    struct sim_map_key key = {append->log, append->identity, sequence};
    if (!map_get(&sequences, key, &number))
        return false;
    return number == FENCE || ledger.appends[number].condition != LEDGER_NOWHERE ||
           ledger.logs[append->log].fence_epoch > ledger.appends[number].epoch;
}

/* C4 */
static void check_order(const struct ledger_append *append, uint64_t number)
{
    uint64_t *last = last_sequence_of(append);
    uint64_t next = *last + (append->record == 0);
    while (append->record == 0 && next < append->sequence && may_be_passed_over(append, next))
        next++;
    if (append->sequence != next)
        world_fail(
            "C4", "append %lu is sequence %lu of its session in log %u and was committed after %lu",
            (unsigned long)number, (unsigned long)append->sequence, append->log,
            (unsigned long)*last);
    *last = append->sequence;
}

/* All of a batch, in order, and nothing between. */
static void check_batch(struct ledger_log *log, const struct ledger_append *append, uint64_t number)
{
    uint64_t expected = log->batch_next;
    if (expected != number && (expected != LEDGER_NOWHERE || append->record != 0))
        world_fail("BATCH", "append %lu, record %u of %u of its batch, follows in log %u, not %ld",
                   (unsigned long)number, append->record, append->records, append->log,
                   (long)expected);
    log->batch_next = append->record + 1 < append->records ? number + 1 : LEDGER_NOWHERE;
    reached.batches += append->records > 1 && append->record == 0;
}

void ledger_boundary(uint32_t log_id, uint64_t position)
{
    if (ledger.logs[log_id].batch_next != LEDGER_NOWHERE)
        world_fail("BATCH", "log %u is committed to %lu, within a batch", log_id,
                   (unsigned long)position);
}

static void check_wishes(const struct ledger_log *log, const struct ledger_append *append,
                         uint64_t number, uint64_t offset)
{
    if (append->condition != LEDGER_NOWHERE && append->record == 0 && append->condition != offset)
        world_fail("CONDITION", "append %lu asked for offset %lu of log %u and got %lu",
                   (unsigned long)number, (unsigned long)append->condition, append->log,
                   (unsigned long)offset);
    reached.conditions_met += append->condition != LEDGER_NOWHERE;
    if (append->epoch < log->fence_epoch)
        world_fail("FENCE", "append %lu of writer epoch %u lies in log %u behind a fence at %lu",
                   (unsigned long)number, append->epoch, append->log,
                   (unsigned long)log->fence_epoch);
}

void ledger_fenced(uint32_t log_id, uint64_t begin, uint64_t epoch)
{
    struct ledger_log *log = &ledger.logs[log_id];
    reached.fenced++;
    if (epoch <= log->fence_epoch)
        world_fail("FENCE", "the fence at %lu of log %u is at epoch %lu, and one before at %lu",
                   (unsigned long)begin, log_id, (unsigned long)epoch,
                   (unsigned long)log->fence_epoch);
    log->fence_epoch = epoch;
}

static void record_add(struct ledger_log *log, uint64_t number)
{
    if (log->record_count == log->record_room) {
        log->record_room = log->record_room ? 2 * log->record_room : 1024;
        log->records = __real_realloc(log->records, log->record_room * sizeof(log->records[0]));
        if (!log->records)
            abort();
    }
    log->records[log->record_count++] = number;
}

void ledger_committed(uint32_t log_id, uint64_t begin, uint64_t end, uint64_t offset,
                      uint64_t sequence, const uint8_t *payload, uint32_t bytes)
{
    struct ledger_log *log = &ledger.logs[log_id];
    uint64_t number = ledger_record_number(payload, bytes);
    if (offset != log->record_count)
        world_fail("C3", "log %u has offset %lu at %lu, expected %lu", log_id,
                   (unsigned long)offset, (unsigned long)begin, (unsigned long)log->record_count);
    record_add(log, number);
    if (number == LEDGER_NOWHERE) {
        ledger_boundary(log_id, begin);
        if (draw.scribble_ms == 0)
            world_fail("C2", "log %u has a record at %lu that nobody appended", log_id,
                       (unsigned long)begin);
        return;
    }
    struct ledger_append *append = &ledger.appends[number];
    if (append->found != LEDGER_NOWHERE && sequence == 1 && log->closed_pos > append->found)
        world_fail("C10",
                   "append %lu, the first of its session, lies at %lu of log %u, and again at %lu, "
                   "behind the session's end",
                   (unsigned long)number, (unsigned long)append->found_begin, log_id,
                   (unsigned long)begin);
    if (append->found != LEDGER_NOWHERE)
        world_fail("C1", "append %lu lies at %lu and at %lu of log %u", (unsigned long)number,
                   (unsigned long)append->found_begin, (unsigned long)begin, log_id);
    append->found = end;
    append->found_begin = begin;
    append->offset = offset;
    if (append->log != log_id || append->sequence != sequence ||
        !payload_is(number, payload, bytes))
        world_fail("C2", "append %lu is not what was appended, at %lu of log %u",
                   (unsigned long)number, (unsigned long)begin, log_id);
    check_batch(log, append, number);
    check_wishes(log, append, number, offset);
    check_order(append, number);
    check_place(number);
    check_refused(number);
}

bool ledger_has(uint32_t log_id, uint64_t offset, uint64_t number)
{
    const struct ledger_log *log = &ledger.logs[log_id];
    return offset < log->record_count && log->records[offset] == number;
}

bool ledger_is_record(uint32_t log_id, uint64_t offset, const uint8_t *payload, uint64_t bytes)
{
    uint64_t number = ledger_record_number(payload, bytes);
    return ledger_has(log_id, offset, number) &&
           (number == LEDGER_NOWHERE || payload_is(number, payload, bytes));
}

/* Its client may have been told later, of what was committed before. */
static bool is_void(const struct ledger_log *log, const struct ledger_append *append)
{
    return log->memory_lost_ns != 0 &&
           (append->acked_ns <= log->memory_lost_ns ||
            (append->started_ns <= log->memory_lost_ns && append->told < log->memory_lost_pos));
}

void ledger_audit(void)
{
    for (uint64_t i = 0; i < ledger.count; i++) {
        const struct ledger_append *append = &ledger.appends[i];
        const struct ledger_log *log = &ledger.logs[append->log];
        if (append->state != LEDGER_ACKED || append->found != LEDGER_NOWHERE)
            continue;
        bool excused = !append->told_durable && is_void(log, append);
        ledger.replicated_lost += excused;
        if (!excused)
            world_fail("C2", "append %lu of log %u, acknowledged as %s, is lost", (unsigned long)i,
                       append->log, append->told_durable ? "durable" : "replicated");
    }
}

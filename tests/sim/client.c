/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <string.h>

#include "check.h"
#include "client_private.h"
#include "cluster.h"
#include "draw.h"
#include "faults.h"
#include "ledger.h"
#include "leat/leat.h"
#include "reader.h"

#define CLIENTS_MAX     8u
#define RESULTS_MAX     64u
#define PAYLOAD_MAX     (64u << 10)
#define BATCH_MAX       8u
#define RING_BYTES      (256u << 10)
#define SMALL_BYTES     LEAT_RING_BYTES_MIN /* a dishonest one's: it comes round soon */
#define DISHONEST_DEPTH 64u
#define POLL_NS         (150 * SIM_US)
#define ATTACH_NS       (300 * SIM_MS)
#define AWAY_NS         (20 * SIM_MS) /* between looks whether the node listens */
#define HURRY_NS        (20 * SIM_S)  /* of appends one after another, when all has healed */
#define CLOSE_NS        (20 * SIM_S)  /* for an append in a cluster that is whole and idle */

struct sim_client {
    unsigned number;
    unsigned node;
    struct sim_process *process; /* NULL: dead, starts again soon */
    struct leat_client *client;
    struct leat_uuid id;
    uint32_t identity;
    uint64_t left; /* appends to be started */
    uint64_t due_ns;
    uint64_t rests_until_ns; /* a log's sessions were all taken */
    bool switches;
    bool fences;     /* as soon as nothing is in flight */
    bool dishonest;  /* appends what is no append of the ledger's, and breaks every rule */
    bool broke;      /* one of them: what it appended will hardly ever end */
    bool closes;     /* appends once more to each log */
    uint32_t closed; /* logs, 1 to this one */
    /* how far a log was committed, as it was told, when its session's first append was begun */
    uint64_t began_pos[LEDGER_LOGS_MAX];
};

static struct {
    struct sim_client clients[CLIENTS_MAX];
    unsigned count; /* of honest ones; a dishonest one lies behind them */
    bool hurry, stop;
    uint64_t close_ns; /* clients_close() */
} all;

static bool actor_closes(const struct sim_client *self)
{
    return self->closes && self->client && self->client->state != CLIENT_FAILED &&
           self->closed < draw.logs;
}

/* ---- appending ---- */

/* What is refused says why, and that is so. */
static void refusal_look(struct sim_client *self, const struct leat_result *result)
{
    const struct ledger_append *append = &ledger.appends[result->user];
    if (result->error == LEAT_ECONDITION && append->condition == result->detail)
        world_fail("CONDITION", "append %lu asked for offset %lu of log %u and was refused for it",
                   (unsigned long)result->user, (unsigned long)append->condition, append->log);
    if (result->error != LEAT_EFENCEDOUT)
        return;
    if (append->epoch >= result->detail)
        world_fail("FENCE", "append %lu of epoch %u was shut out of log %u by epoch %lu",
                   (unsigned long)result->user, append->epoch, append->log,
                   (unsigned long)result->detail);
    if (world_chance(STREAM_CLIENTS, 500000)) /* it goes on as one of the newer writers */
        (void)leat_writer_epoch(self->client, result->log, (uint32_t)result->detail);
}

/* ADR 0061, ADR 0076: a first append opens its session, unless that may have been closed since; W8:
 * a session is behind or unknown only where it was closed, or a majority lost its memory. */
static void unknown_look(const struct sim_client *self, const struct leat_result *result)
{
    const struct ledger_append *append = &ledger.appends[result->user];
    const struct ledger_log *log = &ledger.logs[append->log];
    bool of_session = result->error == LEAT_ESESSION || result->error == LEAT_ENOSESSION;
    bool may_be_closed =
        ledger_may_be_closed(append->log, &self->id) ||
        (log->forgets_pos != 0 && log->forgets_pos >= self->began_pos[append->log]);
    if (of_session && !may_be_closed && log->memory_lost_ns == 0)
        world_fail(
            append->sequence == 1 ? "C10" : "W8",
            "append %lu, a client's number %lu to log %u, was told that its session is %s; it was "
            "never closed, and no majority lost its memory",
            (unsigned long)result->user, (unsigned long)append->sequence, append->log,
            result->error == LEAT_ESESSION ? "behind" : "unknown");
}

/* L3: who is attached to a cluster that is whole gets its answer. (Not what ended before.) */
static void close_look(struct sim_client *self, const struct leat_result *result)
{
    if (ledger.appends[result->user].started_ns < all.close_ns)
        return;
    if (result->error == LEAT_EDEADLINE)
        world_fail("L3",
                   "append %lu of client %u to log %u of a healed, idle cluster is not answered",
                   (unsigned long)result->user, self->number, result->log);
    self->closed += leat_outcome(result->error) == LEAT_END_OK;
}

static void actor_take(struct sim_client *self, const struct leat_result *result)
{
    enum leat_end end = leat_outcome(result->error);
    if (self->dishonest)
        return;
    if (self->closes)
        close_look(self, result);
    if (result->error == LEAT_ESESSIONS)
        self->rests_until_ns =
            world.now_ns + world_log_uniform(STREAM_CLIENTS, 5 * SIM_MS, 500 * SIM_MS);
    if (end == LEAT_END_OK) {
        ledger_acked(result->user, result->ack == LEAT_ACK_DURABLE, result->position,
                     result->offset);
    } else if (end == LEAT_END_NO) {
        ledger_refused(result->user, result->error);
        refusal_look(self, result);
    } else {
        ledger_unknown(result->user);
        unknown_look(self, result);
    }
}

static void actor_poll(struct sim_client *self)
{
    struct leat_result results[RESULTS_MAX];
    int count;
    while ((count = leat_poll(self->client, results, RESULTS_MAX)) > 0) {
        for (int i = 0; i < count; i++)
            actor_take(self, &results[i]);
    }
}

static uint32_t actor_choose_log(void)
{
    return 1 + (uint32_t)world_draw(STREAM_CLIENTS, draw.logs);
}

/* Appends of another identity are another session's. */
static uint32_t actor_identity(struct sim_client *self)
{
    if (self->identity == 0 || memcmp(&self->id, &self->client->id, sizeof(self->id)) != 0) {
        self->id = self->client->id;
        self->identity = ledger_new_identity();
    }
    return self->identity;
}

static const struct client_log *actor_log(const struct sim_client *self, uint32_t log)
{
    return &self->client->logs[self->client->log_places[log] - 1];
}

/* What is asked for, beside the records. */
struct wish {
    uint32_t log;
    enum leat_ack ack;
    uint64_t timeout_ns;
    uint64_t condition;
};

static int start_one(struct sim_client *self, const struct wish *wish, uint64_t number,
                     uint32_t bytes, uint64_t *ret_sequence)
{
    uint8_t payload[PAYLOAD_MAX];
    ledger_payload(number, payload, bytes);
    if (wish->condition != LEDGER_NOWHERE)
        return leat_append_at(self->client, wish->log, wish->condition, payload, bytes, wish->ack,
                              wish->timeout_ns, number, ret_sequence);
    return leat_append_start(self->client, wish->log, payload, bytes, wish->ack, wish->timeout_ns,
                             number, ret_sequence);
}

/* What the library says of a first append (of a conditional one nothing). */
static uint64_t actor_began(const struct sim_client *self, const struct wish *wish)
{
    const struct leat_arena_header *header = actor_log(self, wish->log)->header;
    bool is_known = header && !client_arena_is_deleted(header);
    return is_known && wish->condition == LEDGER_NOWHERE ? client_load(&header->commit_d.value) : 0;
}

/* *count: how many fit. */
static int start_batch(struct sim_client *self, const struct wish *wish, uint64_t number,
                       const uint32_t *bytes, unsigned *count, uint64_t *ret_sequence)
{
    uint8_t payload[PAYLOAD_MAX];
    unsigned added = 0;
    int rc = leat_batch_begin(self->client, wish->log, *count, 0);
    while (rc == LEAT_OK && added < *count) {
        ledger_payload(number + added, payload, bytes[added]);
        if (leat_batch_add(self->client, payload, bytes[added]) != LEAT_OK)
            break;
        added++;
    }
    if (rc != LEAT_OK)
        return rc;
    *count = added;
    rc = added == 0 ? LEAT_EAGAIN
         : wish->condition != LEDGER_NOWHERE
             ? leat_batch_commit_at(self->client, wish->condition, wish->ack, wish->timeout_ns,
                                    number, ret_sequence)
             : leat_batch_commit(self->client, wish->ack, wish->timeout_ns, number, ret_sequence);
    if (rc != LEAT_OK)
        leat_batch_abort(self->client);
    return rc;
}

static void actor_started(struct sim_client *self, const struct wish *wish, uint64_t number,
                          const uint32_t *bytes, unsigned count, uint64_t sequence)
{
    struct ledger_append append = {.log = wish->log,
                                   .identity = actor_identity(self),
                                   .sequence = sequence,
                                   .records = count,
                                   .condition = wish->condition,
                                   .epoch = actor_log(self, wish->log)->writer_epoch,
                                   .replicated = wish->ack == LEAT_ACK_REPLICATED};
    for (append.record = 0; append.record < count; append.record++) {
        append.bytes = bytes[append.record];
        ledger_started(number + append.record, &append);
    }
    self->left -= self->left < count ? self->left : count;
    if (sequence == 1) {
        self->began_pos[wish->log] = actor_began(self, wish);
        faults_desert(self->node);
    }
}

static void wish_draw(struct wish *wish)
{
    bool replicated = world_chance(STREAM_CLIENTS, draw.replicated_ppm);
    wish->log = actor_choose_log();
    wish->ack = replicated ? LEAT_ACK_REPLICATED : LEAT_ACK_DURABLE;
    wish->timeout_ns = world_log_uniform(STREAM_CLIENTS, 50 * SIM_MS, 10 * SIM_S);
    wish->condition = LEDGER_NOWHERE;
    if (world_chance(STREAM_CLIENTS, draw.condition_ppm))
        wish->condition = ledger.logs[wish->log].record_count + world_draw(STREAM_CLIENTS, 3);
}

/* False: not now. */
static bool actor_append(struct sim_client *self)
{
    uint32_t bytes[BATCH_MAX];
    unsigned count = 1;
    uint64_t most =
        draw.payload_bytes < draw.entry_kib << 10 ? draw.payload_bytes : draw.entry_kib << 10;
    uint64_t sequence, number = ledger_number();
    struct wish wish;
    wish_draw(&wish);
    if (world_chance(STREAM_CLIENTS, draw.batch_ppm))
        count = (unsigned)world_between(STREAM_CLIENTS, 2, BATCH_MAX);
    for (unsigned i = 0; i < count; i++) {
        bytes[i] = (uint32_t)world_log_uniform(STREAM_CLIENTS,
                                               draw.same_bytes ? most : LEDGER_BYTES_MIN, most);
        if (i > 0)
            ledger_number();
    }
    for (unsigned tries = 0; tries < 2; tries++) {
        int rc = count > 1 ? start_batch(self, &wish, number, bytes, &count, &sequence)
                           : start_one(self, &wish, number, bytes[0], &sequence);
        if (rc == LEAT_OK) {
            actor_started(self, &wish, number, bytes, count, sequence);
            return true;
        }
        if (rc != LEAT_ELEVEL && rc != LEAT_ENOLOG)
            return false;
        wish.log = 1; /* a log that is not there yet: another one */
        wish.condition = LEDGER_NOWHERE;
    }
    return false;
}

/* One at a time; what is refused is tried again. */
static bool actor_close(struct sim_client *self)
{
    uint32_t bytes = LEDGER_BYTES_MIN;
    uint64_t sequence, number = ledger_number();
    struct wish wish = {.log = self->closed + 1,
                        .ack = LEAT_ACK_DURABLE,
                        .timeout_ns = CLOSE_NS,
                        .condition = LEDGER_NOWHERE};
    int rc = start_one(self, &wish, number, bytes, &sequence);
    if (rc == LEAT_OK)
        actor_started(self, &wish, number, &bytes, 1, sequence);
    self->closed += rc == LEAT_ENOLOG;
    return rc == LEAT_OK;
}

/* Most often above the log's epoch, now and then not. */
static void actor_fence(struct sim_client *self)
{
    uint32_t log = actor_choose_log();
    uint64_t epoch = ledger.logs[log].fence_epoch + world_draw(STREAM_CLIENTS, 4);
    struct leat_result result;
    self->fences = false;
    if (epoch == 0)
        return;
    int rc = leat_fence(self->client, log, (uint32_t)epoch, SIM_S, &result);
    if (result.sequence == 1)
        self->began_pos[log] = 0; /* not known any more */
    if (result.sequence != 0)
        ledger_fence_started(log, actor_identity(self), result.sequence);
    if (rc == LEAT_OK)
        ledger_fence_acked(log, epoch);
}

/* One, or a batch of up to four. */
static int dishonest_start(struct sim_client *self)
{
    uint8_t payload[1024];
    uint32_t bytes = (uint32_t)world_draw(STREAM_CLIENTS, sizeof(payload)),
             log = actor_choose_log();
    uint64_t more = world_draw(STREAM_CLIENTS, 8);
    memset(payload, 0xee, bytes);
    if (more == 0 || more > 4)
        return leat_append_start(self->client, log, payload, bytes, LEAT_ACK_DURABLE, SIM_S, 0,
                                 NULL);
    int rc = leat_batch_begin(self->client, log, 4, 0);
    while (rc == LEAT_OK && more-- > 0)
        (void)leat_batch_add(self->client, payload, bytes / 4);
    if (rc == LEAT_OK)
        rc = leat_batch_commit(self->client, LEAT_ACK_DURABLE, SIM_S, 0, NULL);
    if (rc != LEAT_OK)
        leat_batch_abort(self->client);
    return rc;
}

/* A bit of what is said of the record that is next for the node, every other time of its length. */
static void dishonest_twist(struct sim_client *self, uint64_t position)
{
    uint8_t *record = self->client->rings.records + (position & (SMALL_BYTES - 1));
    uint64_t byte = world_draw(STREAM_CLIENTS, sizeof(struct leat_ring_record));
    if (world_chance(STREAM_CLIENTS, 500000))
        byte = offsetof(struct leat_ring_record, payload_bytes) + byte % 3;
    record[byte] ^= (uint8_t)(1u << world_draw(STREAM_CLIENTS, 8));
}

/* It goes on behind the ring's end, and all that is said of it agrees. */
static void dishonest_overrun(struct sim_client *self, uint64_t position)
{
    uint64_t at = position & (SMALL_BYTES - 1);
    struct leat_ring_record *record = (void *)(self->client->rings.records + at);
    record->payload_bytes = (uint32_t)(SMALL_BYTES - at);
    self->client->rings.shared->tail.value = position + leat_ring_extent(record->payload_bytes);
}

static void dishonest_append(struct sim_client *self)
{
    uint64_t position = self->client->rings.tail;
    bool is_near_end = SMALL_BYTES - (position & (SMALL_BYTES - 1)) <= draw.entry_kib << 10;
    if (dishonest_start(self) == LEAT_OK && cluster.nodes[self->node].process) {
        self->broke = self->client->state == CLIENT_UP &&
                      world_chance(STREAM_CLIENTS, is_near_end ? 20000 : 2000);
        if (self->broke && is_near_end)
            dishonest_overrun(self, position);
        else if (self->broke)
            dishonest_twist(self, position);
        process_wake_workers(cluster.nodes[self->node].process);
    }
    actor_poll(self);
}

static void actor_step(struct sim_client *self)
{
    uint64_t share = draw.appends / all.count + 1;
    bool started = false, rests = self->rests_until_ns > world.now_ns;
    if (self->fences && leat_in_flight(self->client) == 0)
        actor_fence(self);
    while (self->left > 0 && !self->fences && !rests &&
           (all.hurry || self->due_ns <= world.now_ns) &&
           leat_in_flight(self->client) < draw.in_flight && actor_append(self)) {
        self->due_ns += world_exponential(STREAM_CLIENTS, draw.safety_ms * SIM_MS / share);
        started = true;
    }
    if (actor_closes(self) && !rests && leat_in_flight(self->client) == 0)
        started = actor_close(self);
    struct sim_process *node = cluster.nodes[self->node].process;
    if (started && node)
        process_wake_workers(node);
    actor_poll(self);
}

static uint64_t ring_bytes_of(const struct sim_client *self)
{
    return self->dishonest ? SMALL_BYTES : RING_BYTES;
}

/* Until it is attached or its time has come. */
static bool actor_attach(struct sim_client *self)
{
    while (!all.stop) {
        const char *socket = cluster_socket(self->node);
        struct leat_options options = {.socket = socket,
                                       .ring_bytes = ring_bytes_of(self),
                                       .in_flight_max = self->dishonest ? DISHONEST_DEPTH
                                                                        : (uint32_t)draw.in_flight,
                                       .attach_timeout_ns = ATTACH_NS};
        self->identity = 0;
        if (socket && leat_attach(&options, &self->client) == LEAT_OK)
            return true;
        thread_sleep(AWAY_NS);
        if (world_chance(STREAM_CLIENTS, 100000) || self->switches)
            return false;
    }
    return false;
}

static void *actor_main(void *context)
{
    struct sim_client *self = context;
    if (!actor_attach(self))
        return NULL;
    while (self->dishonest && !all.hurry && self->client->state != CLIENT_FAILED && !self->broke) {
        dishonest_append(self);
        thread_sleep(world_exponential(STREAM_CLIENTS, 5 * SIM_MS));
    }
    while (!self->dishonest && !all.stop && !self->switches) {
        actor_step(self);
        bool waits = leat_in_flight(self->client) > 0 || all.hurry;
        uint64_t due_ns = self->left > 0 && !waits ? self->due_ns : 0;
        uint64_t until_ns = world.now_ns + POLL_NS + world_draw(STREAM_CLIENTS, POLL_NS);
        if (!waits && (self->left == 0 || due_ns > until_ns))
            until_ns = self->left == 0 ? world.now_ns + 5 * SIM_MS : due_ns;
        thread_wait(until_ns);
    }
    leat_detach(self->client);
    return NULL;
}

/* ---- lives of clients ---- */

static void actor_start(void *context, uint64_t argument);

static void actor_dead(struct sim_process *process)
{
    struct sim_client *self = process->owner;
    self->process = NULL;
    self->client = NULL;
    self->switches = self->fences = self->closes = self->broke = false;
    do
        self->node = (unsigned)world_draw(STREAM_CLIENTS, cluster.count);
    while (cluster.nodes[self->node].lost);
    if (!all.stop && !(self->dishonest && all.hurry))
        world_at(world.now_ns + world_draw(STREAM_CLIENTS, 20 * SIM_MS), EVENT_ACTION, actor_start,
                 self, 0);
}

static void actor_ended(struct sim_process *process, void *result)
{
    (void)result;
    actor_dead(process);
}

static void actor_start(void *context, uint64_t argument)
{
    struct sim_client *self = context;
    (void)argument;
    if (all.stop)
        return;
    world.events[EVENT_ACTION]++;
    self->process = process_start(&cluster.nodes[self->node].host, actor_main, self);
    self->process->owner = self;
    self->process->ended = actor_ended;
    self->process->killed = actor_dead;
}

void clients_begin(void)
{
    memset(&all, 0, sizeof(all));
    if (client_process() == 0) /* its page is this process', whoever of the simulated ones asks */
        world_fail("SIM", "no memory");
    all.count = (unsigned)draw.clients;
    for (unsigned i = 0; i < all.count; i++) {
        struct sim_client *self = &all.clients[i];
        *self = (struct sim_client){.number = i, .node = i % cluster.count};
        self->left = draw.appends / all.count + (i < draw.appends % all.count);
        self->due_ns = world.now_ns;
        actor_start(self, 0);
    }
    if (draw.scribble_ms > 0) {
        struct sim_client *self = &all.clients[all.count];
        *self = (struct sim_client){.number = all.count, .dishonest = true};
        actor_start(self, 0);
    }
}

void clients_host_down(unsigned host)
{
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        if (all.clients[i].process && all.clients[i].process->host->number == host)
            process_kill(all.clients[i].process);
    }
    followers_host_down(host);
}

void clients_kill_one(void)
{
    struct sim_client *self = &all.clients[world_draw(STREAM_FAULTS, all.count)];
    if (self->process)
        process_kill(self->process);
}

void clients_switch_one(void)
{
    all.clients[world_draw(STREAM_FAULTS, all.count)].switches = true;
}

unsigned clients_attached(unsigned node)
{
    unsigned count = 0;
    for (unsigned i = 0; i < all.count; i++) {
        const struct sim_client *self = &all.clients[i];
        count += self->node == node && self->client && self->client->state == CLIENT_UP;
    }
    return count;
}

void clients_rest_one(uint64_t until_ns)
{
    struct sim_client *self = &all.clients[world_draw(STREAM_FAULTS, all.count)];
    if (self->due_ns < until_ns)
        self->due_ns = until_ns;
}

void clients_leave(unsigned node)
{
    for (unsigned i = 0; i < all.count; i++)
        all.clients[i].switches |= all.clients[i].node == node;
}

void clients_fence_one(void)
{
    all.clients[world_draw(STREAM_FAULTS, all.count)].fences = true;
}

void clients_scribble_one(void)
{
    const struct sim_client *self = &all.clients[all.count];
    if (!self->process || !self->client || self->client->state != CLIENT_UP)
        return;
    struct leat_ring_client *shared = self->client->rings.shared;
    uint64_t *words[] = {&shared->tail.value, &shared->completion_head.value, &shared->armed.value};
    uint64_t which = world_draw(STREAM_FAULTS, 5);
    if (which < 3)
        *words[which] ^= 1ull << world_draw(STREAM_FAULTS, 64);
    else
        self->client->rings.records[world_draw(STREAM_FAULTS, SMALL_BYTES)] ^=
            (uint8_t)(1u << world_draw(STREAM_FAULTS, 8));
}

void clients_trace(void)
{
    for (unsigned i = 0; i < all.count; i++) {
        const struct sim_client *self = &all.clients[i];
        const struct leat_client *client = self->client;
        if (!client) {
            world_trace("client %u is away, %lu left", i, (unsigned long)self->left);
            continue;
        }
        world_trace("client %u at node %u: state %d, error %d, identity %d, %u in flight, places "
                    "%lu to %lu of %lu, ring %lu to %lu, %lu left",
                    i, self->node + 1, client->state, client->error, client->identity,
                    client->in_flight, (unsigned long)client->first, (unsigned long)client->next,
                    (unsigned long)client->table_count,
                    client->rings.answers ? (unsigned long)client->rings.answers->head.value : 0,
                    (unsigned long)client->rings.tail, (unsigned long)self->left);
        if (client->first == client->next)
            continue;
        const struct client_append *oldest = client_at(client, client->first);
        world_trace("  its oldest: log %u, sequence %lu, %s%s%s",
                    client->logs[oldest->log_place].log_id, (unsigned long)oldest->sequence,
                    oldest->ended ? "ended " : "", oldest->answered ? "answered " : "",
                    oldest->taken ? "taken" : "");
    }
}

bool clients_are_done(void)
{
    if (!operators_are_done())
        return false;
    for (unsigned i = 0; i < all.count; i++) {
        const struct sim_client *self = &all.clients[i];
        if (self->left > 0 || (self->client && leat_in_flight(self->client) > 0) ||
            actor_closes(self))
            return false;
    }
    return true;
}

void clients_hurry(void)
{
    uint64_t most = draw.in_flight * (HURRY_NS / draw_append_ns() + 1);
    all.hurry = true;
    for (unsigned i = 0; i < all.count; i++) {
        struct sim_client *self = &all.clients[i];
        self->switches |= cluster.nodes[self->node].lost;
        self->left = self->left < most ? self->left : most;
    }
}

void clients_close(void)
{
    all.close_ns = world.now_ns;
    for (unsigned i = 0; i < all.count; i++)
        all.clients[i].closes = all.clients[i].client != NULL;
}

void clients_stop(void)
{
    all.stop = true;
}

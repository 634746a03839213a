/* SPDX-License-Identifier: Apache-2.0
 *
 * A dishonest client and its ring. The code that takes records (node/clients.c, submit.c,
 * handover.c) is real, on two workers; the logs behind it are stubs that do as the input says. The
 * input writes words and records into the client's region between passes. Its memory ends at pages
 * that nobody may touch, the node has it for reading only, and the answers lie in memory of exactly
 * their size.
 *
 * While the client takes completions honestly, no completion is ever written over an unread one;
 * whatever it does, a client that is let go is looked at no more.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "ring_steps.h"
#include "worker.h"

#define WORKERS     2u
#define LOGS        4u /* by id; log 0 is the node's own */
#define COMPLETIONS LEAT_RING_COMPLETIONS_MIN
#define RING_BYTES  LEAT_RING_BYTES_MIN
#define REGION      (LEAT_RING_HEADER_BYTES + RING_BYTES)
#define CLIENTS     2u
#define STEPS_MAX   256u

struct world {
    struct leat_config config;
    struct node_worker workers[WORKERS];
    struct handover_queue queues[WORKERS]; /* by its reader */
    struct node_log logs[LOGS];
    struct leat_sessions committed[LOGS], tails[LOGS];
    struct node_rings rings;
    uint8_t *writable; /* the client's own mapping */
    struct fuzz_input input;
    uint64_t next_pos; /* where the honest client would write */
    bool honest;       /* about completions */
    uint8_t verdicts;  /* of the stubs below, by turns */
    struct node_command detach;
};

static struct world *world;

/* ---- the logs, as far as clients see them ---- */

void logger_limited(struct node_logger *out, struct logger_rate *rate, uint64_t now_ns,
                    enum leat_config_severity severity, const char *format, ...)
{
    (void)out, (void)rate, (void)now_ns, (void)severity, (void)format;
}

struct node_log *worker_log(const struct node_worker *worker, uint32_t log_id)
{
    LEAT_ASSERT(log_id % WORKERS == worker->number);
    return log_id < LOGS ? &world->logs[log_id] : NULL;
}

void worker_wake(struct node_log *log)
{
    LEAT_ASSERT(log->worker == &world->workers[log->id % WORKERS]);
}

bool leat_core_may_append(const struct leat_core *core)
{
    return core->role == LEAT_LEADER;
}

bool log_has_no_space(const struct node_log *log)
{
    return log->installing; /* the stub's word for it */
}

int log_recorded_error(const struct node_log *log, const struct leat_session_row *row,
                       const struct node_append *append)
{
    (void)log;
    LEAT_ASSERT(append->sequence <= row->last_sequence);
    return append->sequence == row->last_sequence ? row->last_error : LEAT_EUNKNOWN;
}

/* The payload as sealing or sending reads it: as a whole, and a batch record by record. */
static int read_payload(const struct node_log *log, const struct node_append *append)
{
    uint32_t lengths[LEAT_BATCH_RECORDS_MAX], count;
    uint64_t frames_bytes;
    const uint8_t *records = world->rings.records, *item = append->payload;
    LEAT_ASSERT(append->payload_bytes <= log->shape.entry_bytes_max && append->sequence > 0);
    LEAT_ASSERT(item >= records && item + append->payload_bytes <= records + RING_BYTES);
    fuzz_touch(item, append->payload_bytes);
    if (append->kind != LEAT_RING_BATCH)
        return LEAT_OK;
    int rc = log_batch_parse(log, item, append->payload_bytes, lengths, &count, &frames_bytes);
    for (uint32_t i = 0; rc == LEAT_OK && i < count; i++) {
        fuzz_touch(item + sizeof(struct leat_batch_item), lengths[i]);
        item += leat_batch_item_extent(lengths[i]);
        LEAT_ASSERT(item <= (const uint8_t *)append->payload + append->payload_bytes);
    }
    return rc;
}

enum append_verdict session_append(struct node_log *log, const struct leat_uuid *client,
                                   const struct node_append *append, uint64_t applied_pos,
                                   bool oldest, struct leat_session_row *ret_row, int *ret_error)
{
    struct leat_session_row *row = &log->tail->rows[0];
    (void)applied_pos;
    LEAT_ASSERT(leat_uuid_equal(client, &world->rings.client));
    if (read_payload(log, append) != LEAT_OK) {
        *ret_error = LEAT_EPROTO;
        return APPEND_REFUSED;
    }
    *ret_row = *row;
    if (append->sequence <= row->last_sequence)
        return APPEND_RECORDED;
    world->verdicts = (uint8_t)(world->verdicts * 5 + 3);
    if (world->verdicts % 8 == 0)
        return APPEND_WAIT;
    if (oldest && world->verdicts % 16 == 1)
        return APPEND_GAP;
    row->last_sequence = append->sequence;
    return APPEND_SEALED;
}

unsigned peers_worker_of(const struct node_peer *peer, uint32_t log_id)
{
    (void)peer, (void)log_id;
    return 0;
}

void path_stalls(struct node_worker *worker, unsigned peer, unsigned other)
{
    (void)worker, (void)peer, (void)other;
}

bool forward_record(struct node_log *log, const struct leat_uuid *client,
                    const struct node_append *append, bool oldest)
{
    (void)client, (void)oldest;
    (void)read_payload(log, append); /* an honest node judges at the leader */
    world->verdicts = (uint8_t)(world->verdicts * 5 + 3);
    return world->verdicts % 8 != 0;
}

/* ---- the world ---- */

/* Two mappings of one file, the node's for reading; behind it a page that is nobody's. */
static void region_map(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int descriptor = memfd_create("leat-ring", MFD_CLOEXEC);
    LEAT_ASSERT(descriptor >= 0 && ftruncate(descriptor, REGION) == 0);
    uint8_t *place = mmap(NULL, REGION + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    LEAT_ASSERT(place != MAP_FAILED);
    LEAT_ASSERT(mmap(place, REGION, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) == place);
    world->writable = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    LEAT_ASSERT(world->writable != MAP_FAILED);
    world->rings.shared = (struct leat_ring_client *)(void *)place;
    world->rings.records = place + LEAT_RING_HEADER_BYTES;
    close(descriptor);
}

static void rings_make_once(void)
{
    struct node_rings *rings = &world->rings;
    rings->client = (struct leat_uuid){{1, 2, 3}};
    rings->ring_bytes = RING_BYTES;
    rings->completion_count = COMPLETIONS;
    region_map();
    rings->answers = calloc(1, sizeof(*rings->answers));
    rings->completions = calloc(COMPLETIONS, sizeof(*rings->completions));
    rings->slots = calloc(WORKERS * COMPLETIONS, sizeof(*rings->slots));
    LEAT_ASSERT(rings->answers && rings->completions && rings->slots);
}

static void world_make_once(void)
{
    LEAT_ASSERT(posix_memalign((void **)&world, 128, sizeof(*world)) == 0);
    memset(world, 0, sizeof(*world));
    world->config.worker_count = WORKERS;
    rings_make_once();
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct node_worker *worker = &world->workers[i];
        worker->clients = calloc(CLIENTS, sizeof(*worker->clients));
        LEAT_ASSERT(worker->clients);
    }
}

static void attach(void)
{
    memset(world->rings.answers, 0, sizeof(*world->rings.answers));
    world->next_pos = 0;
    world->honest = true;
    memset(world->writable, 0, sizeof(struct leat_ring_client));
    LEAT_ASSERT(clients_attach(&world->workers[0], &world->rings) == LEAT_OK);
}

static void world_begin(void)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct node_worker *worker = &world->workers[i];
        atomic_store(&world->queues[i].head, 0);
        atomic_store(&world->queues[i].tail, 0);
        memset(worker->clients, 0, CLIENTS * sizeof(*worker->clients));
        worker->config = &world->config;
        worker->number = i;
        worker->now_ns = 1;
        worker->clients_high = 0;
        worker->client_records = NODE_CLIENT_RECORDS;
        worker->handed[1 - i] = 0;
        worker->inbox[1 - i] = &world->queues[i];
        worker->outbox[1 - i] = &world->queues[1 - i];
        worker->log_count = LOGS / WORKERS;
    }
    for (uint32_t i = 0; i < LOGS; i++) {
        struct node_log *log = &world->logs[i];
        log->worker = &world->workers[i % WORKERS];
        log->committed = &world->committed[i];
        log->tail = &world->tails[i];
        log->index = i / WORKERS;
        log->id = i;
        log->shape.entry_bytes_max = LEAT_ENTRY_BYTES_MIN << i;
        log->accepts_replicated = i % 2;
        log->core.role = LEAT_LEADER;
        log->core.leader = 0;
        log->core.reconciled = true;
        log->role_epoch = 0;
        log->installing = false;
        log->tail->rows[0] = (struct leat_session_row){.session = 1};
        leat_sessions_init(log->committed);
        log->worker->logs[log->index] = log;
    }
    memset(world->writable, 0, REGION);
    attach();
}

/* ---- what must hold ---- */

static void client_holds(void)
{
    const struct node_client *home = &world->workers[0].clients[world->rings.slot];
    const struct leat_ring_node *answers = world->rings.answers;
    if (home->rings != &world->rings)
        return;
    LEAT_ASSERT(home->slot_next - home->slot_first <= COMPLETIONS);
    LEAT_ASSERT(answers->completion_tail.value == home->completion_tail);
    LEAT_ASSERT(answers->head.value == home->released && home->released <= home->taken);
    LEAT_ASSERT(home->taken - home->released <= RING_BYTES);
    LEAT_ASSERT(home->let_go == (answers->closed.value != 0));
    if (world->honest)
        LEAT_ASSERT(answers->completion_tail.value - world->rings.shared->completion_head.value <=
                    COMPLETIONS);
}

/* ---- steps ---- */

static void step_word(struct fuzz_input *input)
{
    struct leat_ring_client *shared = (void *)world->writable;
    struct leat_ring_word *words[] = {&shared->tail, &shared->completion_head, &shared->armed};
    uint8_t which = fuzz_u8(input);
    uint64_t value = fuzz_u64(input);
    if (which & 0x80) /* near what it was */
        value = words[which % 3]->value + (uint64_t)(int64_t)(int8_t)value * LEAT_RING_ALIGN;
    words[which % 3]->value = value;
    if (which % 3 == 1)
        world->honest = false;
}

static void step_bytes(struct fuzz_input *input)
{
    uint32_t at = fuzz_u16(input), length = fuzz_u8(input);
    if (at + length > RING_BYTES)
        length = RING_BYTES - at;
    fuzz_take(input, world->writable + LEAT_RING_HEADER_BYTES + at, length);
}

/* A header as the input has it, its payload where it fits, the tail behind it. */
static void step_record(struct fuzz_input *input)
{
    struct leat_ring_client *shared = (void *)world->writable;
    struct leat_ring_record record;
    uint64_t at = world->next_pos % RING_BYTES;
    uint8_t *to = world->writable + LEAT_RING_HEADER_BYTES + at;
    memset(&record, 0, sizeof(record));
    record.kind = fuzz_u8(input); /* a statement each: initializers have no order */
    record.level = fuzz_u8(input);
    record.flags = fuzz_u8(input);
    record.log_id = fuzz_u8(input);
    record.writer_epoch = fuzz_u8(input);
    record.sequence = fuzz_u8(input);
    record.condition = fuzz_u8(input);
    record.payload_bytes = fuzz_u16(input);
    uint64_t room = RING_BYTES - at - sizeof(record);
    memcpy(to, &record, sizeof(record));
    fuzz_take(input, to + sizeof(record),
              record.payload_bytes % 64 < room ? record.payload_bytes % 64 : room);
    world->next_pos += leat_ring_extent(record.payload_bytes);
    __atomic_store_n(&shared->tail.value, world->next_pos, __ATOMIC_RELEASE);
}

/* It published records, and says it took completions that were never written. */
static bool client_lies(const struct node_client *home)
{
    const struct leat_ring_client *shared = world->rings.shared;
    return home->rings == &world->rings && !home->detaching && shared->tail.value != home->taken &&
           home->completion_tail - shared->completion_head.value > COMPLETIONS;
}

static void step_pass(void)
{
    const struct node_client *home = &world->workers[0].clients[world->rings.slot];
    bool let_go = home->let_go, lies = false;
    uint64_t taken = home->taken;
    for (uint32_t i = 0; i < WORKERS; i++) {
        handover_poll(&world->workers[i]);
        lies |= i == 0 && client_lies(home);
        clients_poll(&world->workers[i]);
    }
    if (home->rings != &world->rings)
        return; /* detached meanwhile */
    LEAT_ASSERT(!let_go || home->taken == taken);
    LEAT_ASSERT(!lies || home->let_go);
}

static struct node_log *draw_log(struct fuzz_input *input)
{
    return &world->logs[1 + fuzz_u8(input) % (LOGS - 1)];
}

/* The log's frame of this sequence is covered at this level. */
static void step_commit(struct fuzz_input *input)
{
    struct node_log *log = draw_log(input);
    struct leat_refused_payload refused = {.error = LEAT_ECONDITION};
    struct {
        struct leat_frame frame;
        struct leat_refused_payload refused;
    } sealed = {{.type_flags = LEAT_FRAME_RECORD, .sequence = fuzz_u8(input)}, refused};
    uint8_t how = fuzz_u8(input);
    uint32_t owner = clients_find(log->worker, &world->rings.client);
    if (how & 2)
        sealed.frame.type_flags = LEAT_FRAME_REFUSED;
    if (owner != NODE_NO_CLIENT)
        clients_complete(log->worker, owner, log, &sealed.frame, 64,
                         how & 1 ? LEAT_LEVEL_DURABLE : LEAT_LEVEL_REPLICATED);
}

static void step_session(struct fuzz_input *input)
{
    struct node_log *log = draw_log(input);
    uint32_t owner = clients_find(log->worker, &world->rings.client);
    if (owner != NODE_NO_CLIENT)
        clients_end_session(log->worker, owner, log, LEAT_ESESSION, fuzz_u8(input));
}

static void step_space(struct fuzz_input *input)
{
    struct node_log *log = draw_log(input);
    uint32_t owner = clients_find(log->worker, &world->rings.client);
    log->installing = !log->installing;
    if (owner != NODE_NO_CLIENT)
        clients_refuse_from(log->worker, owner, log, fuzz_u8(input));
}

static void step_role(struct fuzz_input *input)
{
    static const enum leat_role roles[] = {LEAT_LEADER, LEAT_FOLLOWER, LEAT_CANDIDATE};
    struct node_log *log = draw_log(input);
    log->core.role = roles[fuzz_u8(input) % 3];
    log->role_epoch++;
}

/* The connection ends: the rings are the worker's no more, once both said so. */
static void step_detach(void)
{
    struct node_command *command = &world->detach;
    memset(command, 0, sizeof(*command));
    command->kind = NODE_COMMAND_DETACH;
    command->rings = &world->rings;
    bool done = clients_detach(&world->workers[0], command) == LEAT_OK;
    for (unsigned i = 0; i < 64 && !done; i++) {
        step_pass();
        done = atomic_load(&command->done);
    }
    LEAT_ASSERT(done);
    for (uint32_t i = 0; i < WORKERS; i++) {
        LEAT_ASSERT(clients_find(&world->workers[i], &world->rings.client) == NODE_NO_CLIENT);
        LEAT_ASSERT(world->workers[i].handed[1 - i] == 0);
        LEAT_ASSERT(world->workers[i].await_memory == 0);
    }
}

static void step_one(struct fuzz_input *input)
{
    struct leat_ring_client *shared = (void *)world->writable;
    switch ((enum ring_step)(fuzz_u8(input) % STEP_COUNT)) {
    case STEP_WORD:
        step_word(input);
        break;
    case STEP_BYTES:
        step_bytes(input);
        break;
    case STEP_RECORD:
        step_record(input);
        break;
    case STEP_CONSUME:
        shared->completion_head.value = world->rings.answers->completion_tail.value;
        break;
    case STEP_PASS:
        step_pass();
        break;
    case STEP_COMMIT:
        step_commit(input);
        break;
    case STEP_SESSION:
        step_session(input);
        break;
    case STEP_SPACE:
        step_space(input);
        break;
    case STEP_ROLE:
        step_role(input);
        break;
    case STEP_TIME:
        world->workers[0].now_ns += (uint64_t)fuzz_u16(input) << 10;
        world->workers[1].now_ns = world->workers[0].now_ns;
        break;
    case STEP_DETACH:
        step_detach();
        attach();
        break;
    case STEP_COUNT:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct fuzz_input input = {bytes, length};
    if (!world)
        world_make_once();
    world_begin();
    world->verdicts = fuzz_u8(&input);
    for (unsigned i = 0; i < STEPS_MAX && input.left > 0; i++) {
        step_one(&input);
        for (uint32_t worker = 0; worker < WORKERS; worker++)
            clients_tell(&world->workers[worker]);
        client_holds();
    }
    step_detach();
    return 0;
}

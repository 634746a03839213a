/* SPDX-License-Identifier: Apache-2.0
 *
 * A client that keeps to no rule: attaches as another user through the control protocol itself and
 * does in its own process what no library does. Run by tests/system/test_hostile.py.
 *
 *   hostile --socket S --uid U MODE
 *
 *   scribble SECONDS SEED  records, and a second thread that writes random and boundary values
 *   die COUNT SEED         children that append are killed at random moments
 *   churn COUNT            attaches, appends one record, lets go, that often
 *   glutton                fills its ring, takes nothing, holds on until stdin ends
 *   grab                   what can be done to every descriptor that it is passed?
 *   flood SECONDS SEED     garbage, unread replies, and more connections than it may have
 *   stale                  a line on stdin, and it goes on in a ring whose node is gone
 *   busy SECONDS           a full ring of the smallest records, all the time
 *   sessions RING_BYTES    attaches until refused; holds until stdin ends; attaches again
 *   logs COUNT             creates logs until refused, deletes them, and again
 *
 * One JSON object a line on stdout; exit code 0 when it could do its work, whatever the node said.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "hostile.h"
#include "leat/leat.h"

#define RING_BYTES  (256u << 10)
#define COMPLETIONS 256u
#define PAGE        4096u

static const char *socket_path;

uint64_t hostile_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- scribbling ---- */

struct flipper {
    struct hostile_ring *ring;
    uint64_t seed, begin_pos; /* of the ring's bytes that it may touch */
    atomic_bool stop;
    uint64_t written;
};

static uint64_t boundary(struct leat_rng *rng, uint64_t near)
{
    static const uint64_t values[] = {
        0,        1,          7,          31,         32,         33,         4095,           4096,
        1u << 20, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, 1ull << 63, UINT64_MAX - 31};
    uint64_t draw = leat_rng_next(rng);
    if (draw % 3 == 0)
        return near + (draw >> 8) % 129 - 64;
    return draw % 3 == 1 ? values[(draw >> 8) % (sizeof(values) / sizeof(values[0]))] : draw;
}

/* What the node is looking at: words of the header page, headers of records, payloads, items. */
static void *flipper_run(void *context)
{
    struct flipper *flipper = context;
    struct hostile_ring *ring = flipper->ring;
    struct leat_rng rng = {.state = flipper->seed};
    bool mild = flipper->seed % 2 == 0; /* payloads only: the session lives on and is read more */
    while (!atomic_load(&flipper->stop)) {
        uint64_t draw = leat_rng_next(&rng), at = draw >> 16;
        if (mild || draw % 8 < 5) {
            uint64_t place = at % (ring->ring_bytes / 8) * 8;
            if (mild && place % 1024 < sizeof(struct leat_ring_record))
                continue; /* records are laid 1 KiB apart */
            uint64_t value = boundary(&rng, 64);
            size_t size = 1u << draw % 4;
            memcpy(ring->records + place + (draw >> 4) % (9 - size), &value, size);
        } else if (draw % 8 == 5) {
            uint64_t tail = __atomic_load_n(&ring->shared->tail.value, __ATOMIC_RELAXED);
            __atomic_store_n(&ring->shared->tail.value, boundary(&rng, tail), __ATOMIC_RELAXED);
        } else if (draw % 8 == 6) {
            uint64_t head = ring->answers->completion_tail.value;
            __atomic_store_n(&ring->shared->completion_head.value, boundary(&rng, head),
                             __ATOMIC_RELAXED);
        } else {
            ((uint64_t *)(void *)ring->shared)[at % (PAGE / 8)] = leat_rng_next(&rng);
        }
        flipper->written++;
    }
    return NULL;
}

/* A record as it should be, or nearly so: in its field's place one value that it should not have.
 */
static struct leat_ring_record record_make(struct leat_rng *rng, uint64_t sequence, bool mild)
{
    uint64_t draw = leat_rng_next(rng);
    struct leat_ring_record record = {
        .payload_bytes = 992,
        .kind = draw % 4 == 0 ? LEAT_RING_BATCH : LEAT_RING_APPEND,
        .level = LEAT_LEVEL_DURABLE + draw / 4 % 2,
        .log_id = mild ? 1 : 2, /* a FENCE that comes about by chance is to hit its own log */
        .sequence = sequence,
    };
    if (mild || draw % 64 >= 8)
        return record;
    uint64_t value = boundary(rng, sequence);
    switch (draw % 64) {
    case 0:
        record.payload_bytes = (uint32_t)value;
        break;
    case 1:
        record.kind = (uint8_t)value;
        break;
    case 2:
        record.level = (uint8_t)value;
        break;
    case 3:
        record.flags = (uint16_t)value;
        break;
    case 4:
        record.log_id = (uint32_t)value;
        break;
    case 5:
        record.writer_epoch = (uint32_t)value; /* an append of an epoch; legal */
        break;
    case 6:
        record.sequence = value;
        break;
    default:
        record.condition = value;
        break;
    }
    return record;
}

static void batch_fill(uint8_t *payload, struct leat_rng *rng)
{
    for (uint32_t at = 0; at < 992;) {
        uint32_t bytes = (uint32_t)(leat_rng_next(rng) % 200);
        if (at + 8 + ((bytes + 7) & ~7u) > 992 - 8)
            bytes = 992 - 8 - at;
        struct leat_batch_item item = {.payload_bytes = bytes};
        memset(payload + at, 0, 8 + ((bytes + 7) & ~7u));
        memcpy(payload + at, &item, sizeof(item));
        at += 8 + ((bytes + 7) & ~7u);
    }
}

/* Publishes a record of 1 KiB, when the ring has room as the node says. */
static bool publish(struct hostile_ring *ring, struct leat_rng *rng, uint64_t *tail,
                    uint64_t *sequence, bool mild)
{
    uint64_t head = __atomic_load_n(&ring->answers->head.value, __ATOMIC_ACQUIRE);
    if (*tail + 1024 - head > ring->ring_bytes)
        return false;
    uint8_t *at = ring->records + (*tail & (ring->ring_bytes - 1));
    struct leat_ring_record record = record_make(rng, ++*sequence, mild);
    if (record.kind == LEAT_RING_BATCH)
        batch_fill(at + sizeof(record), rng);
    memcpy(at, &record, sizeof(record));
    *tail += 1024;
    __atomic_store_n(&ring->shared->tail.value, *tail, __ATOMIC_RELEASE);
    __atomic_store_n(&ring->shared->completion_head.value,
                     __atomic_load_n(&ring->answers->completion_tail.value, __ATOMIC_ACQUIRE),
                     __ATOMIC_RELEASE);
    return true;
}

static void run_scribble(double seconds, uint64_t seed)
{
    uint64_t end_ns = hostile_now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t attached = 0, refused = 0, let_go = 0, published = 0, written = 0;
    struct leat_rng rng = {.state = seed};
    while (hostile_now_ns() < end_ns) {
        struct hostile_ring ring;
        if (hostile_attach(socket_path, RING_BYTES, COMPLETIONS, &ring) != LEAT_OK) {
            refused++;
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        attached++;
        struct flipper flipper = {.ring = &ring, .seed = leat_rng_next(&rng)};
        bool mild = flipper.seed % 2 == 0;
        pthread_t thread;
        uint64_t tail = 0, sequence = 0;
        uint64_t until_ns = hostile_now_ns() + 5000000u + leat_rng_next(&rng) % 60000000u;
        pthread_create(&thread, NULL, flipper_run, &flipper);
        while (ring.answers->closed.value == 0 && hostile_now_ns() < until_ns)
            published += publish(&ring, &rng, &tail, &sequence, mild);
        atomic_store(&flipper.stop, true);
        pthread_join(thread, NULL);
        written += flipper.written;
        let_go += ring.answers->closed.value != 0;
        hostile_detach(&ring);
    }
    printf("{\"attached\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"let_go\":%" PRIu64
           ",\"published\":%" PRIu64 ",\"written\":%" PRIu64 "}\n",
           attached, refused, let_go, published, written);
}

/* ---- dying ---- */

static void run_die(uint64_t count, uint64_t seed)
{
    struct leat_rng rng = {.state = seed};
    uint64_t killed = 0;
    for (uint64_t i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct hostile_ring ring;
            struct leat_rng own = {.state = seed + i};
            uint64_t tail = 0, sequence = 0;
            while (hostile_attach(socket_path, RING_BYTES, COMPLETIONS, &ring) != LEAT_OK)
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
            for (;;)
                publish(&ring, &own, &tail, &sequence, true);
        }
        /* not a wait for anything: the moment of death is what is drawn */
        nanosleep(&(struct timespec){.tv_nsec = (long)(leat_rng_next(&rng) % 12000000u)}, NULL);
        kill(child, SIGKILL);
        killed += waitpid(child, NULL, 0) == child;
    }
    printf("{\"killed\":%" PRIu64 "}\n", killed);
}

static void run_churn(uint64_t count)
{
    struct leat_rng rng = {.state = 5};
    uint64_t taken = 0, refused = 0;
    while (taken + refused < count) {
        struct hostile_ring ring;
        uint64_t tail = 0, sequence = 0, end_ns = hostile_now_ns() + 10000000000u;
        int rc = hostile_attach(socket_path, LEAT_RING_BYTES_MIN, LEAT_RING_COMPLETIONS_MIN, &ring);
        if (rc == LEAT_EQUOTA || rc == LEAT_EAGAIN) /* the one before is still being let go of */
            continue;
        if (rc != LEAT_OK)
            exit(hostile_fail("attach", rc));
        publish(&ring, &rng, &tail, &sequence, true);
        while (__atomic_load_n(&ring.answers->completion_tail.value, __ATOMIC_ACQUIRE) == 0) {
            if (hostile_now_ns() > end_ns || ring.answers->closed.value != 0)
                exit(hostile_fail("no completion", (int)ring.answers->closed.value));
            sched_yield();
        }
        const struct leat_completion *completion =
            (const void *)((const uint8_t *)ring.answers + PAGE);
        taken += completion->error == LEAT_OK;
        refused += completion->error == LEAT_ESESSIONS;
        if (completion->error != LEAT_OK && completion->error != LEAT_ESESSIONS)
            exit(hostile_fail("append", completion->error));
        hostile_detach(&ring);
    }
    printf("{\"taken\":%" PRIu64 ",\"refused\":%" PRIu64 "}\n", taken, refused);
}

/* ---- holding ---- */

static void hold(void)
{
    fflush(stdout);
    while (getchar() != EOF)
        ;
}

static void run_glutton(void)
{
    struct hostile_ring ring;
    struct leat_rng rng = {.state = 1};
    uint64_t tail = 0, sequence = 0, still = 0;
    int rc = hostile_attach(socket_path, RING_BYTES, COMPLETIONS, &ring);
    if (rc != LEAT_OK)
        exit(hostile_fail("attach", rc));
    /* until all completions that there is room for have come, and for a while nothing more happens
     */
    for (uint64_t last_ns = hostile_now_ns(), end_ns = last_ns + 20000000000u;
         (still < COMPLETIONS && hostile_now_ns() < end_ns) ||
         hostile_now_ns() - last_ns < 300000000u;) {
        uint64_t head = __atomic_load_n(&ring.answers->head.value, __ATOMIC_ACQUIRE);
        if (tail + 1024 - head <= ring.ring_bytes) {
            uint8_t *at = ring.records + (tail & (ring.ring_bytes - 1));
            struct leat_ring_record record = record_make(&rng, ++sequence, true);
            record.kind = LEAT_RING_APPEND;
            memcpy(at, &record, sizeof(record));
            tail += 1024;
            __atomic_store_n(&ring.shared->tail.value, tail, __ATOMIC_RELEASE);
            last_ns = hostile_now_ns();
        }
        still = ring.answers->completion_tail.value;
    }
    printf("{\"published\":%" PRIu64 ",\"completions\":%" PRIu64 ",\"closed\":%" PRId64 "}\n",
           sequence, still, (int64_t)ring.answers->closed.value);
    hold();
}

static void run_stale(void)
{
    struct hostile_ring ring;
    struct leat_rng rng = {.state = 3};
    uint64_t tail = 0, sequence = 0, more = 0;
    int rc = hostile_attach(socket_path, RING_BYTES, COMPLETIONS, &ring);
    if (rc != LEAT_OK)
        exit(hostile_fail("attach", rc));
    while (sequence < 100)
        publish(&ring, &rng, &tail, &sequence, true);
    printf("{\"published\":%" PRIu64 "}\n", sequence);
    fflush(stdout);
    if (getchar() == EOF)
        exit(hostile_fail("stdin", LEAT_EIO));
    uint64_t before = ring.answers->completion_tail.value;
    for (int i = 0; i < 100000; i++) /* the node's words are what it left there */
        more += publish(&ring, &rng, &tail, &sequence, true);
    struct leat_control_reply reply;
    rc = hostile_ask(ring.socket, LEAT_CONTROL_LOG, 1, 0, &reply, NULL);
    printf("{\"published\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"asked\":%d}\n", more,
           ring.answers->completion_tail.value - before, rc);
}

static void run_busy(double seconds)
{
    struct hostile_ring ring;
    uint64_t end_ns = hostile_now_ns() + (uint64_t)(seconds * 1e9), tail = 0, sequence = 0;
    int rc = hostile_attach(socket_path, 1u << 20, 8192, &ring);
    if (rc != LEAT_OK)
        exit(hostile_fail("attach", rc));
    while (ring.answers->closed.value == 0 && hostile_now_ns() < end_ns) {
        uint64_t head = __atomic_load_n(&ring.answers->head.value, __ATOMIC_ACQUIRE);
        while (tail + sizeof(struct leat_ring_record) - head <= ring.ring_bytes) {
            struct leat_ring_record record = {.kind = LEAT_RING_APPEND,
                                              .level = LEAT_LEVEL_DURABLE,
                                              .log_id = 1,
                                              .sequence = ++sequence};
            memcpy(ring.records + (tail & (ring.ring_bytes - 1)), &record, sizeof(record));
            tail += sizeof(record);
        }
        __atomic_store_n(&ring.shared->tail.value, tail, __ATOMIC_RELEASE);
        __atomic_store_n(&ring.shared->completion_head.value, ring.answers->completion_tail.value,
                         __ATOMIC_RELEASE);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); /* leaves the core to the node */
    }
    printf("{\"records\":%" PRIu64 ",\"ended\":%" PRIu64 ",\"closed\":%" PRId64 "}\n", sequence,
           ring.answers->completion_tail.value, (int64_t)ring.answers->closed.value);
}

/* ---- quotas ---- */

static void run_sessions(uint64_t ring_bytes)
{
    static struct hostile_ring rings[256];
    unsigned count = 0;
    int rc = LEAT_OK, again = LEAT_EQUOTA;
    while (count < 256) {
        rc = hostile_attach(socket_path, ring_bytes, COMPLETIONS, &rings[count]);
        if (rc != LEAT_OK)
            break;
        count++;
    }
    printf("{\"attached\":%u,\"error\":%d,\"text\":\"%s\"}\n", count, rc, hostile_text());
    hold();
    for (unsigned i = 0; i < count; i++)
        hostile_detach(&rings[i]);
    uint64_t end_ns = hostile_now_ns() + 10000000000u;
    while (again == LEAT_EQUOTA && hostile_now_ns() < end_ns) /* the node lets go in its time */
        again = hostile_attach(socket_path, ring_bytes, COMPLETIONS, &rings[0]);
    printf("{\"again\":%d}\n", again);
}

static void run_logs(unsigned count)
{
    uint32_t logs[64];
    unsigned made = 0;
    char text[256] = "", unused[256];
    int rc = LEAT_OK;
    for (unsigned round = 0; round < 2; round++) {
        for (made = 0; made < count && made < 64; made++) {
            struct leat_log_entry entry = {.segment_bytes = 1u << 20, .arena_bytes = 4u << 20};
            snprintf(entry.name, sizeof(entry.name), "hostile-%u-%u", round, made);
            rc =
                leat_log_create(socket_path, &entry, 20000000000u, &logs[made], text, sizeof(text));
            if (rc != LEAT_OK)
                break;
        }
        printf("{\"made\":%u,\"error\":%d,\"text\":\"%s\"}\n", made, rc, text);
        for (unsigned i = 0; i < made; i++)
            rc = leat_log_delete(socket_path, logs[i], unused, sizeof(unused));
    }
    int own = leat_log_delete(socket_path, 1, unused, sizeof(unused));
    printf("{\"deleted\":%d,\"log_1\":%d}\n", rc, own);
}

static int run(int argc, char **argv)
{
    const char *mode = argv[0];
    double seconds = argc > 1 ? atof(argv[1]) : 0;
    uint64_t number = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    if (strcmp(mode, "scribble") == 0)
        run_scribble(seconds, seed);
    else if (strcmp(mode, "die") == 0)
        run_die(number, seed);
    else if (strcmp(mode, "churn") == 0)
        run_churn(number);
    else if (strcmp(mode, "glutton") == 0)
        run_glutton();
    else if (strcmp(mode, "grab") == 0)
        hostile_grab(socket_path);
    else if (strcmp(mode, "flood") == 0)
        hostile_flood(socket_path, seconds, seed);
    else if (strcmp(mode, "stale") == 0)
        run_stale();
    else if (strcmp(mode, "busy") == 0)
        run_busy(seconds);
    else if (strcmp(mode, "sessions") == 0)
        run_sessions(number);
    else if (strcmp(mode, "logs") == 0)
        run_logs((unsigned)number);
    else
        return 2;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 6 || strcmp(argv[1], "--socket") != 0 || strcmp(argv[3], "--uid") != 0) {
        fprintf(stderr, "usage: see the head of tests/system/hostile.c\n");
        return 2;
    }
    uid_t uid = (uid_t)strtoul(argv[4], NULL, 10);
    socket_path = argv[2];
    signal(SIGPIPE, SIG_IGN);
    if (setgroups(0, NULL) != 0 || setgid(uid) != 0 || setuid(uid) != 0) {
        perror("hostile: another user");
        return 1;
    }
    return run(argc - 5, argv + 5);
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The hostile client's connection (hostile_socket.c), apart from what it does with it (hostile.c).
 */
#ifndef LEAT_TESTS_HOSTILE_H
#define LEAT_TESTS_HOSTILE_H

#include <stdint.h>

#include "base/control.h"
#include "base/ring.h"
#include "leat/error.h"

struct hostile_ring {
    int socket;
    int descriptors[2]; /* client region, node region */
    uint64_t ring_bytes, completion_count;
    struct leat_ring_client *shared;
    const struct leat_ring_node *answers;
    uint8_t *records;
};

uint64_t hostile_now_ns(void);
int hostile_fail(const char *what, int error);

/* A connected socket, or a negative errno. */
int hostile_connect(const char *path);

/* One request and its reply's error; `ret_descriptors` (two, -1: none; may be NULL: they are
 * closed). LEAT_ECLOSED: the node hung up. */
int hostile_ask(int socket, int kind, uint32_t log_id, uint64_t position,
                struct leat_control_reply *ret_reply, int *ret_descriptors);

/* The text of the last reply, quotes taken out. */
const char *hostile_text(void);

/* Attaches under a random identity, maps both regions, says READY. Keeps the descriptors. */
int hostile_attach(const char *path, uint64_t ring_bytes, uint64_t completion_count,
                   struct hostile_ring *ret_ring);
void hostile_detach(struct hostile_ring *ring);

/* Modes of hostile.c that are about descriptors and sockets. */
void hostile_grab(const char *path);
void hostile_flood(const char *path, double seconds, uint64_t seed);

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The log for people: lines with time and severity to stderr or a file. Lines that repeat are
 * limited to a rate per place in the code and counted. Any thread.
 *
 * Writing a line only puts it into a ring in memory; logger_flush(), on the node's helper thread,
 * hands it to the kernel, so that a full pipe or a slow disk under the log never stops the worker.
 * What does not fit is counted and said. Before the helper runs and after it ended, lines are
 * written at once.
 */
#ifndef LEAT_NODE_LOGGER_H
#define LEAT_NODE_LOGGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "node/config.h"

#define LOGGER_RING_LINES 256u
#define LOGGER_LINE_BYTES 1024u

struct node_logger {
    int descriptor;
    bool deferred; /* lines wait for logger_flush() */
    pthread_mutex_t lock;
    uint64_t head, tail, lost; /* lines written out, put in, without room */
    uint16_t lengths[LOGGER_RING_LINES];
    char lines[LOGGER_RING_LINES][LOGGER_LINE_BYTES];
    enum leat_config_severity severity;
    uint32_t node_id;
};

int logger_open(struct node_logger *out, const struct leat_config *config);
void logger_close(struct node_logger *out);

/* From now on lines wait for logger_flush() (true), or no longer (false: the ring is emptied). */
void logger_defer(struct node_logger *out, bool deferred);

/* Writes out what waits. One thread at a time. */
void logger_flush(struct node_logger *out);

void logger_line(struct node_logger *out, enum leat_config_severity severity, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));

/* State of one rate-limited place: at most one line a second. */
struct logger_rate {
    uint64_t last_ns;
    uint64_t suppressed;
};

void logger_limited(struct node_logger *out, struct logger_rate *rate, uint64_t now_ns,
                    enum leat_config_severity severity, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif

/* SPDX-License-Identifier: Apache-2.0
 *
 * The log for people: lines with time and severity to stderr or a file. Lines that repeat are
 * limited to a rate per place in the code and counted. Any thread; a line is one write(2), so it
 * belongs on control paths, never on the path of an append.
 */
#ifndef LEAT_NODE_LOGGER_H
#define LEAT_NODE_LOGGER_H

#include <stdint.h>

#include "node/config.h"

struct node_logger {
    int descriptor;
    enum leat_config_severity severity;
    uint32_t node_id;
};

int logger_open(struct node_logger *out, const struct leat_config *config);
void logger_close(struct node_logger *out);

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

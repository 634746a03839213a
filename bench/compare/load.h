/* SPDX-License-Identifier: Apache-2.0
 *
 * What the load clients of bench/compare.sh have in common: the command line, the window, the
 * phases, the figures. A client keeps `in_flight` appends of `size_bytes` started and not ended,
 * warms up, measures, lets the rest end, and prints one JSON object. The rate is of what ended
 * while it was measured, latency of what was started then, whenever it ended. One thread.
 */
#ifndef LEAT_BENCH_COMPARE_LOAD_H
#define LEAT_BENCH_COMPARE_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOAD_PIDS_MAX 8u

struct load_options {
    const char *address; /* of whom to ask, as the client takes it */
    const char *mode;    /* of the client's own, or "" */
    uint32_t size_bytes;
    uint32_t in_flight;
    double warm_seconds;
    double seconds;
    unsigned pid_count; /* of the servers, for their CPU time */
    int pids[LOAD_PIDS_MAX];
};

/* Reads --address A --size B --inflight N --warm S --seconds S --pids P,P,... --mode M; exits with
 * 2 on what it does not know. */
void load_begin(int argc, char **argv, struct load_options *ret_options);
/* One more may be started now. */
bool load_may_start(void);
/* It is: the stamp, to be given back. */
uint64_t load_start(void);
void load_end(uint64_t stamp, bool good);
/* Time is up and nothing is in flight; or what is in flight does not end: then load_report() fails.
 */
bool load_is_over(void);
/* The exit code. */
int load_report(void);

#ifdef __cplusplus
}
#endif

#endif

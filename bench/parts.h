/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces of logbench's reports (report.c).
 */
#ifndef LEAT_BENCH_PARTS_H
#define LEAT_BENCH_PARTS_H

#include <cjson/cJSON.h>

#include "bench.h"

double us(uint64_t ns);
/* The progress line gives way to what is printed. */
void progress_clear(void);

/* ---- JSON: each makes an object that is the caller's, or adds to one ---- */

cJSON *host_json(const struct bench_options *options);
cJSON *limits_json(const struct bench_limits *limits);
/* What was measured (`what`: the command), and how. */
cJSON *run_json(const struct bench_options *options, const char *what);
void add_result(cJSON *object, const struct bench_result *result);
void add_latency(cJSON *object, const char *name, const struct leat_histogram *latency);
/* Takes it: to stdout, onto the page, or both. */
void emit(const struct bench_options *options, cJSON *object);

/* ---- for people ---- */

void print_limits(const struct bench_options *options, const struct bench_limits *limits);
void print_latency(const struct bench_result *result);
void print_slowest(const struct bench_result *result);
/* ", 0.61 ..."; nothing where the limit was not measured. Valid until the next call. */
const char *over_text(double value, double limit, const char *of);

#endif

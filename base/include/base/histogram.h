/* SPDX-License-Identifier: Apache-2.0
 *
 * A log-linear histogram of nanoseconds with a relative error under 1/64 (the bucketing of
 * HdrHistogram: 64 linear sub-buckets per power of two). Fixed size, no allocation; one writer.
 */
#ifndef LEAT_BASE_HISTOGRAM_H
#define LEAT_BASE_HISTOGRAM_H

#include <stdint.h>

#define LEAT_HISTOGRAM_SUB_BITS  6
#define LEAT_HISTOGRAM_SUB_COUNT (1u << LEAT_HISTOGRAM_SUB_BITS)
#define LEAT_HISTOGRAM_BUCKETS   ((64 - LEAT_HISTOGRAM_SUB_BITS + 1) * LEAT_HISTOGRAM_SUB_COUNT)

struct leat_histogram {
    uint64_t count;
    uint64_t max_ns;
    uint64_t buckets[LEAT_HISTOGRAM_BUCKETS];
};

void leat_histogram_reset(struct leat_histogram *histogram);
void leat_histogram_record(struct leat_histogram *histogram, uint64_t value_ns);

/* Adds all of `from` to `histogram`. */
void leat_histogram_add(struct leat_histogram *histogram, const struct leat_histogram *from);

/* The highest value equivalent to the one at `fraction` (0..1) of all recorded; the maximum at
 * 1; 0 when nothing was recorded. */
uint64_t leat_histogram_at(const struct leat_histogram *histogram, double fraction);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram.h"

#include <string.h>

#include "base/assert.h"

static unsigned histogram_bucket(uint64_t value_ns)
{
    if (value_ns < LEAT_HISTOGRAM_SUB_COUNT)
        return (unsigned)value_ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(value_ns);
    unsigned shift = top - LEAT_HISTOGRAM_SUB_BITS;
    unsigned sub = (unsigned)(value_ns >> shift) & (LEAT_HISTOGRAM_SUB_COUNT - 1);
    return (shift + 1) * LEAT_HISTOGRAM_SUB_COUNT + sub;
}

static uint64_t histogram_bucket_last(unsigned bucket)
{
    if (bucket < LEAT_HISTOGRAM_SUB_COUNT)
        return bucket;
    unsigned shift = bucket / LEAT_HISTOGRAM_SUB_COUNT - 1;
    uint64_t sub = bucket % LEAT_HISTOGRAM_SUB_COUNT + LEAT_HISTOGRAM_SUB_COUNT;
    return (sub << shift) + ((1ULL << shift) - 1);
}

void leat_histogram_reset(struct leat_histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}

void leat_histogram_record(struct leat_histogram *histogram, uint64_t value_ns)
{
    unsigned bucket = histogram_bucket(value_ns);
    LEAT_DASSERT(bucket < LEAT_HISTOGRAM_BUCKETS);
    histogram->buckets[bucket]++;
    histogram->count++;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
}

void leat_histogram_add(struct leat_histogram *histogram, const struct leat_histogram *from)
{
    for (unsigned i = 0; i < LEAT_HISTOGRAM_BUCKETS; i++)
        histogram->buckets[i] += from->buckets[i];
    histogram->count += from->count;
    if (from->max_ns > histogram->max_ns)
        histogram->max_ns = from->max_ns;
}

uint64_t leat_histogram_at(const struct leat_histogram *histogram, double fraction)
{
    if (histogram->count == 0)
        return 0;
    uint64_t wanted = (uint64_t)(fraction * (double)histogram->count + 0.5);
    if (wanted == 0)
        wanted = 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < LEAT_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= wanted) {
            uint64_t last = histogram_bucket_last(i);
            return last < histogram->max_ns ? last : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

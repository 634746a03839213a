/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include <string.h>

#include "draw.h"

#define RECENT 1024u /* all journals' records in flight, with all logs */

static struct recent {
    struct sim_inode *segment, *journal; /* held; NULL: free */
    uint64_t offset, length_bytes;
    uint64_t record; /* of the journal, when it was complete */
    uint8_t *lost;
} recents[RECENT];
static unsigned next_recent, lost_count;

static void forget_lost(struct recent *recent)
{
    lost_count -= recent->lost != NULL;
    __real_free(recent->lost);
    recent->lost = NULL;
}

static void forget(struct recent *recent)
{
    if (!recent->segment)
        return;
    forget_lost(recent);
    inode_release(recent->segment);
    inode_release(recent->journal);
    recent->segment = NULL;
}

/* As many records may have been in flight when it was complete, and their floors do not have it;
 * the next as many were issued before all of those were complete. */
static bool is_open(const struct recent *recent)
{
    return recent->segment &&
           recent->journal->writes - recent->record < 2 * (uint64_t)draw.writes_in_flight;
}

static bool overlaps(const struct recent *recent, const struct sim_inode *segment, uint64_t offset,
                     uint64_t length_bytes)
{
    return recent->segment == segment && recent->offset < offset + length_bytes &&
           offset < recent->offset + recent->length_bytes;
}

void window_wrote(struct sim_inode *segment, uint64_t offset, uint32_t length_bytes,
                  struct sim_inode *journal, const void *lost)
{
    for (unsigned i = 0; i < RECENT && lost_count > 0; i++) {
        if (recents[i].lost && overlaps(&recents[i], segment, offset, length_bytes))
            forget_lost(&recents[i]); /* other bytes are there now */
    }
    struct recent *recent = &recents[next_recent++ % RECENT];
    forget(recent);
    *recent = (struct recent){.segment = inode_hold(segment),
                              .journal = inode_hold(journal),
                              .offset = offset,
                              .length_bytes = length_bytes,
                              .record = journal->writes};
    if (!lost)
        return;
    recent->lost = sim_new(length_bytes);
    memcpy(recent->lost, lost, length_bytes);
    lost_count++;
}

void window_recorded(struct sim_inode *journal)
{
    journal->writes++;
}

bool window_has(const struct sim_inode *segment, uint64_t offset, uint64_t length_bytes)
{
    for (unsigned i = 0; i < RECENT; i++) {
        if (overlaps(&recents[i], segment, offset, length_bytes) && is_open(&recents[i]))
            return true;
    }
    return false;
}

void window_power_cut(const struct sim_host *host)
{
    for (unsigned i = 0; i < RECENT; i++) {
        struct recent *recent = &recents[i];
        if (!recent->segment || recent->segment->host != host)
            continue;
        if (recent->lost && is_open(recent))
            inode_write_through(recent->segment, recent->lost, recent->length_bytes,
                                recent->offset);
        forget_lost(recent); /* the window is open until records of the next life close it */
    }
}

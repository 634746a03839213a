/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes that read through libleat.
 */
#ifndef LEAT_SIM_READER_H
#define LEAT_SIM_READER_H

#include <stdbool.h>

/* By the draw: they follow logs, and start again elsewhere when they die, until they are stopped.
 */
void followers_begin(void);
void followers_host_down(unsigned host);
void followers_stop(void);

/* One on each node that is not excused reads all logs and compares. */
void readers_begin(void);
bool readers_are_done(void);

#endif

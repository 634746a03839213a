/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong, to whom, when. Everything ends with faults_heal().
 */
#ifndef LEAT_SIM_FAULTS_H
#define LEAT_SIM_FAULTS_H

#include "system.h"

/* Of all disks (disk.c); what is a host's own is in struct sim_host. */
struct sim_disk_faults {
    uint64_t write_ns, jitter_ns;
    uint64_t slow_ppm, slow_ns;
    uint64_t short_ppm, again_ppm, error_ppm;
    uint64_t garbage_ppm;
};
extern struct sim_disk_faults disk_faults;

/* How often each fault was injected, for the report. */
#define SIM_FAULTS(X)                                                                              \
    X(crash)                                                                                       \
    X(power)                                                                                       \
    X(stop)                                                                                        \
    X(pause)                                                                                       \
    X(absent)                                                                                      \
    X(partition)                                                                                   \
    X(small)                                                                                       \
    X(clog)                                                                                        \
    X(lag)                                                                                         \
    X(stuck)                                                                                       \
    X(full)                                                                                        \
    X(realtime)                                                                                    \
    X(transfer)                                                                                    \
    X(trim)                                                                                        \
    X(client_death)                                                                                \
    X(client_switch)                                                                               \
    X(client_rest)                                                                                 \
    X(fence)                                                                                       \
    X(scribble)                                                                                    \
    X(rot)                                                                                         \
    X(lost_write)                                                                                  \
    X(misdirect)                                                                                   \
    X(wipe)                                                                                        \
    X(rollback)                                                                                    \
    X(tail)                                                                                        \
    X(ambush)                                                                                      \
    X(desert)                                                                                      \
    X(garbage)

struct sim_fault_counts {
#define SIM_FAULT_FIELD(name) uint32_t name;
    SIM_FAULTS(SIM_FAULT_FIELD)
#undef SIM_FAULT_FIELD
};
extern struct sim_fault_counts fault_counts;

/* Takes the draw over and begins. */
void faults_begin(void);
void faults_heal(void);
bool faults_are_on(void);
/* The node is about to write what it may not forget: now and then it dies soon. */
void faults_ambush(unsigned node);
/* It was told to begin a log anew: now and then it dies as well, or who told it is gone for a while
 * and, every other time, its disk is stuck. */
void faults_install(unsigned node, unsigned leader);
/* One of its clients opens a session: now and then the node's process dies before it can tell, and
 * is gone for up to three seconds. */
void faults_desert(unsigned node);

/* disk.c: the host's processes are dead; what was in flight is torn. */
void disk_power_cut(struct sim_host *host);

#endif

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

/* How often each fault was injected, for the report: what is counted, and the row of the fault
 * catalogue (docs/reliability.md) that it stands for, in the catalogue's order; "-": none. */
#define SIM_FAULTS(X)                                                                              \
    X(crash, P1)                                                                                   \
    X(mid_pass, P2)                                                                                \
    X(ambush, P2)                                                                                  \
    X(pause, P3)                                                                                   \
    X(young, P4)                                                                                   \
    X(stop, P4)                                                                                    \
    X(absent, P4)                                                                                  \
    X(stall, P6)                                                                                   \
    X(loss, N1)                                                                                    \
    X(burst, N1)                                                                                   \
    X(twice, N2)                                                                                   \
    X(replay, N2)                                                                                  \
    X(reorder, N3)                                                                                 \
    X(damage, N4)                                                                                  \
    X(partition, N5)                                                                               \
    X(one_way, N6)                                                                                 \
    X(partial, N7)                                                                                 \
    X(small, N8)                                                                                   \
    X(too_long, N8)                                                                                \
    X(clog, N9)                                                                                    \
    X(lag, N9)                                                                                     \
    X(overflow, N9)                                                                                \
    X(full_queue, N10)                                                                             \
    X(stray, N11)                                                                                  \
    X(power, D1)                                                                                   \
    X(torn, D1)                                                                                    \
    X(garbage, D1)                                                                                 \
    X(lost_write, D2)                                                                              \
    X(misdirect, D3)                                                                               \
    X(rot, D4)                                                                                     \
    X(read_error, D5)                                                                              \
    X(write_error, D6)                                                                             \
    X(flush_error, D6)                                                                             \
    X(full, D7)                                                                                    \
    X(part, D8)                                                                                    \
    X(again, D8)                                                                                   \
    X(slow, D9)                                                                                    \
    X(stuck, D9)                                                                                   \
    X(late_write, D12)                                                                             \
    X(realtime, K1)                                                                                \
    X(drift, K2)                                                                                   \
    X(scribble, M1)                                                                                \
    X(client_death, M2)                                                                            \
    X(old_rings, M4)                                                                               \
    X(rollback, O3)                                                                                \
    X(wipe, O4)                                                                                    \
    X(trim, O7)                                                                                    \
    X(transfer, -)                                                                                 \
    X(client_switch, -)                                                                            \
    X(client_rest, -)                                                                              \
    X(desert, -)                                                                                   \
    X(fence, -)                                                                                    \
    X(tail, -)

/* The catalogue's rows that no run has. */
#define SIM_ROWS_OUT                                                                               \
    "P5 (memory at the start), K3 (there are no leases), D10 D11 D13 M3 (the kernel's own), M5 "   \
    "O1 "                                                                                          \
    "O2 O5 O6 O8 O9"

struct sim_fault_counts {
#define SIM_FAULT_FIELD(name, row) uint32_t name;
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
/* That is on record, and nothing of the new log: now and then its disk is stuck now, and who told
 * it is gone for longer than an election takes. */
void faults_begun_anew(unsigned node, unsigned leader);
/* One of its clients opens a session: now and then the node's process dies before it can tell, and
 * is gone for up to three seconds. */
void faults_desert(unsigned node);

/* disk.c: the host's processes are dead; what was in flight is torn. */
void disk_power_cut(struct sim_host *host);

#endif

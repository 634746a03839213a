/* SPDX-License-Identifier: Apache-2.0
 *
 * What a seed decides beforehand: a table of named numbers. Each fault is there or not with an even
 * chance (runs that leave faults out find more: Groce and others, "Swarm testing", 2012), and how
 * much of it is drawn log-uniformly. A replay file holds a seed and the numbers that differ from
 * what it draws, so a run is made smaller by setting numbers.
 */
#ifndef LEAT_SIM_DRAW_H
#define LEAT_SIM_DRAW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* X(name, what it is). Names that end in _ms are times or, of faults, means between two of them (0:
 * none); _ppm: chances of a million. */
#define SIM_PARAMETERS(X)                                                                          \
    X(nodes, "nodes of the cluster")                                                               \
    X(workers, "workers of each node")                                                             \
    X(logs, "logs beside the catalogue, the default one among them")                               \
    X(clients, "clients")                                                                          \
    X(appends, "appends that the clients start")                                                   \
    X(payload_bytes, "largest payload")                                                            \
    X(in_flight, "appends of a client that have not ended")                                        \
    X(replicated_ppm, "appends that ask for the replicated level; 0: logs refuse it")              \
    X(safety_ms, "time with faults")                                                               \
    X(segment_kib, "segment of the default log")                                                   \
    X(arena_kib, "arena of the default log")                                                       \
    X(window_kib, "window")                                                                        \
    X(entry_kib, "largest entry")                                                                  \
    X(writes_in_flight, "journal records at one time")                                             \
    X(election_ms, "least election timeout; the most is twice that")                               \
    X(heartbeat_ms, "time between heartbeats")                                                     \
    X(session_s, "sessions expire")                                                                \
    X(mtu, "of the network")                                                                       \
    X(delay_us, "least delay of a datagram")                                                       \
    X(jitter_us, "mean of what is added")                                                          \
    X(loss_ppm, "datagrams lost")                                                                  \
    X(burst_ppm, "bursts of loss, per datagram")                                                   \
    X(burst_ms, "mean of a burst")                                                                 \
    X(twice_ppm, "datagrams delivered twice")                                                      \
    X(replay_ppm, "datagrams delivered again much later")                                          \
    X(replay_ms, "how much later at most")                                                         \
    X(reorder_ppm, "datagrams that others overtake")                                               \
    X(reorder_ms, "by how much at most")                                                           \
    X(damage_ppm, "datagrams damaged")                                                             \
    X(bandwidth_kib_ms, "of a link; 0: no bound")                                                  \
    X(mtu_ppm, "datagrams lost because they are large")                                            \
    X(write_us, "least time of a write")                                                           \
    X(write_jitter_us, "mean of what is added")                                                    \
    X(flush_us, "mean of a flush")                                                                 \
    X(slow_ppm, "writes that are slow")                                                            \
    X(slow_ms, "mean of that")                                                                     \
    X(short_ppm, "writes done in part")                                                            \
    X(again_ppm, "writes that answer EAGAIN")                                                      \
    X(write_error_ppm, "writes that fail")                                                         \
    X(flush_error_ppm, "flushes that fail")                                                        \
    X(crash_ms, "a node's process is killed")                                                      \
    X(mid_pass_ppm, "of these, those that die between two of its own calls")                       \
    X(power_ms, "a host loses power")                                                              \
    X(rack_ppm, "of these, those of a rack: all hosts, or a majority")                             \
    X(stop_ms, "a node is stopped clean")                                                          \
    X(pause_ms, "a node's process is paused")                                                      \
    X(pause_most_ms, "for how long at most")                                                       \
    X(down_most_ms, "a dead node starts again after this at most")                                 \
    X(absent_ms, "a node is gone for long")                                                        \
    X(absent_most_ms, "for how long at most, and a fourth of that at least")                       \
    X(small_ms, "the ways of a node carry no long datagrams for a while")                          \
    X(partition_ms, "a partition begins")                                                          \
    X(partition_most_ms, "and lasts this at most")                                                 \
    X(clog_ms, "a link delivers nothing for a while")                                              \
    X(clog_most_ms, "for how long at most")                                                        \
    X(stuck_ms, "a disk does nothing for a while")                                                 \
    X(stuck_most_ms, "for how long at most")                                                       \
    X(full_ms, "a disk is full for a while")                                                       \
    X(drift_ppm, "clocks gain or lose this at most")                                               \
    X(realtime_ms, "a realtime clock jumps")                                                       \
    X(transfer_ms, "an operator asks for a transfer of leadership")                                \
    X(trim_ms, "an operator trims a log")                                                          \
    X(client_death_ms, "a client's process dies")                                                  \
    X(client_switch_ms, "a client goes to another node")                                           \
    X(client_rest_ms, "a client starts nothing for up to three seconds")                           \
    X(scribble_ms, "a dishonest client writes anything into its shared words")                     \
    X(scrub_kib_s, "sealed segments are read through by the nodes")                                \
    X(rot_ms, "a bit of a segment changes on the disk of one of the minority that may be hurt")    \
    X(wipe_ms, "the disk of one of these is replaced by an empty one, formatted anew")             \
    X(tail_ms, "somebody asks where a log ends")                                                   \
    X(batch_ppm, "appends that are a batch of 2 to 8 records")                                     \
    X(condition_ppm, "appends under a condition")                                                  \
    X(fence_ms, "a client shuts the others out of a log")                                          \
    X(readers, "processes that follow logs meanwhile")                                             \
    X(rollback_ms,                                                                                 \
      "a copy is made of the disk of one of these, or an older one put back; never drawn")         \
    X(beyond, "every disk may be hurt: right or halted is owed")                                   \
    X(misdirect_ppm, "writes of a segment of the minority that may be hurt that land elsewhere, "  \
                     "or half as often nowhere")                                                   \
    X(ambush_ppm, "starts, votes and cuts of a log soon after which the node dies")                \
    X(desert_ppm, "sessions opened soon after which the client's node is gone for a while")        \
    X(garbage_ppm, "sectors in flight in a power cut that are neither old nor new")                \
    X(stray_ppm, "datagrams beside which comes one that nobody of the cluster sent")               \
    X(read_error_ppm, "reads that fail on the disk of one of the minority that may be hurt")       \
    X(same_bytes, "1: all payloads have payload_bytes")                                            \
    X(rewrite_ppm, "writes of a segment of one of these that are lost where something lay before") \
    X(rewrite_run_ppm, "after one, the next of the segment that are lost as well; never drawn")    \
    X(stall_ms, "one worker of a node stands for a while")                                         \
    X(ring_full_ppm, "datagrams of a range that find the sender's queue full")                     \
    X(lag_ms, "the ways to a node become long: it hears what was said before")                     \
    X(lag_most_ms, "by this at most")                                                              \
    X(scene, "what is played: see --list; 0: only what is drawn")                                  \
    X(loose, "1: about a fourth of the scene's numbers are drawn instead")

struct sim_draw {
#define SIM_DRAW_FIELD(name, text) uint64_t name;
    SIM_PARAMETERS(SIM_DRAW_FIELD)
#undef SIM_DRAW_FIELD
};

enum sim_parameter {
#define SIM_DRAW_ENUM(name, text) SIM_##name,
    SIM_PARAMETERS(SIM_DRAW_ENUM)
#undef SIM_DRAW_ENUM
        SIM_PARAMETER_COUNT
};

/* Numbers that are set, whatever the seed draws. */
struct sim_overrides {
    unsigned profile; /* profile.h */
    bool set[SIM_PARAMETER_COUNT];
    uint64_t value[SIM_PARAMETER_COUNT];
};

extern struct sim_draw draw;

const char *draw_name(unsigned parameter);
const char *draw_text(unsigned parameter);
uint64_t draw_value(unsigned parameter);
void draw_set(unsigned parameter, uint64_t value);
/* By name; false: no such parameter. */
bool draw_find(const char *name, unsigned *ret_parameter);
/* Draws from world's seed, leaves out what the profile leaves out, then sets what is set. */
void draw_make(const struct sim_overrides *overrides);
/* About how long an append takes from a follower's host, when nothing else is on its way. */
uint64_t draw_append_ns(void);
/* One line, "name=value" each; those that are zero are left out. */
void draw_print(FILE *to);

#endif

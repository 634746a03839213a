/* SPDX-License-Identifier: Apache-2.0
 *
 * logbench: measures a Leat cluster on this host, and in the same run the limits of the host that
 * its figures are to be read against.
 *
 *   limits.c   the machine: raw port pair, bare durable write, shared words between two processes
 *   cluster.c  a private cluster in a temporary directory
 *   place.c    which process runs where
 *   logs.c     many logs in it, all led by one node
 *   load.c     clients that append and measure
 *   cpu.c      what processes took of it
 *   tail.c     readers that follow, and that replay
 *   breakdown.c where an append is when, by the nodes' own notes
 *   sustain.c  a log whose segments roll, are trimmed and made anew all the time
 *   failover.c the leader goes, by kill, pause or transfer, again and again
 *   length.c   a log that grows
 *   sweep.c    one measurement after another: sizes, windows, clients, logs, nodes
 *   report.c   the tables and the JSON objects, of the pieces of parts.c
 *   html.c     the page, page.html
 *   options.c  the command line
 *   logbench.c the commands
 */
#ifndef LEAT_BENCH_BENCH_H
#define LEAT_BENCH_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base_frame.h"
#include "base/histogram.h"

#define BENCH_NODES_MAX   7u
#define BENCH_CLIENTS_MAX 64u
#define BENCH_PATH_BYTES  256u
#define BENCH_INTERVAL_NS 100000000u /* of the time line */
#define BENCH_LOG         1u
#define BENCH_LIST_MAX    16u
#define BENCH_LOGS_MAX    (LEAT_LOGS_MAX - 2u) /* beside the catalogue and the default log */

enum bench_over { BENCH_OVER_LOGS, BENCH_OVER_NODES, BENCH_OVER_CLIENTS, BENCH_OVER_LENGTH };
enum bench_fault { BENCH_KILL, BENCH_PAUSE, BENCH_TRANSFER };

struct bench_options {
    unsigned nodes; /* --local; 0 with --attach */
    const char *attach;
    const char *net;
    const char *profile;   /* of the nodes' settings */
    const char *directory; /* where the temporary directory is made */
    enum bench_fault fault;
    int over;            /* what a scale goes over: enum bench_over; -1: all */
    unsigned runs;       /* so many faults */
    unsigned readers;    /* that follow */
    unsigned share;      /* per cent of the top rate that is offered; 0: all that the window lets */
    unsigned retain_mib; /* of the log */
    bool replicated;
    uint32_t size_bytes;
    uint32_t in_flight;
    uint32_t clients;
    uint32_t logs;    /* appends go round over so many; 1: the default log */
    uint32_t workers; /* of each node */
    double seconds;
    double warm_seconds;
    unsigned rate; /* appends a second, all clients together; 0: as fast as the window lets */
    bool json;
    const char *html; /* a page of what was measured; NULL: none */
    bool quiet;       /* no progress line */
    bool no_limits;
    bool trace;  /* nodes note how far their logs are, and each append is kept (breakdown) */
    bool no_pin; /* the scheduler places nodes and clients */
};

/* What a sweep goes over. */
struct bench_list {
    unsigned count;
    uint32_t values[BENCH_LIST_MAX];
};

struct bench_lists {
    struct bench_list nodes, logs, levels /* 1: replicated */, sizes, in_flights, clients;
    struct bench_list lengths; /* GiB, rising */
};

struct bench_limits {
    uint64_t net_rtt_ns_p50;
    uint64_t net_rtt_ns_p99;
    uint64_t disk_ns_p50; /* one writer */
    uint64_t disk_ns_p99;
    uint64_t disk_shared_ns_p50; /* as many writers as nodes */
    uint64_t disk_shared_ns_p99;
    uint64_t shm_rtt_ns_p50;
    uint64_t shm_rtt_ns_p99;
    uint32_t disk_block_bytes;       /* the records' size, in whole blocks */
    double disk_write_bytes_s;       /* durable, of as many writers as nodes, all together */
    double disk_write_large_bytes_s; /* the same by 1 MiB */
    double disk_read_bytes_s;        /* of one reader, by 1 MiB */
    uint64_t hiccup_ns_max;          /* of a thread that spins, nothing else running */
};

/* Which limits are measured; that of shared words always. */
#define BENCH_LIMIT_NET       1u
#define BENCH_LIMIT_WRITE     2u
#define BENCH_LIMIT_BANDWIDTH 4u
#define BENCH_LIMIT_HICCUP    8u
#define BENCH_LIMIT_ALL                                                                            \
    (BENCH_LIMIT_NET | BENCH_LIMIT_WRITE | BENCH_LIMIT_BANDWIDTH | BENCH_LIMIT_HICCUP)

struct bench_cluster {
    unsigned count;
    char directory[BENCH_PATH_BYTES];
    pid_t pids[BENCH_NODES_MAX];
    char sockets[BENCH_NODES_MAX][BENCH_PATH_BYTES + 32];
    unsigned leader;   /* index */
    uint32_t *log_ids; /* options.logs many; the caller's to free() */
};

/* One interval of the time line. */
struct bench_interval {
    uint64_t appends; /* that were acknowledged within it */
    uint64_t max_ns;  /* the longest wait among them, and of what still waited at its end */
    uint8_t marks;    /* BENCH_MARK_...: seen by then, of the first log, since the one before */
};

#define BENCH_MARK_ROLL     1u /* its newest committed byte lies in another segment */
#define BENCH_MARK_TRIM     2u /* it begins elsewhere */
#define BENCH_MARK_ELECTION 4u /* another leader, or the same in another term */
#define BENCH_MARKS         3u

/* One append that was acknowledged. */
struct bench_sample {
    uint64_t sent_ns;
    uint64_t seen_ns;
    uint64_t position;
};

struct bench_result {
    struct leat_histogram latency;   /* of what was meant to be sent within the window */
    struct bench_interval *timeline; /* the caller's to free() */
    unsigned interval_count;
    struct bench_sample
        *samples; /* with options.trace, the first so many; the caller's to free() */
    uint32_t sample_count;
    uint64_t appends;       /* acknowledged within the window */
    uint64_t errors;        /* within it and after it, until all have ended */
    uint64_t behind;        /* open loop: due within the window and not started in it */
    uint64_t log_bytes;     /* that were committed within it, of the first log, frames and all */
    uint64_t segment_bytes; /* of the first log */
    uint64_t away_ns_max;   /* the longest that a client's own thread, which looks all the time, did
                             * not look: others had its core, or it had much to do */
    double seconds;
    double cpu_seconds;        /* of all nodes together */
    double client_cpu_seconds; /* of this process */
    double cpu_us_per_append;
    double rss_mib_per_node;
    uint32_t log_gib;       /* of a scale over lengths; 0: not */
    double restart_seconds; /* of the whole cluster, killed, to its first acknowledged append */
    double verify_bytes_s;  /* of `leat verify` over the longest; 0: not measured */
};

struct bench_replay {
    uint64_t records;
    uint64_t bytes; /* of their payloads */
    double seconds;
};

struct bench_tail {
    struct leat_histogram latency; /* from when a record was meant to be sent until it is read */
    struct bench_replay files;     /* nothing: the log is not longer than two arenas */
    struct bench_replay memory;
};

/* What held appends up, by the nodes' own counters: the largest of any node, since it started. */
struct bench_sustain {
    uint64_t top_rate; /* closed loop, before, where a share of it is offered; 0: not measured */
    uint64_t prepared_bytes;          /* what a node may have of segments made ahead */
    uint64_t rolls, trims, elections; /* intervals of the time line with such a mark */
    unsigned offered_rate;            /* 0: closed loop */
    uint64_t disk_write_ns_max;       /* as workers see it: from handing over to reaping */
    uint64_t worker_away_ns_max;      /* 0: none for half an election timeout */
};

struct bench_failover {
    struct leat_histogram
        first; /* from the fault until an append started after it is acknowledged by another
                * leader; none of a transfer, whose old leader still acknowledges */
    struct leat_histogram
        gap; /* the longest time without an acknowledgement until one by another leader */
    unsigned runs;
};

/* The points of an append's way, in the order in which they are told. */
enum bench_point {
    BENCH_PICKED,
    BENCH_SENT,
    BENCH_RECEIVED, /* by as many followers as make a majority with the leader */
    BENCH_LEADER_DURABLE,
    BENCH_FOLLOWER_DURABLE,
    BENCH_COMMITTED,
    BENCH_SEEN,
    BENCH_POINTS,
};

/* Negative: it was noted before what it waited for, whose thread was held up in between. */
struct bench_spread {
    int64_t p50_ns;
    int64_t p99_ns;
};

struct bench_breakdown {
    uint32_t appends; /* traced from end to end */
    uint32_t missed;  /* some point of theirs was not found */
    bool passed[BENCH_POINTS];
    struct bench_spread own[BENCH_POINTS];   /* since the point that it waits for */
    struct bench_spread since[BENCH_POINTS]; /* since the append was published */
};

/* The core of a private cluster's node (index; 0 leads) or of a client; -1: any. */
int place_node(const struct bench_options *options, unsigned index);
int place_client(const struct bench_options *options, unsigned index);
int place_spread(unsigned index); /* of processes that are placed evenly */
void place_pin_this_thread(int core);

/* Each returns 0, or 1 after a line on stderr. */
int limits_measure(const struct bench_options *options, unsigned which,
                   struct bench_limits *limits);
/* Removes a directory and all in it. */
void tree_remove(const char *path);

/* A signal asked for the end: what loops or waits looks at it. */
extern volatile sig_atomic_t bench_interrupted;

int cluster_start(const struct bench_options *options, struct bench_cluster *cluster);
/* The node that leads the default log by its own word (index), or -1. */
int cluster_leader(const struct bench_cluster *cluster);
int cluster_start_node(struct bench_cluster *cluster, unsigned index);
/* Kills all nodes and starts them again, which begins at *ret_begin_ns; until one leads. */
int cluster_restart(const struct bench_options *options, struct bench_cluster *cluster,
                    uint64_t *ret_begin_ns);
/* The bytes a second that `leat verify` checks of a node that was stopped; 0: it failed, said. */
double cluster_verify(struct bench_cluster *cluster, unsigned index, uint64_t log_bytes);
/* Until all nodes have the log to where one of them has it, and one leads; sets `leader`. */
int cluster_level(struct bench_cluster *cluster);
void cluster_stop(struct bench_cluster *cluster);
int logs_make(const struct bench_options *options, struct bench_cluster *cluster);
/* The first eight bytes of each record that has them are when it was meant to be sent, by the
 * monotonic clock. load_began_ns: from then on it is measured; 0: not known yet. */
int load_run(const struct bench_options *options, const struct bench_cluster *cluster,
             struct bench_result *result);
extern _Atomic uint64_t load_began_ns;
int tail_run(const struct bench_options *options, const struct bench_cluster *cluster,
             struct bench_result *load, struct bench_tail *ret_tail);
int breakdown_run(const struct bench_options *options, const struct bench_cluster *cluster,
                  struct bench_result *load, struct bench_breakdown *ret_breakdown);
int sustain_run(const struct bench_options *options, struct bench_cluster *cluster,
                struct bench_result *load, struct bench_sustain *ret_sustain);
int failover_run(const struct bench_options *options, struct bench_cluster *cluster,
                 struct bench_failover *ret_failover);
int sweep_run(const struct bench_options *options, const struct bench_lists *lists,
              struct bench_cluster *cluster, struct bench_limits *limits);
int length_run(const struct bench_options *options, const struct bench_list *lengths,
               struct bench_cluster *cluster, struct bench_limits *limits);
/* One thing at a time: logs, nodes, clients, the log's length. */
int scale_run(const struct bench_options *options, const struct bench_list *lengths,
              struct bench_cluster *cluster, struct bench_limits *limits);
void report_limits(const struct bench_options *options, const struct bench_limits *limits);
void report_append(const struct bench_options *options, const struct bench_limits *limits,
                   const struct bench_result *result);
/* A row of a sweep. */
void report_point(const struct bench_options *options, const struct bench_limits *limits,
                  const struct bench_result *result);
void report_tail(const struct bench_options *options, const struct bench_result *load,
                 const struct bench_tail *tail);
void report_sustain(const struct bench_options *options, const struct bench_limits *limits,
                    const struct bench_result *load, const struct bench_sustain *sustain);
void report_breakdown(const struct bench_options *options, const struct bench_result *load,
                      const struct bench_breakdown *breakdown);
void report_failover(const struct bench_options *options, const struct bench_failover *failover);

/* A line that stands only while work goes on, on a terminal. */
void progress(const struct bench_options *options, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif

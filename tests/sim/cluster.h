/* SPDX-License-Identifier: Apache-2.0
 *
 * The nodes: hosts, their configuration, the life of their processes. A node that died starts again
 * after a while by itself, as by a service manager.
 */
#ifndef LEAT_SIM_CLUSTER_H
#define LEAT_SIM_CLUSTER_H

#include "node/config.h"
#include "system.h"

struct node_worker;

struct sim_node {
    struct sim_host host;
    struct leat_config config;
    struct sim_process *process; /* NULL: down */
    uint64_t life;               /* counts starts */
    unsigned failures;           /* lives in a row that ended with an error, unkilled */
    bool formatted;
    bool memory_lost;         /* since its last clean stop or start with a whole arena */
    bool stopping;            /* SIGTERM was sent */
    uint64_t absent_until_ns; /* does not start again before */
    bool victim;              /* of the minority whose disks may be hurt for good */
    bool lost; /* its disk was replaced or went back: it is to be refused by all, for ever */
    bool died_in_pass;       /* its last life ended between two of its calls */
    struct sim_inode *image; /* of its disk, as it was once; NULL: none */
    uint64_t image_incarnation;
};

struct sim_cluster {
    unsigned count;
    struct sim_node nodes[SIM_HOSTS_MAX];
    uint64_t starts, fences;
};
extern struct sim_cluster cluster;

/* By the draw: formats all nodes, starts each when it is formatted. */
void cluster_begin(void);
void cluster_kill(struct sim_node *node);
/* Dies between two calls of its own: within the next few that could be its last. */
void cluster_kill_soon(struct sim_node *node);
/* It does not die of that, after all. */
void cluster_spare(struct sim_node *node);
void cluster_power_cut(struct sim_node *node);
void cluster_stop_node(struct sim_node *node);
/* Power cut, an empty disk, formatted anew by somebody who knows no better. False: not while
 * another has not met it. */
bool cluster_wipe(struct sim_node *node);
/* A copy of its disk is kept; it is put back, after a power cut. False: not while another has not
 * met it two lives later, and remembers that. */
void cluster_image(struct sim_node *node);
bool cluster_roll_back(struct sim_node *node);
/* Down ones start now, not only after their pause. */
void cluster_start_all(void);

/* Socket of a node that listens; NULL: it does not now. */
const char *cluster_socket(unsigned node);

#endif

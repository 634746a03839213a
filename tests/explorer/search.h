/* SPDX-License-Identifier: Apache-2.0 */
/* Ways through the model: exhaustive, random, and scripted. */
#ifndef LEAT_EXPLORER_SEARCH_H
#define LEAT_EXPLORER_SEARCH_H

#include "model.h"

enum { PATH_MAX_EVENTS = 400 };

struct path {
    unsigned length;
    struct event event[PATH_MAX_EVENTS];
};

struct search_limits {
    double seconds;
    uint64_t states; /* exhaustive: most states to remember */
    uint64_t steps;  /* random: most steps to take */
    uint64_t seed;
    unsigned walk_length;
    bool progress;
};

struct search_result {
    const char *broken; /* the sentence of the invariant that fell, or NULL */
    bool exhausted;     /* no state within the bounds was left unvisited */
    uint64_t states;    /* exhaustive: distinct states; random: steps */
    uint64_t events;    /* exhaustive: transitions taken */
    unsigned depth;
    double seconds;
    uint64_t fired[EVENT_KINDS]; /* random: how often each kind of event was taken */
    struct path path;            /* from the start state to the violation */
};

double clock_seconds(void);

/* search.c: breadth first, so the schedule it finds is a shortest one. */
void search_exhaustive(const struct model *model, const struct state *start,
                       const struct search_limits *limits, struct search_result *result);

/* reduce.c: what lets one state stand for several */
bool faults_spent(const struct model *model, const struct state *state);
void state_forget(const struct model *model, struct state *state);
void state_exchange_last_two(const struct model *model, const struct state *state,
                             struct state *ret_state);

/* walk.c: seeded walks with restarts; the schedule it finds is shrunk by leaving events out. */
void search_random(const struct model *model, const struct state *start,
                   const struct search_limits *limits, struct search_result *result);

/* scripts.c */
struct script {
    const char *name;
    uint8_t nodes;
    bool replicated;
    bool lazy_publish;
    struct bounds bounds; /* the least within which its violation lies, and some room */
    const char *events;   /* chosen among the enabled ones, after the boot of term 1 */
    const char *sentence;
};
extern const struct script scripts[];
extern const unsigned script_count;
const struct script *script_find(const char *name);
/* All nodes hold A's TERM frame of term 1 durably, A leads, its commit is known. */
bool boot_follow(const struct model *model, struct state *state, struct path *path);
/* Each event must be enabled. Returns false, and the number of the bad one, if one is not; stops
 * early with *ret_broken set when an invariant falls on the way. */
bool script_follow(const struct model *model, struct state *state, const char *text,
                   struct path *path, const char **ret_broken, unsigned *ret_bad);

/* selftest.c */
int selftest_run(double seconds, bool progress);

#endif

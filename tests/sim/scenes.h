/* SPDX-License-Identifier: Apache-2.0
 *
 * Half of the seeds play a scene: numbers that bring about, again and again, what a swarm meets
 * seldom (a majority that lost its memory, deaths right after a vote, installs under load). All
 * that a scene does not set is drawn as ever.
 */
#ifndef LEAT_SIM_SCENES_H
#define LEAT_SIM_SCENES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Scenes are numbered from 1. */
unsigned scenes_count(void);
/* By name; false: no such scene. */
bool scene_find(const char *name, uint64_t *ret_scene);
/* Changes `draw`, which was drawn; a scene that is not there leaves it as it is. */
void scene_apply(uint64_t scene);
void scenes_list(FILE *to);

#endif

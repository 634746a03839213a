/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run is for: which of the drawn faults stay.
 */
#ifndef LEAT_SIM_PROFILE_H
#define LEAT_SIM_PROFILE_H

#include <stdbool.h>
#include <stdio.h>

/* By name; false: no such profile. */
bool profile_find(const char *name, unsigned *ret_profile);
const char *profile_name(unsigned profile);
/* Changes `draw`, which was drawn. 0: leaves it as it is. */
void profile_apply(unsigned profile);
void profiles_list(FILE *to);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void leat_assert_fail(const char *expression, const char *file, int line)
{
    fprintf(stderr, "leat: assertion failed: %s (%s:%d)\n", expression, file, line);
    abort();
}

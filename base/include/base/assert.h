/* SPDX-License-Identifier: Apache-2.0
 *
 * LEAT_ASSERT is on in every build: control paths, once per batch. LEAT_DASSERT only in builds
 * configured with -Ddassert=true: per byte, per packet. Neither may have side effects; input
 * from outside is never asserted but checked, counted and refused.
 */
#ifndef LEAT_BASE_ASSERT_H
#define LEAT_BASE_ASSERT_H

/* Prints "file:line: expression" and aborts. */
_Noreturn void leat_assert_fail(const char *expression, const char *file, int line);

#define LEAT_ASSERT(expression)                                                                    \
    do {                                                                                           \
        if (__builtin_expect(!(expression), 0))                                                    \
            leat_assert_fail(#expression, __FILE__, __LINE__);                                     \
    } while (0)

#ifdef LEAT_WITH_DASSERT
#define LEAT_DASSERT(expression) LEAT_ASSERT(expression)
#else
#define LEAT_DASSERT(expression) ((void)sizeof(expression))
#endif

#endif

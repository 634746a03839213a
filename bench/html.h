/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEAT_BENCH_HTML_H
#define LEAT_BENCH_HTML_H

#include <cjson/cJSON.h>
#include <stdbool.h>

extern const char html_page[]; /* page.html, by embed.py */

/* The page is written beside its place and moved there when it is whole; nothing is left of one
 * that is not. Each returns 0, or 1 after a line on stderr. One page at a time; the main thread. */
int html_begin(const char *path);
void html_add(const cJSON *run); /* copied */
int html_end(bool whole);

#endif

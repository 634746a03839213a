/* SPDX-License-Identifier: Apache-2.0
 *
 * One page that needs nothing else: page.html, with what was measured in its middle.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "html.h"

#define HTML_PLACE "@RUNS@"

static struct {
    FILE *file;
    const char *path;
    char part[4096]; /* until it is whole */
    cJSON *runs;
} html;

int html_begin(const char *path)
{
    html.path = path;
    if ((size_t)snprintf(html.part, sizeof(html.part), "%s.part", path) >= sizeof(html.part))
        errno = ENAMETOOLONG;
    else
        html.file = fopen(html.part, "w");
    if (!html.file) {
        fprintf(stderr, "logbench: --html %s: %s\n", path, strerror(errno));
        return 1;
    }
    html.runs = cJSON_CreateArray();
    return 0;
}

void html_add(const cJSON *run)
{
    if (html.runs)
        cJSON_AddItemToArray(html.runs, cJSON_Duplicate(run, true));
}

/* No text of a run ends the script that holds it. */
static void put_json(const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("\\u003c", html.file);
        else
            fputc(*text, html.file);
    }
}

int html_end(bool whole)
{
    if (!html.file)
        return 0;
    char *runs = cJSON_PrintUnformatted(html.runs);
    const char *place = strstr(html_page, HTML_PLACE);
    fwrite(html_page, 1, (size_t)(place - html_page), html.file);
    put_json(runs);
    fputs(place + strlen(HTML_PLACE), html.file);
    whole = whole && cJSON_GetArraySize(html.runs) > 0;
    bool written = fclose(html.file) == 0;
    free(runs);
    cJSON_Delete(html.runs);
    html.file = NULL;
    html.runs = NULL;
    if (whole && written && rename(html.part, html.path) == 0)
        return 0;
    if (whole)
        fprintf(stderr, "logbench: --html %s: %s\n", html.path, strerror(errno));
    unlink(html.part);
    return whole;
}

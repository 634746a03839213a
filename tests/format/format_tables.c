/* SPDX-License-Identifier: Apache-2.0
 *
 * The byte tables of docs/format.md, made from the structs. `format_tables FILE` compares (TAP: a
 * test per struct), `format_tables --rewrite FILE` puts them in. A table stands between
 * `<!-- table NAME -->` and `<!-- end -->`. Fields must cover a struct without gap or overlap.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/trace.h"
#include "base/base_frame.h"
#include "base/control.h"
#include "base/frame.h"
#include "base/message.h"
#include "base/ring.h"
#include "dataplane/wire.h"
#include "base/segment_index.h"
#include "storage/format.h"

#define TEXT_BYTES (256u << 10)

struct field {
    const char *name;
    size_t offset;
    size_t bytes;
    const char *meaning;
};

struct table {
    const char *name;
    size_t bytes;
    const struct field *fields;
    size_t count;
};

#define F(type, field, meaning)                                                                    \
    {                                                                                              \
#field, offsetof(struct type, field), sizeof(((struct type *)0)->field), meaning           \
    }
#define TABLE(type)                                                                                \
    {                                                                                              \
#type, sizeof(struct type), type##_fields,                                                 \
            sizeof(type##_fields) / sizeof(type##_fields[0])                                       \
    }

#include "fields.h"

static const struct table tables[] = {
    TABLE(leat_frame),
    TABLE(leat_term_payload),
    TABLE(leat_session_payload),
    TABLE(leat_trim_payload),
    TABLE(leat_fence_payload),
    TABLE(leat_refused_payload),
    TABLE(leat_catalogue_payload),
    TABLE(leat_base_head),
    TABLE(leat_base_member),
    TABLE(leat_session_row),
    TABLE(leat_session_closed),
    TABLE(leat_catalogue_row),
    TABLE(leat_identity),
    TABLE(leat_journal_record),
    TABLE(leat_journal_entry),
    TABLE(leat_vote_slot),
    TABLE(leat_index_head),
    TABLE(leat_index_row),
    TABLE(leat_peer_pin),
    TABLE(leat_vote),
    TABLE(leat_arena_header),
    TABLE(leat_arena_leadership),
    TABLE(leat_trace_header),
    TABLE(leat_trace_event),
    TABLE(leat_ring_client),
    TABLE(leat_ring_node),
    TABLE(leat_ring_record),
    TABLE(leat_batch_item),
    TABLE(leat_completion),
    TABLE(leat_control_request),
    TABLE(leat_control_reply),
    TABLE(leat_wire_header),
    TABLE(leat_message),
    TABLE(leat_run),
    TABLE(leat_wire_hello),
    TABLE(leat_wire_heartbeat),
    TABLE(leat_wire_led),
    TABLE(leat_wire_forward),
    TABLE(leat_wire_forwarded),
    TABLE(leat_wire_admin),
    TABLE(leat_wire_administered),
    TABLE(leat_wire_tail),
    TABLE(leat_wire_tail_reply),
    TABLE(leat_wire_repair),
    TABLE(leat_wire_repair_data),
    TABLE(leat_wire_operate),
    TABLE(leat_wire_operated),
};
#define TABLE_COUNT (sizeof(tables) / sizeof(tables[0]))

static bool table_is_whole(const struct table *table)
{
    size_t at = 0;
    for (size_t i = 0; i < table->count; i++) {
        if (table->fields[i].offset != at)
            return false;
        at += table->fields[i].bytes;
    }
    return at == table->bytes;
}

static size_t table_print(const struct table *table, char *to, size_t room)
{
    size_t used =
        (size_t)snprintf(to, room, "| byte | size | field | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < table->count; i++)
        used += (size_t)snprintf(to + used, room - used, "| %zu | %zu | %s | %s |\n",
                                 table->fields[i].offset, table->fields[i].bytes,
                                 table->fields[i].name, table->fields[i].meaning);
    used += (size_t)snprintf(to + used, room - used, "| %zu | | | end |\n", table->bytes);
    return used;
}

/* The place of a table's text in the document: [*begin, *end). */
static bool table_find(const struct table *table, char *text, char **begin, char **end)
{
    char mark[128];
    snprintf(mark, sizeof(mark), "<!-- table %s -->\n", table->name);
    char *at = strstr(text, mark);
    if (!at)
        return false;
    *begin = at + strlen(mark);
    *end = strstr(*begin, "<!-- end -->");
    return *end != NULL;
}

static char *file_read(const char *path)
{
    char *text = calloc(1, TEXT_BYTES);
    FILE *file = fopen(path, "r");
    if (!file || !text || fread(text, 1, TEXT_BYTES - 1, file) == 0) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return text;
}

static void rewrite(const char *path, char *text)
{
    char *made = malloc(TEXT_BYTES), *begin, *end;
    char *out = malloc(TEXT_BYTES);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (!table_find(&tables[i], text, &begin, &end))
            continue;
        size_t bytes = table_print(&tables[i], made, TEXT_BYTES);
        size_t head = (size_t)(begin - text);
        memcpy(out, text, head);
        memcpy(out + head, made, bytes);
        strcpy(out + head + bytes, end);
        strcpy(text, out);
    }
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    free(made);
    free(out);
}

static int compare(char *text)
{
    char *made = malloc(TEXT_BYTES), *begin, *end;
    int failed = 0;
    printf("1..%zu\n", TABLE_COUNT);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        size_t bytes = table_print(&tables[i], made, TEXT_BYTES);
        bool whole = table_is_whole(&tables[i]);
        bool same = table_find(&tables[i], text, &begin, &end) && bytes == (size_t)(end - begin) &&
                    memcmp(made, begin, bytes) == 0;
        printf("%sok %zu - %s%s%s\n", whole && same ? "" : "not ", i + 1, tables[i].name,
               whole ? "" : " has a gap", same ? "" : " differs from the document");
        failed |= !whole || !same;
    }
    free(made);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--rewrite") == 0) {
        rewrite(argv[2], file_read(argv[2]));
        return 0;
    }
    if (argc != 2) {
        fprintf(stderr, "usage: format_tables [--rewrite] docs/format.md\n");
        return 2;
    }
    return compare(file_read(argv[1]));
}

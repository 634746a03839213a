/* SPDX-License-Identifier: Apache-2.0 */
#include "leat/error.h"

struct error_row {
    int value;
    const char *name;
    const char *text;
};

static const struct error_row error_rows[] = {
#define ERROR_ROW(name, value, sentence) {value, #name, sentence},
    LEAT_ERRORS(ERROR_ROW)
#undef ERROR_ROW
};

static const struct error_row *error_find(int error)
{
    for (unsigned i = 0; i < sizeof(error_rows) / sizeof(error_rows[0]); i++) {
        if (error_rows[i].value == error)
            return &error_rows[i];
    }
    return 0;
}

const char *leat_error_text(int error)
{
    const struct error_row *row = error_find(error);
    return row ? row->text : "an error without a name";
}

const char *leat_error_name(int error)
{
    const struct error_row *row = error_find(error);
    return row ? row->name : "LEAT_E?";
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include <stdio.h>
#include <sys/random.h>

#include "base/rng.h"
#include "leat/error.h"

static void uuid_mark(struct leat_uuid *uuid, uint8_t version)
{
    uuid->bytes[6] = (uint8_t)((uuid->bytes[6] & 0x0f) | (version << 4));
    uuid->bytes[8] = (uint8_t)((uuid->bytes[8] & 0x3f) | 0x80);
}

int leat_uuid_random(struct leat_uuid *ret_uuid)
{
    struct leat_uuid uuid;
    if (getrandom(uuid.bytes, sizeof(uuid.bytes), 0) != sizeof(uuid.bytes))
        return LEAT_ESYSTEM;
    uuid_mark(&uuid, 4);
    *ret_uuid = uuid;
    return LEAT_OK;
}

struct leat_uuid leat_uuid_of_log(const struct leat_uuid *cluster, uint32_t log_id)
{
    uint64_t words[2];
    memcpy(words, cluster->bytes, sizeof(words));
    struct leat_rng rng = {.state = words[0] + 0x6c6f67ULL + log_id};
    words[0] ^= leat_rng_next(&rng);
    rng.state ^= words[1];
    words[1] ^= leat_rng_next(&rng);
    words[0] ^= leat_rng_next(&rng);
    struct leat_uuid uuid;
    memcpy(uuid.bytes, words, sizeof(uuid.bytes));
    uuid_mark(&uuid, 8);
    return uuid;
}

void leat_uuid_format(const struct leat_uuid *uuid, char text[LEAT_UUID_TEXT_BYTES])
{
    char *at = text;
    for (unsigned i = 0; i < sizeof(uuid->bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        at += sprintf(at, "%02x", uuid->bytes[i]);
    }
}

static int uuid_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int leat_uuid_parse(const char *text, struct leat_uuid *ret_uuid)
{
    struct leat_uuid uuid;
    for (unsigned i = 0; i < sizeof(uuid.bytes); i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return LEAT_EINVAL;
        int high = uuid_digit(text[0]);
        int low = high < 0 ? -1 : uuid_digit(text[1]);
        if (low < 0)
            return LEAT_EINVAL;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return LEAT_EINVAL;
    *ret_uuid = uuid;
    return LEAT_OK;
}

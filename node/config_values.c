/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration's scalars: text to number, size, time, address. Pure; any thread.
 * Tests: tests/client/test_config.c.
 */
#include <arpa/inet.h>
#include <string.h>

#include "config_private.h"
#include "node/config.h"

struct config_unit {
    const char *name;
    uint64_t factor;
};

/* Digits up to the first other character, which *ret_rest points to. */
static bool value_digits(const char *text, uint64_t *ret_value, const char **ret_rest)
{
    uint64_t value = 0;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    }
    *ret_value = value;
    *ret_rest = text;
    return true;
}

static bool value_with_unit(const char *text, const struct config_unit *units, uint64_t *ret_value)
{
    uint64_t value;
    const char *rest;
    if (!value_digits(text, &value, &rest))
        return false;
    for (; units->name; units++) {
        if (strcmp(rest, units->name) == 0)
            return !__builtin_mul_overflow(value, units->factor, ret_value);
    }
    return false;
}

bool config_value_unsigned(const char *text, uint64_t *ret_value)
{
    static const struct config_unit units[] = {{"", 1}, {NULL, 0}};
    return value_with_unit(text, units, ret_value);
}

bool config_value_signed(const char *text, int64_t *ret_value)
{
    uint64_t magnitude;
    bool negative = *text == '-';
    if (!config_value_unsigned(text + negative, &magnitude) || magnitude > INT64_MAX)
        return false;
    *ret_value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

bool leat_config_size(const char *text, uint64_t *ret_bytes)
{
    static const struct config_unit units[] = {
        {"", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}, {NULL, 0}};
    return value_with_unit(text, units, ret_bytes);
}

bool leat_config_time(const char *text, uint64_t *ret_ns)
{
    static const struct config_unit units[] = {
        {"ns", 1},         {"us", 1000},         {"ms", 1000000},
        {"s", 1000000000}, {"min", 60000000000}, {"h", 3600000000000},
        {NULL, 0}};
    return value_with_unit(text, units, ret_ns);
}

bool config_value_bool(const char *text, bool *ret_value)
{
    bool is_true = strcmp(text, "true") == 0;
    if (!is_true && strcmp(text, "false") != 0)
        return false;
    *ret_value = is_true;
    return true;
}

bool config_value_ipv4(const char *text, uint32_t *ret_ipv4)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    uint32_t ipv4 = ntohl(address.s_addr);
    if (ipv4 == 0 || ipv4 >> 28 >= 14) /* no host has these: any, multicast, broadcast */
        return false;
    *ret_ipv4 = ipv4;
    return true;
}

static int value_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool config_value_mac(const char *text, uint8_t ret_mac[6])
{
    uint8_t mac[6];
    if (strlen(text) != 17)
        return false;
    for (unsigned i = 0; i < 6; i++) {
        int high = value_hex_digit(text[3 * i]);
        int low = value_hex_digit(text[3 * i + 1]);
        if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
            return false;
        mac[i] = (uint8_t)(high << 4 | low);
    }
    if (mac[0] & 1) /* a group address is no node's */
        return false;
    memcpy(ret_mac, mac, sizeof(mac));
    return true;
}

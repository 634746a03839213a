/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration file. What is accepted keeps its promises to the rest of the node, what is
 * refused is explained in one line.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dataplane/port.h"
#include "fuzz.h"
#include "leat/error.h"
#include "node/config.h"

static bool is_text(const char *text)
{
    return strnlen(text, LEAT_CONFIG_TEXT_BYTES) < LEAT_CONFIG_TEXT_BYTES;
}

static void config_accepted(const struct leat_config *config)
{
    LEAT_ASSERT(config->node_count >= 1 && config->node_count <= LEAT_MEMBERS_MAX &&
                config->node_count % 2 == 1);
    for (uint32_t i = 1; i < config->node_count; i++)
        LEAT_ASSERT(config->nodes[i].id > config->nodes[i - 1].id);
    LEAT_ASSERT(leat_config_node_index(config, config->node_id) >= 0);
    LEAT_ASSERT(!leat_uuid_is_zero(&config->cluster));
    LEAT_ASSERT(is_text(config->path) && is_text(config->data_dir) && is_text(config->arena_dir) &&
                is_text(config->socket) && is_text(config->log_file) &&
                is_text(config->interface) && is_text(config->memif_dir));
    LEAT_ASSERT(config->worker_count >= 1 && config->worker_count <= LEAT_WORKERS_MAX);
    LEAT_ASSERT(config->lcore_count <= LEAT_CONFIG_IDS_MAX &&
                config->client_uid_count <= LEAT_CONFIG_IDS_MAX &&
                config->client_gid_count <= LEAT_CONFIG_IDS_MAX);
    LEAT_ASSERT(leat_log_sizes_are_legal(config->segment_bytes, config->arena_bytes,
                                         config->entry_bytes_max));
    LEAT_ASSERT(config->election_min_ns <= config->election_max_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct leat_config config;
    char path[64], error[256] = "";
    int descriptor = memfd_create("leat-config", MFD_CLOEXEC);
    LEAT_ASSERT(descriptor >= 0 && pwrite(descriptor, bytes, length, 0) == (ssize_t)length);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    int rc = leat_config_read(path, &config, error, sizeof(error));
    if (rc == LEAT_OK) {
        config_accepted(&config);
    } else {
        LEAT_ASSERT(rc == LEAT_ECONFIG);
        LEAT_ASSERT(strnlen(error, sizeof(error)) < sizeof(error) && error[0] != 0);
        LEAT_ASSERT(!strpbrk(error, "\r\n"));
    }
    close(descriptor);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake node as a process, for the tool's tests: says its socket on stdout, runs until its stdin
 * ends. Each line on stdin is an order: hold (answers nothing), go on.
 */
#include <stdio.h>
#include <string.h>

#include "fake_node.h"

int main(void)
{
    char line[64];
    struct fake_node *node = fake_node_start(false);
    atomic_store(&node->writes_log, true);
    printf("%s\n", node->config.socket);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        atomic_store(&node->hold, strcmp(line, "hold\n") == 0);
        printf("%s", line);
        fflush(stdout);
    }
    fake_node_stop(node);
    return 0;
}

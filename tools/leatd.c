/* SPDX-License-Identifier: Apache-2.0
 *
 * leatd: one node of a Leat cluster.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "leat/error.h"
#include "node/node.h"

/* documented in docs/operations.md */
enum leatd_exit { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_FENCED = 6 };

static const char usage[] =
    "usage: leatd --config FILE [--check]\n"
    "\n"
    "Runs one node of a Leat cluster until SIGTERM or SIGINT; then it hands leadership\n"
    "over, waits for its disk and stops clean.\n"
    "\n"
    "  -c, --config FILE  the node's configuration (docs/leat.example.yaml explains every key)\n"
    "      --check        read and check the configuration, touch nothing, exit\n"
    "  -h, --help         this text\n"
    "  -V, --version      the version\n"
    "\n"
    "Make the data directory once with: leat format --config FILE\n"
    "Exit codes: 0 stopped clean, 1 failed, 2 configuration or usage, 6 fenced after a failed\n"
    "write or flush.\n";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"check", no_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static int usage_error(const char *what)
{
    fprintf(stderr, "leatd: %s; see leatd --help\n", what);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    static struct leat_config config;
    const char *path = NULL;
    char error[512];
    int check = 0;
    int option;
    opterr = 0; /* an error is one line, ours */
    while ((option = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'k':
            check = 1;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_DONE;
        case 'V':
            puts("leatd " LEAT_VERSION);
            return EXIT_DONE;
        default:
            return usage_error("that option is not known");
        }
    }
    if (!path || optind != argc)
        return usage_error("--config FILE is needed, and nothing else");
    if (leat_config_read(path, &config, error, sizeof(error)) != LEAT_OK) {
        fprintf(stderr, "leatd: %s\n", error);
        return EXIT_USAGE;
    }
    if (check) {
        printf("%s is valid: node %u of %u\n", path, config.node_id, config.node_count);
        return EXIT_DONE;
    }
    int rc = leat_node_run(&config);
    if (rc == LEAT_EFENCED)
        _exit(EXIT_FENCED); /* threads may still be in the kernel: nothing more may happen here */
    return rc == LEAT_OK ? EXIT_DONE : EXIT_FAILED;
}

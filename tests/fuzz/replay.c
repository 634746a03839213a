/* SPDX-License-Identifier: Apache-2.0
 *
 * Goes over inputs of a fuzz target without a fuzzer: the files of its arguments and of the
 * directories among them, in order of name. TAP, a line for each; an input that crashes the target
 * ends the process, and the line before it names the file.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_BYTES_MAX (4u << 20)

static unsigned replayed;

static int replay_file(const char *path)
{
    static uint8_t bytes[INPUT_BYTES_MAX];
    FILE *file = fopen(path, "re");
    if (!file) {
        perror(path);
        return 1;
    }
    size_t length = fread(bytes, 1, sizeof(bytes), file);
    bool failed = ferror(file) || !feof(file);
    fclose(file);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    printf("# %s\n", name);
    fflush(stdout);
    uint8_t *exact = malloc(length > 0 ? length : 1);
    LEAT_ASSERT(exact);
    memcpy(exact, bytes, length);
    LLVMFuzzerTestOneInput(exact, length);
    free(exact);
    printf("%sok %u - %s\n", failed ? "not " : "", ++replayed, name);
    return failed;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_directory(const char *path)
{
    struct dirent **names;
    char name[4096];
    int count = scandir(path, &names, is_visible, alphasort), failed = 0;
    if (count < 0) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%s/%s", path, names[i]->d_name);
        failed |= replay_file(name);
        free(names[i]);
    }
    free(names);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        struct stat status;
        bool directory = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);
        failed |= directory ? replay_directory(argv[i]) : replay_file(argv[i]);
    }
    if (replayed == 0) { /* an empty corpus proves nothing */
        fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
        failed = 1;
    }
    printf("1..%u\n", replayed);
    return failed;
}

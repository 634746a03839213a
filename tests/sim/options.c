/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "profile.h"
#include "scenes.h"
#include "world.h"

static const char usage[] =
    "usage: leat-sim [--seed S | --seeds N | --replay FILE] [options]\n"
    "\n"
    "Runs whole Leat clusters, the product's own code, on simulated hosts: network, disks, clocks\n"
    "and clients fail as the seed says. Each run has a time with faults, then everything heals "
    "and\n"
    "the cluster has to converge; invariants are checked after every pass of every node.\n"
    "\n"
    "  -s, --seed S         this seed (the first one, with --seeds); default: a fresh one, "
    "printed\n"
    "  -n, --seeds N        N seeds from there on\n"
    "  -j, --jobs J         so many at a time (default 1)\n"
    "  -r, --replay FILE    a seed and numbers, as written by --shrink\n"
    "  -S, --set NAME=VALUE a number that the seed would draw; again for more; see --list\n"
    "  -t, --twice          each seed twice: both must have the same hash of events\n"
    "  -p, --profile NAME   which of the drawn faults stay; see --list\n"
    "  -c, --scene NAME     this scene in every seed, or none; see --list\n"
    "  -k, --shrink FILE    where a failure is written when it was made smaller, for --replay\n"
    "                       (default leat-sim-SEED.replay)\n"
    "      --no-shrink      failures are left as they are\n"
    "  -m, --max N          ends after N failures (default 1)\n"
    "  -x, --except NAME    failures of this invariant are known: counted, no error; again for "
    "more\n"
    "  -l, --limit SECONDS  of the processor for one seed, then it counts as stuck (default 60)\n"
    "  -T, --trace          everything that happens, to standard error\n"
    "      --json           one object per seed\n"
    "      --list           the numbers that a seed draws, and what they are; with --seed: its "
    "own\n"
    "  -h, --help           this text\n"
    "\n"
    "Exit codes: 0 all held, 1 a seed failed, 2 usage.\n";

static const struct option long_options[] = {
    {"seed", required_argument, NULL, 's'},    {"seeds", required_argument, NULL, 'n'},
    {"jobs", required_argument, NULL, 'j'},    {"replay", required_argument, NULL, 'r'},
    {"set", required_argument, NULL, 'S'},     {"twice", no_argument, NULL, 't'},
    {"profile", required_argument, NULL, 'p'}, {"scene", required_argument, NULL, 'c'},
    {"shrink", required_argument, NULL, 'k'},  {"no-shrink", no_argument, NULL, 'N'},
    {"max", required_argument, NULL, 'm'},     {"limit", required_argument, NULL, 'l'},
    {"trace", no_argument, NULL, 'T'},         {"except", required_argument, NULL, 'x'},
    {"json", no_argument, NULL, 'J'},          {"list", no_argument, NULL, 'L'},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
};

static int wrong(const char *what, const char *text)
{
    fprintf(stderr, "leat-sim: %s '%s'; see leat-sim --help\n", what, text);
    return 2;
}

static bool number(const char *text, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    *ret_number = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == 0;
}

static bool set_number(struct sim_options *options, const char *name, uint64_t value)
{
    unsigned parameter;
    if (!draw_find(name, &parameter))
        return false;
    options->overrides.set[parameter] = true;
    options->overrides.value[parameter] = value;
    return true;
}

static bool set_text(struct sim_options *options, const char *text)
{
    char name[64];
    uint64_t value;
    const char *equals = strchr(text, '=');
    if (!equals || (size_t)(equals - text) >= sizeof(name) || !number(equals + 1, &value))
        return false;
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = 0;
    return set_number(options, name, value);
}

static bool set_scene(struct sim_options *options, const char *name)
{
    uint64_t scene = 0;
    return (!strcmp(name, "none") || scene_find(name, &scene)) &&
           set_number(options, "scene", scene);
}

/* Lines "name value", '#' begins a comment. */
static int replay_read(struct sim_options *options, const char *path)
{
    char line[512], name[64];
    uint64_t value;
    FILE *file = fopen(path, "r");
    if (!file)
        return wrong("cannot be read:", path);
    int rc = 0;
    while (rc == 0 && fgets(line, sizeof(line), file)) {
        if (line[0] == '#' || sscanf(line, "%63s", name) != 1)
            continue;
        value = 0;
        (void)sscanf(line, "%63s %" SCNu64, name, &value);
        if (sscanf(line, "profile %63s", name) == 1) {
            if (!profile_find(name, &options->overrides.profile))
                rc = wrong("a replay file with an unknown profile", name);
        } else if (!strcmp(name, "seed")) {
            options->first_seed = value;
            options->seed_is_given = true;
        } else if (!set_number(options, name, value)) {
            rc = wrong("a replay file with an unknown number", name);
        }
    }
    fclose(file);
    return rc;
}

void options_print(const struct sim_options *options, FILE *to)
{
    const struct sim_overrides *overrides = &options->overrides;
    if (overrides->profile != 0)
        fprintf(to, " --profile %s", profile_name(overrides->profile));
    for (unsigned i = 0; i < SIM_PARAMETER_COUNT; i++) {
        if (overrides->set[i])
            fprintf(to, " --set %s=%" PRIu64, draw_name(i), overrides->value[i]);
    }
}

bool replay_write(const char *path, uint64_t seed, const struct sim_overrides *overrides,
                  const char *comment)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    fprintf(file, "# %s\nseed %" PRIu64 "\nprofile %s\n", comment, seed,
            profile_name(overrides->profile));
    for (unsigned i = 0; i < SIM_PARAMETER_COUNT; i++) {
        if (overrides->set[i])
            fprintf(file, "%s %" PRIu64 "\n", draw_name(i), overrides->value[i]);
    }
    return fclose(file) == 0;
}

static int list(const struct sim_options *options)
{
    if (options->seed_is_given) {
        world_begin(options->first_seed);
        draw_make(&options->overrides);
    }
    for (unsigned i = 0; i < SIM_PARAMETER_COUNT; i++) {
        if (options->seed_is_given)
            printf("%-18s %-10" PRIu64 " %s\n", draw_name(i), draw_value(i), draw_text(i));
        else
            printf("%-18s %s\n", draw_name(i), draw_text(i));
    }
    printf("\nprofiles:\n");
    profiles_list(stdout);
    printf("\nscenes, one in half of the seeds:\n");
    scenes_list(stdout);
    return -1;
}

static int option_take(struct sim_options *options, int option, const char *text)
{
    uint64_t value = 0;
    if (strchr("snjml", option) && !number(text, &value))
        return wrong("not a number:", text);
    switch (option) {
    case 's':
        options->first_seed = value;
        options->seed_is_given = true;
        return 0;
    case 'n':
        options->seed_count = value;
        return 0;
    case 'j':
        options->jobs = value > 0 ? (unsigned)value : 1;
        return 0;
    case 'm':
        options->failures_max = value;
        return 0;
    case 'l':
        options->seconds_max = (unsigned)value;
        return 0;
    case 'r':
        return replay_read(options, text);
    case 'S':
        return set_text(options, text) ? 0 : wrong("not NAME=VALUE of --list:", text);
    case 't':
        options->twice = true;
        return 0;
    case 'p':
        return profile_find(text, &options->overrides.profile)
                   ? 0
                   : wrong("no such profile, see --list:", text);
    case 'c':
        return set_scene(options, text) ? 0 : wrong("no such scene, see --list:", text);
    case 'k':
        options->shrunk_path = text;
        return 0;
    case 'N':
        options->no_shrink = true;
        return 0;
    case 'x':
        if (options->excepted_count == sizeof(options->excepted) / sizeof(options->excepted[0]))
            return wrong("too many exceptions:", text);
        options->excepted[options->excepted_count++] = text;
        return 0;
    case 'T':
        options->trace = true;
        return 0;
    case 'J':
        options->json = true;
        return 0;
    default:
        return 2;
    }
}

int options_read(int argc, char **argv, struct sim_options *ret_options)
{
    int option, rc = 0;
    bool lists = false;
    *ret_options =
        (struct sim_options){.seed_count = 1, .jobs = 1, .failures_max = 1, .seconds_max = 60};
    while (rc == 0 && (option = getopt_long(argc, argv, "s:n:j:r:S:tp:c:k:m:x:l:Th", long_options,
                                            NULL)) != -1) {
        if (option == 'h') {
            fputs(usage, stdout);
            return -1;
        }
        if (option == 'L')
            lists = true;
        else
            rc = option_take(ret_options, option, optarg);
    }
    if (rc == 0 && optind < argc)
        rc = wrong("not an option:", argv[optind]);
    if (rc == 0 && ret_options->twice)
        ret_options->jobs = 1; /* one after the other: the first is compared with the second */
    return rc == 0 && lists ? list(ret_options) : rc;
}

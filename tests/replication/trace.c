/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs golden traces: a script moves a cluster of real cores by hand, packet by packet, and what
 * each step did stands below it in the same file ("> " lines). A trace passes when it says the
 * same again. The commands: the table at the end; what they mean: tests/traces/README.md.
 *
 *   trace FILE...            as TAP, one test a file
 *   trace --rewrite FILE...  accepts what is said now; review it as a diff
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "clients.h"

#define TEXT_BYTES (512u << 10)
#define WORDS_MAX  6u
#define NAMES_MAX  64u
#define HELD_NS    (UINT64_MAX - 1)

static struct cluster cluster;
static jmp_buf assertion;
static char out[TEXT_BYTES];
static size_t out_bytes;
static bool quiet;
static bool slow[LEAT_MEMBERS_MAX];
static unsigned expectations_failed;
static struct {
    char name[16];
    uint32_t frame;
} names[NAMES_MAX];
static uint32_t name_count;

static void say(const char *text)
{
    out_bytes += (size_t)snprintf(out + out_bytes, TEXT_BYTES - out_bytes, "%s\n", text);
    LEAT_ASSERT(out_bytes < TEXT_BYTES);
}

static void say_result(void *context, const char *line)
{
    char text[LINE_BYTES + 4];
    (void)context;
    if (quiet && strncmp(line, "VIOLATED", 8) != 0)
        return;
    snprintf(text, sizeof(text), "> %s", line);
    say(text);
}

_Noreturn void leat_assert_fail(const char *expression, const char *file, int line)
{
    (void)file, (void)line;
    check_fail(&cluster, "an assertion: %s", expression);
    longjmp(assertion, 1);
}

/* ---- words ---- */

struct words {
    unsigned count;
    char *at[WORDS_MAX];
};

static const char *word(const struct words *words, unsigned index)
{
    return index < words->count ? words->at[index] : "";
}

static struct replica *replica_of(const struct words *words, unsigned index)
{
    const char *name = word(words, index);
    if (name[0] < 'A' || name[0] >= 'A' + cluster.count || name[1] != '\0') {
        check_fail(&cluster, "the script: no node '%s'", name);
        longjmp(assertion, 1);
    }
    return &cluster.replicas[name[0] - 'A'];
}

static uint32_t frame_named(const char *name)
{
    for (uint32_t i = 0; i < name_count; i++) {
        if (strcmp(names[i].name, name) == 0)
            return names[i].frame;
    }
    check_fail(&cluster, "the script: no frame '%s'", name);
    longjmp(assertion, 1);
}

/* ---- time and delivery ---- */

static void pass(struct replica *replica)
{
    replica_pass(&cluster, replica);
}

static void pass_all(void)
{
    for (uint8_t i = 0; i < cluster.count; i++)
        pass(&cluster.replicas[i]);
}

static bool packet_matches(const struct packet *packet, const struct words *words)
{
    const char *kind = word(words, 3);
    if (packet->kind == PACKET_FREE || replica_name(packet->from) != word(words, 1)[0] ||
        replica_name(packet->to) != word(words, 2)[0])
        return false;
    return kind[0] == '\0' || strcmp(kind, "all") == 0 ||
           strcmp(kind, network_kind_name(packet)) == 0;
}

static int packet_find(const struct words *words, bool held)
{
    int found = -1;
    for (uint32_t i = 0; i < cluster.packet_high; i++) {
        const struct packet *packet = &cluster.packets[i];
        if (packet_matches(packet, words) && (packet->at_ns == HELD_NS) == held &&
            (found < 0 || packet->order < cluster.packets[found].order))
            found = (int)i;
    }
    return found;
}

static int packet_needed(const struct words *words)
{
    int found = packet_find(words, false);
    if (found < 0)
        found = packet_find(words, true);
    if (found < 0)
        check_fail(&cluster, "the script: no packet %s > %s %s", word(words, 1), word(words, 2),
                   word(words, 3));
    if (found < 0)
        longjmp(assertion, 1);
    return found;
}

static int packet_oldest(void)
{
    int found = -1;
    for (uint32_t i = 0; i < cluster.packet_high; i++) {
        const struct packet *packet = &cluster.packets[i];
        if (packet->kind != PACKET_FREE && packet->at_ns != HELD_NS &&
            (found < 0 || packet->order < cluster.packets[found].order))
            found = (int)i;
    }
    return found;
}

static void do_run(const struct words *words)
{
    unsigned still = 0;
    (void)words;
    for (unsigned steps = 0; steps < 20000; steps++) {
        bool moved = false;
        int packet = packet_oldest();
        if (packet >= 0) {
            struct replica *to = &cluster.replicas[cluster.packets[packet].to];
            network_deliver(&cluster, (uint32_t)packet);
            pass(to);
            moved = true;
        }
        for (uint8_t i = 0; packet < 0 && i < cluster.count; i++) {
            struct replica *replica = &cluster.replicas[i];
            if (!replica->up || slow[i] || replica->request_count == 0)
                continue;
            disk_finish_first(&cluster, replica);
            pass(replica);
            moved = true;
        }
        if (!moved && still++ > 0)
            return;
        if (!moved)
            pass_all();
        else
            still = 0;
    }
    check_fail(&cluster, "the script: it never gets quiet");
}

/* Time passes for all; only those timers fire that a command names. */
static void let_pass(uint64_t ns)
{
    cluster.now_ns += ns;
    for (uint8_t i = 0; i < cluster.count; i++) {
        struct leat_core *core = &cluster.replicas[i].core;
        core->election_deadline_ns = cluster.now_ns + 1000 * cluster.election_max_ns;
        for (uint8_t p = 0; p < cluster.count; p++)
            core->peers[p].heard_ns = cluster.now_ns;
    }
}

/* ---- commands ---- */

static void do_nodes(const struct words *words)
{
    cluster_init(&cluster, (uint8_t)atoi(word(words, 1)), strcmp(word(words, 2), "replicated") == 0,
                 1);
    cluster.by_hand = true;
    cluster.window_bytes = 32768;
    cluster.told = true;
    cluster.line_sink = say_result;
    name_count = 0;
    quiet = false;
    memset(slow, 0, sizeof(slow));
    for (uint8_t i = 0; i < cluster.count; i++)
        replica_boot(&cluster, &cluster.replicas[i]);
    let_pass(0);
}

static void do_timeout(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    let_pass(cluster.election_min_ns);
    replica->core.election_deadline_ns = cluster.now_ns;
    pass(replica);
}

/* Its timer fires though the others heard a leader a moment ago. */
static void do_impatient(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    replica->core.election_deadline_ns = cluster.now_ns;
    pass(replica);
}

static void do_elect(const struct words *words)
{
    do_timeout(words);
    do_run(words);
}

static void do_elections(const struct words *words)
{
    static char name[2];
    struct words elect = {2, {NULL, name}};
    for (int i = 0; i < atoi(word(words, 1)); i++) {
        name[0] = word(words, 2 + (unsigned)i % (words->count - 2))[0];
        const struct leat_core *core = &replica_of(&elect, 1)->core;
        do_elect(&elect);
        for (int again = 0; again < 8 && core->role != LEAT_LEADER; again++)
            do_elect(&elect); /* the old leader was heard meanwhile */
    }
}

/* Heartbeats and time enough for whatever is asked for again; no election timer fires. */
static void do_settle(const struct words *words)
{
    (void)words;
    for (unsigned i = 0; i < 24; i++) {
        let_pass(4000000);
        for (uint8_t node = 0; node < cluster.count; node++) {
            if (cluster.replicas[node].up)
                replica_tick(&cluster, &cluster.replicas[node]);
        }
        do_run(words);
    }
}

static void do_propose(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    struct frame record = {.type = LEAT_FRAME_RECORD, .cells = 8};
    if (replica->core.role != LEAT_LEADER || !leat_core_may_append(&replica->core) ||
        !replica_append(&cluster, replica, &record)) {
        cluster_line(&cluster, "  refused");
        return;
    }
    LEAT_ASSERT(name_count < NAMES_MAX);
    snprintf(names[name_count].name, sizeof(names[0].name), "%s", word(words, 2));
    names[name_count++].frame = cluster.frame_count - 1;
    cluster_line(&cluster, "  %s is [%lu, %lu)", word(words, 2),
                 (unsigned long)(replica->chain_pos - 8 * CELL_BYTES),
                 (unsigned long)replica->chain_pos);
    pass(replica);
}

static void do_append(const struct words *words)
{
    static const char *const verdicts[] = {"refused", "gap", "recorded", "wait", "sealed"};
    struct replica *replica = replica_of(words, 1);
    int verdict = client_append_at(&cluster, replica, (uint8_t)atoi(word(words, 2)),
                                   (uint64_t)atoi(word(words, 3)), 0, 8);
    cluster_line(&cluster, "  %s", verdicts[verdict + 3]);
    pass(replica);
}

static void do_deliver(const struct words *words)
{
    bool all = strcmp(word(words, 3), "all") == 0;
    int found = packet_needed(words);
    struct replica *to = replica_of(words, 2);
    for (; found >= 0; found = all ? packet_find(words, false) : -1)
        network_deliver(&cluster, (uint32_t)found);
    if (word(words, 0)[0] == 'd') /* receive: its pass is still to come */
        pass(to);
}

static void do_drop(const struct words *words)
{
    for (int found = packet_needed(words); found >= 0;
         found = strcmp(word(words, 3), "all") == 0 ? packet_find(words, false) : -1)
        cluster.packets[found].kind = PACKET_FREE;
}

static void do_hold(const struct words *words)
{
    cluster.packets[packet_needed(words)].at_ns = HELD_NS;
}

static void do_duplicate(const struct words *words)
{
    int found = packet_needed(words);
    network_put(&cluster, &cluster.packets[found], HELD_NS);
}

static void do_persist(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    uint32_t count = words->count > 2 ? (uint32_t)atoi(word(words, 2)) : replica->request_count;
    for (; count > 0 && replica->request_count > 0; count--)
        disk_finish_first(&cluster, replica);
    pass(replica);
}

static void do_land(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    if (replica->request_count > 0)
        disk_land(replica, &replica->requests[0]);
}

static void do_slow(const struct words *words)
{
    slow[replica_of(words, 1)->self] = word(words, 0)[0] == 's';
}

static void do_die(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    if (word(words, 0)[0] == 'c')
        replica_crash(&cluster, replica);
    else if (word(words, 0)[0] == 'p')
        replica_power_cut(&cluster, replica);
    else
        replica_stop(&cluster, replica);
}

static void do_restart(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    replica_boot(&cluster, replica);
    replica->core.election_deadline_ns = cluster.now_ns + 1000 * cluster.election_max_ns;
    pass(replica);
}

static void do_heartbeat(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    replica->heartbeat_ns = 0;
    replica_tick(&cluster, replica);
}

static void do_tick(const struct words *words)
{
    cluster.now_ns += (uint64_t)atoi(word(words, 1)) * 1000000;
    pass_all();
}

static void do_link(const struct words *words)
{
    bool cut = word(words, 0)[0] == 'c';
    uint8_t from = replica_of(words, 1)->self;
    for (uint8_t i = 0; i < cluster.count; i++) {
        if (words->count > 2 && replica_of(words, 2)->self != i)
            continue;
        cluster.cut_link[from][i] = cut;
        if (words->count <= 2)
            cluster.cut_link[i][from] = cut;
    }
}

static void do_command(const struct words *words)
{
    struct replica *replica = replica_of(words, 1);
    struct leat_core_input input = {.kind = LEAT_INPUT_AMNESIA_ACCEPT};
    if (word(words, 0)[0] == 't') {
        input.kind = LEAT_INPUT_TRANSFER;
        input.peer = replica_of(words, 2)->self;
    } else {
        check_forgive(&cluster);
    }
    replica_step(&cluster, replica, &input);
    pass(replica);
}

static void do_trim(const struct words *words)
{
    if (!replica_trim(&cluster, replica_of(words, 1)))
        cluster_line(&cluster, "  nothing to trim");
}

static void do_damage(const struct words *words)
{
    replica_of(words, 1)->disk[cell_of(strtoull(word(words, 2), NULL, 0))] = 0;
    cluster.checks.damage = true;
}

static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};

static void do_state(const struct words *words)
{
    (void)words;
    for (uint8_t i = 0; i < cluster.count; i++) {
        const struct replica *replica = &cluster.replicas[i];
        const struct leat_core *core = &replica->core;
        if (!replica->up) {
            cluster_line(&cluster, "%c down", replica_name(i));
            continue;
        }
        cluster_line(&cluster, "%c %s term %u M %lu D %lu commit %lu/%lu runs %u%s%s",
                     replica_name(i), roles[core->role], core->term,
                     (unsigned long)core->memory_pos, (unsigned long)core->durable_pos,
                     (unsigned long)core->commit_r, (unsigned long)core->commit_d, core->run_count,
                     core->amnesiac ? " amnesiac" : "", core->damaged ? " damaged" : "");
    }
}

static void do_quiet(const struct words *words)
{
    quiet = word(words, 0)[0] == 'q';
}

static bool holds(const struct replica *replica, uint32_t frame, uint64_t below)
{
    const struct frame *of = &cluster.frames[frame];
    return frame_in(&cluster, replica->arena, of->position) == of && frame_end(of) <= below;
}

static bool expectation(const struct replica *replica, const char *what, const char *name)
{
    const struct leat_core *core = &replica->core;
    if (strcmp(what, "has") == 0)
        return holds(replica, frame_named(name), core->memory_pos);
    if (strcmp(what, "lacks") == 0)
        return !holds(replica, frame_named(name), core->memory_pos);
    if (strcmp(what, "committed") == 0)
        return holds(replica, frame_named(name), core->commit_d);
    if (strcmp(what, "uncommitted") == 0)
        return !holds(replica, frame_named(name), core->commit_d);
    if (strcmp(what, "replicated") == 0)
        return holds(replica, frame_named(name), core->commit_r);
    if (strcmp(what, "amnesiac") == 0)
        return core->amnesiac;
    if (strcmp(what, "intact") == 0)
        return !core->amnesiac && !core->damaged;
    if (strcmp(what, "damaged") == 0)
        return core->damaged;
    if (strcmp(what, "term") == 0)
        return core->term == (uint32_t)atoi(name);
    return strcmp(what, roles[core->role]) == 0;
}

static void do_expect(const struct words *words)
{
    const struct replica *replica = replica_of(words, 1);
    if (replica->up && expectation(replica, word(words, 2), word(words, 3)))
        return;
    expectations_failed++;
    cluster_line(&cluster, "VIOLATED the expectation");
}

static const struct {
    const char *word;
    unsigned words_min;
    void (*act)(const struct words *words);
} commands[] = {
    {"nodes", 2, do_nodes},     {"timeout", 2, do_timeout},     {"impatient", 2, do_impatient},
    {"elect", 2, do_elect},     {"elections", 3, do_elections}, {"run", 1, do_run},
    {"settle", 1, do_settle},   {"propose", 3, do_propose},     {"append", 4, do_append},
    {"deliver", 3, do_deliver}, {"receive", 3, do_deliver},     {"drop", 3, do_drop},
    {"hold", 3, do_hold},       {"duplicate", 3, do_duplicate}, {"persist", 2, do_persist},
    {"land", 2, do_land},       {"slow", 2, do_slow},           {"fast", 2, do_slow},
    {"crash", 2, do_die},       {"power-cut", 2, do_die},       {"stop", 2, do_die},
    {"restart", 2, do_restart}, {"heartbeat", 2, do_heartbeat}, {"tick", 2, do_tick},
    {"cut", 2, do_link},        {"join", 2, do_link},           {"transfer", 3, do_command},
    {"accept", 2, do_command},  {"trim", 2, do_trim},           {"damage", 3, do_damage},
    {"state", 1, do_state},     {"quiet", 1, do_quiet},         {"loud", 1, do_quiet},
    {"expect", 3, do_expect},
};

static void run_line(char *line)
{
    struct words words = {0};
    for (char *at = strtok(line, " "); at && words.count < WORDS_MAX; at = strtok(NULL, " "))
        words.at[words.count++] = at;
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(word(&words, 0), commands[i].word) == 0 &&
            words.count >= commands[i].words_min) {
            commands[i].act(&words);
            return;
        }
    }
    check_fail(&cluster, "the script: '%s' is no command", word(&words, 0));
}

/* ---- files ---- */

static bool run_script(char *text)
{
    char *rest = text;
    out_bytes = 0;
    out[0] = '\0';
    expectations_failed = 0;
    cluster_init(&cluster, 1, false, 1);
    if (setjmp(assertion) == 0) {
        for (char *line = strsep(&rest, "\n"); line && cluster.checks.broken[0] == '\0';
             line = strsep(&rest, "\n")) {
            if (line[0] == '>' || (line[0] == '\0' && !rest))
                continue;
            say(line);
            if (line[0] != '#' && line[0] != '\0')
                run_line(line);
        }
    }
    if (cluster.checks.broken[0] == '\0' && expectations_failed == 0)
        say("> every invariant holds");
    return cluster.checks.broken[0] == '\0' && expectations_failed == 0;
}

static bool read_file(const char *path, char *text)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    size_t bytes = fread(text, 1, TEXT_BYTES - 1, file);
    text[bytes] = '\0';
    fclose(file);
    return true;
}

static bool write_file(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    bool written = fwrite(out, 1, out_bytes, file) == out_bytes;
    return fclose(file) == 0 && written;
}

static bool run_file(const char *path, bool rewrite)
{
    static char text[TEXT_BYTES];
    static char script[TEXT_BYTES];
    if (!read_file(path, text)) {
        printf("# %s cannot be read\n", path);
        return false;
    }
    memcpy(script, text, sizeof(script));
    bool held = run_script(script);
    if (!held)
        printf("# %s\n",
               cluster.checks.broken[0] ? cluster.checks.broken : "an expectation is not met");
    if (rewrite)
        return write_file(path) && held;
    size_t same = 0;
    while (text[same] != '\0' && text[same] == out[same])
        same++;
    if (text[same] == '\0' && out[same] == '\0')
        return held;
    while (same > 0 && text[same - 1] != '\n')
        same--;
    printf("# differs: it says  %.*s\n# the file has       %.*s\n", (int)strcspn(out + same, "\n"),
           out + same, (int)strcspn(text + same, "\n"), text + same);
    return false;
}

int main(int argc, char **argv)
{
    bool rewrite = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
    int first = rewrite ? 2 : 1;
    bool all = true;
    printf("1..%d\n", argc - first);
    for (int i = first; i < argc; i++) {
        const char *name = strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i];
        bool ok = run_file(argv[i], rewrite);
        printf("%s %d - %s\n", ok ? "ok" : "not ok", i - first + 1, name);
        fflush(stdout);
        all = all && ok;
    }
    return !all;
}

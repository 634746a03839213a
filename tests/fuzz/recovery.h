/* SPDX-License-Identifier: Apache-2.0
 *
 * The data directory of the target `recovery`: formatted, filled, kept as an image, patched by an
 * input and put back. Every file is mapped, so a patch is a store and putting back a comparison;
 * when files came, went or changed their size, all of it is written anew.
 */
#ifndef LEAT_TESTS_FUZZ_RECOVERY_H
#define LEAT_TESTS_FUZZ_RECOVERY_H

#include "fuzz.h"
#include "support.h"

#define SCENE_FILES_MAX 64u

/* Of an input's first byte, beside those of fuzz.h. */
enum recovery_flag {
    RECOVERY_ARENAS = 4, /* the arenas are there as they were */
    RECOVERY_LOOK = 8,   /* `leat inspect` and `leat verify` come first */
};

#define PATCH_COPY 0x80u /* of a patch's first byte: blocks are copied */

struct scene_file {
    char path[600];
    char name[64]; /* below the directory */
    size_t bytes;
    uint64_t inode;
    uint32_t crc; /* of `original` */
    uint8_t *original;
    uint8_t *mapped;
    bool *patched; /* by block */
};

struct scene {
    struct rig rig;
    struct scene_file files[SCENE_FILES_MAX];
    unsigned file_count;
    uint64_t ends[RIG_LOGS];   /* of the logs as they were filled */
    uint8_t *arenas[RIG_LOGS]; /* and their bytes, as the arenas had them */
};

/* Makes the directory and takes its image. */
void scene_make(struct scene *scene);
void scene_remove(struct scene *scene);
/* Writes what is different back, or everything. */
void scene_restore(struct scene *scene);
/* Stores bytes into a file, as far as it reaches. */
void scene_patch(struct scene_file *file, size_t offset, const void *bytes, size_t length);
/* Makes CRCs (and with `rules` what base frames say of the chain before them) fit in what was
 * patched. */
void scene_fit(struct scene *scene, bool rules);
/* Nothing but patches distinguishes the directory from its image. */
bool scene_is_untouched(struct scene *scene);

#endif

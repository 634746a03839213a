/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocking access to files: for format, open, recovery, the helper and inspection; never in the
 * pass. All buffers, lengths and offsets are multiples of a block. Any thread.
 */
#ifndef LEAT_STORAGE_FILES_H
#define LEAT_STORAGE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#define LEAT_PATH_BYTES 1024u

/* Opened with O_DIRECT. Return a descriptor or -1 with errno set. */
int leat_file_open(const char *path, bool writable);
int leat_file_create(const char *path); /* opens an existing one too */

/* Reads up to length_bytes; what lies behind the file's end is zero. Returns 0 or LEAT_EIO. */
int leat_file_read(int fd, void *bytes, uint64_t length_bytes, uint64_t offset);

/* The same block by block: what cannot be read is zero, and so counts as damaged. */
void leat_file_read_by_blocks(int fd, void *bytes, uint64_t length_bytes, uint64_t offset);

/* Writes all of it. Returns 0 or LEAT_EIO with errno set. */
int leat_file_write(int fd, const void *bytes, uint64_t length_bytes, uint64_t offset);

/* Flushes a file or a directory, by name. Returns 0 or LEAT_EIO with errno set. */
int leat_path_flush(const char *path);

/* The size of a file, or -1. */
int64_t leat_path_size(const char *path);

/* Calls `each` for every name in a directory but the dots; stops when it returns false.
 * Returns 0 or LEAT_ESYSTEM with errno set. */
typedef bool leat_name_visit(void *context, const char *name);
int leat_directory_list(const char *path, leat_name_visit *each, void *context);

/* Memory for direct access, zeroed, and costing nothing until it is touched; NULL when there is
 * none. It is given back by leat_block_free(), which takes NULL too. */
void *leat_block_alloc(uint64_t length_bytes);
void leat_block_free(void *memory);

/* Writes one line to error. Returns rc, so that a refusal is one statement. */
__attribute__((format(printf, 4, 5))) int leat_refuse(char *error, unsigned error_bytes, int rc,
                                                      const char *format, ...);

#endif

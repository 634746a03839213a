/* SPDX-License-Identifier: Apache-2.0
 *
 * A client belongs to the process that attached it: a child shares the rings with its parent, and
 * two writers would break them. So each client keeps a mark of its process, compared with a word
 * that the kernel wipes on fork: a load and a comparison, no system call.
 * Any thread. Tests: tests/client/test_wake.c.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client_private.h"

static const uint64_t no_process = UINT64_MAX; /* before the first client: nobody's mark */
const uint64_t *client_process_word = &no_process;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t *word;
static uint64_t last_mark; /* inherited, so a child's is another */

static void child_wipes(void)
{
    *word = 0;
    pthread_mutex_init(&lock, NULL); /* another thread of the parent may have held it */
}

static void child_unlocks(void)
{
    pthread_mutex_init(&lock, NULL);
}

static bool word_make(void)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    word = page;
    bool wiped = madvise(page, bytes, MADV_WIPEONFORK) == 0; /* also after a bare clone() */
    if (pthread_atfork(NULL, NULL, wiped ? child_unlocks : child_wipes) != 0) {
        munmap(page, bytes);
        word = NULL;
        return false;
    }
    __atomic_store_n(&client_process_word, word, __ATOMIC_RELEASE);
    return true;
}

uint64_t client_process(void)
{
    uint64_t mark = 0;
    pthread_mutex_lock(&lock);
    if (word || word_make()) {
        if (*word == 0)
            __atomic_store_n(word, ++last_mark, __ATOMIC_RELAXED);
        mark = *word;
    }
    pthread_mutex_unlock(&lock);
    return mark;
}

/* In the translator's place on hosts that it has no code for: an engine that cannot be created. */
#include "cpu-core/jit/dump.h"
#include "cpu-core/jit/jit.h"
#include "cpu-core/jit/stats.h"
#include "cpu-core/jit/watch.h"

#include <errno.h>

const char *const jit_exit_names[EXIT_REASONS] = {"", "", "", "", "", ""};

static int none_create(void **engine, struct mmu *mmu, int no_cache)
{
    return -ENOTSUP;
}

const struct engine jit_engine = {.name = "jit", .create = none_create};

void jit_set_heat(void *engine, unsigned entries) {}

void jit_count_blocks(void *engine) {}

void jit_stop_exactly(void *engine, uint64_t n) {}

int jit_set_code_cache(void *engine, uint64_t bytes)
{
    return -ENOTSUP;
}

int jit_dump(const void *engine, int fd)
{
    return -ENOTSUP;
}

void jit_watch(void *engine, void (*told)(void *arg, const struct jit_event *e), void *arg) {}

void jit_get_stats(const void *engine, struct jit_stats *s, struct jit_memory *m)
{
    *s = (struct jit_stats){0};
    *m = (struct jit_memory){0};
}

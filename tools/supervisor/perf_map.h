/* The file in which perf looks for names of code that a process made. Knows no machine. */
#pragma once

#include <sys/types.h>

#define PERF_MAP_PATH 64

/* Makes the empty file for a process, in place of what an earlier process of that number left. `path` is
 * filled in. A descriptor for writing, or negative errno. */
int perf_map_create(pid_t pid, char path[PERF_MAP_PATH]);

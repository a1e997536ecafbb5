/* /tmp is everybody's: the file is new, and not behind a link. */
#include "tools/supervisor/perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int perf_map_create(pid_t pid, char path[PERF_MAP_PATH])
{
    snprintf(path, PERF_MAP_PATH, "/tmp/perf-%d.map", (int)pid);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

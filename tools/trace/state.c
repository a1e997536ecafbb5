/* Where state is kept: the XDG base directories. Must not know what is in it. */
#include "tools/trace/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int state_path(const char *name, char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool xdg = state && state[0] == '/'; /* a relative one is to be ignored, says the specification */
    if (!xdg && !(home && *home))
        return -ENOENT;
    int n = snprintf(path, size, "%s%s/cleave%s%s", xdg ? state : home, xdg ? "" : "/.local/state",
                     name ? "/" : "", name ? name : "");
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int make_directories(char *path)
{
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char was = *p;
        *p = '\0';
        int made = mkdir(path, 0700);
        *p = was;
        if (made < 0 && errno != EEXIST)
            return -errno;
        if (!was)
            return 0;
    }
}

int state_open(const char *name)
{
    char path[PATH_MAX];
    int err = state_path(name, path, sizeof(path));
    if (err)
        return err;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        err = make_directories(path);
        if (err)
            return err;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

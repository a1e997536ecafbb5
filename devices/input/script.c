/* Scripts of input. See script.h. */
#include "devices/input/script.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_MAX_BYTES = 4096,
    GROUP_NS = 1000000,
};

void script_free(struct script *s)
{
    events_free(&s->events);
    free(s->ns);
    *s = (struct script){0};
}

/* "250", "250us", "3ms", "2s": the end of it, or NULL. */
static const char *parse_time(const char *p, uint64_t *ns)
{
    static const struct {
        const char *suffix;
        uint64_t scale;
    } units[] = {{"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    uint64_t value = 0, scale = 1;

    if (*p < '0' || *p > '9')
        return NULL;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return NULL;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len = strlen(units[i].suffix);
        if (!strncmp(p, units[i].suffix, len)) {
            scale = units[i].scale;
            p += len;
            break;
        }
    }
    if (__builtin_mul_overflow(value, scale, ns) || (*p != ' ' && *p != '\t'))
        return NULL;
    return p;
}

/* The groups of one line follow each other in steps; a line that is due before the one before it is through
 * follows that. */
static int set_times(struct script *s, uint64_t ns)
{
    uint64_t *grown = realloc(s->ns, (s->events.count + 1) * sizeof *grown);

    if (!grown)
        return -ENOMEM;
    s->ns = grown;
    if (s->timed && __builtin_add_overflow(s->ns[s->timed - 1], GROUP_NS, &s->ns[s->timed]))
        return -ERANGE;
    if (!s->timed || s->ns[s->timed] < ns)
        s->ns[s->timed] = ns;
    for (unsigned i = s->timed; i + 1 < s->events.count; i++)
        if (__builtin_add_overflow(s->ns[i], s->events.list[i].type == EV_SYN ? GROUP_NS : 0, &s->ns[i + 1]))
            return -ERANGE;
    s->timed = s->events.count;
    return 0;
}

static int read_line(struct script *s, enum events_kind kind, const char *line, uint64_t *last, char *text,
                     size_t textlen)
{
    uint64_t ns;

    line += strspn(line, " \t");
    if (!*line || *line == '#')
        return 0;
    const char *command = parse_time(line, &ns);
    if (!command) {
        snprintf(text, textlen, "a line begins with a time and a blank");
        return -EINVAL;
    }
    if (ns < *last) {
        snprintf(text, textlen, "time goes back");
        return -EINVAL;
    }
    *last = ns;
    int err = events_command(&s->events, kind, command + strspn(command, " \t"), text, textlen);
    return err || s->events.count == s->timed ? err : set_times(s, ns);
}

int script_read(struct script *s, int fd, enum events_kind kind, char *text, size_t textlen)
{
    int copy = dup(fd);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
    char line[LINE_MAX_BYTES], why[256] = "";
    uint64_t last = 0;
    unsigned number = 0;
    int err = 0;

    if (!file) {
        err = errno;
        snprintf(text, textlen, "%s", strerror(err));
        if (copy >= 0)
            close(copy);
        return -err;
    }
    while (!err && fgets(line, sizeof line, file)) {
        size_t len = strlen(line);
        number++;
        if (len && line[len - 1] == '\n') {
            line[len - 1] = 0;
            if (len > 1 && line[len - 2] == '\r')
                line[len - 2] = 0;
        } else if (len == sizeof line - 1) {
            snprintf(why, sizeof why, "longer than %d bytes", LINE_MAX_BYTES - 2);
            err = -EINVAL;
            break;
        }
        err = read_line(s, kind, line, &last, why, sizeof why);
    }
    if (err)
        snprintf(text, textlen, "line %u: %s", number, *why ? why : strerror(-err));
    else if (ferror(file))
        snprintf(text, textlen, "%s", strerror(err = EIO)), err = -EIO;
    fclose(file);
    return err;
}

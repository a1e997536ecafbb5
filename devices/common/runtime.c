/* The life of a device process, and what a kind may ask about it. Knows no device type. */
#include "devices/common/device_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

void *device_data(struct device *d)
{
    return d->data;
}

uv_loop_t *device_loop(struct device *d)
{
    return &d->loop;
}

const char *device_id(const struct device *d)
{
    return d->configure.body ? d->configure.body->configure->id : d->role;
}

/* SplitMix64's finaliser over the machine's seed and the device's place. */
uint64_t device_seed(const struct device *d)
{
    const Cleave__Configure *c = d->configure.body->configure;
    uint64_t z = c->seed + 0x9e3779b97f4a7c15ull * ((uint64_t)c->device_index + 1);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

const char *device_option(const struct device *d, const char *key)
{
    return device_option_at(d, key, 0);
}

const char *device_option_at(const struct device *d, const char *key, unsigned index)
{
    const Cleave__Configure *c = d->configure.body->configure;
    return control_value_at(c->options, c->n_options, key, index);
}

int device_take_fd(struct device *d, const char *name)
{
    const Cleave__Configure *c = d->configure.body->configure;
    return control_take_fd(&d->configure, c->fds, c->n_fds, name);
}

static bool is_control_socket(int fd)
{
    int type;
    socklen_t len = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

/* Writing to a peer that went away, or past a file size limit, is an error of that write and not the end of
 * the process. */
static void ignore_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static struct device *create(const struct device_ops *ops, const char *role)
{
    struct device *d = calloc(1, sizeof(*d));
    void *data = calloc(1, ops->size ? ops->size : 1);
    if (!d || !data || uv_loop_init(&d->loop) != 0) {
        free(d);
        free(data);
        return NULL;
    }
    d->ops = ops;
    d->data = data;
    d->role = role;
    d->control = CONTROL_CHILD_FD;
    return d;
}

int device_main(int argc, char **argv, const struct device_ops *ops)
{
    if (argc != 2 || !is_control_socket(CONTROL_CHILD_FD)) {
        fprintf(stderr, "cleave-%s is a part of cleave, which starts it\n", ops->kind);
        return 2;
    }
    prctl(PR_SET_NAME, argv[1]);
    ignore_signals();
    struct device *d = create(ops, argv[1]);
    if (!d) {
        fprintf(stderr, "cleave-%s: %s\n", ops->kind, strerror(ENOMEM));
        return 1;
    }
    int err = device_handshake(d);
    if (err == -ECANCELED)
        device_stopped(d);
    if (!err && device_serve_init(d) < 0)
        err = device_error(d, ENOMEM, "%s: %s", device_id(d), strerror(ENOMEM));
    if (!err)
        device_loop_run(d);
    device_abort(d);
}

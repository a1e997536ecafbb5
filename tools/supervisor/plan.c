/* One function per device kind. On failure what was opened is released with the plan. */
#include "tools/supervisor/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pty.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

static int no_memory(struct failure *f)
{
    return failure_set(f, STATUS_FAILED, ENOMEM, "%s", strerror(ENOMEM));
}

static int option(struct plan_device *d, struct failure *f, const char *key, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return no_memory(f);
    d->options[d->noptions++] = (struct plan_option){key, copy};
    return 0;
}

static void descriptor(struct plan_device *d, const char *name, int fd)
{
    d->fd_names[d->nfds] = name;
    d->fds[d->nfds++] = fd;
}

static int unix_address(const char *path, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr->sun_path))
        return -ENAMETOOLONG;
    strcpy(addr->sun_path, path);
    return 0;
}

/* True when `path` is a socket that nobody listens on. */
static bool is_stale_socket(const char *path, const struct sockaddr_un *addr)
{
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale =
        fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return stale;
}

static int listen_unix(struct plan_device *d, const char *what, const char *path, struct failure *f)
{
    struct sockaddr_un addr;
    int err = unix_address(path, &addr);
    int fd = err ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (!err && fd < 0)
        err = -errno;
    if (!err && is_stale_socket(path, &addr))
        unlink(path);
    if (!err && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        err = -errno;
    if (!err) {
        d->socket = strdup(path);
        err = listen(fd, 1) < 0 ? -errno : 0;
    }
    if (err) {
        if (fd >= 0)
            close(fd);
        return failure_set(f, STATUS_FAILED, -err, "%s '%s': cannot listen on %s: %s", what, d->id, path,
                           strerror(-err));
    }
    descriptor(d, "listen", fd);
    return 0;
}

static int pace(struct plan_device *d, const struct config_pace *p, struct failure *f)
{
    int err = p->latency ? option(d, f, "latency", p->latency) : 0;
    if (!err && p->bandwidth)
        err = option(d, f, "bandwidth", p->bandwidth);
    if (!err && p->jitter)
        err = option(d, f, "jitter", p->jitter);
    return err;
}

static int plan_disk(struct plan_device *d, const struct config_disk *c, struct failure *f)
{
    d->kind = "block";
    d->id = c->id;
    d->writable = !c->ro && !c->overlay;
    int err = images_open_disk(c, &d->disk, f);
    if (err)
        return err;
    d->is_disk = true;
    err = option(d, f, "path", c->path);
    if (!err)
        err = option(d, f, "serial", c->serial);
    if (!err && c->ro)
        err = option(d, f, "readonly", "1");
    return err ? err : pace(d, &c->pace, f);
}

static int open_tap(struct plan_device *d, const char *ifname, struct failure *f)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        failure_set(f, STATUS_FAILED, err, "net '%s': cannot open tap '%s': %s", d->id, ifname,
                    strerror(err));
        if (err == EPERM)
            failure_hint(f, "ip tuntap add dev %s mode tap user %u", ifname, (unsigned)geteuid());
        return -err;
    }
    descriptor(d, "tap", fd);
    return 0;
}

static int plan_net(struct plan_device *d, const struct config_net *c, struct failure *f)
{
    d->kind = "net";
    d->id = c->id;
    int err = option(d, f, "backend", c->backend);
    if (!err)
        err = option(d, f, "mac", c->mac);
    for (unsigned i = 0; i < c->nhostfwd && !err; i++)
        err = option(d, f, "hostfwd", c->hostfwd[i]);
    if (!err && c->path)
        err = option(d, f, "path", c->path);
    if (!err && c->listen)
        err = listen_unix(d, "net", c->path, f);
    if (!err && c->ifname)
        err = option(d, f, "ifname", c->ifname);
    if (!err && c->ifname)
        err = open_tap(d, c->ifname, f);
    int pcap;
    if (!err && c->pcap) {
        err = images_open_output("capture", c->id, c->pcap, &pcap, f);
        if (!err)
            descriptor(d, "pcap", pcap);
    }
    return err ? err : pace(d, &c->pace, f);
}

static int open_pty(struct plan_device *d, struct failure *f)
{
    char name[64];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), slave = -1, err = 0;
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
        ptsname_r(master, name, sizeof(name)) != 0 || (slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        err = errno;
    struct termios t;
    if (!err && tcgetattr(slave, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(slave, TCSANOW, &t);
    }
    if (slave >= 0)
        close(slave);
    if (err) {
        if (master >= 0)
            close(master);
        return failure_set(f, STATUS_FAILED, err, "serial '%s': cannot open a pty: %s", d->id, strerror(err));
    }
    descriptor(d, "pty", master);
    d->terminal = strdup(name);
    return d->terminal ? option(d, f, "path", name) : no_memory(f);
}

static int plan_serial(struct plan_device *d, const struct config_serial *c, bool uart, int *stdio,
                       bool noinput, struct failure *f)
{
    bool is_stdio = strcmp(c->backend, "stdio") == 0;
    d->kind = "serial";
    d->id = c->id;
    int err = option(d, f, "type", uart ? "uart" : "console");
    if (!err)
        err = option(d, f, "backend", is_stdio ? "stream" : c->backend);
    if (!err && is_stdio) {
        descriptor(d, "stream", *stdio);
        *stdio = -1;
    }
    if (!err && is_stdio && noinput)
        err = option(d, f, "noinput", "1");
    if (!err && c->path)
        err = option(d, f, "path", c->path);
    if (!err && strcmp(c->backend, "pty") == 0)
        err = open_pty(d, f);
    if (!err && strcmp(c->backend, "unix") == 0)
        err = listen_unix(d, "serial", c->path, f);
    int file;
    if (!err && strcmp(c->backend, "file") == 0) {
        err = images_open_output("output", c->id, c->path, &file, f);
        if (!err)
            descriptor(d, "file", file);
    }
    return err ? err : pace(d, &c->pace, f);
}

static int plan_input(struct plan_device *d, const struct config_input *c, struct failure *f)
{
    d->kind = "input";
    d->id = c->id;
    int err = option(d, f, "type", c->type);
    int script;
    if (!err && c->script) {
        err = images_open_input("input script", c->script, &script, f);
        if (!err)
            descriptor(d, "script", script);
    }
    return err;
}

static struct plan_device *next(struct plan *p, bool slot)
{
    struct plan_device *d = &p->devices[p->n++];
    d->slot = slot ? (int)p->slots++ : -1;
    d->disk = (struct disk_image){-1, -1};
    return d;
}

static int fill(const struct config *c, int *stdio, bool noinput, struct plan *p, struct failure *f)
{
    int err = plan_serial(next(p, false), &c->serials[0], true, stdio, noinput, f);
    for (unsigned i = 0; i < c->ndisks && !err; i++)
        err = plan_disk(next(p, true), &c->disks[i], f);
    for (unsigned i = 0; i < c->nnets && !err; i++)
        err = plan_net(next(p, true), &c->nets[i], f);
    for (unsigned i = 1; i < c->nserials && !err; i++)
        err = plan_serial(next(p, true), &c->serials[i], false, stdio, noinput, f);
    for (unsigned i = 0; i < c->ninputs && !err; i++)
        err = plan_input(next(p, true), &c->inputs[i], f);
    if (!err && c->rng) {
        struct plan_device *d = next(p, true);
        d->kind = "rng";
        d->id = "rng0";
    }
    return err;
}

int plan_create(const struct config *c, int stdio, bool noinput, struct plan *p, struct failure *f)
{
    struct plan out = {0};
    unsigned max = c->nserials + c->ndisks + c->nnets + c->ninputs + 1;
    out.devices = calloc(max, sizeof(*out.devices));
    int err = out.devices ? fill(c, &stdio, noinput, &out, f) : no_memory(f);
    if (stdio >= 0)
        close(stdio);
    if (err) {
        plan_release(&out);
        return err;
    }
    *p = out;
    return 0;
}

static void release_device(struct plan_device *d)
{
    for (unsigned i = 0; i < d->noptions; i++)
        free(d->options[i].value);
    for (unsigned i = 0; i < d->nfds; i++)
        close(d->fds[i]);
    if (d->is_disk)
        images_close_disk(&d->disk);
    if (d->socket)
        unlink(d->socket);
    free(d->socket);
    free(d->terminal);
}

void plan_release(struct plan *p)
{
    for (unsigned i = 0; i < p->n; i++)
        release_device(&p->devices[i]);
    free(p->devices);
    *p = (struct plan){0};
}

static void sweep_socket(const char *path)
{
    struct sockaddr_un addr;
    if (unix_address(path, &addr) == 0 && is_stale_socket(path, &addr))
        unlink(path);
}

void plan_sweep(const struct config *c)
{
    for (unsigned i = 0; i < c->nserials; i++) {
        if (strcmp(c->serials[i].backend, "unix") == 0)
            sweep_socket(c->serials[i].path);
    }
    for (unsigned i = 0; i < c->nnets; i++) {
        if (c->nets[i].listen)
            sweep_socket(c->nets[i].path);
    }
}

/* The `user` back-end: a network behind NAT inside this process, by libslirp, laid out as QEMU's: 10.0.2.0/24
 * and fec0::/64, gateway at 2, name server at 3, guest from 15 on. libslirp's sockets are polled through one
 * epoll set inside the event loop. A guest that is slow to take packets stops the polling, and with it, by
 * TCP's windows, the senders. */
#include "devices/net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    QUEUE_PAUSE = 256 << 10, /* bytes for the guest at which the sockets are no longer read */
    QUEUE_MAX = 4 << 20,     /* bytes at which packets are dropped */
    EPOLL_BATCH = 64,
};

/* A packet that waits for room. */
struct packet {
    struct packet *next;
    uint32_t len;
    uint8_t data[];
};

/* What libslirp wants to know about a descriptor, and what the epoll set was told. */
struct watch {
    int wanted, armed, ready; /* SLIRP_POLL_* */
    uint64_t round;           /* the last in which libslirp asked for it */
};

struct user {
    struct net *net;
    Slirp *slirp;
    int epoll;
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_timer_t wake;
    bool polling;
    bool input; /* the guest sent something since libslirp last sent what waited */
    uint64_t round;
    struct watch *watches; /* by descriptor */
    size_t nwatches;
    int *asked, *previous; /* descriptors of this round and the one before; nwatches entries each */
    unsigned nasked, nprevious;
    struct packet *first, **last;
    uint64_t queued;
    uint8_t header_flags;
    uint8_t packet[OFFLOAD_PACKET_MAX];
};

/* A timer of libslirp's. */
struct timer {
    uv_timer_t uv;
    struct user *user;
    SlirpTimerId id;
    void *opaque;
};

/* Packets to the guest */

static void enqueue(struct user *u, uint32_t len)
{
    struct packet *p = u->queued + len <= QUEUE_MAX ? malloc(sizeof *p + len) : NULL;

    if (!p) {
        device_dropped(net_device(u->net), 1);
        return;
    }
    *p = (struct packet){.len = len};
    memcpy(p->data, u->packet, len);
    *u->last = p;
    u->last = &p->next;
    u->queued += len;
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    struct user *u = opaque;

    if (len < OFFLOAD_FRAME_MIN || len > OFFLOAD_FRAME_MAX) {
        device_dropped(net_device(u->net), 1);
        return (ssize_t)len;
    }
    offload_plain_header(u->packet, u->header_flags);
    memcpy(u->packet + OFFLOAD_HEADER, buf, len);
    if (u->first || net_receive(u->net, u->packet, OFFLOAD_HEADER + (uint32_t)len) < 0)
        enqueue(u, OFFLOAD_HEADER + (uint32_t)len);
    return (ssize_t)len;
}

static void user_room(struct net *n)
{
    struct user *u = net_backend_data(n);

    while (u->first) {
        struct packet *p = u->first;
        if (net_receive(n, p->data, p->len) < 0)
            return;
        u->first = p->next;
        if (!u->first)
            u->last = &u->first;
        u->queued -= p->len;
        free(p);
    }
}

/* Sockets */

static uint32_t to_epoll(int events)
{
    return (events & SLIRP_POLL_IN ? EPOLLIN : 0) | (events & SLIRP_POLL_OUT ? EPOLLOUT : 0) |
           (events & SLIRP_POLL_PRI ? EPOLLPRI : 0);
}

static int from_epoll(uint32_t events)
{
    return (events & EPOLLIN ? SLIRP_POLL_IN : 0) | (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
           (events & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (events & EPOLLERR ? SLIRP_POLL_ERR : 0) |
           (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static bool grow(struct user *u, int fd)
{
    size_t n = u->nwatches ? u->nwatches : 64;

    while (n <= (size_t)fd)
        n *= 2;
    struct watch *watches = realloc(u->watches, n * sizeof *watches);
    if (watches)
        u->watches = watches;
    int *asked = realloc(u->asked, n * sizeof *asked);
    if (asked)
        u->asked = asked;
    int *previous = realloc(u->previous, n * sizeof *previous);
    if (previous)
        u->previous = previous;
    if (!watches || !asked || !previous)
        return false;
    memset(u->watches + u->nwatches, 0, (n - u->nwatches) * sizeof *watches);
    u->nwatches = n;
    return true;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct user *u = opaque;

    if (fd < 0 || ((size_t)fd >= u->nwatches && !grow(u, fd)) || u->watches[fd].round == u->round)
        return -1;
    u->watches[fd].wanted = events;
    u->watches[fd].round = u->round;
    u->asked[u->nasked++] = fd;
    return (int)u->nasked - 1;
}

static int ready_events(int index, void *opaque)
{
    struct user *u = opaque;

    return index < 0 || (unsigned)index >= u->nasked ? 0 : u->watches[u->asked[index]].ready;
}

/* libslirp opened or is about to close `fd`: whatever the set knows of that number is void. */
static void forget(int fd, void *opaque)
{
    struct user *u = opaque;

    if (fd < 0 || (size_t)fd >= u->nwatches)
        return;
    if (u->watches[fd].armed)
        epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
    u->watches[fd].armed = 0;
    u->watches[fd].ready = 0;
}

static void arm(struct user *u, int fd)
{
    struct watch *w = &u->watches[fd];
    struct epoll_event ev = {.events = to_epoll(w->wanted), .data.fd = fd};

    if (w->armed == w->wanted)
        return;
    if (epoll_ctl(u->epoll, w->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) == 0)
        w->armed = w->wanted;
}

static void slirp_ready(struct user *u)
{
    u->input = false;
    slirp_pollfds_poll(u->slirp, 0, ready_events, u);
    for (unsigned i = 0; i < u->nasked; i++)
        u->watches[u->asked[i]].ready = 0;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct user *u = poll->data;
    struct epoll_event ev[EPOLL_BATCH];
    int n = epoll_wait(u->epoll, ev, EPOLL_BATCH, 0);

    for (int i = 0; i < n; i++)
        u->watches[ev[i].data.fd].ready = from_epoll(ev[i].events);
    slirp_ready(u);
}

static void on_wake(uv_timer_t *wake)
{
    slirp_ready(wake->data);
}

/* The time that is left of an earlier wish is not extended: the loop wakes for other things more often. */
static void wake_in(struct user *u, uint32_t timeout)
{
    if (timeout == UINT32_MAX)
        uv_timer_stop(&u->wake);
    else if (!uv_is_active((uv_handle_t *)&u->wake) || uv_timer_get_due_in(&u->wake) > timeout)
        uv_timer_start(&u->wake, on_wake, timeout, 0);
}

/* Before every sleep of the loop: ask libslirp what it waits for. An answer to a question for the guest's
 * address releases packets that libslirp sends after a poll only. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct user *u = prepare->data;
    uint32_t timeout = UINT32_MAX;
    int *list = u->previous;

    if (u->queued > QUEUE_PAUSE) {
        if (u->polling)
            uv_poll_stop(&u->poll);
        u->polling = false;
        uv_timer_stop(&u->wake);
        return;
    }
    if (u->input)
        slirp_ready(u);
    u->previous = u->asked;
    u->nprevious = u->nasked;
    u->asked = list;
    u->nasked = 0;
    u->round++;
    slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
    for (unsigned i = 0; i < u->nprevious; i++)
        if (u->watches[u->previous[i]].round != u->round)
            forget(u->previous[i], u);
    for (unsigned i = 0; i < u->nasked; i++)
        arm(u, u->asked[i]);

    if (!u->polling)
        uv_poll_start(&u->poll, UV_READABLE, on_ready);
    u->polling = true;
    wake_in(u, timeout);
}

/* Callbacks of libslirp */

static void guest_error(const char *msg, void *opaque) {}

static int64_t clock_ns(void *opaque)
{
    return (int64_t)uv_hrtime();
}

static void on_timer(uv_timer_t *uv)
{
    struct timer *t = uv->data;

    slirp_handle_timer(t->user->slirp, t->id, t->opaque);
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    struct user *u = opaque;
    struct timer *t = calloc(1, sizeof *t);

    if (!t)
        abort(); /* libslirp knows no failure here */
    *t = (struct timer){.user = u, .id = id, .opaque = cb_opaque};
    uv_timer_init(device_loop(net_device(u->net)), &t->uv);
    t->uv.data = t;
    return t;
}

static void timer_closed(uv_handle_t *uv)
{
    free(uv->data);
}

static void timer_free(void *timer, void *opaque)
{
    struct timer *t = timer;

    uv_close((uv_handle_t *)&t->uv, timer_closed);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    struct timer *t = timer;
    int64_t left = expire_ms - (int64_t)(uv_hrtime() / 1000000);

    uv_timer_start(&t->uv, on_timer, left > 0 ? (uint64_t)left : 0, 0);
}

static void notify(void *opaque) {}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_ns,
    .timer_new_opaque = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = forget,
    .unregister_poll_fd = forget,
    .notify = notify,
};

/* Set-up */

/* One end of a forwarding, "ADDR:PORT" with ADDR possibly empty; up to `end`. */
static bool parse_end(const char *text, const char *end, struct in_addr *address, int *port)
{
    char buf[64], *colon, *rest;
    size_t len = (size_t)(end - text);

    if (len >= sizeof buf)
        return false;
    memcpy(buf, text, len);
    buf[len] = 0;
    colon = strchr(buf, ':');
    if (!colon)
        return false;
    *colon = 0;
    *address = (struct in_addr){0};
    if (*buf && inet_pton(AF_INET, buf, address) != 1)
        return false;
    if (colon[1] < '0' || colon[1] > '9')
        return false;
    unsigned long value = strtoul(colon + 1, &rest, 10);
    *port = (int)value;
    return !*rest && value >= 1 && value <= 65535;
}

/* "tcp:ADDR:PORT-ADDR:PORT" */
static int forward(struct user *u, const char *text)
{
    struct device *d = net_device(u->net);
    bool udp = !strncmp(text, "udp:", 4);
    const char *dash = strchr(text, '-');
    struct in_addr host, guest;
    int host_port, guest_port;

    if ((!udp && strncmp(text, "tcp:", 4)) || !dash || !parse_end(text + 4, dash, &host, &host_port) ||
        !parse_end(dash + 1, text + strlen(text), &guest, &guest_port))
        return device_error(d, EINVAL, "bad forwarding '%s' of card '%s'", text, device_id(d));
    errno = 0;
    if (slirp_add_hostfwd(u->slirp, udp, host, host_port, guest, guest_port) < 0) {
        int err = errno ? errno : EADDRINUSE;
        return device_error(d, err, "cannot forward %s port %d of card '%s': %s", udp ? "udp" : "tcp",
                            host_port, device_id(d), strerror(err));
    }
    return 0;
}

static void layout(SlirpConfig *c)
{
    *c = (SlirpConfig){.version = 4, .in_enabled = true, .in6_enabled = true, .vprefix_len = 64};
    inet_pton(AF_INET, "10.0.2.0", &c->vnetwork);
    inet_pton(AF_INET, "255.255.255.0", &c->vnetmask);
    inet_pton(AF_INET, "10.0.2.2", &c->vhost);
    inet_pton(AF_INET, "10.0.2.15", &c->vdhcp_start);
    inet_pton(AF_INET, "10.0.2.3", &c->vnameserver);
    inet_pton(AF_INET6, "fec0::", &c->vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &c->vhost6);
    inet_pton(AF_INET6, "fec0::3", &c->vnameserver6);
}

static int user_open(struct net *n)
{
    struct user *u = net_backend_data(n);
    struct device *d = net_device(n);
    uv_loop_t *loop = device_loop(d);
    SlirpConfig config;
    const char *text;

    u->net = n;
    u->last = &u->first;
    u->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (u->epoll < 0)
        return device_error(d, errno, "cannot start the network of card '%s': %s", device_id(d),
                            strerror(errno));
    layout(&config);
    u->slirp = slirp_new(&config, &callbacks, u);
    if (!u->slirp)
        return device_error(d, EINVAL, "cannot start the network of card '%s'", device_id(d));
    for (unsigned i = 0; (text = device_option_at(d, "hostfwd", i)); i++) {
        int err = forward(u, text);
        if (err < 0)
            return err;
    }
    uv_poll_init(loop, &u->poll, u->epoll);
    uv_prepare_init(loop, &u->prepare);
    uv_timer_init(loop, &u->wake);
    u->poll.data = u->prepare.data = u->wake.data = u;
    return 0;
}

static void user_start(struct net *n)
{
    struct user *u = net_backend_data(n);

    uv_prepare_start(&u->prepare, on_prepare);
}

static int user_send(struct net *n, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len)
{
    struct user *u = net_backend_data(n);

    slirp_input(u->slirp, frame, (int)len);
    u->input = true;
    return 0;
}

static void user_accepted(struct net *n, uint64_t features)
{
    struct user *u = net_backend_data(n);

    /* libslirp computes every checksum itself. */
    u->header_flags = features >> VIRTIO_NET_F_GUEST_CSUM & 1 ? VIRTIO_NET_HDR_F_DATA_VALID : 0;
}

const struct net_backend net_user = {
    .name = "user",
    .any_segment = true,
    .sandbox = SANDBOX_INTERNET,
    .features = 1ull << VIRTIO_NET_F_GUEST_CSUM,
    .size = sizeof(struct user),
    .open = user_open,
    .start = user_start,
    .send = user_send,
    .room = user_room,
    .accepted = user_accepted,
};

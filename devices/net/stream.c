/* The `stream` back-end: frames over a unix socket, to a QEMU, a passt or another card of ours. Either a
 * client, which connects again with growing pauses for as long as it takes, or a server on a listening socket
 * from the supervisor, for one client at a time. A connection that ends inside a frame takes the frame with
 * it; the next one begins with a whole frame. */
#include "devices/net/framing.h"
#include "devices/net/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    OUT_SIZE = 1 << 20, /* bytes queued for a slow peer; what comes then is dropped */
    RETRY_FIRST_MS = 50,
    RETRY_MAX_MS = 5000,
    READS = 16, /* in one turn of the loop */
};

struct stream {
    struct net *net;
    struct sockaddr_un address; /* client */
    int listener;               /* server, or -1 */
    int fd;                     /* the connection, or -1 */
    uv_poll_t listen_poll;
    uv_poll_t *poll; /* of fd; on the heap, for its closing outlives the connection */
    int polled;      /* UV_READABLE | UV_WRITABLE */
    uv_timer_t retry;
    uv_prepare_t prepare;
    unsigned retry_ms;
    bool connecting, full, told;
    struct framing_in in;
    struct framing_out out;
    uint8_t packet[OFFLOAD_PACKET_MAX];
};

static void try_connect(struct stream *s);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void on_retry(uv_timer_t *retry)
{
    try_connect(retry->data);
}

static void on_listener(uv_poll_t *poll, int status, int events);

/* Ends the connection, if there is one, and waits for the next. */
static void disconnect(struct stream *s)
{
    if (s->poll) {
        uv_poll_stop(s->poll);
        uv_close((uv_handle_t *)s->poll, free_handle);
        s->poll = NULL;
    }
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->connecting = s->full = false;
    s->polled = 0;
    s->in.have = s->in.at = 0;
    device_dropped(net_device(s->net), framing_clear(&s->out));
    if (s->listener >= 0) {
        uv_poll_start(&s->listen_poll, UV_READABLE, on_listener);
        return;
    }
    uv_timer_start(&s->retry, on_retry, s->retry_ms, 0);
    s->retry_ms = s->retry_ms * 2 < RETRY_MAX_MS ? s->retry_ms * 2 : RETRY_MAX_MS;
}

static void lost(struct stream *s, const char *why)
{
    struct device *d = net_device(s->net);

    if (!s->told)
        device_log(d, "card '%s' has no peer: %s", device_id(d), why);
    s->told = true;
    disconnect(s);
}

static void on_socket(uv_poll_t *poll, int status, int events);

/* Polls for what there is to do: reading unless the guest is full, writing while something waits. */
static void set_polling(struct stream *s)
{
    int want = s->connecting ? UV_WRITABLE
                             : (s->full ? 0 : UV_READABLE) | (s->out.tail != s->out.head ? UV_WRITABLE : 0);

    if (!s->poll || want == s->polled)
        return;
    s->polled = want;
    if (want)
        uv_poll_start(s->poll, want, on_socket);
    else
        uv_poll_stop(s->poll);
}

static void established(struct stream *s)
{
    s->connecting = false;
    s->told = false;
    s->retry_ms = RETRY_FIRST_MS;
}

/* Takes over a non-blocking socket. */
static void adopt(struct stream *s, int fd, bool connecting)
{
    s->fd = fd;
    s->poll = malloc(sizeof *s->poll);
    int err = s->poll ? uv_poll_init(device_loop(net_device(s->net)), s->poll, fd) : UV_ENOMEM;
    if (err < 0) {
        free(s->poll);
        s->poll = NULL;
        lost(s, uv_strerror(err));
        return;
    }
    s->poll->data = s;
    s->connecting = connecting;
    if (!connecting)
        established(s);
    set_polling(s);
}

static void try_connect(struct stream *s)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        lost(s, strerror(errno));
        return;
    }
    if (connect(fd, (struct sockaddr *)&s->address, sizeof s->address) < 0 && errno != EINPROGRESS) {
        int err = errno;
        close(fd);
        lost(s, strerror(err));
        return;
    }
    adopt(s, fd, true);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct stream *s = poll->data;
    int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    uv_poll_stop(poll);
    adopt(s, fd, false);
}

/* Hands complete frames to the guest; false if the connection is over. */
static bool deliver_frames(struct stream *s)
{
    const uint8_t *frame;
    uint32_t len;
    int got;

    while ((got = framing_next(&s->in, &frame, &len)) > 0) {
        if (len < OFFLOAD_FRAME_MIN) {
            device_dropped(net_device(s->net), 1);
            framing_done(&s->in);
            continue;
        }
        offload_plain_header(s->packet, 0);
        memcpy(s->packet + OFFLOAD_HEADER, frame, len);
        s->full = net_receive(s->net, s->packet, OFFLOAD_HEADER + len) == -ENOSPC;
        if (s->full)
            return true;
        framing_done(&s->in);
    }
    if (got < 0)
        lost(s, "it sent a frame of impossible length");
    return got == 0;
}

static void read_socket(struct stream *s)
{
    for (unsigned i = 0; i < READS && !s->full; i++) {
        uint32_t room;
        uint8_t *space = framing_space(&s->in, &room);
        ssize_t n = recv(s->fd, space, room, 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            lost(s, n < 0 ? strerror(errno) : "it closed the connection");
            return;
        }
        s->in.have += (uint32_t)n;
        if (!deliver_frames(s))
            return;
    }
}

/* False if the connection is over. */
static bool write_socket(struct stream *s)
{
    while (s->out.head != s->out.tail) {
        ssize_t n = send(s->fd, s->out.data + s->out.head, s->out.tail - s->out.head, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0) {
            lost(s, strerror(errno));
            return false;
        }
        framing_sent(&s->out, (uint32_t)n);
    }
    return true;
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct stream *s = poll->data;

    if (s->connecting) {
        int err = 0;
        socklen_t len = sizeof err;
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
        if (err) {
            lost(s, strerror(err));
            return;
        }
        established(s);
    }
    if (events & UV_WRITABLE && !write_socket(s))
        return;
    if (status < 0 || events & UV_READABLE)
        read_socket(s);
    set_polling(s);
}

/* Before every sleep of the loop: what the guest sent meanwhile goes out in one piece. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct stream *s = prepare->data;

    if (s->fd >= 0 && !s->connecting && !(s->polled & UV_WRITABLE) && write_socket(s))
        set_polling(s);
}

static int stream_open(struct net *n)
{
    struct stream *s = net_backend_data(n);
    struct device *d = net_device(n);
    const char *path = device_option(d, "path");

    s->net = n;
    s->fd = -1;
    s->retry_ms = RETRY_FIRST_MS;
    s->listener = device_take_fd(d, "listen");
    if (s->listener < 0) {
        if (!path || !*path || strlen(path) >= sizeof s->address.sun_path)
            return device_error(d, EINVAL, "bad socket path '%s' of card '%s'", path ? path : "",
                                device_id(d));
        s->address.sun_family = AF_UNIX;
        memcpy(s->address.sun_path, path, strlen(path));
    }
    s->out.size = OUT_SIZE;
    s->out.data = malloc(OUT_SIZE);
    int err = s->out.data ? uv_timer_init(device_loop(d), &s->retry) : UV_ENOMEM;
    if (!err)
        err = uv_prepare_init(device_loop(d), &s->prepare);
    if (!err && s->listener >= 0)
        err = uv_poll_init(device_loop(d), &s->listen_poll, s->listener);
    if (err < 0)
        return device_error(d, -err, "cannot open the socket of card '%s': %s", device_id(d),
                            uv_strerror(err));
    s->retry.data = s->prepare.data = s->listen_poll.data = s;
    return 0;
}

static void stream_start(struct net *n)
{
    struct stream *s = net_backend_data(n);

    uv_prepare_start(&s->prepare, on_prepare);
    if (s->listener >= 0)
        uv_poll_start(&s->listen_poll, UV_READABLE, on_listener);
    else
        try_connect(s);
}

static int stream_send(struct net *n, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame, uint32_t len)
{
    struct stream *s = net_backend_data(n);

    if (s->fd < 0 || s->connecting || framing_put(&s->out, frame, len) < 0)
        device_dropped(net_device(n), 1);
    return 0;
}

static void stream_room(struct net *n)
{
    struct stream *s = net_backend_data(n);

    if (s->fd >= 0 && s->full && deliver_frames(s))
        set_polling(s);
}

static void stream_stop(struct net *n)
{
    struct stream *s = net_backend_data(n);

    if (s->fd >= 0 && !s->connecting)
        write_socket(s);
}

const struct net_backend net_stream = {
    .name = "stream",
    .sandbox = SANDBOX_CONNECT | SANDBOX_ACCEPT,
    .size = sizeof(struct stream),
    .open = stream_open,
    .start = stream_start,
    .send = stream_send,
    .room = stream_room,
    .stop = stream_stop,
};

/* Handshake of the vcpu process: Hello, Machine, an Attach for every device, a Link for every device, Ready,
 * Run (docs/PROTOCOL.md). Must not run guest code. */
#include "cpu-core/main/startup.h"

#include "cpu-core/jit/jit.h"
#include "ipc/sandbox.h"
#include "ipc/schedule.h"

#include <errno.h>
#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_TIMEOUT_MS 30000 /* devices handshake between our messages */

static int fail(int control, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail(int control, int err, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    Cleave__Failure failure = CLEAVE__FAILURE__INIT;
    failure.text = text;
    failure.err = -err;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_FAILURE;
    body.failure = &failure;
    control_send(control, &body, NULL, 0);
    return err;
}

static int send_hello(int control)
{
    Cleave__Hello hello = CLEAVE__HELLO__INIT;
    hello.major = CONTROL_MAJOR;
    hello.minor = CONTROL_MINOR;
    hello.kind = (char *)"vcpu";
    hello.pid = (uint32_t)getpid();
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_HELLO;
    body.hello = &hello;
    return control_send(control, &body, NULL, 0);
}

static int send_ready(int control)
{
    Cleave__Ready ready = CLEAVE__READY__INIT;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_READY;
    body.ready = &ready;
    return control_send(control, &body, NULL, 0);
}

/* What a recording begins with. */
static int send_journal(int control, struct machine *m)
{
    int fd = machine_take_journal(m), cpu, isa_len;
    if (fd < 0)
        return 0;
    size_t len;
    const void *fdt = board_fdt(machine_board(m), &len);
    cpu = fdt_path_offset(fdt, "/cpus/cpu@0");
    const char *isa = cpu < 0 ? NULL : fdt_getprop(fdt, cpu, "riscv,isa", &isa_len);
    Cleave__Journal journal = CLEAVE__JOURNAL__INIT;
    journal.isa = (char *)(isa ? isa : "");
    journal.device_tree = (ProtobufCBinaryData){.len = len, .data = (uint8_t *)fdt};
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_JOURNAL;
    body.journal = &journal;
    int err = control_send(control, &body, &fd, 1);
    close(fd);
    return err < 0 ? fail(control, err, "cannot hand the journal over: %s", strerror(-err)) : 0;
}

static int take_image(struct control_message *msg, const char *name, struct images *images, int control,
                      const uint8_t **data, size_t *len)
{
    const Cleave__Machine *mc = msg->body->machine;
    const struct boot_image *image;
    int fd = control_take_fd(msg, mc->fds, mc->n_fds, name);
    if (fd < 0)
        return 0;
    int err = images_read(images, fd, &image);
    close(fd);
    if (err < 0)
        return fail(control, err, "cannot read the %s: %s", name, strerror(-err));
    *data = image->data;
    *len = image->len;
    return 0;
}

static const struct engine *const engines[] = {&interp_engine, &jit_engine};

static const struct engine *find_engine(const char *name)
{
    for (unsigned i = 0; i < sizeof engines / sizeof *engines; i++)
        if (!strcmp(engines[i]->name, name))
            return engines[i];
    return NULL;
}

static unsigned mmu_levels(const char *mode)
{
    return !strcmp(mode, "sv39") ? 3 : !strcmp(mode, "sv57") ? 5 : 4;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* What the machine borrows for the life of the process. */
static struct {
    struct images images;
    uint64_t *hash_at;
    char *append;
} lent;

/* Copies what outlives the message. */
static int machine_config(const Cleave__Machine *mc, struct machine_config *cfg)
{
    uint64_t *at = lent.hash_at = calloc(mc->n_hash_at + 1, sizeof *at);
    char *append = lent.append = strdup(mc->append);
    if (!at || !append)
        return -ENOMEM;
    for (size_t i = 0; i < mc->n_hash_at; i++)
        at[i] = mc->hash_at[i];
    qsort(at, mc->n_hash_at, sizeof *at, by_value);
    *cfg = (struct machine_config){.board = {.memory = mc->memory,
                                             .cpus = mc->cpus,
                                             .mmu_levels = mmu_levels(mc->mmu),
                                             .slots = (unsigned)mc->slots,
                                             .seed = mc->seed,
                                             .rtc_start_ns = mc->rtc_start_ns,
                                             .append = *append ? append : NULL},
                                   .engine = find_engine(mc->engine),
                                   .no_tlb = mc->no_tlb,
                                   .code_cache = mc->code_cache,
                                   .log_jit = mc->log_jit,
                                   .count_blocks = mc->count_blocks,
                                   .virtual_clock = !strcmp(mc->clock, "virtual"),
                                   .fixed_timing = !strcmp(mc->timing, "fixed"),
                                   .hash_at_exit = mc->hash_at_exit,
                                   .hash_every = mc->hash_every,
                                   .hash_at = at,
                                   .inspect = mc->inspect,
                                   .nhash_at = (unsigned)mc->n_hash_at,
                                   .stop_at = mc->stop_at,
                                   .exact_stop = mc->exact_stop,
                                   .realtime = mc->realtime,
                                   .mirror = mc->mirror};
    bool sane = !cfg->code_cache || (cfg->code_cache >= JIT_CODE_MIN && cfg->code_cache <= JIT_CODE_MAX);
    return cfg->engine && sane ? 0 : -EINVAL;
}

static int create(int control, struct control_message *msg, struct machine **m)
{
    struct machine_config cfg;
    const Cleave__Machine *mc = msg->body->machine;
    struct images *images = &lent.images;
    char err[256] = "";

    int e = machine_config(mc, &cfg);
    if (e < 0)
        return fail(control, e, "cannot use engine '%s': %s", mc->engine, strerror(-e));
    struct board_config *b = &cfg.board;
    if ((e = take_image(msg, "bios", images, control, &b->bios, &b->bios_len)) < 0 ||
        (e = take_image(msg, "kernel", images, control, &b->kernel, &b->kernel_len)) < 0 ||
        (e = take_image(msg, "initrd", images, control, &b->initrd, &b->initrd_len)) < 0 ||
        (e = take_image(msg, "device-tree", images, control, &b->device_tree, &b->device_tree_len)) < 0)
        return e;
    cfg.images = images;
    struct machine_host host = {.control = control,
                                .doorbell = control_take_fd(msg, mc->fds, mc->n_fds, "doorbell"),
                                .perf_map = control_take_fd(msg, mc->fds, mc->n_fds, "perf-map"),
                                .feed = control_take_fd(msg, mc->fds, mc->n_fds, "feed"),
                                .tail = control_take_fd(msg, mc->fds, mc->n_fds, "tail"),
                                .bell = control_take_fd(msg, mc->fds, mc->n_fds, "bell"),
                                .urgent = control_take_fd(msg, mc->fds, mc->n_fds, "urgent"),
                                .record_require = mc->record_require};
    e = machine_create(m, &cfg, &host, err, sizeof err);
    if (host.tail >= 0)
        close(host.tail);
    return e < 0 ? fail(control, e, "%s", err) : 0;
}

static int copy_identity(const Cleave__Describe *d, struct virtio_identity *id)
{
    if (d->config.len > sizeof id->config || d->n_rows > sizeof id->rows / sizeof *id->rows ||
        d->n_queues > CHANNEL_MAX_QUEUES)
        return -EINVAL;
    id->device_id = d->virtio_id;
    id->features = d->features;
    if (d->config.len)
        memcpy(id->config, d->config.data, d->config.len);
    id->config_len = (uint32_t)d->config.len;
    id->selector_len = d->selector_len;
    id->selector_data = d->selector_data;
    id->selector_size_at = d->selector_size_at;
    id->inbound_merge = d->inbound_merge;
    id->merge_feature = d->merge_feature;
    id->merge_count_at = d->merge_count_at;
    for (size_t i = 0; i < d->n_rows; i++) {
        if (d->rows[i]->data.len > sizeof id->rows[i].data)
            return -EINVAL;
        id->rows[i].selector = d->rows[i]->selector;
        id->rows[i].len = (uint32_t)d->rows[i]->data.len;
        memcpy(id->rows[i].data, d->rows[i]->data.data, d->rows[i]->data.len);
    }
    id->nrows = (unsigned)d->n_rows;
    id->geometry = (struct channel_geometry){.nqueues = (uint32_t)d->n_queues, .blob_max = d->blob_max};
    for (size_t i = 0; i < d->n_queues; i++) {
        const Cleave__Queue *q = d->queues[i];
        id->geometry.queue[i] = (struct channel_queue){q->kind,         q->slots,         q->max_request,
                                                       q->max_response, q->request_bytes, q->response_bytes};
    }
    return 0;
}

static int send_attached(int control, const char *id, const struct channel_geometry *g, int out_fd)
{
    Cleave__Attached attached = CLEAVE__ATTACHED__INIT;
    attached.id = (char *)id;
    attached.layout_crc = channel_layout_crc(g);
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_ATTACHED;
    body.attached = &attached;
    return control_send(control, &body, &out_fd, out_fd >= 0);
}

static int plug(struct machine *m, const Cleave__Attach *a, const struct virtio_identity *id, struct link *l)
{
    struct board *b = machine_board(m);
    if (a->slot < 0) {
        board_uart_attach(b, l);
        link_bind(l, &board_uart_sink, b);
        return 0;
    }
    struct virtio *v = board_slot(b, (unsigned)a->slot);
    if (!v)
        return -EINVAL;
    link_bind(l, &virtio_link_sink, v);
    return virtio_plug(v, id, l);
}

/* The schedule that came along, in the form that the crossing layer takes; both to be freed. */
static int take_schedule(const struct control_message *msg, struct schedule *s, struct link_scheduled **list)
{
    if (msg->nfds != (msg->body->attach->describe->scheduled ? 1u : 0u))
        return -EPROTO;
    int err = msg->nfds ? schedule_read(msg->fds[0], s) : 0;
    *list = err ? NULL : calloc(s->n + 1, sizeof **list);
    if (!*list)
        return err ? err : -ENOMEM;
    for (size_t i = 0; i < s->n; i++)
        (*list)[i] =
            (struct link_scheduled){s->list[i].ns, s->list[i].queue, s->list[i].data, s->list[i].len};
    return 0;
}

static int copy_latency(const Cleave__Describe *d, struct latency_model *model)
{
    if (d->n_latency > LATENCY_MAX_RULES)
        return -EINVAL;
    *model = (struct latency_model){.seed = d->latency_seed, .nrules = (uint32_t)d->n_latency};
    for (size_t i = 0; i < d->n_latency; i++) {
        const Cleave__LatencyRule *from = d->latency[i];
        struct latency_rule *to = &model->rule[i];
        if (from->prefix.len > LATENCY_MAX_PREFIX)
            return -EINVAL;
        if (from->prefix.len)
            memcpy(to->prefix, from->prefix.data, from->prefix.len);
        to->prefix_len = (uint32_t)from->prefix.len;
        to->base_ns = from->base_ns;
        to->bandwidth = from->bandwidth;
        to->jitter_ns = from->jitter_ns;
    }
    return 0;
}

static int attach(int control, const struct control_message *msg, struct machine *m)
{
    const Cleave__Attach *a = msg->body->attach;
    const Cleave__Describe *d = a->describe;
    struct virtio_identity *id = calloc(1, sizeof *id);
    struct schedule schedule = {0};
    struct link_scheduled *list = NULL;
    struct link *l;
    int out_fd = -1, err = -EINVAL;

    if (!id || !d || (err = copy_identity(d, id)) < 0 || (err = take_schedule(msg, &schedule, &list)) < 0)
        goto done;
    struct link_config cfg = {.id = a->id,
                              .index = a->index,
                              .geometry = id->geometry,
                              .blob = d->blob.data,
                              .blob_len = (uint32_t)d->blob.len,
                              .scheduled = list,
                              .nscheduled = (unsigned)schedule.n};
    cfg.file = d->file;
    err = copy_latency(d, &cfg.latency);
    if (!err)
        err = link_create(machine_crossings(m), &cfg, &l, &out_fd);
    if (!err)
        err = plug(m, a, id, l);
    if (!err && d->record_requests)
        machine_keep_requests(m, a->index);
    if (!err && d->file)
        machine_refer_to(m, a->index, a->file);
    if (!err)
        err = send_attached(control, a->id, &id->geometry, out_fd);
done:
    if (out_fd >= 0)
        close(out_fd);
    schedule_free(&schedule);
    free(id);
    free(list);
    return err < 0 ? fail(control, err, "cannot attach device '%s': %s", a->id, strerror(-err)) : 0;
}

static int connect_device(int control, struct control_message *msg, struct machine *m)
{
    const Cleave__Link *link = msg->body->link;
    struct link *l = crossings_find(machine_crossings(m), link->id);
    int err =
        l && msg->nfds == 2 ? link_connect(l, link->epoch, msg->fds[0], msg->fds[1], link->reissue) : -EINVAL;
    if (err < 0)
        return fail(control, err, "cannot connect device '%s': %s", link->id, strerror(-err));
    Cleave__Linked linked = CLEAVE__LINKED__INIT;
    linked.id = link->id;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LINKED;
    body.linked = &linked;
    return control_send(control, &body, NULL, 0);
}

static bool all_connected(struct machine *m, unsigned linked)
{
    return crossings_at(machine_crossings(m), linked) == NULL;
}

/* Serves Attach and Link until Run; Ready is sent once every attached device is linked, and once more for
 * each later one. */
static int devices(int control, struct machine *m)
{
    unsigned linked = 0;
    bool ready = false;
    for (;;) {
        struct control_message msg;
        int err = control_wait(control, STEP_TIMEOUT_MS, &msg);
        if (err < 0)
            return fail(control, err, "no message from the supervisor: %s", strerror(-err));
        Cleave__Control__BodyCase what = msg.body->body_case;
        if (what == CLEAVE__CONTROL__BODY_ATTACH)
            err = attach(control, &msg, m);
        else if (what == CLEAVE__CONTROL__BODY_LINK)
            err = connect_device(control, &msg, m);
        else if (what == CLEAVE__CONTROL__BODY_END_RECORDING)
            machine_end_recording(m);
        else if (what != CLEAVE__CONTROL__BODY_RUN)
            err = what == CLEAVE__CONTROL__BODY_STOP
                      ? -ECANCELED
                      : fail(control, -EPROTO, "unexpected message from the supervisor");
        control_release(&msg);
        if (err < 0)
            return err;
        linked += what == CLEAVE__CONTROL__BODY_LINK;
        if (what == CLEAVE__CONTROL__BODY_RUN)
            return 0;
        if (!ready && linked && all_connected(m, linked))
            ready = send_journal(control, m) == 0 && send_ready(control) == 0;
    }
}

/* All memory that code runs in is mapped; what comes later are channels and windows of a recording. */
static int confine(int control, bool wanted, bool required)
{
    int err = wanted ? sandbox_enter(SANDBOX_MEMORY) : 0;
    return err && required ? fail(control, err, "cannot enter a sandbox: %s", strerror(-err)) : 0;
}

int startup(int control, struct machine **m)
{
    struct control_message msg;
    int err = send_hello(control);
    if (err < 0)
        return err;
    err = control_expect(control, CLEAVE__CONTROL__BODY_MACHINE, STEP_TIMEOUT_MS, &msg);
    if (err < 0)
        return fail(control, err, "no machine from the supervisor: %s", strerror(-err));
    const char *sandbox = msg.body->machine->sandbox;
    bool wanted = strcmp(sandbox, "off") != 0, required = strcmp(sandbox, "require") == 0;
    err = create(control, &msg, m);
    control_release(&msg);
    if (!err)
        err = devices(control, *m);
    return err < 0 ? err : confine(control, wanted, required);
}

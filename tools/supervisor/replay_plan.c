/* From a trace's header to the messages that build the same machine again. Must not look at records. */
#include "tools/supervisor/replay.h"

#include "tools/supervisor/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BOARD_SLOTS 8 /* as in handshake.c: slots of the board at least */

static const char *image_of(const struct replay_plan *p, const Cleave__LogFile *file)
{
    for (const char *const *i = p->options->images; *i; i++) {
        const char *equals = strchr(*i, '=');
        if (equals && trace_file_is(file, *i, (size_t)(equals - *i)))
            return equals + 1;
    }
    return NULL;
}

static int check_images(const struct replay_plan *p, struct failure *f)
{
    for (const char *const *i = p->options->images; *i; i++) {
        const char *equals = strchr(*i, '=');
        bool known = false;
        if (!equals || equals == *i || !equals[1])
            return failure_set(f, STATUS_USAGE, EINVAL, "replay: --image: '%s' is not ID=FILE", *i);
        for (size_t k = 0; k < p->trace->header->n_files; k++)
            known |= trace_file_is(p->trace->header->files[k], *i, (size_t)(equals - *i));
        if (!known) {
            failure_set(f, STATUS_USAGE, EINVAL, "replay: --image: %s: no file '%.*s' in this trace",
                        p->trace->path, (int)(equals - *i), *i);
            return failure_hint(f, "'cleave trace info %s' lists the files", p->trace->path);
        }
    }
    return 0;
}

static int open_file(const struct replay_plan *p, const Cleave__LogFile *file, int *fd, struct failure *f)
{
    enum file_state state;
    const char *image = image_of(p, file), *path = image ? image : file->name;
    int got = trace_file_open(p->trace, file, image, &state);
    if (got >= 0) {
        *fd = got;
        return 0;
    }
    const char *id = strchr(file->role, ':') ? strchr(file->role, ':') + 1 : file->role;
    if (state == FILE_CHANGED)
        failure_set(f, STATUS_FAILED, EBADMSG, "%s: image changed: %s (%s) is not what was recorded",
                    p->trace->path, path, file->role);
    else
        failure_set(f, STATUS_FAILED, -got, "%s: cannot open %s: %s: %s", p->trace->path, file->role, path,
                    strerror(-got));
    failure_hint(f, "--image %s=FILE says where the file is that was recorded", id);
    return got;
}

static int open_files(struct replay_plan *p, struct failure *f)
{
    const Cleave__LogHeader *h = p->trace->header;
    int err = 0;
    for (size_t i = 0; i < h->n_files && !err; i++) {
        const Cleave__LogFile *file = h->files[i];
        if (file->unused)
            continue;
        if (!strcmp(file->role, "kernel"))
            err = open_file(p, file, &p->kernel, f);
        else if (!strcmp(file->role, "bios"))
            err = open_file(p, file, &p->bios, f);
        else if (!strcmp(file->role, "initrd"))
            err = open_file(p, file, &p->initrd, f);
        else if (!strncmp(file->role, "disk:", 5) && p->nimages < REPLAY_MAX_IMAGES) {
            p->image[p->nimages].id = file->id;
            p->image[p->nimages].fd = -1;
            err = open_file(p, file, &p->image[p->nimages].fd, f);
            p->nimages += !err;
        }
    }
    return err;
}

/* What the recorded guest found, whatever this build would describe. */
static int open_device_tree(struct replay_plan *p, struct failure *f)
{
    const ProtobufCBinaryData *tree = &p->trace->header->device_tree;
    if (!tree->len)
        return 0;
    p->device_tree = memfd_create("device-tree", MFD_CLOEXEC);
    if (p->device_tree < 0 || write(p->device_tree, tree->data, tree->len) != (ssize_t)tree->len)
        return failure_set(f, STATUS_FAULT, errno, "cannot copy the device tree: %s", strerror(errno));
    return 0;
}

int replay_plan(struct replay_plan *p, struct trace *t, const struct replay_options *o, struct failure *f)
{
    json_error_t error;
    const char *sandbox;
    int err = config_sandbox(o->sandbox, &sandbox, f);
    if (err)
        return err;
    *p = (struct replay_plan){.trace = t,
                              .options = o,
                              .sandbox = sandbox,
                              .kernel = -1,
                              .bios = -1,
                              .initrd = -1,
                              .device_tree = -1};
    p->configuration = json_loads(t->header->configuration, 0, &error);
    if (!json_is_object(p->configuration)) {
        json_decref(p->configuration);
        return failure_set(f, STATUS_FAILED, EBADMSG, "%s: damaged: its configuration is no JSON object",
                           t->path);
    }
    err = check_images(p, f);
    if (!err)
        err = open_files(p, f);
    if (!err)
        err = open_device_tree(p, f);
    if (err)
        replay_plan_release(p);
    return err;
}

void replay_plan_release(struct replay_plan *p)
{
    const int fds[] = {p->kernel, p->bios, p->initrd, p->device_tree};
    for (unsigned i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (unsigned i = 0; i < p->nimages; i++)
        close(p->image[i].fd);
    json_decref(p->configuration);
}

static char *text_of(const struct replay_plan *p, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(p->configuration, key));
    return (char *)(s ? s : otherwise);
}

static uint64_t number_of(const struct replay_plan *p, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(p->configuration, key));
}

static uint64_t slots_of(const Cleave__LogHeader *h)
{
    int32_t last = BOARD_SLOTS - 1;
    for (size_t i = 0; i < h->n_devices; i++)
        last = h->devices[i]->slot > last ? h->devices[i]->slot : last;
    return (uint64_t)last + 1;
}

int replay_send_machine(const struct replay_plan *p, int control, int feed, int perf_map)
{
    const struct replay_options *o = p->options;
    const struct {
        const char *name;
        int fd;
    } all[] = {{"kernel", p->kernel},           {"bios", p->bios}, {"initrd", p->initrd},
               {"device-tree", p->device_tree}, {"feed", feed},    {"perf-map", perf_map}};
    char *names[6];
    int fds[6];
    Cleave__Machine msg = CLEAVE__MACHINE__INIT;
    msg.memory = number_of(p, "memory");
    msg.cpus = (uint32_t)number_of(p, "cpus");
    msg.append = text_of(p, "append", "");
    msg.mmu = text_of(p, "mmu", "sv48");
    msg.clock = text_of(p, "clock", "host");
    msg.timing = text_of(p, "timing", "live");
    msg.engine = (char *)o->engine;
    msg.sandbox = (char *)p->sandbox;
    msg.seed = p->trace->header->seed;
    msg.rtc_start_ns = p->trace->header->rtc_start_ns;
    msg.slots = slots_of(p->trace->header);
    msg.stop_at = o->until;
    msg.hash_every = o->hash_every;
    msg.hash_at = (uint64_t *)o->hash_at;
    msg.n_hash_at = o->nhash_at;
    msg.realtime = o->realtime;
    msg.inspect = o->inspect;
    msg.exact_stop = o->exact;
    msg.code_cache = o->code_cache;
    msg.log_jit = o->log_jit;
    msg.mirror = o->mirror ? trace_device_named(p->trace, o->mirror)->index + 1 : 0;
    msg.fds = names;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].fd < 0)
            continue;
        names[msg.n_fds] = (char *)all[i].name;
        fds[msg.n_fds++] = all[i].fd;
    }
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_MACHINE;
    body.machine = &msg;
    return control_send(control, &body, fds, (unsigned)msg.n_fds);
}

/* The description's lists, in the form of its message. */
struct lists {
    Cleave__ConfigRow *rows, **row;
    Cleave__Queue *queues, **queue;
    Cleave__LatencyRule *rules, **rule;
};

static int make_lists(struct lists *l, const Cleave__LogDevice *d)
{
    *l =
        (struct lists){calloc(d->n_rows + 1, sizeof *l->rows),     calloc(d->n_rows + 1, sizeof *l->row),
                       calloc(d->n_queues + 1, sizeof *l->queues), calloc(d->n_queues + 1, sizeof *l->queue),
                       calloc(d->n_latency + 1, sizeof *l->rules), calloc(d->n_latency + 1, sizeof *l->rule)};
    if (!l->rows || !l->row || !l->queues || !l->queue || !l->rules || !l->rule)
        return -ENOMEM;
    for (size_t i = 0; i < d->n_rows; i++) {
        cleave__config_row__init(l->row[i] = &l->rows[i]);
        l->rows[i].selector = d->rows[i]->selector;
        l->rows[i].data = d->rows[i]->data;
    }
    for (size_t i = 0; i < d->n_queues; i++) {
        const Cleave__LogQueue *q = d->queues[i];
        cleave__queue__init(l->queue[i] = &l->queues[i]);
        l->queues[i].kind = q->kind;
        l->queues[i].slots = q->slots;
        l->queues[i].max_request = q->max_request;
        l->queues[i].max_response = q->max_response;
        l->queues[i].request_bytes = q->request_bytes;
        l->queues[i].response_bytes = q->response_bytes;
    }
    for (size_t i = 0; i < d->n_latency; i++) {
        const Cleave__LogLatencyRule *r = d->latency[i];
        cleave__latency_rule__init(l->rule[i] = &l->rules[i]);
        l->rules[i].prefix = r->prefix;
        l->rules[i].base_ns = r->base_ns;
        l->rules[i].bandwidth = r->bandwidth;
        l->rules[i].jitter_ns = r->jitter_ns;
    }
    return 0;
}

static void free_lists(struct lists *l)
{
    free(l->rows);
    free(l->row);
    free(l->queues);
    free(l->queue);
    free(l->rules);
    free(l->rule);
}

static int send_attach(const Cleave__LogDevice *d, const struct lists *l, int control)
{
    Cleave__Describe describe = CLEAVE__DESCRIBE__INIT;
    describe.virtio_id = d->virtio_id;
    describe.features = d->features;
    describe.config = d->config;
    describe.selector_len = d->selector_len;
    describe.selector_data = d->selector_data;
    describe.selector_size_at = d->selector_size_at;
    describe.rows = l->row;
    describe.n_rows = d->n_rows;
    describe.queues = l->queue;
    describe.n_queues = d->n_queues;
    describe.blob_max = d->blob_max;
    describe.blob = d->blob;
    describe.closed = d->closed;
    describe.backend = d->backend;
    describe.latency = l->rule;
    describe.n_latency = d->n_latency;
    describe.latency_seed = d->latency_seed;
    describe.inbound_merge = d->inbound_merge;
    describe.merge_feature = d->merge_feature;
    describe.merge_count_at = d->merge_count_at;
    Cleave__Attach msg = CLEAVE__ATTACH__INIT;
    msg.id = d->id;
    msg.index = d->index;
    msg.slot = d->slot;
    msg.describe = &describe;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_ATTACH;
    body.attach = &msg;
    return control_send(control, &body, NULL, 0);
}

int replay_send_device(const struct replay_plan *p, int control, unsigned i)
{
    const Cleave__LogDevice *d = p->trace->header->devices[i];
    struct lists l;
    int err = make_lists(&l, d);
    if (!err)
        err = send_attach(d, &l, control);
    free_lists(&l);
    return err;
}

static int send_configure(const struct replay_plan *p, int control, char **names, const int *fds, unsigned n)
{
    Cleave__KeyValue option = CLEAVE__KEY_VALUE__INIT, *options[] = {&option};
    option.key = (char *)"follow";
    option.value = (char *)(p->options->follow ? "on" : "off");
    Cleave__Configure msg = CLEAVE__CONFIGURE__INIT;
    msg.id = (char *)"broker";
    msg.sandbox = (char *)p->sandbox;
    msg.options = options;
    msg.n_options = 1;
    msg.fds = names;
    msg.n_fds = n;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_CONFIGURE;
    body.configure = &msg;
    return control_send(control, &body, fds, n);
}

int replay_send_log(const struct replay_plan *p, int control, int feed)
{
    char *names[] = {(char *)"log", (char *)"feed"}, name[20], *file[] = {name};
    const int fds[] = {p->trace->fd, feed};
    int err = send_configure(p, control, names, fds, 2);
    for (unsigned i = 0; i < p->nimages && !err; i++) {
        snprintf(name, sizeof name, "file:%u", p->image[i].id);
        err = send_configure(p, control, file, &p->image[i].fd, 1);
    }
    return err;
}

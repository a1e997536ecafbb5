/* The header of a log: the machine as replay has to build it again, and as people want to read it. Must not
 * look into files. */
#include "tools/supervisor/machine.h"

#include "replay-broker/log.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void put(json_t *o, const char *key, const char *value)
{
    if (value)
        json_object_set_new(o, key, json_string(value));
}

static void put_pace(json_t *o, const struct config_pace *p)
{
    put(o, "latency", p->latency);
    put(o, "bandwidth", p->bandwidth);
    put(o, "jitter", p->jitter);
}

static json_t *disks(const struct config *c)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < c->ndisks; i++) {
        json_t *o = json_object();
        put(o, "id", c->disks[i].id);
        put(o, "path", c->disks[i].path);
        put(o, "serial", c->disks[i].serial);
        json_object_set_new(o, "ro", json_boolean(c->disks[i].ro));
        json_object_set_new(o, "overlay", json_boolean(c->disks[i].overlay));
        put_pace(o, &c->disks[i].pace);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *nets(const struct config *c)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < c->nnets; i++) {
        const struct config_net *n = &c->nets[i];
        json_t *o = json_object(), *forwards = json_array();
        put(o, "id", n->id);
        put(o, "backend", n->backend);
        put(o, "mac", n->mac);
        put_pace(o, &n->pace);
        for (unsigned k = 0; k < n->nhostfwd; k++)
            json_array_append_new(forwards, json_string(n->hostfwd[k]));
        json_object_set_new(o, "hostfwd", forwards);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *serials(const struct config *c)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < c->nserials; i++) {
        json_t *o = json_pack("{s:s, s:s}", "id", c->serials[i].id, "backend", c->serials[i].backend);
        put_pace(o, &c->serials[i].pace);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *inputs(const struct config *c)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < c->ninputs; i++) {
        json_t *o = json_pack("{s:s, s:s}", "id", c->inputs[i].id, "type", c->inputs[i].type);
        put(o, "script", c->inputs[i].script);
        json_array_append_new(list, o);
    }
    return list;
}

/* What replay reads: memory, cpus, append, mmu, clock, timing. */
static char *configuration(const struct machine *m)
{
    const struct config *c = m->config;
    json_t *o = json_pack("{s:s, s:I, s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:b}", "name", c->name, "memory",
                          (json_int_t)c->memory, "cpus", (int)c->cpus, "append", m->append, "mmu", c->mmu,
                          "engine", c->engine, "clock", c->clock, "timing", c->timing, "seed",
                          (json_int_t)c->seed, "rng", (int)c->rng);
    put(o, "kernel", c->kernel);
    put(o, "bios", c->bios);
    put(o, "initrd", c->initrd);
    put(o, "batch", c->batch);
    json_object_set_new(o, "disks", disks(c));
    json_object_set_new(o, "nets", nets(c));
    json_object_set_new(o, "serials", serials(c));
    json_object_set_new(o, "inputs", inputs(c));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

/* What a LogHeader points to. */
struct space {
    Cleave__LogHeader header;
    Cleave__LogFile file[RECORD_MAX_FILES], *files[RECORD_MAX_FILES];
    Cleave__LogDevice *device, **devices;
    Cleave__LogQueue *queue, **queues;
    Cleave__LogConfigRow *row, **rows;
    Cleave__LogLatencyRule *rule, **rules;
};

static void describe_files(struct space *s, const struct record *r)
{
    for (unsigned i = 0; i < r->nfiles; i++) {
        const struct record_file *from = &r->files[i];
        Cleave__LogFile *to = s->files[i] = &s->file[i];
        cleave__log_file__init(to);
        to->id = from->id;
        to->role = (char *)from->role;
        to->name = (char *)from->name;
        to->size = from->size;
        to->mtime_ns = from->mtime_ns;
        to->first_digest = from->first_digest;
        to->last_digest = from->last_digest;
        to->unused = from->unused;
        to->stored = from->embed;
        if (from->digested)
            to->digest = (ProtobufCBinaryData){STORE_DIGEST_BYTES, (uint8_t *)from->digest.bytes};
    }
    s->header.n_files = r->nfiles;
    s->header.files = s->files;
}

static void describe_device(struct space *s, const struct device *d, Cleave__LogDevice *to, size_t *queue,
                            size_t *row, size_t *rule)
{
    const Cleave__Describe *from = d->describe.body->describe;
    to->id = (char *)d->plan->id;
    to->kind = (char *)d->plan->kind;
    to->index = d->index;
    to->slot = d->plan->slot;
    to->virtio_id = from->virtio_id;
    to->features = from->features;
    to->config = from->config;
    to->selector_len = from->selector_len;
    to->selector_data = from->selector_data;
    to->selector_size_at = from->selector_size_at;
    to->blob_max = from->blob_max;
    to->blob = from->blob;
    to->closed = from->closed;
    to->backend = from->backend;
    to->latency_seed = from->latency_seed;
    to->latency = s->rules + *rule;
    to->n_latency = from->n_latency;
    to->inbound_merge = from->inbound_merge;
    to->merge_feature = from->merge_feature;
    to->merge_count_at = from->merge_count_at;
    to->queues = s->queues + *queue;
    to->rows = s->rows + *row;
    for (size_t i = 0; i < from->n_queues; i++, (*queue)++) {
        const Cleave__Queue *q = from->queues[i];
        Cleave__LogQueue *l = s->queues[*queue] = &s->queue[*queue];
        cleave__log_queue__init(l);
        l->kind = q->kind;
        l->slots = q->slots;
        l->max_request = q->max_request;
        l->max_response = q->max_response;
        l->request_bytes = q->request_bytes;
        l->response_bytes = q->response_bytes;
    }
    for (size_t i = 0; i < from->n_rows; i++, (*row)++) {
        Cleave__LogConfigRow *l = s->rows[*row] = &s->row[*row];
        cleave__log_config_row__init(l);
        l->selector = from->rows[i]->selector;
        l->data = from->rows[i]->data;
    }
    for (size_t i = 0; i < from->n_latency; i++, (*rule)++) {
        Cleave__LogLatencyRule *l = s->rules[*rule] = &s->rule[*rule];
        cleave__log_latency_rule__init(l);
        l->prefix = from->latency[i]->prefix;
        l->base_ns = from->latency[i]->base_ns;
        l->bandwidth = from->latency[i]->bandwidth;
        l->jitter_ns = from->latency[i]->jitter_ns;
    }
    to->n_queues = from->n_queues;
    to->n_rows = from->n_rows;
}

static int describe_devices(struct space *s, const struct machine *m)
{
    size_t queues = 0, rows = 0, rules = 0;
    for (unsigned i = 0; i < m->plan.n; i++) {
        queues += m->devices[i].describe.body->describe->n_queues;
        rows += m->devices[i].describe.body->describe->n_rows;
        rules += m->devices[i].describe.body->describe->n_latency;
    }
    s->device = calloc(m->plan.n + 1, sizeof(*s->device));
    s->devices = calloc(m->plan.n + 1, sizeof(*s->devices));
    s->queue = calloc(queues + 1, sizeof(*s->queue));
    s->queues = calloc(queues + 1, sizeof(*s->queues));
    s->row = calloc(rows + 1, sizeof(*s->row));
    s->rows = calloc(rows + 1, sizeof(*s->rows));
    s->rule = calloc(rules + 1, sizeof(*s->rule));
    s->rules = calloc(rules + 1, sizeof(*s->rules));
    if (!s->device || !s->devices || !s->queue || !s->queues || !s->row || !s->rows || !s->rule || !s->rules)
        return -ENOMEM;
    queues = rows = rules = 0;
    for (unsigned i = 0; i < m->plan.n; i++) {
        s->devices[i] = &s->device[i];
        cleave__log_device__init(s->devices[i]);
        describe_device(s, &m->devices[i], s->devices[i], &queues, &rows, &rules);
    }
    s->header.n_devices = m->plan.n;
    s->header.devices = s->devices;
    return 0;
}

static int write_memfd(const Cleave__LogHeader *h)
{
    size_t len = cleave__log_header__get_packed_size(h);
    int fd = memfd_create("cleave-log-header", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    void *map = ftruncate(fd, (off_t)len) < 0 ? MAP_FAILED
                                              : mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        int err = -errno;
        close(fd);
        return err;
    }
    cleave__log_header__pack(h, map);
    munmap(map, len);
    return fd;
}

int record_header(const struct machine *m)
{
    const Cleave__Journal *journal = m->record.journal.body->journal;
    struct space *s = calloc(1, sizeof(*s));
    char *json = s ? configuration(m) : NULL;
    struct timespec now;
    int err = json ? 0 : -ENOMEM;
    if (!err) {
        clock_gettime(CLOCK_REALTIME, &now);
        cleave__log_header__init(&s->header);
        s->header.build = (char *)"cleave " CLEAVE_VERSION;
        s->header.isa = journal->isa;
        s->header.device_tree = journal->device_tree;
        s->header.configuration = json;
        s->header.seed = m->config->seed;
        s->header.rtc_start_ns = m->rtc_start_ns;
        s->header.created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        describe_files(s, &m->record);
        err = describe_devices(s, m);
    }
    int fd = err ? err : write_memfd(&s->header);
    free(json);
    if (s) {
        free(s->device);
        free(s->devices);
        free(s->queue);
        free(s->queues);
        free(s->row);
        free(s->rows);
        free(s->rule);
        free(s->rules);
    }
    free(s);
    return fd;
}

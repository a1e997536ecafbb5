/* Merging flags over the file, defaults and checks. Opens nothing but the file. */
#include "tools/supervisor/config.h"

#include "tools/supervisor/options.h"
#include "tools/supervisor/spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct failure *f)
{
    return failure_set(f, STATUS_FAILED, ENOMEM, "%s", strerror(ENOMEM));
}

static int usage(struct failure *f, const char *what, const char *value, const char *why)
{
    return failure_set(f, STATUS_USAGE, EINVAL, "%s: '%s': %s", what, value, why);
}

static int set_string(char **to, const char *from)
{
    char *copy = strdup(from);
    if (!copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

/* A string option and the member that it sets. */
static int merge_strings(const struct invocation *in, struct config *c, struct failure *f)
{
    const struct {
        const char *name;
        char **to;
    } strings[] = {
        {"name", &c->name},       {"kernel", &c->kernel}, {"bios", &c->bios},     {"initrd", &c->initrd},
        {"append", &c->append},   {"batch", &c->batch},   {"mmu", &c->mmu},       {"engine", &c->engine},
        {"log", &c->log},         {"clock", &c->clock},   {"timing", &c->timing}, {"record", &c->record},
        {"sandbox", &c->sandbox},
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        const char *value = options_get(in, strings[i].name);
        if (value && set_string(strings[i].to, value) < 0)
            return no_memory(f);
    }
    return 0;
}

static int number_option(const struct invocation *in, const char *name, uint64_t *value, struct failure *f)
{
    const char *text = options_get(in, name);
    if (!text)
        return 0;
    if (spec_number(text, value) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "--%s: '%s' is not a number", name, text);
    return 1;
}

static int size_option(const struct invocation *in, const char *name, uint64_t *bytes, struct failure *f)
{
    const char *text = options_get(in, name);
    if (text && spec_size(text, bytes) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "--%s: '%s': not a size such as 512M or 1G", name, text);
    return 0;
}

static int merge_numbers(const struct invocation *in, struct config *c, struct failure *f)
{
    uint64_t cpus = c->cpus;
    if (size_option(in, "memory", &c->memory, f) < 0 ||
        size_option(in, "record-limit", &c->record_limit, f) < 0 ||
        size_option(in, "code-cache", &c->code_cache, f) < 0)
        return -EINVAL;
    if (options_has(in, "memory") && c->memory == 0)
        return usage(f, "--memory", options_get(in, "memory"), "a machine needs memory");
    int have_cpus = number_option(in, "cpus", &cpus, f);
    if (have_cpus > 0 && (cpus == 0 || cpus > CONFIG_MAX_CPUS))
        return usage(f, "--cpus", options_get(in, "cpus"), "a machine has 1 to 8 harts");
    int seed = number_option(in, "seed", &c->seed, f);
    int every = number_option(in, "hash-every", &c->hash_every, f);
    int stop = number_option(in, "stop-at", &c->stop_at, f);
    if (have_cpus < 0 || seed < 0 || every < 0 || stop < 0)
        return -EINVAL;
    c->cpus = (unsigned)cpus;
    c->have_seed |= seed > 0;
    return 0;
}

static int merge_hash_at(const struct invocation *in, struct config *c, struct failure *f)
{
    if (!options_has(in, "hash-at"))
        return 0;
    uint64_t *list = calloc(CONFIG_MAX_HASHES, sizeof(*list));
    if (!list)
        return no_memory(f);
    free(c->hash_at);
    c->hash_at = list;
    c->nhash_at = 0;
    const char *text;
    for (unsigned i = 0; (text = options_nth(in, "hash-at", i)); i++) {
        if (i == CONFIG_MAX_HASHES)
            return failure_set(f, STATUS_USAGE, EINVAL, "--hash-at: more than %d positions",
                               CONFIG_MAX_HASHES);
        if (spec_number(text, &list[c->nhash_at++]) < 0)
            return usage(f, "--hash-at", text, "not a number");
    }
    return 0;
}

/* What a field of a device's list sets: a string, or a boolean that takes no value. */
struct field {
    const char *key;
    char **string;
    bool *flag;
};

static int take_field(const char *what, const struct field *table, const char *key, const char *value,
                      struct failure *f)
{
    for (; table->key; table++) {
        if (strcmp(table->key, key) != 0)
            continue;
        if (table->flag && !(value && table->string)) {
            if (value)
                return failure_set(f, STATUS_USAGE, EINVAL, "%s: '%s' takes no value", what, key);
            *table->flag = true;
            return 0;
        }
        if (!value || !*value)
            return failure_set(f, STATUS_USAGE, EINVAL, "%s: '%s' needs a value", what, key);
        if (*table->string)
            return failure_set(f, STATUS_USAGE, EINVAL, "%s: '%s' is given twice", what, key);
        if (table->flag)
            *table->flag = true;
        return set_string(table->string, value) < 0 ? no_memory(f) : 0;
    }
    return failure_set(f, STATUS_USAGE, EINVAL, "%s: unknown key '%s'", what, key);
}

static int spec_failed(const char *what, const char *text, int err, struct failure *f)
{
    return err == -ENOMEM ? no_memory(f)
                          : usage(f, what, text, "not a list of KEY=VALUE separated by commas");
}

static int take_disk(struct config_disk *d, const char *text, struct failure *f)
{
    struct spec s;
    int err = spec_parse(text, "path", &s);
    if (err)
        return spec_failed("--disk", text, err, f);
    const struct field table[] = {
        {"path", &d->path, NULL},
        {"id", &d->id, NULL},
        {"serial", &d->serial, NULL},
        {"ro", NULL, &d->ro},
        {"overlay", &d->overlay_path, &d->overlay},
        {"latency", &d->pace.latency, NULL},
        {"bandwidth", &d->pace.bandwidth, NULL},
        {"jitter", &d->pace.jitter, NULL},
        {0},
    };
    for (unsigned i = 0; i < s.n && !err; i++)
        err = take_field("--disk", table, s.field[i].key, s.field[i].value, f);
    spec_release(&s);
    return err;
}

static int add_hostfwd(struct config_net *n, const char *value, struct failure *f)
{
    if (!value)
        return failure_set(f, STATUS_USAGE, EINVAL, "--net: 'hostfwd' needs a value");
    char **list = reallocarray(n->hostfwd, n->nhostfwd + 1, sizeof(*list));
    if (!list)
        return no_memory(f);
    n->hostfwd = list;
    list[n->nhostfwd] = strdup(value);
    if (!list[n->nhostfwd])
        return no_memory(f);
    n->nhostfwd++;
    return 0;
}

static int take_net(struct config_net *n, const char *text, struct failure *f)
{
    struct spec s;
    int err = spec_parse(text, "backend", &s);
    if (err)
        return spec_failed("--net", text, err, f);
    const struct field table[] = {
        {"backend", &n->backend, NULL},
        {"id", &n->id, NULL},
        {"mac", &n->mac, NULL},
        {"path", &n->path, NULL},
        {"listen", NULL, &n->listen},
        {"ifname", &n->ifname, NULL},
        {"pcap", &n->pcap, NULL},
        {"latency", &n->pace.latency, NULL},
        {"bandwidth", &n->pace.bandwidth, NULL},
        {"jitter", &n->pace.jitter, NULL},
        {0},
    };
    for (unsigned i = 0; i < s.n && !err; i++) {
        if (strcmp(s.field[i].key, "hostfwd") == 0)
            err = add_hostfwd(n, s.field[i].value, f);
        else
            err = take_field("--net", table, s.field[i].key, s.field[i].value, f);
    }
    spec_release(&s);
    return err;
}

/* "unix:PATH" in the first field is the back-end and its path. */
static int split_colon(char *const *first, char **rest, struct failure *f)
{
    char *colon = *first ? strchr(*first, ':') : NULL;
    if (!colon)
        return 0;
    *colon = '\0';
    return set_string(rest, colon + 1) < 0 ? no_memory(f) : 0;
}

static int take_serial(struct config_serial *p, const char *text, struct failure *f)
{
    struct spec s;
    int err = spec_parse(text, "backend", &s);
    if (err)
        return spec_failed("--serial", text, err, f);
    const struct field table[] = {
        {"backend", &p->backend, NULL},      {"id", &p->id, NULL},
        {"latency", &p->pace.latency, NULL}, {"bandwidth", &p->pace.bandwidth, NULL},
        {"jitter", &p->pace.jitter, NULL},   {0},
    };
    for (unsigned i = 0; i < s.n && !err; i++)
        err = take_field("--serial", table, s.field[i].key, s.field[i].value, f);
    spec_release(&s);
    return err ? err : split_colon(&p->backend, &p->path, f);
}

static int take_input(struct config_input *p, const char *text, struct failure *f)
{
    struct spec s;
    int err = spec_parse(text, "type", &s);
    if (err)
        return spec_failed("--input", text, err, f);
    const struct field table[] = {
        {"type", &p->type, NULL}, {"id", &p->id, NULL}, {"script", &p->script, NULL}, {0}};
    for (unsigned i = 0; i < s.n && !err; i++)
        err = take_field("--input", table, s.field[i].key, s.field[i].value, f);
    spec_release(&s);
    return err;
}

static void free_pace(struct config_pace *p)
{
    free(p->latency);
    free(p->bandwidth);
    free(p->jitter);
}

static void free_disk(struct config_disk *d)
{
    free(d->path);
    free(d->id);
    free(d->serial);
    free(d->overlay_path);
    free_pace(&d->pace);
}

static void free_net(struct config_net *n)
{
    for (unsigned i = 0; i < n->nhostfwd; i++)
        free(n->hostfwd[i]);
    free(n->hostfwd);
    free(n->backend);
    free(n->id);
    free(n->mac);
    free(n->path);
    free(n->ifname);
    free(n->pcap);
    free_pace(&n->pace);
}

static void free_serial(struct config_serial *s)
{
    free(s->backend);
    free(s->path);
    free(s->id);
    free_pace(&s->pace);
}

static void free_input(struct config_input *i)
{
    free(i->type);
    free(i->id);
    free(i->script);
}

static void drop_disks(struct config *c)
{
    for (unsigned i = 0; i < c->ndisks; i++)
        free_disk(&c->disks[i]);
    free(c->disks);
    c->disks = NULL;
    c->ndisks = 0;
}

static void drop_nets(struct config *c)
{
    for (unsigned i = 0; i < c->nnets; i++)
        free_net(&c->nets[i]);
    free(c->nets);
    c->nets = NULL;
    c->nnets = 0;
}

static void drop_serials(struct config *c)
{
    for (unsigned i = 0; i < c->nserials; i++)
        free_serial(&c->serials[i]);
    free(c->serials);
    c->serials = NULL;
    c->nserials = 0;
}

static void drop_inputs(struct config *c)
{
    for (unsigned i = 0; i < c->ninputs; i++)
        free_input(&c->inputs[i]);
    free(c->inputs);
    c->inputs = NULL;
    c->ninputs = 0;
}

void config_release(struct config *c)
{
    char *strings[] = {c->name,   c->kernel, c->bios,   c->initrd, c->append, c->batch,  c->mmu,
                       c->engine, c->clock,  c->timing, c->log,    c->record, c->sandbox};
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
        free(strings[i]);
    free(c->hash_at);
    drop_disks(c);
    drop_nets(c);
    drop_serials(c);
    drop_inputs(c);
    *c = (struct config){0};
}

static unsigned count(const struct invocation *in, const char *name)
{
    unsigned n = 0;
    while (options_nth(in, name, n))
        n++;
    return n;
}

/* A list given by flags replaces the file's. The counts grow before the entries are filled, so that a failure
 * releases them. */
static int merge_disks(const struct invocation *in, struct config *c, struct failure *f)
{
    unsigned n = count(in, "disk");
    if (n == 0)
        return 0;
    drop_disks(c);
    c->disks = calloc(n, sizeof(*c->disks));
    if (!c->disks)
        return no_memory(f);
    while (c->ndisks < n) {
        unsigned i = c->ndisks++;
        int err = take_disk(&c->disks[i], options_nth(in, "disk", i), f);
        if (err)
            return err;
    }
    return 0;
}

static int merge_nets(const struct invocation *in, struct config *c, struct failure *f)
{
    unsigned n = count(in, "net");
    if (n == 0)
        return 0;
    drop_nets(c);
    c->nets = calloc(n, sizeof(*c->nets));
    if (!c->nets)
        return no_memory(f);
    while (c->nnets < n) {
        unsigned i = c->nnets++;
        int err = take_net(&c->nets[i], options_nth(in, "net", i), f);
        if (err)
            return err;
    }
    return 0;
}

static int merge_serials(const struct invocation *in, struct config *c, struct failure *f)
{
    unsigned n = count(in, "serial");
    if (n == 0)
        return 0;
    drop_serials(c);
    c->serials = calloc(n, sizeof(*c->serials));
    if (!c->serials)
        return no_memory(f);
    while (c->nserials < n) {
        unsigned i = c->nserials++;
        int err = take_serial(&c->serials[i], options_nth(in, "serial", i), f);
        if (err)
            return err;
    }
    return 0;
}

static int merge_inputs(const struct invocation *in, struct config *c, struct failure *f)
{
    unsigned n = count(in, "input");
    if (n == 0)
        return 0;
    drop_inputs(c);
    c->inputs = calloc(n, sizeof(*c->inputs));
    if (!c->inputs)
        return no_memory(f);
    while (c->ninputs < n) {
        unsigned i = c->ninputs++;
        int err = take_input(&c->inputs[i], options_nth(in, "input", i), f);
        if (err)
            return err;
    }
    return 0;
}

static int merge(const struct invocation *in, struct config *c, struct failure *f)
{
    int err = merge_strings(in, c, f);
    if (!err)
        err = merge_numbers(in, c, f);
    if (!err)
        err = merge_hash_at(in, c, f);
    if (!err)
        err = merge_disks(in, c, f);
    if (!err)
        err = merge_nets(in, c, f);
    if (!err)
        err = merge_serials(in, c, f);
    if (!err)
        err = merge_inputs(in, c, f);
    c->hash_at_exit |= options_has(in, "hash-at-exit");
    c->no_record |= options_has(in, "no-record");
    c->record_require |= options_has(in, "record-require");
    c->self_contained |= options_has(in, "self-contained");
    c->no_tlb |= options_has(in, "no-tlb");
    c->perf_map |= options_has(in, "perf-map");
    c->count_blocks |= options_has(in, "count-blocks");
    const char *rng = options_get(in, "rng");
    if (rng)
        c->rng = strcmp(rng, "on") == 0;
    return err;
}

int config_load(const struct invocation *in, struct config *c, struct failure *f)
{
    struct config out = {.rng = true};
    if (in->nargs > 0) {
        int err = config_read_file(in->args[0], &out, f);
        if (err)
            return err;
    }
    int err = merge(in, &out, f);
    if (!err)
        err = config_complete(&out, f);
    if (err) {
        config_release(&out);
        return err;
    }
    *c = out;
    return 0;
}

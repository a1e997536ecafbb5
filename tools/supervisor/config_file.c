/* The configuration file: a libcyaml schema, and a first pass over the YAML events that finds duplicate keys,
 * which libcyaml lets pass. Knows the keys, not their meaning. */
#include "tools/supervisor/config.h"
#include "tools/supervisor/spec.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#define FILE_MAX_BYTES (1 << 20)
#define FILE_MAX_DEPTH 16

/* The file as libcyaml loads it: a scalar that is absent is a null pointer. */
struct file {
    char *name, *kernel, *bios, *initrd, *append, *batch;
    char *memory, *mmu, *engine, *clock, *timing;
    unsigned *cpus;
    uint64_t *seed, *hash_every, *stop_at;
    bool *no_tlb, *rng, *hash_at_exit;
    uint64_t *hash_at;
    unsigned nhash_at;
    struct config_disk *disks;
    unsigned ndisks;
    struct config_net *nets;
    unsigned nnets;
    struct config_serial *serials;
    unsigned nserials;
    struct config_input *inputs;
    unsigned ninputs;
};

#define OPTIONAL     CYAML_FLAG_OPTIONAL
#define OPTIONAL_PTR (CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER)

static const cyaml_schema_value_t string_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4096)};
static const cyaml_schema_value_t number_value = {CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, uint64_t)};

static const cyaml_schema_field_t disk_fields[] = {
    CYAML_FIELD_STRING_PTR("path", CYAML_FLAG_POINTER, struct config_disk, path, 1, 4096),
    CYAML_FIELD_STRING_PTR("id", OPTIONAL_PTR, struct config_disk, id, 0, 4096),
    CYAML_FIELD_STRING_PTR("serial", OPTIONAL_PTR, struct config_disk, serial, 0, 4096),
    CYAML_FIELD_BOOL("ro", OPTIONAL, struct config_disk, ro),
    CYAML_FIELD_STRING_PTR("overlay", OPTIONAL_PTR, struct config_disk, overlay_path, 1, 4096),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t disk_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_disk, disk_fields)};

static const cyaml_schema_field_t net_fields[] = {
    CYAML_FIELD_STRING_PTR("backend", CYAML_FLAG_POINTER, struct config_net, backend, 1, 4096),
    CYAML_FIELD_STRING_PTR("id", OPTIONAL_PTR, struct config_net, id, 0, 4096),
    CYAML_FIELD_STRING_PTR("mac", OPTIONAL_PTR, struct config_net, mac, 0, 4096),
    CYAML_FIELD_SEQUENCE_COUNT("hostfwd", OPTIONAL_PTR, struct config_net, hostfwd, nhostfwd, &string_value,
                               0, 64),
    CYAML_FIELD_STRING_PTR("path", OPTIONAL_PTR, struct config_net, path, 1, 4096),
    CYAML_FIELD_BOOL("listen", OPTIONAL, struct config_net, listen),
    CYAML_FIELD_STRING_PTR("ifname", OPTIONAL_PTR, struct config_net, ifname, 1, 4096),
    CYAML_FIELD_STRING_PTR("pcap", OPTIONAL_PTR, struct config_net, pcap, 1, 4096),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t net_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_net, net_fields)};

static const cyaml_schema_field_t serial_fields[] = {
    CYAML_FIELD_STRING_PTR("backend", CYAML_FLAG_POINTER, struct config_serial, backend, 1, 4096),
    CYAML_FIELD_STRING_PTR("path", OPTIONAL_PTR, struct config_serial, path, 1, 4096),
    CYAML_FIELD_STRING_PTR("id", OPTIONAL_PTR, struct config_serial, id, 0, 4096),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t serial_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_serial, serial_fields)};

static const cyaml_schema_field_t input_fields[] = {
    CYAML_FIELD_STRING_PTR("type", CYAML_FLAG_POINTER, struct config_input, type, 1, 4096),
    CYAML_FIELD_STRING_PTR("id", OPTIONAL_PTR, struct config_input, id, 0, 4096),
    CYAML_FIELD_STRING_PTR("script", OPTIONAL_PTR, struct config_input, script, 1, 4096),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t input_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_input, input_fields)};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_STRING_PTR("name", OPTIONAL_PTR, struct file, name, 0, 4096),
    CYAML_FIELD_STRING_PTR("kernel", OPTIONAL_PTR, struct file, kernel, 1, 4096),
    CYAML_FIELD_STRING_PTR("bios", OPTIONAL_PTR, struct file, bios, 1, 4096),
    CYAML_FIELD_STRING_PTR("initrd", OPTIONAL_PTR, struct file, initrd, 1, 4096),
    CYAML_FIELD_STRING_PTR("append", OPTIONAL_PTR, struct file, append, 0, 1 << 16),
    CYAML_FIELD_STRING_PTR("batch", OPTIONAL_PTR, struct file, batch, 1, 4096),
    CYAML_FIELD_STRING_PTR("memory", OPTIONAL_PTR, struct file, memory, 0, 64),
    CYAML_FIELD_UINT_PTR("cpus", OPTIONAL_PTR, struct file, cpus),
    CYAML_FIELD_STRING_PTR("mmu", OPTIONAL_PTR, struct file, mmu, 0, 64),
    CYAML_FIELD_STRING_PTR("engine", OPTIONAL_PTR, struct file, engine, 0, 64),
    CYAML_FIELD_STRING_PTR("clock", OPTIONAL_PTR, struct file, clock, 0, 64),
    CYAML_FIELD_STRING_PTR("timing", OPTIONAL_PTR, struct file, timing, 0, 64),
    CYAML_FIELD_UINT_PTR("seed", OPTIONAL_PTR, struct file, seed),
    CYAML_FIELD_BOOL_PTR("no-tlb", OPTIONAL_PTR, struct file, no_tlb),
    CYAML_FIELD_BOOL_PTR("rng", OPTIONAL_PTR, struct file, rng),
    CYAML_FIELD_BOOL_PTR("hash-at-exit", OPTIONAL_PTR, struct file, hash_at_exit),
    CYAML_FIELD_UINT_PTR("hash-every", OPTIONAL_PTR, struct file, hash_every),
    CYAML_FIELD_SEQUENCE_COUNT("hash-at", OPTIONAL_PTR, struct file, hash_at, nhash_at, &number_value, 0,
                               CONFIG_MAX_HASHES),
    CYAML_FIELD_UINT_PTR("stop-at", OPTIONAL_PTR, struct file, stop_at),
    CYAML_FIELD_SEQUENCE_COUNT("disks", OPTIONAL_PTR, struct file, disks, ndisks, &disk_value, 0,
                               CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE_COUNT("nets", OPTIONAL_PTR, struct file, nets, nnets, &net_value, 0,
                               CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE_COUNT("serials", OPTIONAL_PTR, struct file, serials, nserials, &serial_value, 0,
                               CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE_COUNT("inputs", OPTIONAL_PTR, struct file, inputs, ninputs, &input_value, 0,
                               CYAML_UNLIMITED),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t file_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file, file_fields)};

/* libcyaml tells what was wrong and where as log lines: the first one is the reason, the innermost "(line:
 * …)" the place. */
struct complaint {
    char reason[400], place[80];
};

static void collect(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct complaint *c = ctx;
    char text[400];
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    unsigned line, column;
    const char *at = strstr(text, "(line: ");
    if (at && sscanf(at, "(line: %u, column: %u", &line, &column) == 2) {
        if (!c->place[0])
            snprintf(c->place, sizeof(c->place), ":%u:%u", line, column);
        const char *key = strstr(text, "in mapping field '");
        size_t n = strlen(c->reason);
        if (key && !strchr(c->reason, '\''))
            snprintf(c->reason + n, sizeof(c->reason) - n, " (key '%.*s')", (int)strcspn(key + 18, "'"),
                     key + 18);
    } else if (level >= CYAML_LOG_ERROR && !c->reason[0]) {
        const char *p = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        snprintf(c->reason, sizeof(c->reason), "%s", p);
        if (c->reason[0] >= 'A' && c->reason[0] <= 'Z')
            c->reason[0] += 'a' - 'A';
    }
}

static int load(const char *path, const char *text, size_t len, struct file **file, struct failure *f)
{
    struct complaint why = {0};
    const cyaml_config_t how = {
        .log_fn = collect,
        .log_ctx = &why,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    cyaml_err_t err =
        cyaml_load_data((const uint8_t *)text, len, &how, &file_schema, (cyaml_data_t **)file, NULL);
    if (err == CYAML_OK && *file)
        return 0;
    if (err == CYAML_OK)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: the configuration is empty", path);
    return failure_set(f, STATUS_USAGE, EINVAL, "%s%s: %s", path, why.place,
                       why.reason[0] ? why.reason : cyaml_strerror(err));
}

/* Keys of the mappings that are open, for the duplicate check. */
struct level {
    bool mapping, value_next;
    unsigned nkeys;
    char *keys[64];
};

static void close_level(struct level *l)
{
    for (unsigned i = 0; i < l->nkeys; i++)
        free(l->keys[i]);
    *l = (struct level){0};
}

/* A node begins inside `l`; a scalar in key position is recorded. -EEXIST for a key that was there, -E2BIG.
 */
static int enter_node(struct level *l, const char *scalar)
{
    if (!l->mapping)
        return 0;
    l->value_next = !l->value_next;
    if (!l->value_next || !scalar)
        return 0;
    for (unsigned i = 0; i < l->nkeys; i++) {
        if (strcmp(l->keys[i], scalar) == 0)
            return -EEXIST;
    }
    if (l->nkeys == sizeof(l->keys) / sizeof(l->keys[0]))
        return -E2BIG;
    l->keys[l->nkeys] = strdup(scalar);
    return l->keys[l->nkeys++] ? 0 : -ENOMEM;
}

static int scan_event(const char *path, const yaml_event_t *e, struct level *levels, unsigned *depth,
                      struct failure *f)
{
    int err = 0;
    unsigned line = (unsigned)e->start_mark.line + 1, column = (unsigned)e->start_mark.column + 1;
    bool opens = e->type == YAML_MAPPING_START_EVENT || e->type == YAML_SEQUENCE_START_EVENT;
    if (e->type == YAML_SCALAR_EVENT || opens)
        err = enter_node(&levels[*depth], opens ? NULL : (const char *)e->data.scalar.value);
    if (err == -EEXIST)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s:%u:%u: duplicate key '%s'", path, line, column,
                           (const char *)e->data.scalar.value);
    if (err)
        return failure_set(f, STATUS_USAGE, -err, "%s:%u:%u: %s", path, line, column, strerror(-err));
    if (opens) {
        if (*depth + 1 == FILE_MAX_DEPTH)
            return failure_set(f, STATUS_USAGE, EINVAL, "%s:%u:%u: nested too deeply", path, line, column);
        levels[++*depth].mapping = e->type == YAML_MAPPING_START_EVENT;
    } else if (e->type == YAML_MAPPING_END_EVENT || e->type == YAML_SEQUENCE_END_EVENT) {
        close_level(&levels[(*depth)--]);
    }
    return 0;
}

static int scan(const char *path, const char *text, size_t len, struct failure *f)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return failure_set(f, STATUS_FAILED, ENOMEM, "%s: %s", path, strerror(ENOMEM));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    struct level *levels = calloc(FILE_MAX_DEPTH, sizeof(*levels));
    unsigned depth = 0;
    int err = levels ? 0 : failure_set(f, STATUS_FAILED, ENOMEM, "%s: %s", path, strerror(ENOMEM));
    for (bool end = false; !err && !end;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            err = failure_set(f, STATUS_USAGE, EINVAL, "%s:%zu:%zu: %s", path, parser.problem_mark.line + 1,
                              parser.problem_mark.column + 1, parser.problem ? parser.problem : "not YAML");
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        err = scan_event(path, &e, levels, &depth, f);
        yaml_event_delete(&e);
    }
    for (unsigned i = 0; levels && i <= depth; i++)
        close_level(&levels[i]);
    free(levels);
    yaml_parser_delete(&parser);
    return err;
}

static int slurp(const char *path, char **text, size_t *len, struct failure *f)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return failure_set(f, STATUS_USAGE, errno, "cannot open configuration: %s: %s", path,
                           strerror(errno));
    struct stat st;
    char *buf = NULL;
    int err = 0;
    ssize_t n = 0;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        err = failure_set(f, STATUS_USAGE, EINVAL, "cannot read configuration: %s: not a regular file", path);
    else if (st.st_size > FILE_MAX_BYTES)
        err = failure_set(f, STATUS_USAGE, EFBIG, "cannot read configuration: %s: larger than 1 MiB", path);
    else if (!(buf = malloc((size_t)st.st_size + 1)))
        err = failure_set(f, STATUS_FAILED, ENOMEM, "cannot read configuration: %s: %s", path,
                          strerror(ENOMEM));
    else if ((n = pread(fd, buf, (size_t)st.st_size, 0)) < 0)
        err = failure_set(f, STATUS_USAGE, errno, "cannot read configuration: %s: %s", path, strerror(errno));
    close(fd);
    if (err) {
        free(buf);
        return err;
    }
    *text = buf;
    *len = (size_t)n;
    return 0;
}

/* Relative paths in a file are relative to the file. */
static int anchor(char **path, const char *file)
{
    const char *slash = strrchr(file, '/');
    if (!*path || (*path)[0] == '/' || !slash)
        return 0;
    char *joined;
    if (asprintf(&joined, "%.*s/%s", (int)(slash - file), file, *path) < 0)
        return -ENOMEM;
    free(*path);
    *path = joined;
    return 0;
}

static int anchor_all(struct config *c, const char *file)
{
    int err = anchor(&c->kernel, file) | anchor(&c->initrd, file) | anchor(&c->batch, file);
    if (c->bios && strcmp(c->bios, "none") != 0)
        err |= anchor(&c->bios, file);
    for (unsigned i = 0; i < c->ndisks; i++) {
        struct config_disk *d = &c->disks[i];
        err |= anchor(&d->path, file);
        d->overlay = d->overlay_path != NULL;
        if (d->overlay && strcmp(d->overlay_path, "temporary") == 0) {
            free(d->overlay_path);
            d->overlay_path = NULL;
        }
        err |= anchor(&d->overlay_path, file);
    }
    for (unsigned i = 0; i < c->nnets; i++)
        err |= anchor(&c->nets[i].path, file) | anchor(&c->nets[i].pcap, file);
    for (unsigned i = 0; i < c->nserials; i++)
        err |= anchor(&c->serials[i].path, file);
    for (unsigned i = 0; i < c->ninputs; i++)
        err |= anchor(&c->inputs[i].script, file);
    return err ? -ENOMEM : 0;
}

static int take_scalars(const char *path, struct file *file, struct config *c, struct failure *f)
{
    if (file->memory && spec_size(file->memory, &c->memory) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: memory: '%s' is not a size such as 512M or 1G", path,
                           file->memory);
    if (file->memory && c->memory == 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: memory: a machine needs memory", path);
    if (file->cpus && *file->cpus == 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: cpus: a machine needs at least 1", path);
    c->cpus = file->cpus ? *file->cpus : 0;
    c->have_seed = file->seed != NULL;
    c->seed = file->seed ? *file->seed : 0;
    c->hash_every = file->hash_every ? *file->hash_every : 0;
    c->stop_at = file->stop_at ? *file->stop_at : 0;
    c->no_tlb = file->no_tlb && *file->no_tlb;
    c->rng = !file->rng || *file->rng;
    c->hash_at_exit = file->hash_at_exit && *file->hash_at_exit;
    return 0;
}

static void take_pointers(struct file *file, struct config *c)
{
    c->name = file->name;
    c->kernel = file->kernel;
    c->bios = file->bios;
    c->initrd = file->initrd;
    c->append = file->append;
    c->batch = file->batch;
    c->mmu = file->mmu;
    c->engine = file->engine;
    c->clock = file->clock;
    c->timing = file->timing;
    c->hash_at = file->hash_at;
    c->nhash_at = file->nhash_at;
    c->disks = file->disks;
    c->ndisks = file->ndisks;
    c->nets = file->nets;
    c->nnets = file->nnets;
    c->serials = file->serials;
    c->nserials = file->nserials;
    c->inputs = file->inputs;
    c->ninputs = file->ninputs;
}

static void drop_scalars(struct file *file)
{
    free(file->memory);
    free(file->cpus);
    free(file->seed);
    free(file->hash_every);
    free(file->stop_at);
    free(file->no_tlb);
    free(file->rng);
    free(file->hash_at_exit);
    free(file);
}

int config_read_file(const char *path, struct config *c, struct failure *f)
{
    char *text = NULL;
    size_t len = 0;
    int err = slurp(path, &text, &len, f);
    if (err)
        return err;
    struct file *file = NULL;
    err = scan(path, text, len, f);
    if (!err)
        err = load(path, text, len, &file, f);
    free(text);
    if (err)
        return err;
    struct config out = {0};
    err = take_scalars(path, file, &out, f);
    take_pointers(file, &out);
    drop_scalars(file);
    if (!err && anchor_all(&out, path) < 0)
        err = failure_set(f, STATUS_FAILED, ENOMEM, "%s: %s", path, strerror(ENOMEM));
    if (err) {
        config_release(&out);
        return err;
    }
    *c = out;
    return 0;
}

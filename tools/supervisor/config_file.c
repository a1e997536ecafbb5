/* The configuration file: a libcyaml schema, and libcyaml's complaints in our words. Knows the keys, not
 * their meaning. */
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

/* The file as libcyaml loads it: a scalar that is absent is a null pointer. */
struct file {
    char *name, *kernel, *bios, *initrd, *append, *batch;
    char *memory, *mmu, *engine, *clock, *timing, *record, *record_limit, *code_cache, *log, *sandbox;
    unsigned *cpus;
    uint64_t *seed, *hash_every, *stop_at;
    bool *no_tlb, *perf_map, *count_blocks, *rng, *hash_at_exit, *no_record, *record_require, *self_contained;
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

#define OPTIONAL_PTR (CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER)

#define OPTIONAL_WORD (CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT)

/* libcyaml takes any word for a boolean; this takes those of YAML 1.1. */
static const cyaml_strval_t booleans[] = {{"true", 1}, {"false", 0}, {"yes", 1},
                                          {"no", 0},   {"on", 1},    {"off", 0}};
#define NBOOLEANS (sizeof(booleans) / sizeof(booleans[0]))

static const cyaml_schema_value_t string_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4096)};
static const cyaml_schema_value_t number_value = {CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, uint64_t)};

static const cyaml_schema_field_t disk_fields[] = {
    CYAML_FIELD_STRING_PTR("path", CYAML_FLAG_POINTER, struct config_disk, path, 1, 4096),
    CYAML_FIELD_STRING_PTR("id", OPTIONAL_PTR, struct config_disk, id, 0, 4096),
    CYAML_FIELD_STRING_PTR("serial", OPTIONAL_PTR, struct config_disk, serial, 0, 4096),
    CYAML_FIELD_ENUM("ro", OPTIONAL_WORD, struct config_disk, ro, booleans, NBOOLEANS),
    CYAML_FIELD_STRING_PTR("overlay", OPTIONAL_PTR, struct config_disk, overlay_path, 1, 4096),
    CYAML_FIELD_STRING_PTR("latency", OPTIONAL_PTR, struct config_disk, pace.latency, 1, 64),
    CYAML_FIELD_STRING_PTR("bandwidth", OPTIONAL_PTR, struct config_disk, pace.bandwidth, 1, 64),
    CYAML_FIELD_STRING_PTR("jitter", OPTIONAL_PTR, struct config_disk, pace.jitter, 1, 64),
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
    CYAML_FIELD_ENUM("listen", OPTIONAL_WORD, struct config_net, listen, booleans, NBOOLEANS),
    CYAML_FIELD_STRING_PTR("ifname", OPTIONAL_PTR, struct config_net, ifname, 1, 4096),
    CYAML_FIELD_STRING_PTR("pcap", OPTIONAL_PTR, struct config_net, pcap, 1, 4096),
    CYAML_FIELD_STRING_PTR("latency", OPTIONAL_PTR, struct config_net, pace.latency, 1, 64),
    CYAML_FIELD_STRING_PTR("bandwidth", OPTIONAL_PTR, struct config_net, pace.bandwidth, 1, 64),
    CYAML_FIELD_STRING_PTR("jitter", OPTIONAL_PTR, struct config_net, pace.jitter, 1, 64),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t net_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_net, net_fields)};

static const cyaml_schema_field_t serial_fields[] = {
    CYAML_FIELD_STRING_PTR("backend", CYAML_FLAG_POINTER, struct config_serial, backend, 1, 4096),
    CYAML_FIELD_STRING_PTR("path", OPTIONAL_PTR, struct config_serial, path, 1, 4096),
    CYAML_FIELD_STRING_PTR("id", OPTIONAL_PTR, struct config_serial, id, 0, 4096),
    CYAML_FIELD_STRING_PTR("latency", OPTIONAL_PTR, struct config_serial, pace.latency, 1, 64),
    CYAML_FIELD_STRING_PTR("bandwidth", OPTIONAL_PTR, struct config_serial, pace.bandwidth, 1, 64),
    CYAML_FIELD_STRING_PTR("jitter", OPTIONAL_PTR, struct config_serial, pace.jitter, 1, 64),
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
    CYAML_FIELD_STRING_PTR("code-cache", OPTIONAL_PTR, struct file, code_cache, 0, 64),
    CYAML_FIELD_STRING_PTR("log", OPTIONAL_PTR, struct file, log, 0, 64),
    CYAML_FIELD_ENUM_PTR("count-blocks", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, count_blocks,
                         booleans, NBOOLEANS),
    CYAML_FIELD_ENUM_PTR("perf-map", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, perf_map, booleans,
                         NBOOLEANS),
    CYAML_FIELD_STRING_PTR("clock", OPTIONAL_PTR, struct file, clock, 0, 64),
    CYAML_FIELD_STRING_PTR("timing", OPTIONAL_PTR, struct file, timing, 0, 64),
    CYAML_FIELD_STRING_PTR("sandbox", OPTIONAL_PTR, struct file, sandbox, 0, 64),
    CYAML_FIELD_UINT_PTR("seed", OPTIONAL_PTR, struct file, seed),
    CYAML_FIELD_ENUM_PTR("no-tlb", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, no_tlb, booleans,
                         NBOOLEANS),
    CYAML_FIELD_ENUM_PTR("rng", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, rng, booleans, NBOOLEANS),
    CYAML_FIELD_ENUM_PTR("hash-at-exit", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, hash_at_exit,
                         booleans, NBOOLEANS),
    CYAML_FIELD_STRING_PTR("record", OPTIONAL_PTR, struct file, record, 1, 4096),
    CYAML_FIELD_STRING_PTR("record-limit", OPTIONAL_PTR, struct file, record_limit, 0, 64),
    CYAML_FIELD_ENUM_PTR("no-record", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, no_record, booleans,
                         NBOOLEANS),
    CYAML_FIELD_ENUM_PTR("record-require", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, record_require,
                         booleans, NBOOLEANS),
    CYAML_FIELD_ENUM_PTR("self-contained", OPTIONAL_WORD | CYAML_FLAG_POINTER, struct file, self_contained,
                         booleans, NBOOLEANS),
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
    char reason[400];
    char key[100]; /* that the reason names, or of the value that it is about */
    bool about_key;
    unsigned line, column;
};

/* libcyaml's reasons and ours; %s stands for the rest of its line. */
static const struct {
    const char *theirs, *ours;
    bool about_key;
} reasons[] = {
    {"Load: Mapping field already seen: ", "duplicate key '%s'", true},
    {"Load: Unexpected key: ", "unknown key '%s'", true},
    {"Load: Missing required mapping field: ", "the key '%s' is missing", false},
    {"Load: Invalid uint64_t value: ", "%s is not a number", false},
    {"Load: Invalid UINT value: ", "%s is not a number in range", false},
    {"Load: Invalid ENUM value: ", "'%s' is neither true nor false", false},
    {"Load: Expecting SEQUENCE, got event: ", "a list is expected", false},
    {"Load: Expecting MAPPING, got event: ", "keys with values are expected", false},
    {"Load: Expecting ", "a single value is expected", false},
    {"Load: libyaml: ", "%s", false},
    {"Load: ", "%s", false},
};

static void take_reason(struct complaint *c, const char *text)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        size_t n = strlen(reasons[i].theirs);
        if (strncmp(text, reasons[i].theirs, n) != 0)
            continue;
        const char *mark = strstr(reasons[i].ours, "%s");
        int before = mark ? (int)(mark - reasons[i].ours) : (int)strlen(reasons[i].ours);
        snprintf(c->reason, sizeof(c->reason), "%.*s%.300s%s", before, reasons[i].ours, mark ? text + n : "",
                 mark ? mark + 2 : "");
        c->about_key = reasons[i].about_key;
        if (c->about_key)
            snprintf(c->key, sizeof(c->key), "%.99s", text + n);
        return;
    }
}

static void collect(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct complaint *c = ctx;
    char text[400];
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    const char *at = strstr(text, "(line: "), *key = strstr(text, "in mapping field '");
    if (at) {
        if (!c->line)
            sscanf(at, "(line: %u, column: %u", &c->line, &c->column);
        if (key && !c->key[0])
            snprintf(c->key, sizeof(c->key), "%.*s", (int)strcspn(key + 18, "'"), key + 18);
    } else if (level >= CYAML_LOG_ERROR && !c->reason[0] && !strstr(text, "Backtrace")) {
        take_reason(c, text);
    }
}

/* libcyaml gives the place before a bad key, or the beginning of its mapping: the next key of that name is
 * it. */
static void find_key(struct complaint *c, const char *text, size_t len)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    bool key = false, found = false;
    for (yaml_token_t t = {0}; !found && yaml_parser_scan(&parser, &t);) {
        unsigned line = (unsigned)t.start_mark.line + 1, column = (unsigned)t.start_mark.column + 1;
        bool after = line > c->line || (line == c->line && column >= c->column);
        bool end = t.type == YAML_STREAM_END_TOKEN;
        if (key && after && t.type == YAML_SCALAR_TOKEN && strcmp((char *)t.data.scalar.value, c->key) == 0) {
            c->line = line;
            c->column = column;
            found = true;
        }
        key = t.type == YAML_KEY_TOKEN;
        yaml_token_delete(&t);
        if (end)
            break;
    }
    yaml_parser_delete(&parser);
}

static int complain(const char *path, struct complaint *c, cyaml_err_t err, const char *text, size_t len,
                    struct failure *f)
{
    char place[40] = "", key[140] = "";
    if (c->about_key)
        find_key(c, text, len);
    else if (c->key[0] && err != CYAML_ERR_MAPPING_FIELD_MISSING)
        snprintf(key, sizeof(key), "%s: ", c->key);
    if (c->line)
        snprintf(place, sizeof(place), ":%u:%u", c->line, c->column);
    return failure_set(f, STATUS_USAGE, EINVAL, "%s%s: %s%s", path, place, key,
                       c->reason[0] ? c->reason : cyaml_strerror(err));
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
    return complain(path, &why, err, text, len, f);
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
    int err = anchor(&c->kernel, file) | anchor(&c->initrd, file) | anchor(&c->batch, file) |
              anchor(&c->record, file);
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

static int take_size(const char *path, const char *key, const char *text, uint64_t *bytes, struct failure *f)
{
    if (text && spec_size(text, bytes) < 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: %s: '%s' is not a size such as 512M or 1G", path,
                           key, text);
    return 0;
}

static int take_scalars(const char *path, struct file *file, struct config *c, struct failure *f)
{
    if (take_size(path, "memory", file->memory, &c->memory, f) < 0 ||
        take_size(path, "record-limit", file->record_limit, &c->record_limit, f) < 0 ||
        take_size(path, "code-cache", file->code_cache, &c->code_cache, f) < 0)
        return -EINVAL;
    if (file->memory && c->memory == 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: memory: a machine needs memory", path);
    c->no_record = file->no_record && *file->no_record;
    c->record_require = file->record_require && *file->record_require;
    c->self_contained = file->self_contained && *file->self_contained;
    if (file->cpus && *file->cpus == 0)
        return failure_set(f, STATUS_USAGE, EINVAL, "%s: cpus: a machine needs at least 1", path);
    c->cpus = file->cpus ? *file->cpus : 0;
    c->have_seed = file->seed != NULL;
    c->seed = file->seed ? *file->seed : 0;
    c->hash_every = file->hash_every ? *file->hash_every : 0;
    c->stop_at = file->stop_at ? *file->stop_at : 0;
    c->no_tlb = file->no_tlb && *file->no_tlb;
    c->perf_map = file->perf_map && *file->perf_map;
    c->count_blocks = file->count_blocks && *file->count_blocks;
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
    c->log = file->log;
    c->clock = file->clock;
    c->timing = file->timing;
    c->sandbox = file->sandbox;
    c->record = file->record;
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
    free(file->record_limit);
    free(file->code_cache);
    free(file->no_record);
    free(file->record_require);
    free(file->self_contained);
    free(file->cpus);
    free(file->seed);
    free(file->hash_every);
    free(file->stop_at);
    free(file->no_tlb);
    free(file->perf_map);
    free(file->count_blocks);
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

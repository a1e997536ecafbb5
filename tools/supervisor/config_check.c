/* Defaults and checks of a merged configuration: limits, ids, keys that exclude or need each other. Opens
 * nothing. */
#include "cpu-core/jit/jit.h"
#include "ipc/latency.h"
#include "tools/supervisor/config.h"
#include "tools/supervisor/host.h"
#include "tools/supervisor/record_files.h"
#include "tools/supervisor/spec.h"

#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int no_memory(struct failure *f)
{
    return failure_set(f, STATUS_FAILED, ENOMEM, "%s", strerror(ENOMEM));
}

static int bad(struct failure *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int bad(struct failure *f, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return failure_set(f, STATUS_USAGE, EINVAL, "%s", text);
}

static int set_default(char **to, struct failure *f, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int set_default(char **to, struct failure *f, const char *fmt, ...)
{
    if (*to)
        return 0;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(to, fmt, ap);
    va_end(ap);
    if (n >= 0)
        return 0;
    *to = NULL;
    return no_memory(f);
}

static int one_of(const char *key, const char *value, const char *const *words, struct failure *f)
{
    char list[100] = "";
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], value) == 0)
            return 0;
        size_t n = strlen(list);
        snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", words[i]);
    }
    return bad(f, "%s: '%s' is not one of %s", key, value, list);
}

int config_engine(const char *wanted, const char **engine, struct failure *f)
{
    const char *lacks = host_translator_lacks();
    if (strcmp(wanted, "jit") == 0 && lacks)
        return bad(f, "engine: 'jit' needs %s, which this host does not have", lacks);
    *engine = strcmp(wanted, "auto") != 0 ? wanted : lacks ? "interp" : "jit";
    return 0;
}

int config_sandbox(const char *wanted, const char **how, struct failure *f)
{
    static const char *const choices[] = {"on", "off", "require", NULL};
    const char *preset = getenv("CLEAVE_SANDBOX");
    *how = wanted ? wanted : preset && *preset ? preset : "on";
    return one_of("sandbox", *how, choices, f);
}

int config_translator(const char *engine, uint64_t code_cache, const char *log, bool perf_map,
                      struct failure *f)
{
    static const char *const logs[] = {"jit", NULL};
    int err = log ? one_of("log", log, logs, f) : 0;
    if (err)
        return err;
    if (code_cache && (code_cache < JIT_CODE_MIN || code_cache > JIT_CODE_MAX))
        return bad(f, "code-cache: %llu bytes are outside of 2M to 1G", (unsigned long long)code_cache);
    if ((perf_map || log) && strcmp(engine, "jit") != 0)
        return bad(f, "%s: there is no translated code: the engine is %s", log ? "log" : "perf-map", engine);
    return 0;
}

static int choose_engine(struct config *c, struct failure *f)
{
    const char *engine;
    int err = config_engine(c->engine, &engine, f);
    if (err || strcmp(engine, c->engine) == 0)
        return err;
    free(c->engine);
    c->engine = NULL;
    return set_default(&c->engine, f, "%s", engine);
}

static int check_choices(struct config *c, struct failure *f)
{
    static const char *const mmus[] = {"sv39", "sv48", "sv57", NULL},
                             *const engines[] = {"auto", "jit", "interp", NULL},
                             *const clocks[] = {"host", "virtual", NULL},
                             *const timings[] = {"live", "fixed", NULL};
    const char *sandbox;
    int err = set_default(&c->mmu, f, "sv48");
    if (!err)
        err = set_default(&c->engine, f, "auto");
    if (!err)
        err = set_default(&c->clock, f, "host");
    if (!err)
        err = set_default(&c->timing, f, "%s", strcmp(c->clock, "virtual") == 0 ? "fixed" : "live");
    if (!err)
        err = config_sandbox(c->sandbox, &sandbox, f);
    if (!err)
        err = set_default(&c->sandbox, f, "%s", sandbox);
    if (!err)
        err = one_of("mmu", c->mmu, mmus, f);
    if (!err)
        err = one_of("engine", c->engine, engines, f);
    if (!err)
        err = choose_engine(c, f);
    if (!err)
        err = config_translator(c->engine, c->code_cache, c->log, c->perf_map, f);
    if (!err)
        err = one_of("clock", c->clock, clocks, f);
    if (!err)
        err = one_of("timing", c->timing, timings, f);
    if (!err && strcmp(c->clock, "virtual") == 0 && strcmp(c->timing, "fixed") != 0)
        err = bad(f, "timing: the virtual clock needs fixed timing");
    return err;
}

static int check_limits(struct config *c, struct failure *f)
{
    if (c->memory == 0)
        c->memory = UINT64_C(1) << 30;
    if (c->memory < CONFIG_MIN_MEMORY || c->memory > CONFIG_MAX_MEMORY)
        return bad(f, "memory: %llu bytes are outside of 16M to 64G", (unsigned long long)c->memory);
    if (c->memory % 4096)
        return bad(f, "memory: %llu bytes are not a multiple of 4K", (unsigned long long)c->memory);
    if (c->code_cache == 0)
        c->code_cache = JIT_CODE_DEFAULT;
    if (c->cpus == 0)
        c->cpus = 1;
    if (c->cpus > CONFIG_MAX_CPUS)
        return bad(f, "cpus: %u: a machine has 1 to %d harts", c->cpus, CONFIG_MAX_CPUS);
    if (c->append && strlen(c->append) > CONFIG_MAX_APPEND)
        return bad(f, "append: the kernel command line is longer than %d bytes", CONFIG_MAX_APPEND);
    if (c->name && !spec_is_name(c->name, 64))
        return bad(f, "name: '%s' is not a name: up to 64 letters, digits, '.', '_', '-'", c->name);
    return set_default(&c->name, f, "vm-%d", (int)getpid());
}

static int check_boot(struct config *c, struct failure *f)
{
    if (!c->kernel && (!c->bios || strcmp(c->bios, "none") == 0)) {
        bad(f, "nothing to boot: neither kernel nor bios is given");
        return failure_hint(f, "cleave run --kernel Image --initrd initrd.cpio.gz --append console=ttyS0");
    }
    if (c->initrd && !c->kernel)
        return bad(f, "initrd: needs a kernel");
    if (c->append && !c->kernel)
        return bad(f, "append: needs a kernel");
    if (c->batch && !c->kernel)
        return bad(f, "batch: needs a kernel and the demo guest's initrd");
    return 0;
}

static int check_seed(struct config *c, struct failure *f)
{
    if (c->seed > INT64_MAX)
        return bad(f, "seed: larger than 2^63 - 1");
    if (c->have_seed || strcmp(c->clock, "virtual") == 0)
        return 0;
    if (getrandom(&c->seed, sizeof(c->seed), 0) != sizeof(c->seed))
        return failure_set(f, STATUS_FAILED, EIO, "cannot get a random seed: %s", strerror(errno));
    c->seed >>= 1; /* JSON integers end at 2^63 - 1 */
    return 0;
}

static int replace_number(char **text, uint64_t value)
{
    char *number;
    if (asprintf(&number, "%llu", (unsigned long long)value) < 0)
        return -ENOMEM;
    free(*text);
    *text = number;
    return 0;
}

/* SplitMix64 of seed and a salt: what derives from the seed differs per device. */
static uint64_t derive(uint64_t seed, uint64_t salt)
{
    uint64_t z = seed + (salt + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The texts become plain numbers of ns and bytes, as the device process takes them. */
static int complete_pace(const struct config *c, const char *kind, const char *id, struct config_pace *p,
                         struct failure *f)
{
    uint64_t value;
    if (!p->latency && !p->bandwidth && !p->jitter)
        return 0;
    if (strcmp(c->timing, "fixed") != 0)
        return bad(f, "%s '%s': latency, bandwidth and jitter need fixed timing", kind, id);
    char **times[] = {&p->latency, &p->jitter};
    for (unsigned i = 0; i < 2; i++) {
        if (*times[i] && (spec_time(*times[i], &value) < 0 || value > LATENCY_MAX_NS))
            return bad(f, "%s '%s': %s: '%s' is not a time such as 100us, at most 60s", kind, id,
                       i ? "jitter" : "latency", *times[i]);
        if (*times[i] && replace_number(times[i], value) < 0)
            return no_memory(f);
    }
    if (!p->bandwidth)
        return 0;
    if (spec_size(p->bandwidth, &value) < 0 || (value && value < LATENCY_MIN_BANDWIDTH))
        return bad(f, "%s '%s': bandwidth: '%s' is not a number of bytes a second such as 200M, at least 1K",
                   kind, id, p->bandwidth);
    return replace_number(&p->bandwidth, value) < 0 ? no_memory(f) : 0;
}

static int complete_disk(struct config *c, unsigned i, struct failure *f)
{
    struct config_disk *d = &c->disks[i];
    int err = set_default(&d->id, f, "vd%c", 'a' + (int)i);
    if (err)
        return err;
    if (d->ro && d->overlay)
        return bad(f, "disk '%s': 'ro' and 'overlay' exclude each other", d->id);
    err = set_default(&d->serial, f, "cleave%012llx", (unsigned long long)(derive(c->seed, i) >> 16));
    if (!err)
        err = complete_pace(c, "disk", d->id, &d->pace, f);
    if (!err && strlen(d->serial) > 20)
        err = bad(f, "disk '%s': serial: '%s' is longer than 20 bytes", d->id, d->serial);
    return err;
}

static int check_net_keys(const struct config_net *n, struct failure *f)
{
    bool user = strcmp(n->backend, "user") == 0, stream = strcmp(n->backend, "stream") == 0;
    bool tap = strcmp(n->backend, "tap") == 0;
    if (n->nhostfwd && !user)
        return bad(f, "net '%s': 'hostfwd' belongs to the user back-end", n->id);
    if ((n->path || n->listen) && !stream)
        return bad(f, "net '%s': 'path' and 'listen' belong to the stream back-end", n->id);
    if (n->ifname && !tap)
        return bad(f, "net '%s': 'ifname' belongs to the tap back-end", n->id);
    if (stream && !n->path)
        return bad(f, "net '%s': stream needs a path", n->id);
    if (tap && !n->ifname)
        return bad(f, "net '%s': tap needs an ifname", n->id);
    if (tap && strlen(n->ifname) >= IFNAMSIZ)
        return bad(f, "net '%s': ifname: '%s' is too long", n->id, n->ifname);
    for (unsigned i = 0; i < n->nhostfwd; i++) {
        if (!spec_is_hostfwd(n->hostfwd[i]))
            return bad(f, "net '%s': hostfwd: '%s' is not tcp:[ADDR]:PORT-[ADDR]:PORT", n->id, n->hostfwd[i]);
    }
    return 0;
}

static int complete_net(struct config *c, unsigned i, struct failure *f)
{
    static const char *const backends[] = {"user", "stream", "tap", "echo", NULL};
    struct config_net *n = &c->nets[i];
    int err = set_default(&n->id, f, "net%u", i);
    if (!err)
        err = one_of("net", n->backend, backends, f);
    if (!err)
        err = check_net_keys(n, f);
    if (!err)
        err = complete_pace(c, "net", n->id, &n->pace, f);
    if (err)
        return err;
    uint64_t r = derive(c->seed, 0x100 + i);
    err = set_default(&n->mac, f, "52:54:00:%02x:%02x:%02x", (unsigned)(r >> 16 & 255),
                      (unsigned)(r >> 8 & 255), (unsigned)(r & 255));
    if (!err && !spec_is_mac(n->mac))
        err = bad(f, "net '%s': mac: '%s' is not a unicast address xx:xx:xx:xx:xx:xx", n->id, n->mac);
    for (unsigned j = 0; j < i && !err; j++) {
        if (strcasecmp(c->nets[j].mac, n->mac) == 0)
            err = bad(f, "net '%s': mac: '%s' is that of '%s' too", n->id, n->mac, c->nets[j].id);
    }
    return err;
}

static int complete_serial(struct config *c, unsigned i, struct failure *f)
{
    static const char *const backends[] = {"stdio", "pty", "unix", "file", "null", NULL};
    struct config_serial *s = &c->serials[i];
    int err = set_default(&s->id, f, "serial%u", i);
    if (!err)
        err = one_of("serial", s->backend, backends, f);
    if (!err)
        err = complete_pace(c, "serial", s->id, &s->pace, f);
    if (err)
        return err;
    bool needs = strcmp(s->backend, "unix") == 0 || strcmp(s->backend, "file") == 0;
    if (needs != (s->path != NULL) || (s->path && !*s->path))
        return bad(f, "serial '%s': %s %s path", s->id, s->backend, needs ? "needs a" : "takes no");
    for (unsigned j = 0; j < i; j++) {
        if (strcmp(s->backend, "stdio") == 0 && strcmp(c->serials[j].backend, "stdio") == 0)
            return bad(f, "serial '%s': '%s' has stdio already", s->id, c->serials[j].id);
    }
    return 0;
}

static int complete_serials(struct config *c, struct failure *f)
{
    if (c->nserials == 0) {
        c->serials = calloc(1, sizeof(*c->serials));
        if (!c->serials)
            return no_memory(f);
        c->nserials = 1;
        int err = set_default(&c->serials[0].backend, f, "stdio");
        if (err)
            return err;
    }
    for (unsigned i = 0; i < c->nserials; i++) {
        int err = complete_serial(c, i, f);
        if (err)
            return err;
    }
    if (c->batch && strcmp(c->serials[0].backend, "stdio") != 0)
        return bad(f, "batch: the first serial port must be stdio");
    return 0;
}

static int complete_input(struct config *c, unsigned i, struct failure *f)
{
    static const char *const types[] = {"keyboard", "pointer", NULL};
    struct config_input *p = &c->inputs[i];
    int err = one_of("input", p->type, types, f);
    return err ? err : set_default(&p->id, f, "%s%u", p->type, i);
}

/* Ids name devices in commands and roles: unique across kinds. */
static int check_ids(const struct config *c, struct failure *f)
{
    const char *ids[CONFIG_MAX_DEVICES + 1] = {"rng0"};
    unsigned n = c->rng ? 1 : 0;
    if (c->ndisks + c->nnets + c->nserials - 1 + c->ninputs + (c->rng ? 1 : 0) > CONFIG_MAX_DEVICES)
        return bad(f, "more than %d devices", CONFIG_MAX_DEVICES);
    for (unsigned i = 0; i < c->ndisks; i++)
        ids[n++] = c->disks[i].id;
    for (unsigned i = 0; i < c->nnets; i++)
        ids[n++] = c->nets[i].id;
    for (unsigned i = 0; i < c->nserials; i++)
        ids[n++] = c->serials[i].id;
    for (unsigned i = 0; i < c->ninputs; i++)
        ids[n++] = c->inputs[i].id;
    for (unsigned i = 0; i < n; i++) {
        if (!spec_is_name(ids[i], CONFIG_ID_MAX))
            return bad(f, "id: '%s' is not a name: up to %d letters, digits, '.', '_', '-'", ids[i],
                       CONFIG_ID_MAX);
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(ids[i], ids[j]) == 0)
                return bad(f, "id: two devices are called '%s'", ids[i]);
        }
    }
    return 0;
}

static int complete_devices(struct config *c, struct failure *f)
{
    int err = 0;
    if (c->ndisks > CONFIG_MAX_DEVICES || c->nnets > CONFIG_MAX_DEVICES || c->nserials > CONFIG_MAX_DEVICES ||
        c->ninputs > CONFIG_MAX_DEVICES)
        return bad(f, "more than %d devices", CONFIG_MAX_DEVICES);
    if (c->ndisks > 26)
        return bad(f, "more than 26 disks");
    for (unsigned i = 0; i < c->ndisks && !err; i++)
        err = complete_disk(c, i, f);
    for (unsigned i = 0; i < c->nnets && !err; i++)
        err = complete_net(c, i, f);
    if (!err)
        err = complete_serials(c, f);
    for (unsigned i = 0; i < c->ninputs && !err; i++)
        err = complete_input(c, i, f);
    return err ? err : check_ids(c, f);
}

static int check_record(struct config *c, struct failure *f)
{
    if (c->no_record && (c->record || c->record_require || c->self_contained))
        return bad(f, "no-record excludes %s",
                   c->record           ? "record"
                   : c->record_require ? "record-require"
                                       : "self-contained");
    if (!c->record_limit)
        c->record_limit = RECORD_LIMIT;
    if (c->record_limit < RECORD_MIN_LIMIT)
        return bad(f, "record-limit: a trace needs at least %llu KiB",
                   (unsigned long long)RECORD_MIN_LIMIT >> 10);
    return 0;
}

int config_complete(struct config *c, struct failure *f)
{
    int err = check_choices(c, f);
    if (!err)
        err = check_record(c, f);
    if (!err)
        err = check_limits(c, f);
    if (!err)
        err = check_boot(c, f);
    if (!err)
        err = check_seed(c, f);
    if (!err)
        err = complete_devices(c, f);
    return err;
}

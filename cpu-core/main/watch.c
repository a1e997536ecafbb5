/* What the translator does, for people and for perf: lines to the supervisor and the map of code addresses.
 * Must not change what the machine does. */
#include "cpu-core/jit/watch.h"
#include "cpu-core/main/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *privilege(unsigned priv)
{
    return priv == PRIV_U ? "user" : priv == PRIV_S ? "supervisor" : "machine";
}

static void send_log(struct machine *m)
{
    Cleave__Log log = CLEAVE__LOG__INIT;
    log.text = m->watch.log;
    Cleave__Control body = CLEAVE__CONTROL__INIT;
    body.body_case = CLEAVE__CONTROL__BODY_LOG;
    body.log = &log;
    if (m->watch.log_len)
        machine_send(m, &body);
    m->watch.log_len = 0;
}

/* perf reads the map when the machine has ended: one that cannot be written any more stays as it is. */
static void write_map(struct machine *m)
{
    for (size_t done = 0; done < m->watch.map_len;) {
        ssize_t n = write(m->host.perf_map, m->watch.map + done, m->watch.map_len - done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    m->watch.map_len = 0;
}

static void add_line(struct machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add_line(struct machine *m, const char *fmt, ...)
{
    struct machine_watch *w = &m->watch;
    va_list ap;
    if (w->log_len > sizeof w->log - WATCH_LINE)
        send_log(m);
    size_t begin = w->log_len;
    if (begin)
        w->log[w->log_len++] = '\n';
    va_start(ap, fmt);
    int n = vsnprintf(w->log + w->log_len, WATCH_LINE - 1, fmt, ap);
    va_end(ap);
    w->log_len += n < WATCH_LINE - 1 ? (size_t)n : WATCH_LINE - 2;
}

static void log_event(struct machine *m, const struct jit_event *e)
{
    uint64_t at = m->in_slice ? hart_icount(m->in_slice) : m->icount;
    switch (e->kind) {
    case JIT_TRANSLATED:
        add_line(m,
                 "jit %" PRIu64 ": translated %016" PRIx64 " (physical %" PRIx64
                 ", %s%s): %u instructions, %" PRIu32 "+%" PRIu32 " bytes at %" PRIx64,
                 at, e->va, e->pa, privilege(e->priv), e->single ? ", single accesses" : "", e->insns,
                 e->code_len, e->stubs_len, e->code);
        break;
    case JIT_CHANGED:
        add_line(m,
                 "jit %" PRIu64 ": %" PRIu64 " bytes at physical %" PRIx64 " changed: %" PRIu64
                 " blocks dropped",
                 at, e->len, e->pa, e->blocks);
        break;
    case JIT_EVICTED:
        add_line(m, "jit %" PRIu64 ": code memory is full: the oldest %" PRIu64 " blocks dropped", at,
                 e->blocks);
        break;
    case JIT_FLUSHED:
        add_line(m, "jit %" PRIu64 ": flush: %" PRIu64 " blocks dropped", at, e->blocks);
        break;
    }
}

static void map_event(struct machine *m, const struct jit_event *e)
{
    struct machine_watch *w = &m->watch;
    if (w->map_len > sizeof w->map - WATCH_LINE)
        write_map(m);
    w->map_len += (size_t)snprintf(
        w->map + w->map_len, WATCH_LINE,
        "%" PRIx64 " %" PRIx32 " guest:%s:%" PRIx64 "\n%" PRIx64 " %" PRIx32 " guest:%s:%" PRIx64 ":stubs\n",
        e->code, e->code_len, privilege(e->priv), e->va, e->stubs, e->stubs_len, privilege(e->priv), e->va);
}

static void told(void *arg, const struct jit_event *e)
{
    struct machine *m = arg;
    if (m->cfg.log_jit)
        log_event(m, e);
    if (m->host.perf_map >= 0 && e->kind == JIT_TRANSLATED)
        map_event(m, e);
}

void machine_watch(struct machine *m)
{
    if (m->engine == &jit_engine && (m->cfg.log_jit || m->host.perf_map >= 0))
        jit_watch(m->engine_data, told, m);
}

void machine_watch_flush(struct machine *m)
{
    if (m->watch.log_len)
        send_log(m);
    if (m->watch.map_len)
        write_map(m);
}

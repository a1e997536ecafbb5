/* Finding the markers. A marker may be cut anywhere by reads, so a suspected one is held back until it is
 * complete or refuted. */
#include "tools/supervisor/batch.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define MARK '\x1e'

void batch_init(struct batch *b)
{
    *b = (struct batch){.status = -1};
}

static void keep_boot(struct batch *b, char c)
{
    if (b->boot_len == sizeof(b->boot)) {
        size_t half = sizeof(b->boot) / 2;
        memmove(b->boot, b->boot + half, half);
        b->boot_len = half;
    }
    b->boot[b->boot_len++] = c;
}

struct sinks {
    uint8_t *out, *log;
    size_t *out_len, *log_len;
};

static void emit(struct batch *b, const char *p, size_t n, const struct sinks *s)
{
    for (size_t i = 0; i < n; i++) {
        if (b->phase == BATCH_OUTPUT) {
            s->out[(*s->out_len)++] = (uint8_t)p[i];
            continue;
        }
        s->log[(*s->log_len)++] = (uint8_t)p[i];
        if (b->phase == BATCH_BOOTING)
            keep_boot(b, p[i]);
    }
}

/* "\x1ecleave-batch-end STATUS\x1e\n": 1 when complete, 0 when it may become one, -1 when not. */
static int match_end(struct batch *b)
{
    size_t prefix = sizeof(BATCH_END) - 1;
    size_t n = b->held < prefix ? b->held : prefix;
    if (memcmp(b->hold, BATCH_END, n) != 0)
        return -1;
    size_t i = prefix;
    while (i < b->held && i < prefix + 3 && isdigit((unsigned char)b->hold[i]))
        i++;
    if (i >= b->held)
        return 0;
    if (i == prefix || b->hold[i] != MARK || (i + 1 < b->held && b->hold[i + 1] != '\n'))
        return -1;
    if (i + 1 >= b->held)
        return 0;
    b->status = atoi(b->hold + prefix);
    return 1;
}

static int match_begin(const struct batch *b)
{
    size_t whole = sizeof(BATCH_BEGIN) - 1;
    if (b->held > whole || memcmp(b->hold, BATCH_BEGIN, b->held) != 0)
        return -1;
    return b->held == whole;
}

static void release(struct batch *b, const struct sinks *s)
{
    size_t n = b->held;
    b->held = 0;
    emit(b, b->hold, n, s);
}

static void take(struct batch *b, char c, const struct sinks *s)
{
    if (b->phase == BATCH_OVER || (b->held == 0 && c != MARK)) {
        emit(b, &c, 1, s);
        return;
    }
    b->hold[b->held++] = c;
    int match = b->phase == BATCH_BOOTING ? match_begin(b) : match_end(b);
    if (match > 0) {
        b->held = 0;
        b->phase = b->phase == BATCH_BOOTING ? BATCH_OUTPUT : BATCH_OVER;
    } else if (match < 0) {
        /* The byte that refutes may begin a marker itself. */
        b->held--;
        release(b, s);
        take(b, c, s);
    }
}

void batch_feed(struct batch *b, const uint8_t *in, size_t n, uint8_t *out, size_t *out_len, uint8_t *log,
                size_t *log_len)
{
    const struct sinks s = {out, log, out_len, log_len};
    *out_len = *log_len = 0;
    for (size_t i = 0; i < n; i++)
        take(b, (char)in[i], &s);
}

void batch_flush(struct batch *b, uint8_t *out, size_t *out_len)
{
    *out_len = 0;
    if (b->phase != BATCH_OUTPUT)
        return;
    memcpy(out, b->hold, b->held);
    *out_len = b->held;
    b->held = 0;
}

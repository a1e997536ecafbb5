/* Coding of records. Must not know blocks or files. */
#include "replay-broker/record.h"

#include <errno.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define MACHINE 0xffffu /* crossing.device of the machine itself */

size_t record_frame_write(size_t message, uint8_t *out)
{
    size_t n = 0;
    for (; message >= 0x80; message >>= 7)
        out[n++] = (uint8_t)(message | 0x80);
    out[n++] = (uint8_t)message;
    return n;
}

size_t record_frame_size(size_t message)
{
    uint8_t prefix[10];
    return record_frame_write(message, prefix) + message;
}

int64_t record_frame(const uint8_t *data, size_t len, size_t *prefix)
{
    uint64_t size = 0;
    for (size_t n = 0; n < len && n < 5; n++) {
        size |= (uint64_t)(data[n] & 0x7f) << 7 * n;
        if (data[n] & 0x80)
            continue;
        if (size > len - n - 1)
            return -EBADMSG;
        *prefix = n + 1;
        return (int64_t)size;
    }
    return -EBADMSG;
}

static int prepare_body(struct record *r, const struct journal_entry *e)
{
    Cleave__LogCrossing *c = &r->crossing;
    c->len = e->c.len;
    c->digest = e->c.digest;
    switch (e->form) {
    case JOURNAL_DIGEST:
        return 0;
    case JOURNAL_INLINE:
        c->len = 0;
        c->digest = 0;
        c->body_case = CLEAVE__LOG_CROSSING__BODY_INLINE;
        c->inline_ = (ProtobufCBinaryData){.len = e->c.len, .data = (uint8_t *)e->body};
        return 0;
    case JOURNAL_FILE:
        if (e->file > UINT32_MAX || e->tail > e->c.len)
            return -EINVAL;
        cleave__log_file_ref__init(&r->file);
        r->file.file = (uint32_t)e->file;
        r->file.offset = e->offset;
        r->file.tail = (ProtobufCBinaryData){.len = e->tail, .data = (uint8_t *)e->body};
        c->body_case = CLEAVE__LOG_CROSSING__BODY_FILE;
        c->file = &r->file;
        return 0;
    case JOURNAL_SAME:
        c->body_case = CLEAVE__LOG_CROSSING__BODY_SAME_AS;
        c->same_as = e->file;
        return 0;
    default:
        return -EINVAL;
    }
}

static int prepare_crossing(struct record *r, const struct record_base *base, const struct journal_entry *e)
{
    const struct crossing *c = &e->c;
    if (c->seq <= base->seq || (c->direction != CROSSING_IN && c->direction != CROSSING_OUT))
        return -EINVAL;
    cleave__log_crossing__init(&r->crossing);
    r->crossing.seq_skip = c->seq - base->seq - 1;
    r->crossing.device = c->device == MACHINE ? 0 : c->device + 1u;
    r->crossing.queue = c->queue;
    r->crossing.direction = c->direction;
    r->crossing.kind = c->kind;
    r->crossing.request_delta = (int64_t)(c->request - base->request);
    r->crossing.arg = c->arg;
    r->message.what_case = CLEAVE__LOG_RECORD__WHAT_CROSSING;
    r->message.crossing = &r->crossing;
    r->after.seq = c->seq;
    r->after.request = c->request;
    return prepare_body(r, e);
}

int record_prepare(struct record *r, const struct record_base *base, const struct journal_entry *e)
{
    if (e->c.icount < base->icount)
        return -EINVAL;
    cleave__log_record__init(&r->message);
    r->message.steps = e->c.icount - base->icount;
    r->message.pc_delta = (int64_t)(e->c.pc - base->pc);
    r->after = *base;
    r->after.icount = e->c.icount;
    r->after.pc = e->c.pc;
    if (e->type == JOURNAL_CROSSING) {
        int err = prepare_crossing(r, base, e);
        if (err)
            return err;
    } else if (e->type == JOURNAL_STATE_HASH) {
        cleave__log_state_hash__init(&r->hash);
        r->hash.hash = e->c.digest;
        r->message.what_case = CLEAVE__LOG_RECORD__WHAT_STATE_HASH;
        r->message.state_hash = &r->hash;
    } else {
        return -EINVAL;
    }
    r->size = record_frame_size(cleave__log_record__get_packed_size(&r->message));
    return 0;
}

void record_write(const struct record *r, uint8_t *out)
{
    size_t message = cleave__log_record__get_packed_size(&r->message);
    cleave__log_record__pack(&r->message, out + record_frame_write(message, out));
}

static int read_body(const Cleave__LogCrossing *m, struct journal_entry *e)
{
    e->c.len = m->len;
    e->c.digest = m->digest;
    switch (m->body_case) {
    case CLEAVE__LOG_CROSSING__BODY_INLINE:
        e->form = JOURNAL_INLINE;
        e->c.len = (uint32_t)m->inline_.len;
        e->c.digest = XXH3_64bits(m->inline_.len ? m->inline_.data : (const uint8_t *)"", m->inline_.len);
        e->body = m->inline_.len ? m->inline_.data : NULL;
        return 0;
    case CLEAVE__LOG_CROSSING__BODY_FILE:
        e->form = JOURNAL_FILE;
        e->file = m->file->file;
        e->offset = m->file->offset;
        if (m->file->tail.len > m->len)
            return -EBADMSG;
        e->tail = (uint32_t)m->file->tail.len;
        e->body = e->tail ? m->file->tail.data : NULL;
        return 0;
    case CLEAVE__LOG_CROSSING__BODY_SAME_AS:
        e->form = JOURNAL_SAME;
        e->file = m->same_as;
        return 0;
    default:
        e->form = JOURNAL_DIGEST;
        return 0;
    }
}

static int read_crossing(struct record_base *base, const Cleave__LogCrossing *m, struct journal_entry *e)
{
    if (m->device > MACHINE || m->queue > UINT8_MAX || m->kind > UINT8_MAX ||
        (m->direction != CROSSING_IN && m->direction != CROSSING_OUT) ||
        m->seq_skip >= UINT64_MAX - base->seq)
        return -EBADMSG;
    base->seq += m->seq_skip + 1;
    base->request += (uint64_t)m->request_delta;
    e->type = JOURNAL_CROSSING;
    e->c.seq = base->seq;
    e->c.request = base->request;
    e->c.arg = m->arg;
    e->c.device = (uint16_t)(m->device ? m->device - 1 : MACHINE);
    e->c.queue = (uint8_t)m->queue;
    e->c.direction = (uint8_t)m->direction;
    e->c.kind = (uint8_t)m->kind;
    return read_body(m, e);
}

static int read_message(struct record_base *base, const Cleave__LogRecord *m, struct journal_entry *e)
{
    if (m->steps > UINT64_MAX - base->icount)
        return -EBADMSG;
    base->icount += m->steps;
    base->pc += (uint64_t)m->pc_delta;
    *e = (struct journal_entry){.number = e->number, .c = {.icount = base->icount, .pc = base->pc}};
    if (m->what_case == CLEAVE__LOG_RECORD__WHAT_CROSSING)
        return read_crossing(base, m->crossing, e);
    if (m->what_case == CLEAVE__LOG_RECORD__WHAT_STATE_HASH) {
        e->type = JOURNAL_STATE_HASH;
        e->form = JOURNAL_DIGEST;
        e->c.digest = m->state_hash->hash;
    }
    return 0;
}

int64_t record_read(struct record_base *base, const uint8_t *data, size_t len, struct journal_entry *e,
                    Cleave__LogRecord **hold)
{
    size_t prefix;
    int64_t size = record_frame(data, len, &prefix);
    if (size < 0)
        return size;
    Cleave__LogRecord *m = cleave__log_record__unpack(NULL, (size_t)size, data + prefix);
    if (!m)
        return -EBADMSG;
    int err = read_message(base, m, e);
    if (err) {
        record_free(m);
        return err;
    }
    *hold = m;
    return (int64_t)prefix + size;
}

void record_free(Cleave__LogRecord *hold)
{
    if (hold)
        cleave__log_record__free_unpacked(hold, NULL);
}

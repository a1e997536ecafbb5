/* The log's writer: collects records, closes blocks, keeps room for the end. Whatever fails, the file ends
 * behind its last good block. Must not know where entries come from, nor the time. */
#include "replay-broker/block.h"
#include "replay-broker/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALLOCATION (1u << 20) /* room in the file system is reserved in steps of this */
#define FILE_CHUNK (1u << 20) /* bytes of a file in one block */

struct log_writer {
    int fd;
    bool sync;
    int level;
    uint64_t limit;     /* of the file's size */
    uint64_t size;      /* of the file, behind the last good block */
    uint64_t allocated; /* up to here the file system has room for sure */
    struct block last;  /* as written */
    uint64_t cut;

    /* The open block. */
    struct record_base base;
    uint64_t first_icount;
    uint32_t records;
    uint8_t *raw;
    size_t raw_len, raw_size;

    uint8_t *out;
    size_t out_size;
};

static int grow(uint8_t **buffer, size_t *size, size_t need)
{
    if (need <= *size)
        return 0;
    uint8_t *p = realloc(*buffer, need);
    if (!p)
        return -ENOMEM;
    *buffer = p;
    *size = need;
    return 0;
}

static bool out_of_room(int err)
{
    return err == -ENOSPC || err == -EDQUOT || err == -EFBIG;
}

/* Reserves room for the file to grow to `need`. A file system that cannot reserve is found full by writing.
 */
static int allocate(struct log_writer *w, uint64_t need)
{
    if (need <= w->allocated)
        return 0;
    uint64_t want = MIN(need + ALLOCATION, MAX(need, w->limit));
    while (fallocate(w->fd, FALLOC_FL_KEEP_SIZE, (off_t)w->size, (off_t)(want - w->size)) < 0) {
        int err = -errno;
        if (err == -EINTR)
            continue;
        if (!out_of_room(err)) {
            w->allocated = UINT64_MAX;
            return 0;
        }
        if (want == need)
            return err;
        want = need;
    }
    w->allocated = want;
    return 0;
}

/* `reserve` bytes must stay free behind the block. */
static int write_block(struct log_writer *w, struct block *b, const uint8_t *raw, uint32_t reserve)
{
    b->major = LOG_MAJOR;
    b->minor = LOG_MINOR;
    int err = grow(&w->out, &w->out_size, block_bound(b->raw));
    if (err)
        return err;
    size_t size = block_seal(b, raw, w->out, w->level);
    if (w->size + size + reserve > w->limit)
        return -EFBIG;
    err = allocate(w, w->size + size + reserve);
    if (err)
        return err;
    err = file_write(w->fd, w->size, w->out, size);
    if (!err && w->sync && fdatasync(w->fd) < 0)
        err = -errno;
    if (err) {
        /* Fails only where the reader's checks find the torn block. */
        int cut = ftruncate(w->fd, (off_t)w->size);
        (void)cut;
        if (w->allocated != UINT64_MAX)
            w->allocated = w->size;
        return err;
    }
    w->size += size;
    w->last = *b;
    return 0;
}

/* The block that follows the last one, with nothing in it. */
static struct block next_block(const struct log_writer *w, enum block_type type)
{
    const struct block *l = &w->last;
    return (struct block){.type = (uint16_t)type,
                          .number = l->number + 1,
                          .previous = l->check,
                          .first_icount = l->last_icount,
                          .last_icount = l->last_icount,
                          .first_record = l->first_record + l->records,
                          .last_seq = l->last_seq};
}

static void begin_block(struct log_writer *w)
{
    w->records = 0;
    w->raw_len = 0;
    w->base = (struct record_base){0};
}

/* -EINVAL or a writer without a file's contents. */
static int new_writer(struct log_writer **out, int fd, const struct log_options *o)
{
    struct rlimit r;
    if (o->max_bytes && o->max_bytes < LOG_MIN_LIMIT)
        return -EINVAL;
    struct log_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->fd = fd;
    w->sync = o->sync;
    w->level = o->level;
    w->limit = o->max_bytes ? o->max_bytes : INT64_MAX;
    if (getrlimit(RLIMIT_FSIZE, &r) == 0)
        w->limit = MIN(w->limit, r.rlim_cur);
    *out = w;
    return 0;
}

static int write_header(struct log_writer *w, const Cleave__LogHeader *header)
{
    size_t message = cleave__log_header__get_packed_size(header);
    if (message > LOG_MAX_BLOCK - 10)
        return -EMSGSIZE;
    struct block b = {.type = BLOCK_HEADER, .first_record = 1, .raw = (uint32_t)record_frame_size(message)};
    if (getrandom(&b.previous, sizeof(b.previous), 0) != sizeof(b.previous))
        return -EIO;
    int err = grow(&w->raw, &w->raw_size, b.raw);
    if (err)
        return err;
    cleave__log_header__pack(header, w->raw + record_frame_write(message, w->raw));
    err = write_block(w, &b, w->raw, LOG_END_RESERVE);
    return !err && fdatasync(w->fd) < 0 ? -errno : err;
}

int log_writer_create(struct log_writer **out, int fd, const struct log_options *o,
                      const Cleave__LogHeader *header)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size)
        return -EEXIST;
    struct log_writer *w;
    int err = new_writer(&w, fd, o);
    if (err)
        return err;
    err = write_header(w, header);
    if (err) {
        log_writer_destroy(w);
        return err;
    }
    begin_block(w);
    *out = w;
    return 0;
}

/* Finds the last good block: the last one in the chain of headers whose payload is good too. Earlier ones
 * were complete when it was written. */
static int find_last(struct places *p, struct log_error *error)
{
    struct block_buffer buffer = {0};
    int err;
    while ((err = places_extend(p, error)) > 0)
        ;
    if (err != 0 && err != -ENODATA && err != -EBADMSG)
        return err;
    while (p->n && (err = places_payload(p, p->n - 1, &buffer, error)) == -EBADMSG)
        p->end = p->at[--p->n].offset;
    block_buffer_free(&buffer);
    if (p->n)
        return err;
    return err ? err : log_fail(error, -ENODATA, 0, 0, "the file is empty");
}

static int continue_at(struct log_writer *w, const struct places *p, struct log_error *error)
{
    struct stat st;
    const struct place *at = &p->at[p->n - 1];
    if (at->block.type == BLOCK_END)
        return log_fail(error, -EALREADY, at->block.number, at->offset, "the log has ended");
    if (fstat(w->fd, &st) < 0 || ftruncate(w->fd, (off_t)p->end) < 0)
        return log_fail(error, -errno, at->block.number, at->offset, "cannot be cut");
    w->cut = (uint64_t)st.st_size - p->end;
    w->size = w->allocated = p->end;
    w->last = at->block;
    begin_block(w);
    return 0;
}

int log_writer_reopen(struct log_writer **out, int fd, const struct log_options *o, struct log_error *error)
{
    struct log_writer *w;
    int err = new_writer(&w, fd, o);
    if (err)
        return log_fail(error, err, 0, 0, err == -EINVAL ? "the size limit is too small" : "out of memory");
    struct places p = {.fd = fd};
    err = find_last(&p, error);
    if (!err)
        err = continue_at(w, &p, error);
    places_free(&p);
    if (err)
        log_writer_destroy(w);
    else
        *out = w;
    return err;
}

static int check_order(const struct log_writer *w, const struct journal_entry *e)
{
    const struct block *l = &w->last;
    uint64_t seq = MAX(w->base.seq, l->last_seq);
    uint64_t icount = w->records ? w->base.icount : l->last_icount;
    if (e->number != l->first_record + l->records + w->records || e->c.icount < icount)
        return -EINVAL;
    return e->type == JOURNAL_CROSSING && e->c.seq <= seq ? -EINVAL : 0;
}

int log_writer_append(struct log_writer *w, const struct journal_entry *e)
{
    struct record r;
    int err = check_order(w, e);
    if (err)
        return err;
    struct record_base empty = {.icount = e->c.icount};
    err = record_prepare(&r, w->records ? &w->base : &empty, e);
    if (err)
        return err;
    if (w->records && w->raw_len + r.size > LOG_BLOCK_BYTES) {
        err = log_writer_flush(w);
        if (!err)
            err = record_prepare(&r, &empty, e);
        if (err)
            return err;
    }
    if (r.size > LOG_MAX_BLOCK)
        return -EMSGSIZE;
    err = grow(&w->raw, &w->raw_size, MAX(LOG_BLOCK_BYTES, w->raw_len + r.size));
    if (err)
        return err;
    record_write(&r, w->raw + w->raw_len);
    if (!w->records)
        w->first_icount = e->c.icount;
    w->raw_len += r.size;
    w->records++;
    w->base = r.after;
    return 0;
}

int log_writer_flush(struct log_writer *w)
{
    if (!w->records)
        return 0;
    struct block b = next_block(w, BLOCK_DATA);
    b.first_icount = w->first_icount;
    b.last_icount = w->base.icount;
    b.records = w->records;
    b.raw = (uint32_t)w->raw_len;
    b.last_seq = MAX(w->base.seq, b.last_seq);
    int err = write_block(w, &b, w->raw, LOG_END_RESERVE);
    if (!err)
        begin_block(w);
    return err;
}

/* Returns `len`. */
static int64_t write_file_data(struct log_writer *w, uint32_t id, uint64_t offset, uint8_t *data, size_t len)
{
    Cleave__LogFileData m = CLEAVE__LOG_FILE_DATA__INIT;
    m.file = id;
    m.offset = offset;
    m.data = (ProtobufCBinaryData){.len = len, .data = data};
    size_t message = cleave__log_file_data__get_packed_size(&m);
    struct block b = next_block(w, BLOCK_FILE);
    b.raw = (uint32_t)record_frame_size(message);
    int err = grow(&w->raw, &w->raw_size, b.raw);
    if (err)
        return err;
    cleave__log_file_data__pack(&m, w->raw + record_frame_write(message, w->raw));
    err = write_block(w, &b, w->raw, LOG_END_RESERVE);
    return err ? err : (int64_t)len;
}

int log_writer_file(struct log_writer *w, uint32_t id, int fd, uint64_t size)
{
    if (w->records || w->last.first_record + w->last.records != 1)
        return -EINVAL;
    uint8_t *data = malloc(FILE_CHUNK);
    int64_t got = data ? 0 : -ENOMEM;
    for (uint64_t at = 0; got >= 0 && at < size; at += (uint64_t)got) {
        uint64_t len = MIN(size - at, FILE_CHUNK);
        got = file_read(fd, at, data, len);
        if (got >= 0)
            got = got < (int64_t)len ? -ENODATA : write_file_data(w, id, at, data, len);
    }
    free(data);
    return got < 0 ? (int)got : 0;
}

bool log_writer_pending(const struct log_writer *w)
{
    return w->records != 0;
}

int log_writer_end(struct log_writer *w, const char *reason, int error, uint64_t icount)
{
    char text[LOG_MAX_REASON + 1] = "";
    uint8_t raw[LOG_MAX_REASON + 64];
    strncat(text, reason, LOG_MAX_REASON);
    if (log_writer_flush(w) < 0)
        icount = w->last.last_icount;
    struct block b = next_block(w, BLOCK_END);
    b.first_icount = b.last_icount = MAX(icount, b.last_icount);
    Cleave__LogEnd m = CLEAVE__LOG_END__INIT;
    m.reason = text;
    m.error = error;
    m.icount = b.last_icount;
    size_t message = cleave__log_end__get_packed_size(&m);
    b.raw = (uint32_t)record_frame_size(message);
    cleave__log_end__pack(&m, raw + record_frame_write(message, raw));
    int err = write_block(w, &b, raw, 0);
    if (!err && ftruncate(w->fd, (off_t)w->size) < 0) /* gives back what was reserved behind it */
        err = -errno;
    return !err && fdatasync(w->fd) < 0 ? -errno : err;
}

struct log_status log_writer_status(const struct log_writer *w)
{
    return (struct log_status){.records = w->last.first_record + w->last.records - 1,
                               .seq = w->last.last_seq,
                               .icount = w->last.last_icount,
                               .blocks = w->last.number + 1,
                               .bytes = w->size,
                               .cut = w->cut};
}

void log_writer_destroy(struct log_writer *w)
{
    if (!w)
        return;
    free(w->raw);
    free(w->out);
    free(w);
}

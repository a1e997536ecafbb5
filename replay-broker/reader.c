/* The log's reader: blocks to records, in order or from a position. The file is hostile. Must not know what a
 * crossing means. */
#include "replay-broker/block.h"
#include "replay-broker/record.h"

#include <errno.h>
#include <stdlib.h>

struct log_reader {
    struct places places;
    struct block_buffer buffer;
    Cleave__LogHeader *header;
    Cleave__LogEnd *end;
    struct log_error error;
    enum log_ending ending;
    uint64_t unknown; /* records */
    bool thorough;    /* payloads are checked that nobody asked for, too */

    /* The block that is being read: places.at[next - 1]. */
    size_t next;
    uint32_t left; /* records of it */
    size_t at;     /* in buffer.raw */
    struct record_base base;
    struct journal_entry entry; /* of the record last decoded */
    Cleave__LogRecord *hold;    /* that record */
    bool ready;                 /* entry is to be returned next */
    int failed;                 /* inside a block, whose earlier records were returned: stays until a seek */
};

static const struct place *current(const struct log_reader *r)
{
    return &r->places.at[r->next - 1];
}

static int fail_here(struct log_reader *r, int err, const char *why)
{
    return log_fail(&r->error, err, current(r)->block.number, current(r)->offset, why);
}

/* The block's one message, of *len bytes; NULL on failure. */
static const uint8_t *read_message(struct log_reader *r, size_t *len)
{
    *len = 0;
    if (places_payload(&r->places, r->next - 1, &r->buffer, &r->error) < 0)
        return NULL;
    size_t prefix;
    int64_t size = record_frame(r->buffer.raw, current(r)->block.raw, &prefix);
    if (size < 0) {
        fail_here(r, -EBADMSG, "its message has a bad length");
        return NULL;
    }
    *len = (size_t)size;
    return r->buffer.raw + prefix;
}

static int read_header(struct log_reader *r)
{
    size_t len;
    int err = places_extend(&r->places, &r->error);
    if (err == 0)
        return log_fail(&r->error, -ENODATA, 0, 0, "the file is empty");
    if (err < 0)
        return err;
    r->next = 1;
    const uint8_t *message = read_message(r, &len);
    if (!message)
        return r->error.err;
    r->header = cleave__log_header__unpack(NULL, len, message);
    return r->header ? 0 : fail_here(r, -EBADMSG, "the header's message cannot be read");
}

static int read_end(struct log_reader *r)
{
    size_t len;
    const uint8_t *message = read_message(r, &len);
    if (!message)
        return r->error.err;
    if (!r->end)
        r->end = cleave__log_end__unpack(NULL, len, message);
    return r->end ? 0 : fail_here(r, -EBADMSG, "the end's message cannot be read");
}

int log_reader_open(struct log_reader **out, int fd, struct log_error *error)
{
    struct log_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return log_fail(error, -ENOMEM, 0, 0, "out of memory");
    r->places.fd = fd;
    int err = read_header(r);
    if (err) {
        *error = r->error;
        log_reader_close(r);
        return err;
    }
    *out = r;
    return 0;
}

void log_reader_close(struct log_reader *r)
{
    if (!r)
        return;
    record_free(r->hold);
    if (r->header)
        cleave__log_header__free_unpacked(r->header, NULL);
    if (r->end)
        cleave__log_end__free_unpacked(r->end, NULL);
    block_buffer_free(&r->buffer);
    places_free(&r->places);
    free(r);
}

const Cleave__LogHeader *log_reader_header(const struct log_reader *r)
{
    return r->header;
}

static int open_data(struct log_reader *r)
{
    const struct block *b = &current(r)->block;
    int err = places_payload(&r->places, r->next - 1, &r->buffer, &r->error);
    if (err)
        return err;
    r->left = b->records;
    r->at = 0;
    r->base = (struct record_base){.icount = b->first_icount};
    if (b->records == 0)
        return fail_here(r, -EBADMSG, "a data block without records");
    return 0;
}

/* A block that holds no records, or of an unknown type. */
static int pass_over(struct log_reader *r)
{
    const struct block *b = &current(r)->block;
    if (b->type == BLOCK_FILE && b->records)
        return fail_here(r, -EBADMSG, "a file block with records");
    if (r->thorough) {
        int err = places_payload(&r->places, r->next - 1, &r->buffer, &r->error);
        if (err)
            return err;
    }
    r->unknown += b->records;
    return 0;
}

/* Goes to the next block, whatever it holds. 1, 0 at the end, or an error; the block is not entered then. */
static int next_block(struct log_reader *r)
{
    if (r->next == r->places.n) {
        int got = places_extend(&r->places, &r->error);
        if (got <= 0) {
            r->ending = got == -ENODATA ? LOG_TORN : r->end ? LOG_ENDED : LOG_OPEN;
            return got == -ENODATA ? 0 : got;
        }
    }
    r->next++;
    int err = 0;
    uint16_t type = current(r)->block.type;
    if (type == BLOCK_DATA)
        err = open_data(r);
    else if (type == BLOCK_END)
        err = read_end(r);
    else
        err = pass_over(r);
    if (err) {
        r->next--;
        r->left = 0;
        return err;
    }
    return 1;
}

/* After the last record of a block: what its header promised. */
static int close_block(struct log_reader *r)
{
    const struct block *b = &current(r)->block;
    if (r->at != b->raw)
        return fail_here(r, -EBADMSG, "something follows the last record");
    if (r->base.icount != b->last_icount || r->base.seq > b->last_seq)
        return fail_here(r, -EBADMSG, "the last record is not where the header says");
    return 0;
}

/* Decodes one record of the open block into r->entry. */
static int read_record(struct log_reader *r)
{
    const struct block *b = &current(r)->block;
    record_free(r->hold);
    r->hold = NULL;
    int64_t size = record_read(&r->base, r->buffer.raw + r->at, b->raw - r->at, &r->entry, &r->hold);
    if (size < 0)
        return fail_here(r, (int)size, "a record cannot be read");
    r->entry.number = b->first_record + (b->records - r->left);
    r->at += (size_t)size;
    r->left--;
    return r->left ? 0 : close_block(r);
}

static int advance(struct log_reader *r)
{
    if (r->failed)
        return r->failed;
    while (r->left == 0) {
        int got = next_block(r);
        if (got <= 0)
            return got;
    }
    r->failed = read_record(r);
    if (r->failed) {
        r->left = 0;
        r->next--;
        return r->failed;
    }
    r->unknown += r->entry.type == 0;
    return 1;
}

int log_reader_next(struct log_reader *r, struct journal_entry *e)
{
    while (!r->ready) {
        int got = advance(r);
        if (got <= 0)
            return got;
        r->ready = r->entry.type != 0;
    }
    r->ready = false;
    *e = r->entry;
    return 1;
}

static bool reaches(const struct block *b, uint64_t icount, uint64_t number)
{
    return b->last_icount >= icount && b->first_record + b->records > number;
}

/* Moves to the first record that is at `icount` or later and has at least this number. */
static int seek(struct log_reader *r, uint64_t icount, uint64_t number)
{
    struct places *p = &r->places;
    int got = 1;
    while (got > 0 && !reaches(&p->at[p->n - 1].block, icount, number))
        got = places_extend(p, &r->error);
    if (got < 0 && got != -ENODATA)
        return got;
    size_t low = 1, high = p->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reaches(&p->at[middle].block, icount, number))
            high = middle;
        else
            low = middle + 1;
    }
    if (low == p->n && p->at[low - 1].block.type == BLOCK_END)
        low--; /* is read for its message */
    r->next = low;
    r->left = 0;
    r->ready = false;
    r->failed = 0;
    struct journal_entry e;
    while ((got = log_reader_next(r, &e)) > 0)
        if (e.c.icount >= icount && e.number >= number) {
            r->ready = true;
            return 0;
        }
    return got;
}

int log_reader_seek(struct log_reader *r, uint64_t icount)
{
    return seek(r, icount, 0);
}

int log_reader_seek_record(struct log_reader *r, uint64_t number)
{
    return seek(r, 0, number);
}

/* Unpacks the message of file block i; NULL with the error filled in. */
static Cleave__LogFileData *read_file_data(struct log_reader *r, size_t i, struct block_buffer *buffer)
{
    const struct place *at = &r->places.at[i];
    size_t prefix;
    if (places_payload(&r->places, i, buffer, &r->error) < 0)
        return NULL;
    int64_t len = record_frame(buffer->raw, at->block.raw, &prefix);
    Cleave__LogFileData *m =
        len < 0 ? NULL : cleave__log_file_data__unpack(NULL, (size_t)len, buffer->raw + prefix);
    if (!m)
        log_fail(&r->error, -EBADMSG, at->block.number, at->offset, "its message cannot be read");
    return m;
}

/* Hands over what file block i has of file `id`, of which `total` bytes came before. Returns how much. */
static int64_t take_file_data(struct log_reader *r, size_t i, uint32_t id, uint64_t total,
                              struct block_buffer *buffer,
                              int (*take)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
    const struct place *at = &r->places.at[i];
    Cleave__LogFileData *m = read_file_data(r, i, buffer);
    if (!m)
        return r->error.err;
    int64_t got = 0;
    if (m->file == id && m->offset != total)
        got = log_fail(&r->error, -EBADMSG, at->block.number, at->offset, "a file has a gap");
    else if (m->file == id && m->data.len) {
        got = take(ctx, m->data.data, m->data.len);
        got = got < 0 ? got : (int64_t)m->data.len;
    }
    cleave__log_file_data__free_unpacked(m, NULL);
    return got;
}

int64_t log_reader_file(struct log_reader *r, uint32_t id,
                        int (*take)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
    struct block_buffer buffer = {0};
    uint64_t total = 0;
    int64_t got = 0;
    bool found = false;
    for (size_t i = 1; got >= 0; i++) {
        if (i == r->places.n && (got = places_extend(&r->places, &r->error)) <= 0)
            break;
        if (r->places.at[i].block.type == BLOCK_DATA)
            break;
        if (r->places.at[i].block.type != BLOCK_FILE)
            continue;
        got = take_file_data(r, i, id, total, &buffer, take, ctx);
        if (got > 0) {
            total += (uint64_t)got;
            found = true;
        }
    }
    block_buffer_free(&buffer);
    return got < 0 ? got : found ? (int64_t)total : -ENOENT;
}

enum log_ending log_reader_ending(const struct log_reader *r)
{
    return r->ending;
}

const Cleave__LogEnd *log_reader_end(const struct log_reader *r)
{
    return r->end;
}

const struct log_error *log_reader_error(const struct log_reader *r)
{
    return &r->error;
}

void log_reader_summary(const struct log_reader *r, struct log_summary *s)
{
    s->raw_bytes = 0;
    /* A block with a fault was looked at, but not entered. */
    for (size_t i = 0; i < r->next; i++)
        s->raw_bytes += r->places.at[i].block.type == BLOCK_DATA ? r->places.at[i].block.raw : 0;
    const struct place *last = current(r);
    s->ending = r->ending;
    s->blocks = r->next;
    s->records = last->block.first_record + last->block.records - 1;
    s->unknown = r->unknown;
    s->seq = last->block.last_seq;
    s->icount = last->block.last_icount;
    s->bytes = last->offset + BLOCK_HEADER_SIZE + last->block.stored;
}

static int read_all(struct log_reader *r, struct log_summary *s)
{
    struct journal_entry e;
    int got;
    while ((got = log_reader_next(r, &e)) > 0) {
        s->crossings += e.type == JOURNAL_CROSSING;
        s->state_hashes += e.type == JOURNAL_STATE_HASH;
    }
    log_reader_summary(r, s);
    return got;
}

int log_verify(int fd, struct log_summary *s, struct log_error *error)
{
    struct log_reader *r;
    *s = (struct log_summary){0};
    int err = log_reader_open(&r, fd, error);
    if (err)
        return err;
    r->thorough = true;
    err = read_all(r, s);
    *error = r->error;
    log_reader_close(r);
    return err;
}

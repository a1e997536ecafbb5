/* Fuzz target: a hostile log (log_blocks.h). Whatever is read must be in order, and a writer must be able to
 * continue behind it. */
#include "replay-broker/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/log_blocks.h"

#include <stdlib.h>
#include <unistd.h>

static volatile uint8_t sink;

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void read_entry(const struct journal_entry *e)
{
    check(e->type == JOURNAL_CROSSING || e->type == JOURNAL_STATE_HASH);
    if (e->form == JOURNAL_INLINE)
        for (uint32_t i = 0; i < e->c.len; i++)
            sink = ((const uint8_t *)e->body)[i];
}

static void read_from(struct log_reader *r, uint64_t icount)
{
    struct journal_entry e;
    uint64_t number = 0;
    for (int i = 0; i < 100000 && log_reader_next(r, &e) > 0; i++) {
        check(e.number > number && e.c.icount >= icount);
        number = e.number;
        icount = e.c.icount;
        read_entry(&e);
    }
}

static int take_bytes(void *ctx, const uint8_t *data, size_t len)
{
    uint64_t *total = ctx;
    for (size_t i = 0; i < len; i++)
        sink = data[i];
    *total += len;
    return 0;
}

static void read_files(struct log_reader *r)
{
    for (uint32_t id = 0; id < 3; id++) {
        uint64_t total = 0;
        int64_t got = log_reader_file(r, id, take_bytes, &total);
        check(got < 0 || (uint64_t)got == total);
    }
}

/* A log that a writer accepts for continuation has all of its new records found behind what could be read
 * before. */
static void continue_log(int fd)
{
    struct log_writer *w;
    struct log_error error;
    struct log_summary before, after;
    if (log_writer_reopen(&w, fd, &(struct log_options){0}, &error) < 0)
        return;
    struct log_status s = log_writer_status(w);
    int readable = log_verify(fd, &before, &error);
    struct journal_entry e = {.number = s.records + 1,
                              .type = JOURNAL_STATE_HASH,
                              .form = JOURNAL_DIGEST,
                              .c = {.icount = s.icount, .digest = 1}};
    check(log_writer_append(w, &e) == 0);
    check(log_writer_end(w, "fuzz", 0, 0) == 0);
    log_writer_destroy(w);
    check(log_verify(fd, &after, &error) == readable);
    check(after.records == before.records + (readable == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t seek = size ? data[0] : 0;
    int fd = log_blocks_file(data, size);

    struct log_reader *r;
    struct log_error error;
    char text[160];
    if (log_reader_open(&r, fd, &error) == 0) {
        read_from(r, 0);
        if (log_reader_seek(r, seek) == 0)
            read_from(r, seek);
        if (log_reader_seek_record(r, seek / 2) == 0)
            read_from(r, 0);
        read_files(r);
        log_reader_close(r);
        continue_log(fd);
    } else {
        check(error.err < 0 && *log_error_text(&error, text, sizeof(text)));
    }
    close(fd);
    return 0;
}

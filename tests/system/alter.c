/* Copies a trace with another answer of one device in it, as a device model with an error would have given:
 * the first byte of its last answer of at least a page is flipped, and all checksums are right.
 *
 * alter TRACE OUT DEVICE: prints the number of the request that was answered otherwise. */
#include "replay-broker/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "alter: %s\n", what);
    exit(1);
}

static uint32_t index_of(const Cleave__LogHeader *h, const char *id)
{
    for (size_t i = 0; i < h->n_devices; i++)
        if (strcmp(h->devices[i]->id, id) == 0)
            return h->devices[i]->index;
    need(false, "no such device");
    return 0;
}

/* Number of the last inline answer that no later record refers to. */
static uint64_t choose(struct log_reader *r, uint32_t device)
{
    struct journal_entry e;
    uint64_t chosen = 0, before = 0;
    while (log_reader_next(r, &e) > 0) {
        if (e.form == JOURNAL_SAME && e.file == chosen)
            chosen = before;
        if (e.type != JOURNAL_CROSSING || e.c.kind != CROSSING_COMPLETION || e.c.device != device ||
            e.form != JOURNAL_INLINE || e.c.len < 4096)
            continue;
        before = chosen;
        chosen = e.number;
    }
    need(chosen, "no answer to alter");
    return chosen;
}

int main(int argc, char **argv)
{
    struct log_reader *r = NULL;
    struct log_writer *w = NULL;
    struct log_error error;
    struct journal_entry e;
    need(argc == 4, "usage: alter TRACE OUT DEVICE");
    int in = open(argv[1], O_RDONLY), out = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    need(in >= 0 && out >= 0, "cannot open");
    need(log_reader_open(&r, in, &error) == 0, "not a trace");
    uint64_t chosen = choose(r, index_of(log_reader_header(r), argv[3]));
    need(log_writer_create(&w, out, &(struct log_options){0}, log_reader_header(r)) == 0, "cannot write");
    need(log_reader_seek_record(r, 1) == 0, "cannot seek");
    while (log_reader_next(r, &e) > 0) {
        uint8_t *copy = NULL;
        if (e.number == chosen) {
            copy = malloc(e.c.len);
            need(copy, "no memory");
            memcpy(copy, e.body, e.c.len);
            copy[0] ^= 1;
            e.body = copy;
            e.c.digest = XXH3_64bits(copy, e.c.len);
            printf("%" PRIu64 "\n", e.c.request);
        }
        need(log_writer_append(w, &e) == 0, "cannot append");
        free(copy);
    }
    const Cleave__LogEnd *end = log_reader_end(r);
    need(end && log_writer_end(w, end->reason, end->error, end->icount) == 0, "cannot end");
    log_writer_destroy(w);
    log_reader_close(r);
    return 0;
}

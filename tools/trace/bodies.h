/* The bodies of crossings, wherever they are: in the record, in an earlier one, in a file. Knows no verb. */
#pragma once

#include "tools/trace/files.h"

#define BODIES_MAX_FILES 64

struct bodies {
    struct trace *trace;
    const char *const *images;  /* "ID=FILE", where the user says files are; ends with NULL */
    struct log_reader *earlier; /* for bodies of earlier records: a reader of its own */
    struct {
        const Cleave__LogFile *file;
        int fd;
    } open[BODIES_MAX_FILES];
    unsigned nopen;
    uint8_t *buffer;
    size_t size;
};

/* Both belong to the caller. Nothing is opened before it is needed. -EINVAL with a usage failure for an image
 * that is none of the trace's files. */
int bodies_init(struct bodies *b, struct trace *t, const char *const *images, struct failure *f);
void bodies_free(struct bodies *b);

/* How a file is, with regard to what the user said about it; and whether a body was read from it already. */
enum file_state bodies_file_state(struct bodies *b, const Cleave__LogFile *file);
bool bodies_is_open(const struct bodies *b, const Cleave__LogFile *file);

/* The file's contents; the descriptor stays b's. Negative errno with the failure filled in. */
int bodies_open_file(struct bodies *b, const Cleave__LogFile *file, struct failure *f);

/* The body of a crossing, checked by its digest: 1 with *data valid until the next call or the trace's next
 * record; 0 if the trace does not keep it; negative errno with the failure filled in. */
int bodies_get(struct bodies *b, const struct journal_entry *e, const uint8_t **data, struct failure *f);

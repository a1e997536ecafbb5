/* Blocks, the frames of a log: header, checksums, chain and compression; and the list of a file's blocks.
 * Must not know records. Private to the log. */
#pragma once

#include "replay-broker/log.h"

#define BLOCK_HEADER_SIZE 96u

enum block_type { BLOCK_HEADER = 1, BLOCK_DATA = 2, BLOCK_END = 3, BLOCK_FILE = 4 };
enum block_encoding { BLOCK_RAW = 0, BLOCK_LZ4 = 1 };

/* The header in the host's byte order. */
struct block {
    uint16_t major, minor;
    uint16_t type;     /* enum block_type */
    uint16_t encoding; /* enum block_encoding */
    uint64_t number;
    uint64_t previous; /* `check` of the block before; of the first block, a random number */
    uint64_t first_icount, last_icount;
    uint64_t first_record; /* number of the first record in it, or of the next one if it has none */
    uint32_t records;
    uint32_t stored, raw; /* bytes of the payload in the file, and of what it holds */
    uint64_t last_seq;    /* of the last crossing in this block or before */
    uint64_t payload;     /* checksum of the stored payload */
    uint64_t check;       /* of the header */
};

/* Compresses `raw` behind the header's place in `out` (room for block_bound()), completes b and writes the
 * header there. `level`: 0 for the fast compressor, else that of LZ4's slow one. Returns the size of the
 * whole block. */
size_t block_seal(struct block *b, const uint8_t *raw, uint8_t *out, int level);
size_t block_bound(size_t raw);

/* What block_payload() reads into; zero at first, freed by block_buffer_free(). */
struct block_buffer {
    uint8_t *stored, *raw;
    size_t stored_size, raw_size;
};
void block_buffer_free(struct block_buffer *b);

struct place {
    uint64_t offset;
    struct block block;
};

/* The blocks of a file, as far as they were looked at: headers checked, payloads not. */
struct places {
    int fd;
    struct place *at;
    size_t n, room;
    uint64_t end; /* of the last one */
};

/* Looks at the next block. 1; 0 at the end of the file; -ENODATA if the file ends inside the block;
 * -EMEDIUMTYPE if it does not begin like a log; -EBADMSG, -EPROTONOSUPPORT, -ENOMEM or the file's error. e is
 * filled in for errors. */
int places_extend(struct places *p, struct log_error *e);
void places_free(struct places *p);

/* Reads, checks and decompresses the payload of block i into b->raw. 0, -EBADMSG, -ENOTSUP, -ENOMEM, or the
 * file's error. */
int places_payload(const struct places *p, size_t i, struct block_buffer *b, struct log_error *e);

/* The whole of `len` bytes, or less at the end of the file; negative errno. */
int64_t file_read(int fd, uint64_t offset, void *to, size_t len);
int file_write(int fd, uint64_t offset, const void *from, size_t len);

int log_fail(struct log_error *e, int err, uint64_t number, uint64_t offset, const char *why);

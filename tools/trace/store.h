/* The content store: files that traces refer to by digest, one copy each, in STATE/store. An object's name is
 * the XXH3-128 of its bytes in hexadecimal; it never changes. Knows no machine and no message.
 *
 * Objects live as long as a trace names them: one in STATE/traces, or one elsewhere that store_keep() told
 * of. While a store is open, nothing is collected from it: whoever puts objects in keeps it open until the
 * trace that names them has its header. */
#pragma once

#include <stdint.h>

#define STORE_DIGEST_BYTES 16u

struct store {
    int dir;  /* STATE/store */
    int lock; /* held shared */
};

/* An object's identity: the canonical (big-endian) form of XXH3-128. */
struct store_digest {
    uint8_t bytes[STORE_DIGEST_BYTES];
};

/* Negative errno if the state directory cannot be made or locked. */
int store_open(struct store *s);
void store_close(struct store *s);

/* Digest and number of the bytes of a file from offset 0, whatever its own offset is. Negative errno. */
int store_digest(int fd, struct store_digest *d, uint64_t *size);

/* Puts a copy of `fd` in, unless it is there; *d and *size are those of what is stored, which is on stable
 * storage then. Negative errno; -EBUSY if the file keeps changing. */
int store_put(const struct store *s, int fd, struct store_digest *d, uint64_t *size);

/* Opens an object for reading. -ENOENT if it is not there, -EBADMSG if its bytes are not what its name says.
 */
int store_get(const struct store *s, const struct store_digest *d);

/* Tells the store of a trace outside of STATE/traces, so that what it names stays as long as it exists at
 * this absolute path. Negative errno. */
int store_keep(const struct store *s, const char *trace);

struct store_collected {
    uint64_t objects, bytes; /* removed */
};

/* Removes all objects that no trace names. Not for an open store: returns -EAGAIN while any process has it
 * open. -EPROTONOSUPPORT if a trace of a newer format is there, which may name any; then nothing is removed.
 */
int store_collect(struct store_collected *c);

#define STORE_NAME_SIZE (2 * STORE_DIGEST_BYTES + 1)
const char *store_name(const struct store_digest *d, char name[STORE_NAME_SIZE]);

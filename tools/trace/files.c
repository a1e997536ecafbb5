/* Finding files again by their digests. Must not know what they are used for. */
#include "tools/trace/files.h"

#include "tools/trace/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define EDGE (1u << 20) /* of LogFile.first_digest and last_digest */

const char *file_state_name(enum file_state s)
{
    static const char *const names[] = {"present", "stored", "unused", "missing", "changed"};
    return names[s];
}

static bool has_digest(const Cleave__LogFile *file)
{
    return file->digest.len == STORE_DIGEST_BYTES;
}

/* True if all bytes of fd are those of the file. */
static bool is_whole(int fd, const Cleave__LogFile *file)
{
    struct store_digest d;
    uint64_t size;
    off_t end = lseek(fd, 0, SEEK_END);
    return has_digest(file) && end >= 0 && (uint64_t)end == file->size && store_digest(fd, &d, &size) == 0 &&
           size == file->size && memcmp(d.bytes, file->digest.data, sizeof(d.bytes)) == 0;
}

static bool edge_is(int fd, uint64_t at, size_t len, uint64_t digest)
{
    uint8_t *bytes = malloc(len + 1);
    bool is = bytes && pread(fd, bytes, len, (off_t)at) == (ssize_t)len && XXH3_64bits(bytes, len) == digest;
    free(bytes);
    return is;
}

/* True if size and both ends of fd are those of a large file. */
static bool is_alike(int fd, const Cleave__LogFile *file)
{
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0 || (uint64_t)size != file->size)
        return false;
    size_t edge = file->size < EDGE ? (size_t)file->size : EDGE;
    return edge_is(fd, 0, edge, file->first_digest) &&
           edge_is(fd, file->size - edge, edge, file->last_digest);
}

static int take(void *ctx, const uint8_t *data, size_t len)
{
    const int *fd = ctx;
    while (len > 0) {
        ssize_t n = write(*fd, data, len);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* The copy in the trace, in memory. */
static int open_stored(struct trace *t, const Cleave__LogFile *file, enum file_state *state)
{
    *state = FILE_CHANGED;
    int fd = memfd_create("file", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int64_t err = file->size ? log_reader_file(t->reader, file->id, take, &fd) : 0;
    if (err >= 0 && !is_whole(fd, file))
        err = -EBADMSG;
    if (err >= 0) {
        *state = FILE_STORED;
        return fd;
    }
    if (err == -ENOENT)
        *state = FILE_MISSING;
    close(fd);
    return (int)err;
}

static int open_object(const Cleave__LogFile *file)
{
    struct store s;
    struct store_digest d;
    int err = store_open(&s);
    if (err)
        return err;
    memcpy(d.bytes, file->digest.data, sizeof(d.bytes));
    int fd = store_get(&s, &d);
    store_close(&s);
    return fd;
}

static int open_path(const Cleave__LogFile *file, const char *path, enum file_state *state)
{
    struct stat st;
    *state = FILE_MISSING;
    int fd = *path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
    if (fd < 0)
        return *path ? -errno : -ENOENT;
    *state = FILE_CHANGED;
    bool is = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
              (has_digest(file) ? is_whole(fd, file) : is_alike(fd, file));
    if (is) {
        *state = FILE_PRESENT;
        return fd;
    }
    close(fd);
    return -EBADMSG;
}

int trace_file_open(struct trace *t, const Cleave__LogFile *file, const char *path, enum file_state *state)
{
    if (file->stored)
        return open_stored(t, file, state);
    if (!path && has_digest(file)) {
        int fd = open_object(file);
        if (fd >= 0) {
            *state = FILE_PRESENT;
            return fd;
        }
    }
    return open_path(file, path ? path : file->name, state);
}

enum file_state trace_file_state(struct trace *t, const Cleave__LogFile *file, const char *path)
{
    enum file_state state;
    if (file->unused)
        return FILE_UNUSED;
    int fd = trace_file_open(t, file, path, &state);
    if (fd >= 0)
        close(fd);
    return state;
}

const Cleave__LogFile *trace_file(const struct trace *t, uint64_t id)
{
    for (size_t i = 0; i < t->header->n_files; i++) {
        if (t->header->files[i]->id == id)
            return t->header->files[i];
    }
    return NULL;
}

bool trace_file_is(const Cleave__LogFile *file, const char *id, size_t len)
{
    const char *colon = strchr(file->role, ':');
    return (strlen(file->role) == len && memcmp(file->role, id, len) == 0) ||
           (colon && strlen(colon + 1) == len && memcmp(colon + 1, id, len) == 0);
}

/* Boot images at rest take less memory: chunk by chunk, LZ4 into the heap and the pages given back. Must not
 * know what an image holds. */
#include "cpu-core/main/images.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)

static size_t chunks_of(const struct boot_image *i)
{
    return (i->len + CHUNK - 1) / CHUNK;
}

static size_t chunk_len(const struct boot_image *i, size_t chunk)
{
    size_t left = i->len - chunk * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

static int read_all(int fd, uint8_t *data, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = pread(fd, data + got, len - got, (off_t)got);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        got += (size_t)n;
    }
    return 0;
}

int images_read(struct images *s, int fd, const struct boot_image **ret)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    struct boot_image *i = &s->image[s->n];
    *i = (struct boot_image){.len = (size_t)st.st_size};
    if (i->len) {
        i->data = mmap(NULL, i->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (i->data == MAP_FAILED)
            return -ENOMEM;
        i->chunks = calloc(chunks_of(i), sizeof *i->chunks);
        int err = i->chunks ? read_all(fd, i->data, i->len) : -ENOMEM;
        if (err < 0) {
            free(i->chunks);
            munmap(i->data, i->len);
            return err;
        }
    }
    s->n++;
    *ret = i;
    return 0;
}

/* A chunk that does not get smaller stays plain. */
static void pack(struct boot_image *i, size_t chunk)
{
    struct image_chunk *c = &i->chunks[chunk];
    uint8_t *data = i->data + chunk * CHUNK;
    size_t len = chunk_len(i, chunk);
    int bound = LZ4_compressBound((int)len);
    char *buffer = malloc((size_t)bound);
    if (!buffer)
        return;
    int packed = LZ4_compress_default((const char *)data, buffer, (int)len, bound);
    if (packed <= 0 || (size_t)packed >= len || !(c->packed = malloc((size_t)packed))) {
        free(buffer);
        return;
    }
    memcpy(c->packed, buffer, (size_t)packed);
    c->len = packed;
    free(buffer);
    madvise(data, len, MADV_DONTNEED);
}

bool images_pack_some(struct images *s)
{
    while (s->next_image < s->n && s->next_chunk == chunks_of(&s->image[s->next_image])) {
        s->next_image++;
        s->next_chunk = 0;
    }
    if (s->next_image == s->n)
        return false;
    pack(&s->image[s->next_image], s->next_chunk++);
    return true;
}

void images_unpack(struct images *s)
{
    for (unsigned n = 0; n < s->n; n++) {
        struct boot_image *i = &s->image[n];
        for (size_t chunk = 0; chunk < chunks_of(i); chunk++) {
            struct image_chunk *c = &i->chunks[chunk];
            if (!c->packed)
                continue;
            LZ4_decompress_safe(c->packed, (char *)i->data + chunk * CHUNK, c->len, (int)chunk_len(i, chunk));
            free(c->packed);
            c->packed = NULL;
        }
    }
    s->next_image = 0;
    s->next_chunk = 0;
}

void images_destroy(struct images *s)
{
    for (unsigned n = 0; n < s->n; n++) {
        for (size_t chunk = 0; chunk < chunks_of(&s->image[n]); chunk++)
            free(s->image[n].chunks[chunk].packed);
        free(s->image[n].chunks);
        if (s->image[n].len)
            munmap(s->image[n].data, s->image[n].len);
    }
}

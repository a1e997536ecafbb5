/* Private copies of the boot images, which every reboot loads again. They stay at their addresses; between
 * boots they are kept compressed. Knows bytes only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGES_MAX 4

/* One chunk of an image, compressed; NULL while it is plain. */
struct image_chunk {
    char *packed;
    int len;
};

struct boot_image {
    uint8_t *data; /* mapping of its own; zeros while a chunk is packed */
    size_t len;
    struct image_chunk *chunks;
};

struct images {
    struct boot_image image[IMAGES_MAX];
    unsigned n;
    unsigned next_image;
    size_t next_chunk; /* where images_pack_some() goes on */
};

/* Reads a whole file into a new image: later changes to the file do not reach a reboot. -EIO if it shrinks
 * meanwhile, other -errno. */
int images_read(struct images *s, int fd, const struct boot_image **image);

/* Compresses one more chunk (a millisecond or two); false when all are. */
bool images_pack_some(struct images *s);

/* Makes all images plain again, before they are used. */
void images_unpack(struct images *s);

void images_destroy(struct images *s);

/* Memory for translated code: the same pages mapped twice, once writable and once executable, never both in
 * one view, with private data (what code jumps through) in reach of 32-bit displacements behind the
 * executable view. Knows nothing of blocks. The only file that touches page protection. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct mcode {
    uint8_t *write;     /* the writable view */
    const uint8_t *run; /* the executable one */
    size_t size;
    uint8_t *data; /* zero at start */
    size_t data_size;
};

/* Maps `size` bytes of code and `data_size` of data, both multiples of the page size, together less than 2
 * GiB. -ENOMEM, or the error of the system call that failed. Memory is taken from the host when it is first
 * touched. */
int mcode_create(struct mcode *m, size_t size, size_t data_size);
void mcode_destroy(struct mcode *m);

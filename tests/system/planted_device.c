/* A device with an error: the answer to one request has its first byte flipped. For test builds of the device
 * processes that link it (--wrap of the functions that answer). PLANTED_REQUEST is the request's number. */
#include "devices/common/device.h"

#include <stdlib.h>
#include <string.h>

void __real_device_complete(struct device *d, struct request *r, uint32_t len);
void __real_device_complete_file(struct device *d, struct request *r, uint32_t len, uint64_t file_off,
                                 uint32_t file_len);
int __real_device_answer(struct device *d, const struct request *r, unsigned queue, const void *data,
                         uint32_t len);
void __wrap_device_complete(struct device *d, struct request *r, uint32_t len);
void __wrap_device_complete_file(struct device *d, struct request *r, uint32_t len, uint64_t file_off,
                                 uint32_t file_len);
int __wrap_device_answer(struct device *d, const struct request *r, unsigned queue, const void *data,
                         uint32_t len);

static bool is_chosen(const struct request *r)
{
    const char *number = getenv("PLANTED_REQUEST");
    return number && strtoull(number, NULL, 10) == r->seq;
}

void __wrap_device_complete(struct device *d, struct request *r, uint32_t len)
{
    if (len && is_chosen(r))
        r->out[0] ^= 1;
    __real_device_complete(d, r, len);
}

void __wrap_device_complete_file(struct device *d, struct request *r, uint32_t len, uint64_t file_off,
                                 uint32_t file_len)
{
    if (len && is_chosen(r))
        r->out[0] ^= 1;
    __real_device_complete_file(d, r, len, file_off, file_len);
}

int __wrap_device_answer(struct device *d, const struct request *r, unsigned queue, const void *data,
                         uint32_t len)
{
    uint8_t *copy = len && is_chosen(r) ? malloc(len) : NULL;
    if (!copy)
        return __real_device_answer(d, r, queue, data, len);
    memcpy(copy, data, len);
    copy[0] ^= 1;
    int err = __real_device_answer(d, r, queue, copy, len);
    free(copy);
    return err;
}

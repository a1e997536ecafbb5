/* The pcap file format: a global header, then a record header and the bytes of each frame, all in host byte
 * order. */
#include "devices/net/pcap.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    MAGIC_NANOSECONDS = (int)0xa1b23c4d,
    LINKTYPE_ETHERNET = 1,
    SNAPLEN = 262144,
};

static int write_whole(int fd, struct iovec *iov, int count)
{
    while (count) {
        ssize_t n = writev(fd, iov, count);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        for (; count && (size_t)n >= iov->iov_len; iov++, count--)
            n -= (ssize_t)iov->iov_len;
        if (count) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return 0;
}

int pcap_start(int fd)
{
    struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snaplen, linktype;
    } header = {.magic = (uint32_t)MAGIC_NANOSECONDS,
                .major = 2,
                .minor = 4,
                .snaplen = SNAPLEN,
                .linktype = LINKTYPE_ETHERNET};
    struct iovec iov = {&header, sizeof header};

    return write_whole(fd, &iov, 1);
}

int pcap_frame(int fd, const uint8_t *frame, uint32_t len)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    struct {
        uint32_t seconds, nanoseconds, captured, original;
    } record = {(uint32_t)now.tv_sec, (uint32_t)now.tv_nsec, len, len};
    struct iovec iov[2] = {{&record, sizeof record}, {(void *)(uintptr_t)frame, len}};

    return write_whole(fd, iov, 2);
}

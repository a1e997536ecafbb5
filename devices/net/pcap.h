/* A capture file in the pcap format with nanosecond time stamps. Host time: the file is for people, the guest
 * never sees it. */
#pragma once

#include <stdint.h>

/* Writes the file header to `fd`, which stays the caller's. Negative errno. */
int pcap_start(int fd);

/* Appends one frame. Negative errno; the capture should end then. */
int pcap_frame(int fd, const uint8_t *frame, uint32_t len);

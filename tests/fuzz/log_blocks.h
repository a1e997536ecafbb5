/* Hostile logs for fuzz targets. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A memory file made from a target's input. The first byte chooses: the rest is the file as it is; or (odd)
 * it is a series of blocks whose chain and checksums are made good, so that their contents are reached. */
int log_blocks_file(const uint8_t *data, size_t size);

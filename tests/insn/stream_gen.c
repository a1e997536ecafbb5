/* Writes a random self-logging program:
 *
 *   stream_gen --seed N [--blocks N] [--no-fences] [--coverage] OUTPUT
 *
 * OUTPUT is a flat file for physical address 0x80000000. --no-fences leaves out the fences behind changes of
 * page tables and code. --coverage prints how many of each line of the instruction table the program has, as
 * "name count". */
#include "tests/insn/stream.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BLOCKS 200u
#define MAX_BLOCKS     ((DATA_REGION - PTE_SETS) / (2 * PTE_ENTRIES * 8))

static int usage(void)
{
    fputs("usage: stream_gen --seed N [--blocks N] [--no-fences] [--coverage] OUTPUT\n", stderr);
    return 2;
}

static int write_file(const char *path, const uint8_t *image)
{
    FILE *f = fopen(path, "wb");
    bool good;

    if (!f)
        return -errno;
    good = fwrite(image, STREAM_SIZE, 1, f) == 1;
    good &= fclose(f) == 0;
    return good ? 0 : -errno;
}

static void print_coverage(const struct stream *s)
{
    for (unsigned i = 0; i < ISA_COUNT; i++)
        printf("%s %" PRIu64 "\n", isa_name(i), s->emitted[i]);
}

int main(int argc, char **argv)
{
    static const struct option table[] = {{"seed", required_argument, NULL, 's'},
                                          {"blocks", required_argument, NULL, 'b'},
                                          {"no-fences", no_argument, NULL, 'n'},
                                          {"coverage", no_argument, NULL, 'c'},
                                          {0}};
    struct stream s = {.fences = true};
    unsigned long blocks = DEFAULT_BLOCKS;
    bool coverage = false;
    int c, rc;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (c == 's')
            s.random = strtoull(optarg, NULL, 0);
        else if (c == 'b')
            blocks = strtoul(optarg, NULL, 0);
        else if (c == 'n')
            s.fences = false;
        else if (c == 'c')
            coverage = true;
        else
            return usage();
    }
    if (optind != argc - 1 || blocks == 0 || blocks > MAX_BLOCKS)
        return usage();
    s.image = calloc(1, STREAM_SIZE);
    if (!s.image) {
        fputs("stream_gen: out of memory\n", stderr);
        return 1;
    }
    stream_runtime(&s, (unsigned)blocks);
    for (unsigned i = 0; i < blocks; i++)
        stream_block(&s, i);
    rc = s.failed ? -ENOSPC : write_file(argv[optind], s.image);
    if (rc)
        fprintf(stderr, "stream_gen: cannot write '%s': %s\n", argv[optind], strerror(-rc));
    else if (coverage)
        print_coverage(&s);
    free(s.image);
    return rc ? 1 : 0;
}

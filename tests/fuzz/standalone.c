/* Runs a fuzz target without libFuzzer: on the files named, or, with --runs N [--seed S], on N generated
 * inputs. Generated inputs are random bytes and small changes of earlier ones. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INPUT = 1 << 17, POOL = 64 };

static uint64_t rng;

static uint64_t next(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

struct input {
    size_t len;
    uint8_t data[512];
};

static struct input pool[POOL];

static void mutate(struct input *in)
{
    for (uint64_t n = 1 + next() % 8; n; n--) {
        size_t at = next() % sizeof(in->data);
        switch (next() % 4) {
        case 0:
            in->data[at] = (uint8_t)next();
            break;
        case 1:
            in->data[at] ^= (uint8_t)(1u << next() % 8);
            break;
        case 2:
            in->len = next() % (sizeof(in->data) + 1);
            break;
        default:
            memmove(in->data + at, in->data + at / 2, (sizeof(in->data) - at) / 2);
        }
    }
}

static void generate(uint64_t runs)
{
    for (uint64_t i = 0; i < runs; i++) {
        struct input *in = &pool[next() % POOL];
        if (next() % 16 == 0)
            *in = pool[next() % POOL];
        mutate(in);
        LLVMFuzzerTestOneInput(in->data, in->len);
    }
}

static int run_file(const char *path)
{
    static uint8_t data[MAX_INPUT];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t len = fread(data, 1, sizeof(data), f);
    fclose(f);
    LLVMFuzzerTestOneInput(data, len);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t runs = 0, seed = 1;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else
            failed |= run_file(argv[i]);
    }
    rng = seed * 0x9e3779b97f4a7c15ull | 1;
    generate(runs);
    return failed;
}

/* The configuration of one machine: defaults, a YAML or JSON file, and the flags of `cleave run` over it.
 * Checked as far as it can be without opening anything. Knows no processes. */
#pragma once

#include "tools/supervisor/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct invocation;

#define CONFIG_MIN_MEMORY  (UINT64_C(16) << 20)
#define CONFIG_MAX_MEMORY  (UINT64_C(64) << 30)
#define CONFIG_MAX_CPUS    8
#define CONFIG_MAX_DEVICES 32   /* with a virtio slot */
#define CONFIG_MAX_APPEND  2047 /* Linux: COMMAND_LINE_SIZE on riscv, without the terminator */
#define CONFIG_MAX_HASHES  64
#define CONFIG_ID_MAX      32

/* Strings belong to the configuration; NULL when not given. */
struct config_pace { /* of answers in fixed timing, in place of the device kind's own */
    char *latency, *bandwidth, *jitter;
};

struct config_disk {
    char *path, *id, *serial;
    bool ro;
    bool overlay;       /* writes go to an overlay … */
    char *overlay_path; /* … in this file, or a temporary one */
    struct config_pace pace;
};

struct config_net {
    char *backend; /* user, stream, tap, echo */
    char *id, *mac;
    char **hostfwd;
    unsigned nhostfwd;
    char *path; /* stream */
    bool listen;
    char *ifname; /* tap */
    char *pcap;
    struct config_pace pace;
};

struct config_serial {
    char *backend; /* stdio, pty, unix, file, null */
    char *path, *id;
    struct config_pace pace;
};

struct config_input {
    char *type; /* keyboard, pointer */
    char *id;
    char *script; /* file of events */
};

struct config {
    char *name;
    char *kernel, *bios, *initrd, *append;
    char *batch;
    uint64_t memory;
    unsigned cpus;
    char *mmu, *engine, *clock, *timing, *sandbox;
    bool no_tlb, rng;
    bool have_seed;
    uint64_t seed;
    bool hash_at_exit;
    uint64_t hash_every, stop_at;
    char *record; /* the trace; NULL: a default place */
    bool no_record, record_require, self_contained;
    char *log;             /* "jit", or NULL */
    bool count_blocks;     /* for trace-blocks --top */
    bool perf_map;         /* name translated code for perf */
    uint64_t code_cache;   /* bytes of translated code */
    uint64_t record_limit; /* bytes of the trace */
    uint64_t *hash_at;
    unsigned nhash_at;
    struct config_disk *disks;
    unsigned ndisks;
    struct config_net *nets;
    unsigned nnets;
    struct config_serial *serials;
    unsigned nserials;
    struct config_input *inputs;
    unsigned ninputs;
};

/* Builds the configuration of a `run` invocation: file args[0] if given, flags over it, defaults, checks. On
 * failure returns negative errno with `f` filled in; nothing is to be released. */
int config_load(const struct invocation *in, struct config *c, struct failure *f);
void config_release(struct config *c);

/* Reads a file into a zeroed configuration, in the file's own terms (no defaults, no checks across keys). */
int config_read_file(const char *path, struct config *c, struct failure *f);

/* Checks and completes a merged configuration: defaults, ids, limits. */
int config_complete(struct config *c, struct failure *f);

/* The engine, "jit" or "interp", for a choice that may be "auto". Fails if this host cannot
 * run what is wanted. */
int config_engine(const char *wanted, const char **engine, struct failure *f);

/* What the child processes do about their sandbox, "on", "off" or "require", for a choice that may be NULL:
 * then CLEAVE_SANDBOX of the environment decides. */
int config_sandbox(const char *wanted, const char **how, struct failure *f);

/* Whether that engine can do what is wanted of the translator: bytes of code memory (0: the default), what to
 * tell (may be NULL), a map for perf. */
int config_translator(const char *engine, uint64_t code_cache, const char *log, bool perf_map,
                      struct failure *f);

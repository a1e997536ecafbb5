/* Writes a trace of a small invented run with the log's own writer, for the tests of the commands that read
 * traces. The kernel goes to the content store; of the disk, the page in the middle is read, twice.
 *
 * make-trace OUT [--kernel FILE [--uncopied]] [--disk FILE] [--open] [--exit ICOUNT] [--repeat N] [--clock
 * virtual] */
#include "replay-broker/log.h"
#include "tools/trace/store.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SERIAL, DISK, NET, MACHINE = 0xffff };
enum { PAGE = 4096, EDGE = 1 << 20, NET_HEADER = 12, FRAME = 60 };

struct writing {
    struct log_writer *log;
    uint64_t number, seq, icount;
    uint64_t n0, t0; /* of the clock */
    uint64_t page;   /* record that has the disk's page inline, or where it is in the file */
};

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "make-trace: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void append(struct writing *w, struct journal_entry e)
{
    e.number = ++w->number;
    e.c.icount = w->icount;
    e.c.pc = 0xffffffff80000000 + w->icount;
    need(log_writer_append(w->log, &e) == 0, "append");
}

static struct journal_entry crossing(struct writing *w, enum crossing_kind kind, unsigned device,
                                     unsigned queue, uint64_t request, const void *body, uint32_t len)
{
    return (struct journal_entry){.type = JOURNAL_CROSSING,
                                  .form = JOURNAL_INLINE,
                                  .body = len ? body : NULL,
                                  .c = {.seq = ++w->seq,
                                        .request = request,
                                        .device = (uint16_t)device,
                                        .queue = (uint8_t)queue,
                                        .kind = (uint8_t)kind,
                                        .direction = kind >= CROSSING_REQUEST ? CROSSING_OUT : CROSSING_IN,
                                        .len = len,
                                        .digest = XXH3_64bits(len ? body : "", len)}};
}

static void inline_body(struct writing *w, enum crossing_kind kind, unsigned device, unsigned queue,
                        uint64_t request, const void *body, uint32_t len)
{
    append(w, crossing(w, kind, device, queue, request, body, len));
}

static void digest_only(struct writing *w, enum crossing_kind kind, unsigned device, unsigned queue,
                        uint64_t request, const void *body, uint32_t len)
{
    struct journal_entry e = crossing(w, kind, device, queue, request, body, len);
    e.form = JOURNAL_DIGEST;
    e.body = NULL;
    append(w, e);
}

static void reference(struct writing *w, enum journal_form form, uint64_t request, const void *body,
                      uint64_t file, uint64_t offset)
{
    struct journal_entry e = crossing(w, CROSSING_COMPLETION, DISK, 0, request, body, PAGE);
    e.form = (uint8_t)form;
    e.body = NULL;
    e.file = file;
    e.offset = offset;
    append(w, e);
}

/* Time jumps ahead by `ns`. */
static void clock_crossing(struct writing *w, uint64_t ns)
{
    w->t0 += w->icount - w->n0 + ns;
    w->n0 = w->icount;
    uint64_t body[] = {htole64(w->n0), htole64(w->t0), htole64(UINT64_C(1) << 32)};
    inline_body(w, CROSSING_CLOCK, MACHINE, 0, 0, body, sizeof(body));
}

static void state_hash(struct writing *w)
{
    append(w, (struct journal_entry){
                  .type = JOURNAL_STATE_HASH, .form = JOURNAL_DIGEST, .c = {.digest = w->icount * 31}});
}

static void print(struct writing *w, const char *text, uint32_t len, uint64_t request)
{
    inline_body(w, CROSSING_REQUEST, SERIAL, 0, request, text, len);
    w->icount += 100;
    inline_body(w, CROSSING_COMPLETION, SERIAL, 0, request, NULL, 0);
}

static void run(struct writing *w, const uint8_t *page, bool disk)
{
    uint8_t packet[NET_HEADER + FRAME] = {[NET_HEADER] = 0x52, 0x54, 0, 1, 2, 3, [NET_HEADER + 12] = 0x08, 6};
    uint64_t request = w->seq + 1000;
    clock_crossing(w, 0);
    w->icount += 1000;
    print(w, "hello\r\nsm\xc3", 10, request + 1);
    print(w, "\xb8r \x1b[1m\xff\r\n", 10, request + 2);
    inline_body(w, CROSSING_EVENT, SERIAL, 1, 0, "ls\n", 3);
    w->icount += 500;
    digest_only(w, CROSSING_REQUEST, NET, 1, request + 3, packet, sizeof(packet));
    digest_only(w, CROSSING_REQUEST, DISK, 0, request + 4, "read", 4);
    w->icount += 20;
    inline_body(w, CROSSING_COMPLETION, NET, 1, request + 3, NULL, 0);
    inline_body(w, CROSSING_EVENT, NET, 0, 0, packet, sizeof(packet));
    if (disk) {
        reference(w, JOURNAL_FILE, request + 4, page, 2, w->page);
    } else {
        inline_body(w, CROSSING_COMPLETION, DISK, 0, request + 4, page, PAGE);
        w->page = w->number;
    }
    state_hash(w);
    digest_only(w, CROSSING_REQUEST, DISK, 0, request + 5, "read", 4);
    w->icount += 3000;
    clock_crossing(w, 1000000000);
    if (disk)
        reference(w, JOURNAL_FILE, request + 5, page, 2, w->page);
    else
        reference(w, JOURNAL_SAME, request + 5, page, w->page, 0);
    w->icount += 1000;
}

static uint64_t edge_digest(int fd, uint64_t at, size_t len)
{
    static uint8_t bytes[EDGE];
    need(pread(fd, bytes, len, (off_t)at) == (ssize_t)len, "read the disk");
    return XXH3_64bits(bytes, len);
}

/* As when nothing can be copied to the store. */
static void describe_uncopied(Cleave__LogFile *f, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    need(fd >= 0 && fstat(fd, &st) == 0, path);
    size_t edge = st.st_size < EDGE ? (size_t)st.st_size : EDGE;
    f->size = (uint64_t)st.st_size;
    f->first_digest = edge_digest(fd, 0, edge);
    f->last_digest = edge_digest(fd, f->size - edge, edge);
    close(fd);
}

static void describe_kernel(Cleave__LogFile *f, const char *path)
{
    static struct store_digest d;
    struct store s;
    int fd = open(path, O_RDONLY);
    need(fd >= 0 && store_open(&s) == 0 && store_put(&s, fd, &d, &f->size) == 0, path);
    store_close(&s);
    close(fd);
    f->digest = (ProtobufCBinaryData){.len = sizeof(d.bytes), .data = d.bytes};
}

/* Returns where the page is. */
static uint64_t describe_disk(Cleave__LogFile *f, const char *path, uint8_t *page)
{
    describe_uncopied(f, path);
    uint64_t middle = f->size / 2 / PAGE * PAGE;
    int fd = open(path, O_RDONLY);
    need(pread(fd, page, PAGE, (off_t)middle) == PAGE, path);
    close(fd);
    return middle;
}

static void describe_device(Cleave__LogDevice *d, char *id, char *kind, unsigned index)
{
    cleave__log_device__init(d);
    d->id = id;
    d->kind = kind;
    d->index = index;
    d->slot = (int)index - 1;
    d->backend = index == NET ? "echo" : "null";
}

struct arguments {
    char *kernel, *disk, *clock;
    uint64_t exit, repeat;
    bool open, uncopied;
};

static void write_trace(const char *out, const struct arguments *a)
{
    static uint8_t page[PAGE];
    struct writing w = {0};
    char configuration[200];
    Cleave__LogHeader h = CLEAVE__LOG_HEADER__INIT;
    Cleave__LogFile files[2], *file_list[2];
    Cleave__LogDevice devices[3], *device_list[3] = {&devices[0], &devices[1], &devices[2]};
    snprintf(configuration, sizeof(configuration),
             "{\"name\": \"vm\", \"memory\": 16777216, \"clock\": \"%s\"}", a->clock);
    h.build = "0.1.0";
    h.isa = "rv64imafdc";
    h.configuration = configuration;
    h.seed = 42;
    h.created_ns = 1700000000000000000;
    describe_device(&devices[0], "serial0", "serial", SERIAL);
    describe_device(&devices[1], "vda", "block", DISK);
    describe_device(&devices[2], "net0", "net", NET);
    h.devices = device_list;
    h.n_devices = 3;
    h.files = file_list;
    for (unsigned i = 0; i < 2; i++) {
        const char *path = i ? a->disk : a->kernel;
        Cleave__LogFile *f = &files[i];
        cleave__log_file__init(f);
        f->id = i + 1;
        f->role = i ? "disk:vda" : "kernel";
        f->name = (char *)path;
        if (path && i)
            w.page = describe_disk(f, path, page);
        else if (path)
            (a->uncopied ? describe_uncopied : describe_kernel)(f, path);
        if (path)
            file_list[h.n_files++] = f;
    }
    int fd = open(out, O_RDWR | O_CREAT | O_TRUNC, 0600);
    need(fd >= 0 && log_writer_create(&w.log, fd, &(struct log_options){0}, &h) == 0, out);
    for (uint64_t i = 0; i < a->repeat; i++)
        run(&w, page, a->disk);
    w.icount += a->exit;
    need(log_writer_flush(w.log) == 0, "flush");
    if (!a->open) {
        inline_body(&w, CROSSING_EXIT, MACHINE, 0, 0, NULL, 0);
        need(log_writer_end(w.log, "poweroff", 0, w.icount) == 0, "end");
    }
    log_writer_destroy(w.log);
    close(fd);
}

int main(int argc, char **argv)
{
    struct arguments a = {.clock = "host", .repeat = 1};
    need(argc > 1, "usage");
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--open") == 0)
            a.open = true;
        else if (strcmp(argv[i], "--uncopied") == 0)
            a.uncopied = true;
        else if (strcmp(argv[i], "--kernel") == 0)
            a.kernel = argv[++i];
        else if (strcmp(argv[i], "--disk") == 0)
            a.disk = argv[++i];
        else if (strcmp(argv[i], "--clock") == 0)
            a.clock = argv[++i];
        else if (strcmp(argv[i], "--exit") == 0)
            a.exit = strtoull(value, NULL, 0), i++;
        else if (strcmp(argv[i], "--repeat") == 0)
            a.repeat = strtoull(value, NULL, 0), i++;
        else
            need(false, argv[i]);
    }
    write_trace(argv[1], &a);
    return 0;
}

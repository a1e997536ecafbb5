/* Entries, files and processes for the tests of the log. */
#include "tests/replay-broker/log_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t rig_seq(uint64_t number)
{
    return number + number / 3 - number / 7;
}

struct journal_entry rig_entry(uint64_t number)
{
    static uint8_t body[RIG_MAX_BODY];
    uint64_t r = XXH3_64bits(&number, sizeof(number));
    struct journal_entry e = {.number = number, .form = JOURNAL_DIGEST, .type = JOURNAL_STATE_HASH};
    e.c.icount = number * 1000;
    e.c.pc = number % 5 ? 0xffffffff80000000 + r % 65536 : r;
    e.c.digest = r;
    if (number % 7 == 0)
        return e;
    e.type = JOURNAL_CROSSING;
    e.form = (uint8_t)(1 + r % 4);
    e.c.seq = rig_seq(number);
    e.c.request = r >> 13;
    e.c.arg = number % 3 ? 0 : r;
    e.c.device = number % 4 ? (uint16_t)(r >> 3) : 0xffff;
    e.c.queue = (uint8_t)(r >> 5);
    e.c.direction = (uint8_t)(1 + (r >> 11) % 2);
    e.c.kind = (uint8_t)(1 + (r >> 13) % 9);
    e.c.len = number % 11 ? r % 100 : r % RIG_MAX_BODY;
    for (uint32_t i = 0; i < e.c.len; i++)
        body[i] = (uint8_t)(number % 2 ? r + i * 7 : r >> i % 57);
    e.c.digest = XXH3_64bits(body, e.c.len);
    if (e.form == JOURNAL_FILE || e.form == JOURNAL_SAME)
        e.file = r >> 40;
    if (e.form == JOURNAL_FILE)
        e.offset = r << 9;
    if (e.form == JOURNAL_FILE && r >> 21 & 1)
        e.tail = (uint32_t)((r >> 23) % (e.c.len + 1));
    if (e.form == JOURNAL_INLINE ? e.c.len : e.tail)
        e.body = body + (e.form == JOURNAL_FILE ? e.c.len - e.tail : 0);
    return e;
}

bool rig_is_entry(const struct journal_entry *got, uint64_t number)
{
    struct journal_entry e = rig_entry(number);
    const struct crossing *a = &e.c, *b = &got->c;
    if (got->number != e.number || got->type != e.type || got->form != e.form || got->file != e.file ||
        got->offset != e.offset || got->tail != e.tail || !got->body != !e.body)
        return false;
    if (a->seq != b->seq || a->icount != b->icount || a->pc != b->pc || a->request != b->request ||
        a->arg != b->arg || a->device != b->device || a->queue != b->queue || a->direction != b->direction ||
        a->kind != b->kind || a->len != b->len || a->digest != b->digest)
        return false;
    return !e.body || memcmp(got->body, e.body, e.form == JOURNAL_FILE ? e.tail : e.c.len) == 0;
}

void rig_assert_entry(const struct journal_entry *got, uint64_t number)
{
    if (!rig_is_entry(got, number))
        fail_msg("not entry %llu", (unsigned long long)number);
}

int rig_file(void)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

const Cleave__LogHeader *rig_header(void)
{
    static Cleave__LogHeader h;
    static Cleave__LogFile file, *files[] = {&file};
    static Cleave__LogDevice device, *devices[] = {&device};
    static Cleave__LogQueue queue, *queues[] = {&queue};
    static Cleave__LogConfigRow row, *rows[] = {&row};
    cleave__log_header__init(&h);
    cleave__log_file__init(&file);
    cleave__log_device__init(&device);
    cleave__log_queue__init(&queue);
    cleave__log_config_row__init(&row);
    h.build = "0.1.0";
    h.isa = "rv64imafdc";
    h.device_tree = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)"\xd0\x0d\xfe\xed"};
    h.configuration = "{\"memory\": 1073741824}";
    h.seed = 42;
    file.id = 7;
    file.role = "disk:vda";
    file.size = 1 << 20;
    file.digest = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)"0123456789abcdef"};
    queue.slots = 64;
    row.selector = 3;
    device.id = "vda";
    device.slot = -1;
    device.queues = queues;
    device.rows = rows;
    h.files = files;
    h.devices = devices;
    h.n_files = h.n_devices = device.n_queues = device.n_rows = 1;
    return &h;
}

struct log_writer *rig_create(int fd)
{
    struct log_writer *w;
    assert_int_equal(log_writer_create(&w, fd, &(struct log_options){0}, rig_header()), 0);
    return w;
}

void rig_append(struct log_writer *w, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n <= to; n++) {
        struct journal_entry e = rig_entry(n);
        assert_int_equal(log_writer_append(w, &e), 0);
    }
}

struct log_reader *rig_open(int fd)
{
    struct log_reader *r;
    struct log_error error;
    int err = log_reader_open(&r, fd, &error);
    if (err)
        fail_msg("block %llu: %s", (unsigned long long)error.block, error.why);
    return r;
}

void rig_expect(struct log_reader *r, uint64_t from, uint64_t to)
{
    struct journal_entry e;
    for (uint64_t n = from; n <= to; n++) {
        assert_int_equal(log_reader_next(r, &e), 1);
        rig_assert_entry(&e, n);
    }
}

uint64_t rig_size(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_size;
}

int rig_copy(int fd, uint64_t size)
{
    uint8_t *bytes = malloc(size + 1);
    assert_non_null(bytes);
    assert_int_equal(pread(fd, bytes, size, 0), size);
    int copy = rig_file();
    assert_int_equal(pwrite(copy, bytes, size, 0), size);
    free(bytes);
    return copy;
}

int rig_fork(void)
{
    int pid = fork();
    assert_true(pid >= 0);
    if (!pid)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

void rig_kill(int pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

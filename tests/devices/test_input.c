/* cleave-input: its tables as the guest reads them, commands as events, scripts as schedules. */
#include "devices/input/events.h"
#include "devices/input/keys.h"
#include "devices/input/script.h"
#include "ipc/schedule.h"
#include "tests/devices/harness.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { EVENT, STATUS };

static const char *executable;
static struct harness h;

static struct harness_config config(const char *type)
{
    return (struct harness_config){.executable = executable, .id = "input.kbd0", .options = {{"type", type}}};
}

static void start(const char *type)
{
    struct harness_config c = config(type);

    assert_true(harness_start(&h, &c));
}

static int script_file(const char *text)
{
    int fd = memfd_create("script", 0);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* Events as text, "k30+ s k30- s": what a sequence means at a glance. */
static void spell(const struct virtio_input_event *e, unsigned n, char *out, size_t size)
{
    size_t at = 0;

    *out = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *space = i ? " " : "";
        if (e[i].type == EV_SYN)
            at += (size_t)snprintf(out + at, size - at, "%ss", space);
        else if (e[i].type == EV_KEY)
            at += (size_t)snprintf(out + at, size - at, "%sk%d%c", space, e[i].code, e[i].value ? '+' : '-');
        else
            at += (size_t)snprintf(out + at, size - at, "%s%c%d=%d", space, e[i].type == EV_ABS ? 'a' : 'r',
                                   e[i].code, (int)e[i].value);
        assert_true(at < size);
    }
}

static void test_keys(void **state)
{
    char spelt[256], text[128];
    struct events e = {0};

    assert_int_equal(events_keys(&e, "ctrl-alt-delete", text, sizeof text), 0);
    spell(e.list, e.count, spelt, sizeof spelt);
    assert_string_equal(spelt, "k29+ s k56+ s k111+ s k111- s k56- s k29- s");
    events_free(&e);
    assert_int_equal(events_keys(&e, "a", text, sizeof text), 0);
    spell(e.list, e.count, spelt, sizeof spelt);
    assert_string_equal(spelt, "k30+ s k30- s");
    assert_int_equal(events_keys(&e, "ctrl-nosuchkey", text, sizeof text), -EINVAL);
    assert_string_equal(text, "unknown key 'nosuchkey'");
    assert_int_equal(events_keys(&e, "", text, sizeof text), -EINVAL);
    assert_int_equal(events_keys(&e, "a-", text, sizeof text), -EINVAL);
    assert_int_equal(events_keys(&e, "a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a", text, sizeof text), -EINVAL);
    assert_int_equal(e.count, 4); /* failures left it alone */
    events_free(&e);
}

static void test_key_names(void **state)
{
    static const struct {
        const char *name;
        unsigned code;
    } names[] = {{"enter", KEY_ENTER},   {"leftctrl", KEY_LEFTCTRL},
                 {"f12", KEY_F12},       {"102nd", KEY_102ND},
                 {"kp7", KEY_KP7},       {"0", KEY_0},
                 {"minus", KEY_MINUS},   {"volumeup", KEY_VOLUMEUP},
                 {"meta", KEY_LEFTMETA}, {"esc", KEY_ESC},
                 {"Enter", 0},           {"ente", 0},
                 {"enterx", 0}};
    unsigned count = 0;

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(keys_by_name(names[i].name, strlen(names[i].name)), names[i].code);
    for (unsigned code = 0; code < KEYS_END; code++)
        count += keys_exists(code);
    assert_true(count > 230);
    assert_false(keys_exists(0));
    assert_true(keys_exists(KEYS_END - 1));
    assert_false(keys_exists(KEYS_END));
}

/* Every printable character has its key; nothing else has one. */
static void test_characters(void **state)
{
    for (int c = -128; c < 128; c++) {
        bool shift, typed = (c >= ' ' && c <= '~') || c == '\n' || c == '\t';
        assert_int_equal(keys_by_character((char)c, &shift) != 0, typed);
    }
    struct events e = {0};
    char spelt[256], text[128];
    assert_int_equal(events_text(&e, "aA;:\n", text, sizeof text), 0);
    spell(e.list, e.count, spelt, sizeof spelt);
    assert_string_equal(
        spelt,
        "k30+ s k30- s k42+ s k30+ s k30- s k42- s k39+ s k39- s k42+ s k39+ s k39- s k42- s k28+ s k28- s");
    assert_int_equal(events_text(&e, "caf\xc3\xa9", text, sizeof text), -EINVAL);
    assert_string_equal(text, "no key types the byte 0xc3");
    assert_int_equal(e.count, 28);
    events_free(&e);
}

static void test_script(void **state)
{
    struct script s = {0};
    char spelt[512], text[128];
    int fd = script_file(
        "# a comment\n\n  100 key a\r\n2us text b\\n\n3ms key ctrl-c\n3ms key d\n1s text \n2s key e");

    assert_int_equal(script_read(&s, fd, EVENTS_KEYBOARD, text, sizeof text), 0);
    spell(s.events.list, s.events.count, spelt, sizeof spelt);
    assert_string_equal(
        spelt,
        "k30+ s k30- s k48+ s k48- s k28+ s k28- s k29+ s k46+ s k46- s k29- s k32+ s k32- s k18+ s k18- s");
    assert_int_equal(s.timed, s.events.count);
    assert_int_equal(s.ns[0], 100);
    assert_int_equal(s.ns[1], 100);
    assert_int_equal(s.ns[2], 1000100);
    assert_int_equal(s.ns[4], 2000100); /* due before the line before it was through */
    assert_int_equal(s.ns[12], 6000100);
    assert_int_equal(s.ns[s.timed - 3], 2000000000);
    assert_int_equal(s.ns[s.timed - 1], 2001000000);
    script_free(&s);
    close(fd);
}

static void test_bad_scripts(void **state)
{
    static const struct {
        enum events_kind kind;
        const char *script, *text;
    } bad[] = {
        {EVENTS_KEYBOARD, "key a\n", "line 1: a line begins with a time and a blank"},
        {EVENTS_KEYBOARD, "1 key a\n5\n", "line 2: a line begins with a time and a blank"},
        {EVENTS_KEYBOARD, "5h key a", "line 1: a line begins"},
        {EVENTS_KEYBOARD, "-5 key a", "line 1: a line begins"},
        {EVENTS_KEYBOARD, "99999999999999999999 key a", "line 1: a line begins"},
        {EVENTS_KEYBOARD, "99999999999999999s key a", "line 1: a line begins"},
        {EVENTS_KEYBOARD, "7 key a\n6 key b\n", "line 2: time goes back"},
        {EVENTS_KEYBOARD, "7 key foo\n", "line 1: unknown key 'foo'"},
        {EVENTS_KEYBOARD, "7 shout a\n", "line 1: unknown command 'shout'"},
        {EVENTS_KEYBOARD, "7 pointer 1 2\n", "line 1: a keyboard takes no 'pointer'"},
        {EVENTS_KEYBOARD, "7 text a\\x\n", "line 1: unknown escape"},
        {EVENTS_POINTER, "7 key a\n", "line 1: a pointer takes no 'key'"},
        {EVENTS_POINTER, "7 pointer 1\n", "line 1: not a position"},
        {EVENTS_POINTER, "7 pointer 1 40000\n", "line 1: not a position"},
        {EVENTS_POINTER, "7 pointer 1 2 8\n", "line 1: not a position"},
        {EVENTS_POINTER, "7 pointer 1 2 3 4 5\n", "line 1: not a position"},
        {EVENTS_POINTER, "7 pointer a b\n", "line 1: not a position"},
    };
    char text[128];

    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct script s = {0};
        int fd = script_file(bad[i].script);
        assert_true(script_read(&s, fd, bad[i].kind, text, sizeof text) < 0);
        assert_non_null(strstr(text, bad[i].text));
        script_free(&s);
        close(fd);
    }
    char longer[6000];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    struct script s = {0};
    int fd = script_file(longer);
    assert_int_equal(script_read(&s, fd, EVENTS_KEYBOARD, text, sizeof text), -EINVAL);
    assert_non_null(strstr(text, "longer than"));
    script_free(&s);
    close(fd);
}

static void test_pointer_words(void **state)
{
    struct events e = {0};
    char spelt[128], text[128];

    assert_int_equal(events_command(&e, EVENTS_POINTER, "pointer 100  32767 5 -2", text, sizeof text), 0);
    spell(e.list, e.count, spelt, sizeof spelt);
    assert_string_equal(spelt, "a0=100 a1=32767 k272+ k273- k274+ r8=-2 s");
    events_free(&e);
}

/* The configuration space */

static const Cleave__ConfigRow *row(unsigned select, unsigned subsel)
{
    const Cleave__Describe *d = h.describe.body->describe;

    for (size_t i = 0; i < d->n_rows; i++)
        if (d->rows[i]->selector == (select | subsel << 8))
            return d->rows[i];
    return NULL;
}

static bool bit(const Cleave__ConfigRow *r, unsigned n)
{
    return n / 8 < r->data.len && r->data.data[n / 8] >> n % 8 & 1;
}

static void test_keyboard_tables(void **state)
{
    start("keyboard");
    const Cleave__Describe *d = h.describe.body->describe;
    assert_int_equal(d->virtio_id, 18);
    assert_int_equal(d->config.len, 136);
    assert_int_equal(d->selector_len, 2);
    assert_int_equal(d->selector_size_at, 2);
    assert_int_equal(d->selector_data, 8);
    assert_false(d->closed);
    assert_memory_equal(row(VIRTIO_INPUT_CFG_ID_NAME, 0)->data.data, "cleave keyboard", 15);
    assert_memory_equal(row(VIRTIO_INPUT_CFG_ID_SERIAL, 0)->data.data, "input.kbd0", 10);
    assert_int_equal(row(VIRTIO_INPUT_CFG_ID_DEVIDS, 0)->data.len, 8);
    const Cleave__ConfigRow *keys = row(VIRTIO_INPUT_CFG_EV_BITS, EV_KEY);
    assert_true(bit(keys, KEY_A) && bit(keys, KEY_MICMUTE) && !bit(keys, 0) && !bit(keys, BTN_LEFT));
    assert_true(bit(row(VIRTIO_INPUT_CFG_EV_BITS, EV_LED), LED_CAPSL));
    assert_non_null(row(VIRTIO_INPUT_CFG_EV_BITS, EV_REP));
    assert_null(row(VIRTIO_INPUT_CFG_EV_BITS, EV_ABS));
    harness_check_pss(&h, 8192);
    harness_stop(&h);
}

static void test_pointer_tables(void **state)
{
    start("pointer");
    const Cleave__ConfigRow *keys = row(VIRTIO_INPUT_CFG_EV_BITS, EV_KEY),
                            *x = row(VIRTIO_INPUT_CFG_ABS_INFO, ABS_X);
    assert_true(bit(keys, BTN_LEFT) && bit(keys, BTN_RIGHT) && bit(keys, BTN_MIDDLE) && !bit(keys, KEY_A));
    assert_true(bit(row(VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), ABS_X) &&
                bit(row(VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), ABS_Y));
    assert_true(bit(row(VIRTIO_INPUT_CFG_EV_BITS, EV_REL), REL_WHEEL));
    struct virtio_input_absinfo info;
    assert_int_equal(x->data.len, sizeof info);
    memcpy(&info, x->data.data, sizeof info);
    assert_int_equal(info.min, 0);
    assert_int_equal(info.max, 32767);
    assert_non_null(row(VIRTIO_INPUT_CFG_ABS_INFO, ABS_Y));
    assert_null(row(VIRTIO_INPUT_CFG_EV_BITS, EV_REP));
    harness_stop(&h);
}

/* Commands */

static void expect_events(const char *expected)
{
    struct virtio_input_event e[64];
    char spelt[512];
    unsigned n = 1;

    for (const char *c = expected; *c; c++)
        n += *c == ' ';
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(harness_event(&h, EVENT, &e[i], sizeof e[i], HARNESS_PATIENCE_MS), sizeof e[i]);
    spell(e, n, spelt, sizeof spelt);
    assert_string_equal(spelt, expected);
}

static int command(const char *verb, const char *key, const char *value, char *text, size_t textlen)
{
    struct harness_option args[2] = {{key, value}};

    return harness_command(&h, verb, args, -1, text, textlen);
}

static void test_keyboard_commands(void **state)
{
    char text[128];

    start("keyboard");
    assert_int_equal(command("key", "keys", "shift-a", text, sizeof text), 0);
    expect_events("k42+ s k30+ s k30- s k42- s");
    assert_int_equal(command("text", "text", "x\n", text, sizeof text), 0);
    expect_events("k45+ s k45- s k28+ s k28- s");
    assert_int_equal(command("key", "keys", "hyper", text, sizeof text), EINVAL);
    assert_string_equal(text, "unknown key 'hyper'");
    assert_int_equal(command("key", NULL, NULL, text, sizeof text), EINVAL);
    assert_int_equal(command("pointer", "x", "1", text, sizeof text), EOPNOTSUPP);
    assert_int_equal(command("wave", NULL, NULL, text, sizeof text), EOPNOTSUPP);
    assert_int_equal(harness_request(&h, STATUS, "\x11\0\1\0\1\0\0\0", 8, NULL, 0), 0);
    harness_stop(&h);
}

static void test_pointer_commands(void **state)
{
    struct harness_option args[5] = {{"x", "5"}, {"y", "6"}, {"buttons", "1"}};
    char text[128];

    start("pointer");
    assert_int_equal(harness_command(&h, "pointer", args, -1, text, sizeof text), 0);
    expect_events("a0=5 a1=6 k272+ k273- k274- s");
    args[1].value = "32768";
    assert_int_equal(harness_command(&h, "pointer", args, -1, text, sizeof text), EINVAL);
    assert_non_null(strstr(text, "y is a number from 0 to 32767"));
    args[1].key = NULL;
    assert_int_equal(harness_command(&h, "pointer", args, -1, text, sizeof text), EINVAL);
    assert_int_equal(command("text", "text", "x", text, sizeof text), EOPNOTSUPP);
    harness_stop(&h);
}

/* A guest that takes nothing: everything is kept up to the bound, and comes in order. */
static void test_much_input(void **state)
{
    static char many[4000];
    char text[128];
    unsigned accepted = 0;
    struct virtio_input_event e;

    start("keyboard");
    memset(many, 'q', sizeof many - 1);
    while (command("text", "text", many, text, sizeof text) == 0)
        assert_true(++accepted < 100);
    assert_int_equal(command("text", "text", many, text, sizeof text), EAGAIN);
    assert_non_null(strstr(text, "does not take"));
    assert_true(accepted > 0);
    for (unsigned i = 0; i < accepted * (sizeof many - 1) * 4; i++) {
        assert_int_equal(harness_event(&h, EVENT, &e, sizeof e, HARNESS_PATIENCE_MS), sizeof e);
        assert_int_equal(e.type, i % 2 ? EV_SYN : EV_KEY);
        assert_int_equal(e.value, i % 4 == 0);
    }
    assert_int_equal(harness_event(&h, EVENT, &e, sizeof e, 0), -1);
    assert_int_equal(command("key", "keys", "a", text, sizeof text), 0);
    expect_events("k30+ s k30- s");
    harness_stop(&h);
}

/* Scripted */

static void test_schedule(void **state)
{
    struct harness_config c = config("keyboard");
    char text[128];

    c.fds[0] = (struct harness_fd){"script", script_file("5ms key a\n1s text B\n")};
    assert_true(harness_start(&h, &c));
    const Cleave__Describe *d = h.describe.body->describe;
    assert_true(d->closed);
    assert_true(d->scheduled);
    assert_int_equal(h.describe.nfds, 1);
    struct schedule schedule;
    assert_int_equal(schedule_read(h.describe.fds[0], &schedule), 0);
    assert_int_equal(schedule.n, 4 + 8);
    assert_int_equal(schedule.list[0].ns, 5000000);
    assert_int_equal(schedule.list[4].ns, 1000000000);
    struct virtio_input_event e[12];
    char spelt[256];
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(schedule.list[i].queue, EVENT);
        assert_int_equal(schedule.list[i].len, sizeof e[i]);
        memcpy(&e[i], schedule.list[i].data, sizeof e[i]);
    }
    schedule_free(&schedule);
    spell(e, 12, spelt, sizeof spelt);
    assert_string_equal(spelt, "k30+ s k30- s k42+ s k48+ s k48- s k42- s");
    assert_int_equal(command("key", "keys", "a", text, sizeof text), EOPNOTSUPP);
    assert_non_null(strstr(text, "script"));
    harness_stop(&h);
    close(c.fds[0].fd);
}

/* A script is as long as it likes. */
static void test_long_script(void **state)
{
    enum { LINES = 20000 };
    struct harness_config c = config("pointer");
    char *script = malloc(LINES * 40), *end = script;
    struct schedule schedule;

    for (unsigned i = 0; i < LINES; i++)
        end += sprintf(end, "%ums pointer %u %u\n", 5 * i, i, LINES - i);
    c.fds[0] = (struct harness_fd){"script", script_file(script)};
    free(script);
    assert_true(harness_start(&h, &c));
    assert_int_equal(schedule_read(h.describe.fds[0], &schedule), 0);
    assert_int_equal(schedule.n, LINES * 6);
    assert_int_equal(schedule.list[schedule.n - 1].ns, 5000000ull * (LINES - 1));
    schedule_free(&schedule);
    harness_stop(&h);
    close(c.fds[0].fd);
}

static void test_bad_configuration(void **state)
{
    struct harness_config c = config("theremin");

    assert_false(harness_start(&h, &c));
    assert_non_null(strstr(h.failure, "unknown type 'theremin'"));
    c = config("keyboard");
    c.fds[0] = (struct harness_fd){"script", script_file("1 key a\n2 key nope\n")};
    assert_false(harness_start(&h, &c));
    assert_non_null(strstr(h.failure, "script of input device 'input.kbd0': line 2: unknown key 'nope'"));
    close(c.fds[0].fd);
}

int main(int argc, char **argv)
{
    executable = argc > 1 ? argv[1] : "./cleave-input";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_key_names),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_script),
        cmocka_unit_test(test_bad_scripts),
        cmocka_unit_test(test_pointer_words),
        cmocka_unit_test(test_keyboard_tables),
        cmocka_unit_test(test_pointer_tables),
        cmocka_unit_test(test_keyboard_commands),
        cmocka_unit_test(test_pointer_commands),
        cmocka_unit_test(test_much_input),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_long_script),
        cmocka_unit_test(test_bad_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Input commands to events. See events.h. */
#include "devices/input/events.h"
#include "devices/input/keys.h"

#include <endian.h>
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHORD_MAX 16

void events_free(struct events *e)
{
    free(e->list);
    *e = (struct events){0};
}

static int append(struct events *e, uint16_t type, uint16_t code, int32_t value)
{
    if (e->count == e->capacity) {
        unsigned capacity = e->capacity ? 2 * e->capacity : 64;
        struct virtio_input_event *list = realloc(e->list, capacity * sizeof *list);
        if (!list)
            return -ENOMEM;
        e->list = list;
        e->capacity = capacity;
    }
    e->list[e->count++] = (struct virtio_input_event){htole16(type), htole16(code), htole32((uint32_t)value)};
    return 0;
}

/* One key goes down or up, as a group. */
static int append_key(struct events *e, uint16_t code, bool down)
{
    int err = append(e, EV_KEY, code, down);

    return err ? err : append(e, EV_SYN, SYN_REPORT, 0);
}

static int append_chord(struct events *e, const uint16_t *code, unsigned n)
{
    int err = 0;

    for (unsigned i = 0; i < n && !err; i++)
        err = append_key(e, code[i], true);
    for (unsigned i = n; i > 0 && !err; i--)
        err = append_key(e, code[i - 1], false);
    return err;
}

int events_keys(struct events *e, const char *keys, char *text, size_t textlen)
{
    uint16_t code[CHORD_MAX];
    unsigned n = 0, before = e->count;

    for (const char *name = keys;; name++) {
        size_t len = strcspn(name, "-");
        if (n == CHORD_MAX) {
            snprintf(text, textlen, "more than %d keys in '%s'", CHORD_MAX, keys);
            return -EINVAL;
        }
        code[n] = keys_by_name(name, len);
        if (!code[n++]) {
            snprintf(text, textlen, "unknown key '%.*s'", (int)len, name);
            return -EINVAL;
        }
        name += len;
        if (!*name)
            break;
    }
    int err = append_chord(e, code, n);
    if (err)
        e->count = before;
    return err;
}

static int append_character(struct events *e, char c, char *text, size_t textlen)
{
    bool shift;
    uint16_t code = keys_by_character(c, &shift);

    if (!code) {
        snprintf(text, textlen, "no key types the byte 0x%02x", (unsigned char)c);
        return -EINVAL;
    }
    uint16_t chord[2] = {KEY_LEFTSHIFT, code};
    return append_chord(e, chord + !shift, 1 + shift);
}

int events_text(struct events *e, const char *string, char *text, size_t textlen)
{
    unsigned before = e->count;
    int err = 0;

    for (const char *c = string; *c && !err; c++)
        err = append_character(e, *c, text, textlen);
    if (err)
        e->count = before;
    return err;
}

int events_pointer(struct events *e, int x, int y, unsigned buttons, int wheel)
{
    static const uint16_t button[] = {BTN_LEFT, BTN_RIGHT, BTN_MIDDLE};
    unsigned before = e->count;
    int err = append(e, EV_ABS, ABS_X, x);

    if (!err)
        err = append(e, EV_ABS, ABS_Y, y);
    for (unsigned i = 0; i < 3 && !err; i++)
        err = append(e, EV_KEY, button[i], buttons >> i & 1);
    if (!err && wheel)
        err = append(e, EV_REL, REL_WHEEL, wheel);
    if (!err)
        err = append(e, EV_SYN, SYN_REPORT, 0);
    if (err)
        e->count = before;
    return err;
}

bool events_number(const char *s, long min, long max, long *value)
{
    char *end;

    errno = 0;
    long v = strtol(s, &end, 10);
    if (end == s || *end || errno || v < min || v > max)
        return false;
    *value = v;
    return true;
}

/* "X Y [BUTTONS [WHEEL]]": the number of words, or 0 if one is wrong. */
static unsigned split_pointer(char *words, long value[4])
{
    static const long min[4] = {0, 0, 0, -100}, max[4] = {EVENTS_POINTER_MAX, EVENTS_POINTER_MAX, 7, 100};
    unsigned n = 0;
    char *word;

    while ((word = strsep(&words, " \t"))) {
        if (!*word)
            continue;
        if (n == 4 || !events_number(word, min[n], max[n], &value[n]))
            return 0;
        n++;
    }
    return n;
}

static int pointer_words(struct events *e, const char *args, char *text, size_t textlen)
{
    long value[4] = {0};
    char words[64];

    if (snprintf(words, sizeof words, "%s", args) >= (int)sizeof words || split_pointer(words, value) < 2) {
        snprintf(text, textlen, "not a position, buttons and wheel: '%s'", args);
        return -EINVAL;
    }
    return events_pointer(e, (int)value[0], (int)value[1], (unsigned)value[2], (int)value[3]);
}

static int escaped_text(struct events *e, const char *args, char *text, size_t textlen)
{
    char *plain = strdup(args), *out = plain;

    if (!plain)
        return -ENOMEM;
    for (const char *c = args; *c; c++) {
        if (*c != '\\') {
            *out++ = *c;
            continue;
        }
        c++;
        if (*c != 'n' && *c != 't' && *c != '\\') {
            snprintf(text, textlen, "unknown escape in '%s'", args);
            free(plain);
            return -EINVAL;
        }
        *out++ = *c == 'n' ? '\n' : *c == 't' ? '\t' : '\\';
    }
    *out = 0;
    int err = events_text(e, plain, text, textlen);
    free(plain);
    return err;
}

int events_command(struct events *e, enum events_kind kind, const char *command, char *text, size_t textlen)
{
    static const struct {
        const char *verb;
        enum events_kind kind;
        int (*append)(struct events *e, const char *args, char *text, size_t textlen);
    } verbs[] = {
        {"key", EVENTS_KEYBOARD, events_keys},
        {"text", EVENTS_KEYBOARD, escaped_text},
        {"pointer", EVENTS_POINTER, pointer_words},
    };
    size_t len = strcspn(command, " \t");

    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strlen(verbs[i].verb) != len || memcmp(verbs[i].verb, command, len))
            continue;
        if (verbs[i].kind != kind) {
            snprintf(text, textlen, "a %s takes no '%s'", kind == EVENTS_POINTER ? "pointer" : "keyboard",
                     verbs[i].verb);
            return -EOPNOTSUPP;
        }
        return verbs[i].append(e, command[len] ? command + len + 1 : "", text, textlen);
    }
    snprintf(text, textlen, "unknown command '%.*s'", (int)len, command);
    return -EINVAL;
}

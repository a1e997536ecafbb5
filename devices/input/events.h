/* Input commands as sequences of virtio-input events (Virtual I/O Device 1.2, 5.8.6): groups that end with
 * SYN_REPORT. Knows no queue and no time. */
#pragma once

#include <linux/virtio_input.h>
#include <stdbool.h>
#include <stddef.h>

#define EVENTS_POINTER_MAX 32767

enum events_kind { EVENTS_KEYBOARD, EVENTS_POINTER };

/* A growing list. Zeroed: empty; free with events_free(). */
struct events {
    struct virtio_input_event *list;
    unsigned count, capacity;
};

void events_free(struct events *e);

/* All append whole or not at all: 0, -ENOMEM, or -EINVAL with the reason in `text`.
 *
 * events_keys(): presses the keys named in "ctrl-alt-delete" in order, releases them in reverse.
 * events_text(): types characters on a US layout.
 * events_pointer(): moves to (x, y), each 0..EVENTS_POINTER_MAX, sets the buttons (bit 0 left, 1 right, 2
 * middle), and turns the wheel by `wheel` notches, away from the user if positive. */
int events_keys(struct events *e, const char *keys, char *text, size_t textlen);
int events_text(struct events *e, const char *string, char *text, size_t textlen);
int events_pointer(struct events *e, int x, int y, unsigned buttons, int wheel);

/* A command in words: "key ctrl-c", "text hello\n" (with the escapes \n, \t and \\), "pointer X Y [BUTTONS
 * [WHEEL]]". -EOPNOTSUPP for one that the kind of device does not take. */
int events_command(struct events *e, enum events_kind kind, const char *command, char *text, size_t textlen);

/* A decimal number in min..max that is the whole of `s`. */
bool events_number(const char *s, long min, long max, long *value);

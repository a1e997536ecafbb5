/* JSON objects written member by member, one a line, for output too long to build in memory. Knows no trace.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct line {
    FILE *out;
    bool more; /* a member was written */
};

void line_begin(struct line *l, FILE *out);
void line_end(struct line *l);   /* with a newline */
void line_close(struct line *l); /* without: for an object inside another */

/* A member; `key` needs no escaping. */
void line_text(struct line *l, const char *key, const char *text);
void line_number(struct line *l, const char *key, uint64_t number);
void line_hex(struct line *l, const char *key, const char *prefix, uint64_t number, unsigned digits);
void line_base64(struct line *l, const char *key, const uint8_t *data, size_t len);

/* Text in quotes. Bytes that are no UTF-8 become U+FFFD. */
void line_quote(FILE *out, const char *text, size_t len);

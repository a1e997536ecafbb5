/* Names of keys, and the characters of a US keyboard. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Key codes are below this number (linux/input-event-codes.h). */
#define KEYS_END 249u

/* The code of the key called `name` (len bytes): KEY_ names without the prefix in lower case, and ctrl, alt,
 * shift, meta for the left ones. 0 if there is none. */
uint16_t keys_by_name(const char *name, size_t len);

/* Whether a keyboard has the key. */
bool keys_exists(unsigned code);

/* The key that types an ASCII character, newline or tab on a US layout, and whether with shift; 0 if none
 * does. */
uint16_t keys_by_character(char c, bool *shift);

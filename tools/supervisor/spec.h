/* The small languages of option values: "FILE,ro,id=vda" lists, sizes, numbers, names. Knows no option. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPEC_MAX_FIELDS 24

/* Fields "key=value" or "key" separated by commas; ",," stands for a comma inside a value. Strings point into
 * `text`. */
struct spec {
    char *text;
    unsigned n;
    struct {
        const char *key;   /* NULL for the first field when it is a bare value */
        const char *value; /* NULL for a bare key */
    } field[SPEC_MAX_FIELDS];
};

/* Splits `text`; with `implied` the first field is taken whole as the value of that key ("FILE,ro": FILE is
 * the value of "path"). -E2BIG for too many fields, -EINVAL for an empty one, -ENOMEM. */
int spec_parse(const char *text, const char *implied, struct spec *s);
void spec_release(struct spec *s);

/* "16M", "1G", "4096", suffixes K M G T or KiB MiB GiB TiB, powers of two, decimal or 0x. -EINVAL, -ERANGE.
 */
int spec_size(const char *text, uint64_t *bytes);

/* "100us": ns, us, ms, s, or ns without a unit. -EINVAL, -ERANGE. */
int spec_time(const char *text, uint64_t *ns);

/* Decimal or 0x number that ends with the text. -EINVAL, -ERANGE. */
int spec_number(const char *text, uint64_t *value);

/* Identifiers of machines and devices: 1..max bytes of [A-Za-z0-9._-] that begin with a letter or digit. */
bool spec_is_name(const char *text, size_t max);

/* "xx:xx:xx:xx:xx:xx", unicast. */
bool spec_is_mac(const char *text);

/* "tcp:[ADDR]:PORT-[ADDR]:PORT" with IPv4 addresses, either one possibly empty. */
bool spec_is_hostfwd(const char *text);

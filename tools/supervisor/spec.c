/* Parsing of option values. Pure functions. */
#include "tools/supervisor/spec.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the field at `p` in place, undoing ",,"; returns the start of the next one or NULL. */
static char *cut_field(char *p)
{
    char *to = p;
    for (; *p; p++) {
        if (*p == ',' && p[1] != ',') {
            *to = '\0';
            return p + 1;
        }
        if (*p == ',')
            p++;
        *to++ = *p;
    }
    *to = '\0';
    return NULL;
}

int spec_parse(const char *text, const char *implied, struct spec *s)
{
    struct spec out = {.text = strdup(text)};
    if (!out.text)
        return -ENOMEM;
    int err = 0;
    for (char *p = out.text, *next; p; p = next) {
        next = cut_field(p);
        if (!*p || out.n == SPEC_MAX_FIELDS) {
            err = *p ? -E2BIG : -EINVAL;
            break;
        }
        char *eq = out.n == 0 && implied ? NULL : strchr(p, '=');
        if (out.n == 0 && implied) {
            out.field[out.n].key = implied;
            out.field[out.n].value = p;
        } else {
            if (eq)
                *eq = '\0';
            out.field[out.n].key = p;
            out.field[out.n].value = eq ? eq + 1 : NULL;
        }
        out.n++;
    }
    if (err) {
        free(out.text);
        return err;
    }
    *s = out;
    return 0;
}

void spec_release(struct spec *s)
{
    free(s->text);
    *s = (struct spec){0};
}

static int leading_number(const char *text, char **end, uint64_t *value)
{
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    errno = 0;
    unsigned long long v = strtoull(text, end, base);
    if (errno == ERANGE)
        return -ERANGE;
    *value = v;
    return 0;
}

int spec_number(const char *text, uint64_t *value)
{
    char *end;
    uint64_t v;
    int err = leading_number(text, &end, &v);
    if (err)
        return err;
    if (*end)
        return -EINVAL;
    *value = v;
    return 0;
}

int spec_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    uint64_t v;
    int err = leading_number(text, &end, &v);
    if (err)
        return err;
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (*end && !unit)
        return -EINVAL;
    if (unit) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (end[1] && strcmp(end + 1, "iB") != 0)
            return -EINVAL;
        if (v > UINT64_MAX >> shift)
            return -ERANGE;
        v <<= shift;
    }
    *bytes = v;
    return 0;
}

int spec_time(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {{"", 1}, {"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    char *end;
    uint64_t v;
    int err = leading_number(text, &end, &v);
    for (size_t i = 0; !err && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        if (v > UINT64_MAX / units[i].ns)
            return -ERANGE;
        *ns = v * units[i].ns;
        return 0;
    }
    return err ? err : -EINVAL;
}

bool spec_is_name(const char *text, size_t max)
{
    size_t n = strlen(text);
    if (n == 0 || n > max || !isalnum((unsigned char)text[0]))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i]))
            return false;
    }
    return true;
}

bool spec_is_mac(const char *text)
{
    unsigned b[6];
    int end = 0;
    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6)
        return false;
    return end == 17 && text[17] == '\0' && !(b[0] & 1);
}

/* "ADDR:PORT" up to `len`. */
static bool is_endpoint(const char *text, size_t len)
{
    char buf[64];
    if (len >= sizeof(buf))
        return false;
    memcpy(buf, text, len);
    buf[len] = '\0';
    char *colon = strrchr(buf, ':');
    if (!colon)
        return false;
    *colon = '\0';
    struct in_addr addr;
    uint64_t port;
    if (buf[0] && inet_pton(AF_INET, buf, &addr) != 1)
        return false;
    return spec_number(colon + 1, &port) == 0 && port >= 1 && port <= 65535;
}

bool spec_is_hostfwd(const char *text)
{
    if (strncmp(text, "tcp:", 4) != 0 && strncmp(text, "udp:", 4) != 0)
        return false;
    const char *dash = strchr(text, '-');
    return dash && is_endpoint(text + 4, (size_t)(dash - text - 4)) &&
           is_endpoint(dash + 1, strlen(dash + 1));
}

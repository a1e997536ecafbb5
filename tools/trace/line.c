/* JSON by hand. Must not know what it means. */
#include "tools/trace/line.h"

#include <inttypes.h>
#include <string.h>

void line_begin(struct line *l, FILE *out)
{
    *l = (struct line){.out = out};
    putc_unlocked('{', out);
}

void line_end(struct line *l)
{
    fputs_unlocked("}\n", l->out);
}

void line_close(struct line *l)
{
    putc_unlocked('}', l->out);
}

static void key_of(struct line *l, const char *key)
{
    fprintf(l->out, "%s\"%s\":", l->more ? "," : "", key);
    l->more = true;
}

void line_number(struct line *l, const char *key, uint64_t number)
{
    key_of(l, key);
    fprintf(l->out, "%" PRIu64, number);
}

void line_hex(struct line *l, const char *key, const char *prefix, uint64_t number, unsigned digits)
{
    key_of(l, key);
    fprintf(l->out, "\"%s%0*" PRIx64 "\"", prefix, (int)digits, number);
}

/* Bytes of the UTF-8 sequence at s (RFC 3629), or 0 if it is none. */
static size_t sequence(const uint8_t *s, size_t len)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n > len)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if (n >= 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
                   (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)))
        return 0;
    return n;
}

static void put_control(FILE *out, uint8_t c)
{
    if (c == '\n')
        fputs_unlocked("\\n", out);
    else if (c == '\r')
        fputs_unlocked("\\r", out);
    else if (c == '\t')
        fputs_unlocked("\\t", out);
    else
        fprintf(out, "\\u%04x", c);
}

void line_quote(FILE *out, const char *text, size_t len)
{
    const uint8_t *s = (const uint8_t *)text;
    putc_unlocked('"', out);
    for (size_t i = 0; i < len;) {
        size_t n = sequence(s + i, len - i);
        if (!n)
            fputs_unlocked("\\ufffd", out);
        else if (s[i] < 0x20 || s[i] == 0x7f)
            put_control(out, s[i]);
        else if (s[i] == '"' || s[i] == '\\')
            fprintf(out, "\\%c", s[i]);
        else
            fwrite_unlocked(s + i, 1, n, out);
        i += n ? n : 1;
    }
    putc_unlocked('"', out);
}

void line_text(struct line *l, const char *key, const char *text)
{
    key_of(l, key);
    line_quote(l->out, text, strlen(text));
}

void line_base64(struct line *l, const char *key, const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    key_of(l, key);
    putc_unlocked('"', l->out);
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t v = (uint32_t)data[i] << 16;
        v |= n > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        v |= n > 2 ? data[i + 2] : 0;
        for (size_t d = 0; d < 4; d++)
            putc_unlocked(d <= n ? digits[v >> (18 - 6 * d) & 63] : '=', l->out);
    }
    putc_unlocked('"', l->out);
}

/* The framing of `stream`. See framing.h. */
#include "devices/net/framing.h"

#include <errno.h>
#include <string.h>

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint8_t *framing_space(struct framing_in *in, uint32_t *room)
{
    if (in->at) {
        memmove(in->data, in->data + in->at, in->have - in->at);
        in->have -= in->at;
        in->at = 0;
    }
    *room = (uint32_t)sizeof in->data - in->have;
    return in->data + in->have;
}

int framing_next(const struct framing_in *in, const uint8_t **frame, uint32_t *len)
{
    if (in->have - in->at < FRAMING_LENGTH)
        return 0;
    uint32_t n = get32(in->data + in->at);
    if (n == 0 || n > OFFLOAD_FRAME_MAX)
        return -EPROTO;
    if (in->have - in->at - FRAMING_LENGTH < n)
        return 0;
    *frame = in->data + in->at + FRAMING_LENGTH;
    *len = n;
    return 1;
}

void framing_done(struct framing_in *in)
{
    in->at += FRAMING_LENGTH + get32(in->data + in->at);
}

int framing_put(struct framing_out *out, const uint8_t *frame, uint32_t len)
{
    uint32_t need = FRAMING_LENGTH + len;

    /* Moving pays only when it frees half of the buffer: a reader that takes a byte at a time must not cost a
     * move a frame. */
    if (out->size - out->tail < need && out->head >= out->size / 2) {
        memmove(out->data, out->data + out->head, out->tail - out->head);
        out->tail -= out->head;
        out->head = 0;
    }
    if (out->size - out->tail < need)
        return -ENOSPC;
    offload_put16(out->data + out->tail, len >> 16);
    offload_put16(out->data + out->tail + 2, len);
    memcpy(out->data + out->tail + FRAMING_LENGTH, frame, len);
    out->tail += need;
    return 0;
}

void framing_sent(struct framing_out *out, uint32_t n)
{
    while (n) {
        if (!out->head_left)
            out->head_left = FRAMING_LENGTH + get32(out->data + out->head);
        uint32_t part = n < out->head_left ? n : out->head_left;
        out->head += part;
        out->head_left -= part;
        n -= part;
    }
    if (out->head == out->tail)
        out->head = out->tail = 0;
}

uint32_t framing_clear(struct framing_out *out)
{
    uint32_t frames = out->head_left ? 1 : 0;

    for (uint32_t at = out->head + out->head_left; at < out->tail;
         at += FRAMING_LENGTH + get32(out->data + at))
        frames++;
    out->head = out->tail = out->head_left = 0;
    return frames;
}

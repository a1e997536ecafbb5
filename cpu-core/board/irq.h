/* An interrupt line from a device to whatever it is wired to. */
#pragma once

#include <stdbool.h>

struct irq_line {
    void (*set)(void *arg, unsigned line, bool level);
    void *arg;
    unsigned line;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
    l->set(l->arg, l->line, level);
}

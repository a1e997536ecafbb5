/* Shared by machine.c (state, start, stop) and handshake.c (messages). */
#pragma once

#include "tools/supervisor/machine.h"

/* What the life-cycle table asks for; the messages of the control plane. */
extern const struct child_ops machine_vcpu_ops, machine_device_ops;

/* Called by the message side. */
void machine_notify(struct machine *m, json_t *event); /* steals the reference */
void machine_set_state(struct machine *m, enum machine_state state);
void machine_run_if_ready(struct machine *m);
void machine_exited(struct machine *m, const Cleave__Exited *e);
void machine_paused(struct machine *m, const char *why);
void machine_child_died(struct machine *m, struct child *c, struct device *d);
void machine_check_gone(struct machine *m);

/* Messages that every child may send at any time; true when it was one. */
bool machine_take_common(struct machine *m, struct child *c, const Cleave__Control *body);
void machine_send_resume(struct machine *m);
int machine_find_program(const char *name, char *path, size_t size, struct failure *f);

/* A resource could not be had: the start fails. */
void machine_fail(struct machine *m, int status, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

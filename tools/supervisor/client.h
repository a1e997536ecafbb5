/* The other side of the control socket: a command asks a machine and waits for the answer. Knows no verb. */
#pragma once

#include "tools/supervisor/failure.h"

#include <jansson.h>

/* An answer of a machine. */
struct answer {
    int status;
    json_t *json;       /* NULL when it sent none */
    char *error, *hint; /* NULL when there is none */
    int fd;             /* that came along, or -1 */
    int more;           /* further answers follow */
};

int client_send(int fd, const char *verb, json_t *args); /* steals args */

/* 1 with an answer, 0 at end of file, -EAGAIN, negative errno. */
int client_receive(int fd, struct answer *a);
void client_release(struct answer *a);

/* Connects to a machine, asks, waits up to timeout_ms for the answer; a status that is not 0 becomes a
 * failure. */
int client_ask(const char *machine, const char *verb, json_t *args, int timeout_ms, struct answer *a,
               struct failure *f);

/* The clients of a machine's control socket: the command that started it (the owner), and every other
 * `cleave` command. Turns commands into calls of the machine and its answers into replies. */
#pragma once

#include "tools/supervisor/machine.h"

struct client;
struct request;

struct server {
    uv_loop_t *loop;
    struct machine *machine;
    int listen_fd;
    bool listening;
    uv_poll_t listener;
    struct client *clients;
    unsigned nclients;
    struct request *requests;
    uint64_t last_tag;
    uint64_t lost; /* events that the owner did not take */
    bool finished; /* the machine is gone, replies are on their way out */
};

extern const struct machine_observer server_observer; /* context: struct server */

/* Takes over the listening socket and the owner's connection. 0 or negative errno. */
int server_open(struct server *s, uv_loop_t *loop, struct machine *m, int listen_fd, int owner_fd);

/* Sends the result to the owner and to whoever waits for the end. */
void server_finish(struct server *s);

/* True when every client, or the owner alone, has what was sent to it, or is gone. */
bool server_is_drained(const struct server *s, bool owner_only);

/* Called by the server when the owner is gone; the supervisor's. */
void supervisor_owner_gone(struct server *s);

/* Serving a log to a replaying vcpu, as windows of the feed (ipc/feed.h). Writes no file, and changes nothing
 * that the log refers to. Knows no machine. */
#pragma once

#include "ipc/control.h"

/* The broker's life as a server, from its first Configure on (taken over): more of them bring more
 * descriptors, Run begins, the end of either socket ends it. Descriptors: "log", "feed" (a SOCK_SEQPACKET
 * socket on which every FeedRequest is answered by a FeedWindow with its memfd) and "file:ID" for files of
 * the header. Option follow=on: what is written meanwhile is served too, until the writer gives up its lock
 * on the log. 0, or a negative errno that has been told as a Failure. */
int serve(int control, struct control_message *configure);

/* The broker's life as a recorder: moves the journal to the log while the machine runs, and ends the log.
 * Knows no machine and does not interpret entries. */
#pragma once

#include "ipc/control.h"

/* From its Record message on, which is taken over, with the descriptors
 *   log      empty, or with `resume` the log of a predecessor
 *   header   a packed LogHeader; not with `resume`
 *   entries, tail   the journal
 *   bell     eventfd: entries have come; they may wait for 100 ms
 *   urgent   eventfd: the journal fills up
 * Answers Ready when the log's header is on stable storage. EndRecording takes what is in the journal and
 * ends the log, as does the end of the control socket; a log that cannot go on is ended by itself, and told
 * with RecordingEnded. Ends with Stop. 0, or a negative errno that has been told as a Failure. */
int recording(int control, struct control_message *record);

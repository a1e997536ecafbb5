/* Bodies that a log has already: an inline body that comes again is replaced by a reference to the record
 * that has it. Remembers the latest bodies, as many as fit its table. Must not know what a body means. */
#pragma once

#include "ipc/journal.h"

struct repeats;

/* NULL if there is no memory. The table knows nothing of what an earlier one saw. */
struct repeats *repeats_create(void);
void repeats_destroy(struct repeats *t);

/* Turns an inline entry whose body an entry seen before has into JOURNAL_SAME. An entry given to this must be
 * written to the log. */
void repeats_fold(struct repeats *t, struct journal_entry *e);

/* The broker's work without its process. Journal space is released only behind what is in the file, so that a
 * successor finds every entry in one of the two. Must not interpret entries. */
#include "replay-broker/recorder.h"

void recorder_init(struct recorder *r, struct journal_consumer *journal, struct log_writer *log,
                   struct repeats *repeats)
{
    *r = (struct recorder){
        .journal = journal, .log = log, .repeats = repeats, .released = log_writer_status(log).records};
}

static int take(struct recorder *r)
{
    r->before = journal_position(r->journal);
    int got = journal_next(r->journal, &r->held);
    if (got <= 0)
        return got;
    r->holding = true;
    if (r->repeats)
        repeats_fold(r->repeats, &r->held);
    return got;
}

/* The log closes a block before it takes the next record: then everything before `held` is in the file. */
static void release_before_held(struct recorder *r)
{
    uint64_t written = log_writer_status(r->log).records;
    if (written == r->released)
        return;
    journal_release(r->journal, r->before);
    r->released = written;
}

int recorder_step(struct recorder *r)
{
    int got = 1;
    while (r->holding || (got = take(r)) > 0) {
        int err = log_writer_append(r->log, &r->held);
        release_before_held(r);
        if (err)
            return err;
        r->holding = false;
    }
    return got;
}

int recorder_flush(struct recorder *r)
{
    int err = log_writer_flush(r->log);
    if (err)
        return err;
    journal_release(r->journal, r->holding ? r->before : journal_position(r->journal));
    r->released = log_writer_status(r->log).records;
    return 0;
}

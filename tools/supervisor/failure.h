/* A failure on its way to the user: exit status, one line that names the object, and a hint where one helps.
 * Library code fills it and returns a negative errno; only the top of a command prints it. */
#pragma once

/* Exit statuses of the command. */
enum status {
    STATUS_OK = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE = 2,
    STATUS_NO_MACHINE = 3,
    STATUS_WRONG_STATE = 4,
    STATUS_TIMEOUT = 5,
    STATUS_DIVERGED = 6,
    STATUS_FAULT = 125,
};

struct failure {
    int status;
    char text[600];
    char hint[300];
};

/* Sets status and text and clears the hint; returns -err, or -EIO if err is not positive: never 0. */
int failure_set(struct failure *f, int status, int err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds a hint; returns -EINVAL so that a usage error can end with it. */
int failure_hint(struct failure *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What the tests of the log share: entries that follow from their number, and logs in memory files. */
#pragma once

#include "replay-broker/log.h"

enum { RIG_MAX_BODY = 3000 };

/* Entry `number`, valid until the next call. Every seventh is a state hash; crossings have all forms. */
struct journal_entry rig_entry(uint64_t number);
uint64_t rig_seq(uint64_t number); /* of the last crossing up to entry `number` */

/* Fails the test unless `got` is entry `number`. */
void rig_assert_entry(const struct journal_entry *got, uint64_t number);

/* True if it is. */
bool rig_is_entry(const struct journal_entry *got, uint64_t number);

int rig_file(void);

/* A header with every kind of field. */
const Cleave__LogHeader *rig_header(void);

struct log_writer *rig_create(int fd);
void rig_append(struct log_writer *w, uint64_t from, uint64_t to);
struct log_reader *rig_open(int fd);
void rig_expect(struct log_reader *r, uint64_t from, uint64_t to);

/* A file with the first `size` bytes of fd's. */
int rig_copy(int fd, uint64_t size);
uint64_t rig_size(int fd);

/* A child that does not outlive the test; 0 in the child. */
int rig_fork(void);
void rig_kill(int pid);
